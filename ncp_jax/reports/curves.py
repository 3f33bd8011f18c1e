"""Computes anytime curves: the best so far against queries or simulated seconds, with bootstrap intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ncp_jax.analysis.intervals import bootstrap_means, percentile_interval
from ncp_jax.reports.data import StudyData
from ncp_jax.types import Float, Int

MEASURES = ("rank", "percentile", "regret", "value")
POINTS = 500  # maximum number of points of a curve
_SECONDS = 120  # number of points of a curve over seconds
_RESAMPLES = 1000


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


def resampled_curve(
    data: StudyData, method: int, benchmark: int, axis: str, x: Float[np.ndarray, " k"], *, seed: Sequence[int]
) -> Curve:
    """Returns the curve of one method on one benchmark.

    A run that ended early keeps the best that it had.

    Args:
      data: the runs of the study.
      method: index of the method, which has runs on the benchmark.
      benchmark: index of the benchmark.
      axis: "queries" or "seconds".
      x: points of the axis, rising.
      seed: seed of the bootstrap.
    """
    from scipy.sparse import csr_array

    group, k = data.group(method, benchmark), len(x)
    n, offsets = group.stop - group.start, data.offsets[group.start : group.stop + 1]
    steps = slice(offsets[0], offsets[-1])
    when = (data.at if axis == "queries" else data.times)[steps]
    # An improvement shows from the first point of the axis on that is not before it; k if there is none.
    point = np.searchsorted(x, when)
    first = offsets[:-1] - offsets[0]
    later = np.ones(len(when), bool)
    later[first] = False

    # A run's line has few steps: a sparse row of them, summed from the end of the axis to its start, is the line. The
    # last entry is the level at the end, the others are by how much the line was higher before a step. In this order
    # the sums of a line that falls to zero lose no digits.
    run = np.repeat(np.arange(n), np.diff(offsets))
    rows, columns, entries = [], [], []
    for i, measure in enumerate((data.ranks, data.regrets, data.values)):
        values = measure[steps].astype(float)
        rows += [run[later], np.arange(n)]
        columns += [point[later] + i * (k + 1), np.full(n, k + i * (k + 1))]
        entries += [-np.diff(values, prepend=0)[later], measure[data.last[group]].astype(float)]
    places = (np.concatenate(rows), np.concatenate(columns))
    lines = csr_array((np.concatenate(entries), places), shape=(n, 3 * (k + 1)))
    sums = np.concatenate([lines.sum(axis=0)[None] / n, bootstrap_means(lines, resamples=_RESAMPLES, seed=seed)])
    levels = np.cumsum(sums.reshape(-1, 3, k + 1)[..., :0:-1], axis=-1)[..., ::-1]
    # A line that rises and falls may miss zero by rounding, which a logarithmic scale would show.
    levels[np.abs(levels) < 1e-12 * np.abs(levels).max()] = 0.0
    levels[..., : point[first].max()] = np.nan

    bands = []
    # A view would keep all resampled lines in memory.
    for line in (levels[0].copy(), *percentile_interval(levels[1:])):
        band = dict(zip(("rank", "regret", "value"), line, strict=True))
        rank = 100.0 * band["rank"] / data.table_rows[benchmark]
        bands.append({**band, "percentile": rank})
    return Curve(data.methods[method], data.benchmarks[benchmark], axis, x, n, *bands)
