"""Anytime curves: the best so far against queries and simulated seconds, with bootstrap intervals over seeds."""

from __future__ import annotations

import dataclasses

import numpy as np

from ncp_jax.analysis.intervals import percentile_interval, resampling_weights
from ncp_jax.reports.data import StudyData
from ncp_jax.types import Float, Int

MEASURES = ("rank", "percentile", "regret", "value")
POINTS = 500  # points of a curve, at most
_SECONDS = 120  # points of a curve over seconds
_RESAMPLES = 1000


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """The mean over seeds of the best so far of one method on one benchmark.

    Attributes:
      method: label.
      benchmark: name.
      axis: "queries" (paid ones) or "seconds" (simulated training).
      x: [k], rising.
      runs: seeds that the means are over.
      mean: measure → [k]: "rank" and "percentile" (of the table, lower is better), "regret" and "value" (in the
        metric's unit). NaN where some run has nothing yet.
      low: measure → [k], the lower end of the 95 % interval.
      high: measure → [k], the upper end.
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
    """All of 1..budget up to ``POINTS``; of larger budgets as many, ever further apart, the ends included."""
    if budget <= POINTS:
        return np.arange(1, budget + 1)
    return np.unique(np.geomspace(1, budget, POINTS).round().astype(np.int64))


def step_positions(
    data: StudyData, runs: Int[np.ndarray, " r"], x: Float[np.ndarray, " k"], axis: str
) -> Int[np.ndarray, "r k"]:
    """Where each run stands at each x: the place of its latest improvement, -1 where it has none yet.

    A run that ended early keeps the best that it had.

    Args:
      data: the study.
      runs: which runs.
      x: queries or simulated seconds, rising.
      axis: "queries" or "seconds".
    """
    when = data.at if axis == "queries" else data.times
    found = np.empty((len(runs), len(x)), np.int64)
    for i, run in enumerate(runs):
        start, stop = data.offsets[run], data.offsets[run + 1]
        number = np.searchsorted(when[start:stop], x, side="right")
        found[i] = np.where(number > 0, start + number - 1, -1)
    return found


def anytime_curves(data: StudyData, *, seed: int = 0) -> list[Curve]:
    """All curves of a study, by benchmark and method; those over seconds where every run of a benchmark has times.

    Args:
      data: the study.
      seed: of the bootstrap. Methods of one benchmark with equally many seeds are resampled alike.
    """
    curves = []
    for b, benchmark in enumerate(data.benchmarks):
        axes = {"queries": query_numbers(data.budget).astype(float)}
        chosen = data.benchmark == b
        if chosen.any() and _has_times(data, chosen):
            axes["seconds"] = _second_grid(data, chosen)
        for axis, x in axes.items():
            for m, method in enumerate(data.methods):
                group = data.group(m, b)
                if group.stop > group.start:
                    curves.append(_curve(data, (method, benchmark, axis), group, x, [seed, b]))
    return curves


def _has_times(data: StudyData, chosen: np.ndarray) -> bool:
    return not np.isnan(data.times[data.last[chosen]]).any()


def _second_grid(data: StudyData, chosen: np.ndarray) -> np.ndarray:
    """From the first moment at which anything was found to the end of the longest run, ever further apart."""
    first, last = data.times[data.offsets[:-1][chosen]], data.times[data.last[chosen]]
    ends = np.fmax(data.seconds[chosen], last)
    low, high = max(float(first.min()), 1e-9), float(ends.max())
    if high <= low:
        return np.array([low])
    x = np.geomspace(low, high, _SECONDS)
    # Rounding must not put the ends inside.
    x[0], x[-1] = low, high
    return x


def _curve(data: StudyData, name: tuple[str, str, str], group: slice, x: np.ndarray, seed: list[int]) -> Curve:
    method, benchmark, axis = name
    runs, k = np.arange(group.start, group.stop), len(x)
    rows = data.study["tables"][benchmark]["rows"]
    columns = {"rank": data.ranks, "regret": data.regrets, "value": data.values}
    mean, resampled = np.zeros(len(columns) * k), np.zeros((_RESAMPLES, len(columns) * k))
    for part, weights in resampling_weights(len(runs), resamples=_RESAMPLES, seed=seed):
        place = step_positions(data, runs[part], x, axis)
        values = np.concatenate([np.where(place >= 0, c[place], np.nan) for c in columns.values()], axis=1)
        mean += values.sum(axis=0) / len(runs)
        resampled += weights @ values
    low, high = percentile_interval(resampled)
    bands = []
    for line in (mean, low, high):
        band = dict(zip(columns, line.reshape(len(columns), k), strict=True))
        bands.append({**band, "percentile": 100.0 * band["rank"] / rows})
    return Curve(method, benchmark, axis, x, len(runs), *bands)
