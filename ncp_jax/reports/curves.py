"""Computes anytime curves: the best so far against queries or simulated seconds, with intervals of their means."""

from __future__ import annotations

import dataclasses

import numpy as np

from ncp_jax.analysis.intervals import interval_ends
from ncp_jax.console import short_repr
from ncp_jax.reports.data import StudyData
from ncp_jax.types import Float, Int

MEASURES = ("rank", "percentile", "regret", "value")
POINTS = 500  # maximum number of points of a curve
_SECONDS = 120  # number of points of a curve over seconds
_TOGETHER = 1024  # lines that are held at once
_SMALLEST = 1e-300


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """The best so far of one method on one benchmark, averaged over seeds.

    Attributes:
      method: label of the method.
      benchmark: name of the benchmark.
      axis: "queries" (those that cost budget) or "seconds" (simulated training time).
      x: [k], rising.
      runs: number of runs that are averaged.
      mean: measure → [k]: "rank" and "percentile" (in the table, lower is better), "regret" and "value" (in the
        metric's unit). NaN where a run has found nothing yet.
      low: measure → [k], lower end of the 95 % interval.
      high: measure → [k], upper end of the 95 % interval.
    """

    method: str
    benchmark: str
    axis: str
    x: Float[np.ndarray, " k"]
    runs: int
    mean: dict[str, np.ndarray]
    low: dict[str, np.ndarray]
    high: dict[str, np.ndarray]

    __repr__ = short_repr


def query_numbers(budget: int) -> Int[np.ndarray, " k"]:
    """Returns 1..budget, or ``POINTS`` numbers at geometrically growing distances, with both ends, if it is larger."""
    if budget <= POINTS:
        return np.arange(1, budget + 1)
    return np.unique(np.geomspace(1, budget, POINTS).round().astype(np.int64))


def curve_axes(data: StudyData, benchmark: int) -> dict[str, Float[np.ndarray, " k"]]:
    """Returns the axes of a benchmark's curves: "queries", and "seconds" if every run on it has training times."""
    axes = {"queries": query_numbers(data.budget).astype(float)}
    chosen = data.benchmark == benchmark
    last = data.times[data.last[chosen]]
    if not len(last) or np.isnan(last).any():
        return axes
    # From the first moment at which anything was found to the end of the longest run.
    first, ends = data.times[data.offsets[:-1][chosen]], np.fmax(data.seconds[chosen], last)
    low, high = max(float(first.min()), 1e-9), float(ends.max())
    seconds = np.array([low])
    if high > low:
        seconds = np.geomspace(low, high, _SECONDS)
        seconds[0], seconds[-1] = low, high  # rounding must not exclude the ends
    return axes | {"seconds": seconds}


def mean_curve(data: StudyData, method: int, benchmark: int, axis: str, x: Float[np.ndarray, " k"]) -> Curve:
    """Returns the curve of one method on one benchmark.

    A run that ended early keeps the best that it had.

    Args:
      data: the runs of the study.
      method: index of the method, which has runs on the benchmark.
      benchmark: index of the benchmark.
      axis: "queries" or "seconds".
      x: points of the axis, rising.
    """
    group, k = data.group(method, benchmark), len(x)
    n, offsets = group.stop - group.start, data.offsets[group.start : group.stop + 1]
    steps = slice(offsets[0], offsets[-1])
    # An improvement shows from the first point of the axis on that is not before it; k if there is none. A run that
    # has found nothing yet has the level of its first improvement, which is hidden below.
    point = np.searchsorted(x, (data.at if axis == "queries" else data.times)[steps])
    first = offsets[:-1] - offsets[0]
    shown = point[first].max()
    levels = np.stack([measure[steps].astype(float) for measure in (data.ranks, data.regrets, data.values)])
    mean, low, high = _mean_lines(levels, point, offsets - offsets[0], k)
    low[:2] = np.maximum(low[:2], np.array([[1.0], [0.0]]))  # no rank is below 1, no regret below 0
    bands = []
    for lines in (mean, low, high):
        lines[:, :shown] = np.nan
        band = dict(zip(("rank", "regret", "value"), lines, strict=True))
        bands.append({**band, "percentile": 100.0 * band["rank"] / data.table_rows[benchmark]})
    return Curve(data.methods[method], data.benchmarks[benchmark], axis, x, n, *bands)


def _mean_lines(
    levels: Float[np.ndarray, "q m"], point: Int[np.ndarray, " m"], offsets: Int[np.ndarray, " n+1"], k: int
) -> tuple[Float[np.ndarray, "q k"], Float[np.ndarray, "q k"], Float[np.ndarray, "q k"]]:
    """Returns the means of n step lines at k points, and the ends of their intervals, for q quantities.

    Args:
      levels: levels of the lines, one line after the other.
      point: point from which each level holds, k if there is none.
      offsets: the levels of line i are ``offsets[i]:offsets[i + 1]``.
      k: number of points.
    """
    n = len(offsets) - 1
    blocks = [slice(i, min(i + _TOGETHER, n)) for i in range(0, n, _TOGETHER)]
    mean = np.zeros((len(levels), k))
    for block in blocks:
        mean += levels[:, _places(point, offsets, block, k)].sum(axis=1) / n
    if n < 2:
        return mean, mean.copy(), mean.copy()
    unit = np.maximum(np.ptp(levels, axis=1), _SMALLEST)[:, None]  # so that no power overflows
    second, third = np.zeros_like(mean), np.zeros_like(mean)
    for block in blocks:
        deviations = (levels[:, _places(point, offsets, block, k)] - mean[:, None]) / unit[:, None]
        square = deviations * deviations
        second += square.sum(axis=1) / n
        third += np.einsum("qnk,qnk->qk", square, deviations) / n
    return (mean, *interval_ends(mean, second, third, n=n, unit=unit))


def _places(
    point: Int[np.ndarray, " m"], offsets: Int[np.ndarray, " n+1"], block: slice, k: int
) -> Int[np.ndarray, "b k"]:
    """Returns which of the m levels each line of a block has at each point: its first one until the second holds."""
    first = offsets[block.start : block.stop]
    steps = slice(offsets[block.start], offsets[block.stop])
    run = np.repeat(np.arange(len(first)), np.diff(offsets[block.start : block.stop + 1]))
    made = np.zeros((len(first), k + 1), np.int64)  # steps that a line makes at a point
    np.add.at(made, (run, point[steps]), 1)
    return first[:, None] + np.maximum(np.cumsum(made[:, :k], axis=1) - 1, 0)
