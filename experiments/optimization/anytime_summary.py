"""Compares curves of best score against wall time: who is ahead at which budget, and how fast the best is reached."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, save_figure
from optimization.anytime import AnytimeRun

TIE = 1e-6  # standard units
FLOOR = 1e-5  # lowest shortfall that the figure can show


@dataclasses.dataclass(frozen=True)
class BudgetComparison:
    """One method against a baseline at one budget.

    Attributes:
      seconds: the budget.
      difference: mean of the method's best score minus the baseline's, standard units, with a 95 % interval; runs
        in which one of them has found nothing yet are left out. None where no run is left.
      ahead: share of the runs in which the method is ahead.
      tied: share of the runs in which the two differ by at most ``TIE``.
      behind: share of the runs in which the method is behind.
    """

    seconds: float
    difference: dict[str, float] | None
    ahead: float
    tied: float
    behind: float


@dataclasses.dataclass(frozen=True)
class TimeToBest:
    """How one method reaches the best score that any method found on a task.

    Attributes:
      reached: share of the runs in which it was reached.
      median_s: median time in seconds; None where at least half of the runs did not reach it.
    """

    reached: float
    median_s: float | None


@dataclasses.dataclass(frozen=True)
class AnytimeSummary:
    """One method compared with its baselines.

    Attributes:
      against: comparisons by baseline, one per budget.
      to_best: time to the best known score by method.
    """

    against: dict[str, list[BudgetComparison]]
    to_best: dict[str, TimeToBest]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as summary.json holds them."""
        return dataclasses.asdict(self)


def anytime_summary(runs: Sequence[AnytimeRun], budgets: Sequence[float], method: str) -> AnytimeSummary:
    """Compares one method with each of the others.

    Args:
      runs: curves of each (task, seed).
      budgets: seconds at which the curves are compared.
      method: name of the method that is compared.
    """
    names = _methods(runs)
    against = {
        baseline: [_compare_at(runs, seconds, method, baseline) for seconds in budgets]
        for baseline in names
        if baseline != method
    }
    return AnytimeSummary(against, {name: _time_to_best(runs, name) for name in names})


def _methods(runs: Sequence[AnytimeRun]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.curves))


def _compare_at(runs: Sequence[AnytimeRun], seconds: float, method: str, baseline: str) -> BudgetComparison:
    differences, seeds, outcomes = [], [], []
    for run in runs:
        ours, theirs = (run.curves[name].best_at(seconds) for name in (method, baseline))
        if ours is not None and theirs is not None:
            differences.append(ours - theirs)
            seeds.append(run.seed)
        # A method that has found nothing is behind one that has; two of them are tied.
        gap = (-np.inf if ours is None else ours) - (-np.inf if theirs is None else theirs)
        outcomes.append("tied" if np.isnan(gap) or abs(gap) <= TIE else "ahead" if gap > 0 else "behind")
    shares = {name: outcomes.count(name) / len(outcomes) for name in ("ahead", "tied", "behind")}
    difference = mean_interval(differences, seeds=seeds) if differences else None
    return BudgetComparison(seconds, difference, **shares)


def best_known(runs: Sequence[AnytimeRun]) -> dict[str, float]:
    """Returns the best score that any method found, by task."""
    best: dict[str, float] = {}
    for run in runs:
        found = [curve.score[-1] for curve in run.curves.values() if curve.score]
        best[run.task] = max([best.get(run.task, -np.inf), *found])
    return best


def _time_to_best(runs: Sequence[AnytimeRun], name: str) -> TimeToBest:
    best = best_known(runs)
    times = []
    for run in runs:
        curve = run.curves[name]
        reached = np.flatnonzero(np.asarray(curve.score) >= best[run.task] - TIE)
        times.append(curve.seconds[reached[0]] if len(reached) else np.inf)
    median = float(np.median(times))
    return TimeToBest(float(np.isfinite(times).mean()), median if np.isfinite(median) else None)


def anytime_figure(runs: Sequence[AnytimeRun], path: Path, *, end: float) -> Path:
    """Draws the mean shortfall from the best known score of each task against wall time, one line per method.

    A line begins where its method has found something in every run.

    Args:
      runs: curves of each (task, seed).
      path: PNG file to write.
      end: last second drawn.
    """
    best = best_known(runs)
    seconds = np.geomspace(min(0.005, end / 10), end, 200)
    figure, axes = new_axes()
    for name, colour in zip(_methods(runs), (ORANGE, GREY, BLUE, GREEN), strict=False):
        rows = []
        for run in runs:
            curve = run.curves[name]
            if curve.score:
                place = np.searchsorted(curve.seconds, seconds, side="right")
                rows.append(best[run.task] - np.concatenate([[np.nan], curve.score])[place])
        if rows:
            short = np.stack(rows)
            axes.plot(seconds, np.maximum(short.mean(axis=0), FLOOR), color=colour, linewidth=1.6, label=name)
            low, high = np.quantile(short, [0.1, 0.9], axis=0)
            axes.fill_between(seconds, np.maximum(low, FLOOR), np.maximum(high, FLOOR), color=colour, alpha=0.12, lw=0)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(bottom=FLOOR * 0.8)
    axes.set_xlabel("wall time [s], compilation excluded")
    axes.set_ylabel("shortfall from the best known [standard deviations]")
    axes.set_title("mean over tasks and seeds, band: 10 % to 90 %", fontsize=9)
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)


def anytime_lines(summary: AnytimeSummary) -> list[str]:
    """Returns the summary as lines of text."""
    lines = []
    for baseline, rows in summary.against.items():
        for row in rows:
            difference = row.difference
            text = "nothing yet to compare"
            if difference is not None:
                text = f"{difference['mean']:+.5f} [{difference['low']:+.5f}, {difference['high']:+.5f}]"
            lines.append(
                f"{row.seconds:6g} s against {baseline:10} {text}, "
                f"ahead {row.ahead:.0%}, tied {row.tied:.0%}, behind {row.behind:.0%}"
            )
    for name, to_best in summary.to_best.items():
        when = "" if to_best.median_s is None else f", median {to_best.median_s:.3f} s"
        lines.append(f"{name}: best known reached in {to_best.reached:.0%} of the runs{when}")
    return lines
