"""Estimates the hypervolume of many metrics by fixed points, the same ones for all methods."""

from __future__ import annotations

import dataclasses

import numpy as np

from ncp_jax import checks
from ncp_jax.types import Bool, Float

BITS_AT_ONCE = 2**26  # bytes of the largest array


@dataclasses.dataclass(frozen=True)
class Box:
    """The part of the metrics' space in which the dominated share is measured, all metrics to raise.

    Attributes:
      low: ``[m]`` the reference: a point that is no better in one metric adds nothing.
      high: ``[m]`` the other corner; what is better than it counts as much as it.
    """

    low: Float[np.ndarray, " m"]
    high: Float[np.ndarray, " m"]

    def __post_init__(self) -> None:
        if not (np.asarray(self.low) < np.asarray(self.high)).all():
            raise checks.UsageError(
                expected="a box whose high corner is above the reference",
                got=f"{np.asarray(self.low).tolist()} and {np.asarray(self.high).tolist()}",
                remedy="widen it",
            )

    def points(self, count: int, seed: int = 0) -> Float[np.ndarray, "s m"]:
        """Returns ``count`` points of a scrambled Sobol sequence: each is uniform in the box (Owen, 1997)."""
        from scipy.stats import qmc

        exponent = checks.integer("points", count, least=1, remedy="try 65536").bit_length() - 1
        unit = qmc.Sobol(len(self.low), scramble=True, seed=np.random.default_rng(seed)).random_base2(exponent)
        return self.low + unit * (np.asarray(self.high) - self.low)


def dominated(points: Float[np.ndarray, "n m"], samples: Float[np.ndarray, "s m"]) -> Bool[np.ndarray, " s"]:
    """Returns which samples some point equals or exceeds in all of m metrics.

    The mean of the result is an estimate of the dominated share of the box from which the samples were drawn, without
    bias. For each metric, the points above a threshold are a row of bits; a sample is dominated where the rows of all
    its metrics have a bit in common. This takes a byte of work for eight points, instead of a comparison for each.

    Args:
      points: metrics of n points, higher is better. NaN is below everything.
      samples: metrics of s samples.
    """
    n, m = np.shape(points)
    found = np.zeros(len(samples), bool)
    if n == 0:
        return found
    values = np.where(np.isnan(points), -np.inf, points)
    tables, places = [], []
    for k in range(m):
        order = np.argsort(values[:, k], kind="stable")
        above = np.zeros((n + 1, n), bool)  # row i: the points from the i-th smallest on
        rank = np.empty(n, int)
        rank[order] = np.arange(n)
        above[:n] = rank >= np.arange(n)[:, None]
        tables.append(np.packbits(above, axis=1))
        places.append(np.searchsorted(values[order, k], samples[:, k], side="left"))
    step = max(1, BITS_AT_ONCE // tables[0].shape[1])
    for first in range(0, len(samples), step):
        some = slice(first, first + step)
        common = tables[0][places[0][some]]
        for table, place in zip(tables[1:], places[1:], strict=True):
            common &= table[place[some]]
        found[some] = common.any(axis=1)
    return found


def volume_share(points: Float[np.ndarray, "n m"], samples: Float[np.ndarray, "s m"]) -> float:
    """Returns the share of samples that points dominate; the points go in groups, so that memory stays small."""
    found = np.zeros(len(samples), bool)
    for first in range(0, len(points), 4096):
        left = ~found
        found[left] = dominated(points[first : first + 4096], samples[left])
    return float(found.mean())
