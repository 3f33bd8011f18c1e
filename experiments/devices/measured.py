"""Loads the latencies of devices, and describes architectures by other devices and by what they consist of."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, rankdata

from ncp_jax.benchmarks.latency import load_readings
from ncp_jax.console import short_repr
from ncp_jax.spaces import cost_model, get_space
from ncp_jax.spaces.cells import PATHS
from ncp_jax.types import Bool, Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """Latencies of the same architectures on several devices.

    Attributes:
      family: "nas-bench-201-latency" or "fbnet-latency".
      codes: ``[n, d]`` architectures.
      milliseconds: latencies ``[n]`` by device, as published.
      broken: whether a reading is not the latency of the whole network, ``[n]`` by device.
      flops: ``[n]`` multiply-adds; None where the space has no costs.
      structure: blocks of features ``[n, f]`` of the architectures alone, each feature of mean 0 and variance 1.
    """

    family: str
    codes: Int[np.ndarray, "n d"]
    milliseconds: dict[str, Float[np.ndarray, " n"]]
    broken: dict[str, Bool[np.ndarray, " n"]]
    flops: Float[np.ndarray, " n"] | None
    structure: tuple[Float[np.ndarray, "n f"], ...]

    __repr__ = short_repr

    def features(self, sources: Sequence[str]) -> tuple[np.ndarray, ...]:
        """Returns blocks of features: the normal scores of the sources' latencies, then the structure."""
        scores = [normal_scores(self.milliseconds[source]) for source in sources]
        return (np.stack(scores, axis=1), *self.structure) if scores else self.structure

    def whole(self, devices: Sequence[str]) -> np.ndarray:
        """Returns whether no device has a broken reading, bool ``[n]``."""
        return ~np.any([self.broken[device] for device in devices], axis=0)


def load_measured(family: str, devices: Sequence[str]) -> Measured:
    """Loads devices of one family; for errors see ``load_readings``."""
    readings = {device: load_readings(f"{family}/{device}") for device in dict.fromkeys(devices)}
    codes = next(iter(readings.values())).codes
    space = get_space(next(iter(readings.values())).space)
    model = cost_model(space, "cifar10") if space.name == "nas-bench-201" else None
    flops = None if model is None else model.exact(codes)["flops"].astype(np.float64)
    return Measured(
        family,
        codes,
        {device: found.milliseconds for device, found in readings.items()},
        {device: found.broken for device, found in readings.items()},
        flops,
        _structure(codes, flops),
    )


def normal_scores(values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns the normal quantiles of ranks: the same numbers for every device, whatever its unit; ties share one."""
    return norm.ppf((rankdata(values) - 0.5) / len(values))


def _structure(codes: Int[np.ndarray, "n d"], flops: Float[np.ndarray, " n"] | None) -> tuple[np.ndarray, ...]:
    choices = int(codes.max()) + 1
    chosen = np.stack([codes == choice for choice in range(choices)], axis=-1).astype(np.float64)
    blocks = [chosen.sum(axis=1), chosen.reshape(len(codes), -1)]
    if flops is not None:
        # Runtimes leave out what has no effect: operations on ways from input to output, by kind.
        live = np.zeros(codes.shape, bool)
        for path in PATHS:
            live[:, list(path)] |= (codes[:, list(path)] != 0).all(axis=1)[:, None]
        blocks += [(chosen * live[..., None])[..., 1:].sum(axis=1), np.log(flops)[:, None]]
    return tuple((block - block.mean(axis=0)) / np.maximum(block.std(axis=0), 1e-9) for block in blocks)
