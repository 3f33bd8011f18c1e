"""The methods that are compared: each predicts the logarithm of a device's latency for every architecture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from devices.measured import Measured
from devices.process import choose_spread, predict
from ncp_jax.types import Float, Int

PENALTY = 1.0  # of the ridge, on normal scores
CAUTION = 1.2816  # standard deviations above the mean: the 90 % quantile of a normal distribution


def draw_rows(
    measured: Measured, target: str, sources: Sequence[str], samples: int, rng: np.random.Generator
) -> dict[str, Int[np.ndarray, " k"]]:
    """Returns the architectures to measure on a target, chosen by spread and at random.

    Neither choice looks at the target's latencies. Architectures with broken readings are not measured: their cells
    pass nothing on, which one can see without a device.
    """
    allowed = np.flatnonzero(measured.whole([target, *sources]))
    features = measured.features(sources)
    return {
        "": choose_spread(features, allowed, samples, rng, sources=bool(sources)),
        "_random": rng.choice(allowed, samples, replace=False),
    }


def predictions(
    measured: Measured, target: str, sources: Sequence[str], rows: Int[np.ndarray, " k"]
) -> dict[str, Float[np.ndarray, " n"]]:
    """Returns the predicted logarithms by method, from measurements of some rows.

    - "transfer": a Gaussian process on the latencies of other devices and on the architecture;
    - "transfer_cautious": its 90 % quantile instead of its mean, for searches under a limit;
    - "gp": the same process without other devices;
    - "ridge": a ridge regression on the normal scores of other devices;
    - "best_source": the device of the sources that ranks the measured architectures best;
    - "flops": multiply-adds alone, where the space has them.
    """
    milliseconds = measured.milliseconds[target][rows]
    logs = np.log(milliseconds)
    process = predict(measured.features(sources), rows, milliseconds, sources=bool(sources))
    found = {"transfer": process.mean, "transfer_cautious": process.mean + CAUTION * process.spread}
    found["gp"] = predict(measured.structure, rows, milliseconds, sources=False).mean
    if sources:
        scores = measured.features(sources)[0]
        centred = scores[rows] - scores[rows].mean(axis=0)
        slopes = np.linalg.solve(centred.T @ centred + PENALTY * np.eye(len(sources)), centred.T @ (logs - logs.mean()))
        found["ridge"] = logs.mean() + (scores - scores[rows].mean(axis=0)) @ slopes
        best = int(np.argmax([spearman(scores[rows, place], logs) for place in range(len(sources))]))
        found["best_source"] = _line(scores[:, best], rows, logs)
    if measured.flops is not None:
        found["flops"] = _line(measured.flops, rows, logs)
    return found


def spearman(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float:
    """Returns the rank correlation; 0 where one of them is constant."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(spearmanr(a, b).statistic)


def _line(x: Float[np.ndarray, " n"], rows: Int[np.ndarray, " k"], logs: Float[np.ndarray, " k"]) -> np.ndarray:
    """Returns the least-squares line through the measurements, rising or flat at the least, at all x."""
    centred = x[rows] - x[rows].mean()
    slope = max(float(centred @ (logs - logs.mean())) / max(float(centred @ centred), 1e-30), 1e-9 / float(np.std(x)))
    return logs.mean() + slope * (x - x[rows].mean())
