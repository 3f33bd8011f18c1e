"""Recognises columns that give another one away: copies in any unit, rounded, or turned around."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaln

from ncp_jax.types import Float

ROUNDING = 1e-6  # differences below this share of a column's range count as none: units are converted in float32
CHANCE = 1e-4  # an order that agrees by chance with at least this probability proves nothing


def is_copy(column: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> bool:
    """Returns whether a column orders the rows as another one does, or the other way round.

    That is so if no pair of rows is ordered differently by the two. Equal values of either agree with any order, so
    rounded copies count too. With few rows, or few levels, this may be chance: then only equal columns are copies.
    """
    if len(column) < 2:
        return False
    if np.array_equal(column, target):
        return True
    column, target = np.asarray(column, np.float64), np.asarray(target, np.float64)
    return any(_agrees(turned, target) for turned in (column, -column)) and _log_chance(column, target) < np.log(CHANCE)


def _agrees(column: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> bool:
    """Returns whether no pair is ordered differently: each value is at least all of those with a smaller target."""
    order = np.argsort(target, kind="stable")
    column, target = column[order], target[order]
    slack = ROUNDING * np.ptp(column)
    # The first row of each target's level: rows of one level agree with any order.
    first = np.searchsorted(target, target, side="left")
    highest = np.maximum.accumulate(column)
    below = first > 0
    return bool((column[below] >= highest[first[below] - 1] - slack).all())


def _log_chance(column: Float[np.ndarray, " n"], target: Float[np.ndarray, " n"]) -> float:
    """Returns the logarithm of the probability that these values in a random order agree, or are opposed.

    Sorted, the levels of the two columns overlap in segments of N rows. Of the n! orders, those that put the rows into
    these segments agree: the product of the factorials of all levels' sizes, over that of the segments'.
    """
    levels = np.unique(target, return_counts=True)[1]
    both = []
    for turned in (column, -column):
        others = np.unique(turned, return_counts=True)[1]
        ends = np.union1d(np.cumsum(levels), np.cumsum(others))
        segments = np.diff(ends, prepend=0)
        both.append(_log_factorials(levels) + _log_factorials(others) - _log_factorials(segments))
    return float(np.logaddexp(both[0], both[1]) - gammaln(len(column) + 1))


def _log_factorials(counts: np.ndarray) -> float:
    return float(gammaln(counts + 1).sum())
