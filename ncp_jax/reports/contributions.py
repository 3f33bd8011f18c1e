"""Averages a measure over groups of runs, with an interval in which runs of one seed count together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ncp_jax.analysis.intervals import Interval, interval
from ncp_jax.types import Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Contributions:
    """What each of r runs, those of one method on one benchmark, contributes to the errors of their means.

    Attributes:
      seeds: int64 [r], seed of each run.
      parts: measure → float64 [r], see ``analysis.intervals.interval``.
    """

    seeds: Int[np.ndarray, " r"]
    parts: Mapping[str, Float[np.ndarray, " r"]]


# (method, benchmark) → the contributions of its runs.
Parts = dict[tuple[int, int], Contributions]


def mean_of_groups(
    mean: float,
    groups: Sequence[Contributions],
    measure: str,
    *,
    n: int | None = None,
    minus: Sequence[Contributions] = (),
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> Interval:
    """Returns the mean of a measure over groups of equal weight, with its interval.

    Args:
      mean: the mean over the groups or, with ``minus``, the difference of two such means.
      groups: the groups.
      measure: name of the measure.
      n: number of observations to show.
      minus: groups whose mean is subtracted.
      bounds: lower and upper bound of the mean.
    """
    sides = ((1.0, groups), (-1.0, minus))
    parts = [sign / len(side) * group.parts[measure] for sign, side in sides for group in side]
    seeds = np.concatenate([group.seeds for _, side in sides for group in side])
    return interval(mean, np.concatenate(parts), seeds=seeds, n=n, least=bounds[0], most=bounds[1])
