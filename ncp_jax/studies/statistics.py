"""Means with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def mean_interval(values: Sequence[float] | np.ndarray, *, level: float = 0.95, seed: int = 0) -> dict[str, float]:
    """Returns the mean with its percentile-bootstrap interval: ``{"mean", "low", "high", "n"}``.

    With one value the interval is that value: nothing is known about its spread.
    """
    sample = np.asarray(values, np.float64)
    draws = np.random.default_rng(seed).integers(0, len(sample), (10_000, len(sample)))
    means = sample[draws].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return {"mean": float(sample.mean()), "low": float(low), "high": float(high), "n": len(sample)}
