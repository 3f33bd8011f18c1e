"""What the curves of a race say: who is ahead at which time, and how long each method takes to the best known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, save_figure
from races.anytime import best_at

TIE = 1e-6  # standard units
FLOOR = 1e-5  # the lowest shortfall that the figure tells from none

# Method -> {"seconds", "score", "code"} of one (task, seed).
Curves = Mapping[str, Mapping[str, Any]]


def summarise(races: Sequence[tuple[str, Curves]], budgets: Sequence[float], ours: str) -> dict[str, Any]:
    """Compares one method with each of the others.

    Args:
      races: task and curves of each (task, seed).
      budgets: seconds.
      ours: the method that is compared.

    Returns:
      JSON-ready. "against": rival → a list over budgets of "seconds", "difference" (mean of ours minus the rival's
      best, standard units, with a bootstrap interval; races in which one has nothing yet are left out), and the shares
      "ahead", "tied" (within ``TIE``), "behind". "to_best": method → "reached" (share of the races in which it found
      the best that any method found on that task), "median_s" (seconds until then, None where half never did).
    """
    methods = list(dict.fromkeys(name for _, curves in races for name in curves))
    against = {
        rival: [_compared(races, seconds, ours, rival) for seconds in budgets] for rival in methods if rival != ours
    }
    return {"against": against, "to_best": {name: _to_best(races, name) for name in methods}}


def _compared(races: Sequence[tuple[str, Curves]], seconds: float, ours: str, rival: str) -> dict[str, Any]:
    differences, outcomes = [], []
    for _, curves in races:
        mine, theirs = (best_at(curves[name], seconds) for name in (ours, rival))
        if mine is not None and theirs is not None:
            differences.append(mine - theirs)
        gap = (-np.inf if mine is None else mine) - (-np.inf if theirs is None else theirs)
        outcomes.append("tied" if np.isnan(gap) or abs(gap) <= TIE else "ahead" if gap > 0 else "behind")
    shares = {name: outcomes.count(name) / len(outcomes) for name in ("ahead", "tied", "behind")}
    difference = mean_interval(differences) if differences else None
    return {"seconds": seconds, "difference": difference, **shares}


def best_known(races: Sequence[tuple[str, Curves]]) -> dict[str, float]:
    """The best score that any method found, by task."""
    best: dict[str, float] = {}
    for task, curves in races:
        found = [curve["score"][-1] for curve in curves.values() if curve["score"]]
        best[task] = max([best.get(task, -np.inf), *found])
    return best


def _to_best(races: Sequence[tuple[str, Curves]], name: str) -> dict[str, Any]:
    best = best_known(races)
    times = []
    for task, curves in races:
        reached = np.flatnonzero(np.asarray(curves[name]["score"]) >= best[task] - TIE)
        times.append(curves[name]["seconds"][reached[0]] if len(reached) else np.inf)
    median = float(np.median(times))
    return {"reached": float(np.isfinite(times).mean()), "median_s": median if np.isfinite(median) else None}


def anytime_figure(races: Sequence[tuple[str, Curves]], path: Path, *, end: float) -> Path:
    """Draws the mean shortfall from the best known of each task against wall time, one line a method.

    A line begins where its method has found something in every race.

    Args:
      races: task and curves of each (task, seed).
      path: where the PNG goes.
      end: the last second drawn.
    """
    best = best_known(races)
    methods = list(dict.fromkeys(name for _, curves in races for name in curves))
    seconds = np.geomspace(min(0.005, end / 10), end, 200)
    figure, axes = new_axes()
    for name, colour in zip(methods, (ORANGE, GREY, BLUE, GREEN), strict=False):
        rows = []
        for task, curves in races:
            curve = curves[name]
            if curve["score"]:
                place = np.searchsorted(curve["seconds"], seconds, side="right")
                rows.append(best[task] - np.concatenate([[np.nan], curve["score"]])[place])
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


def anytime_lines(summary: Mapping[str, Any]) -> list[str]:
    """The summary as a person reads it."""
    lines = []
    for rival, rows in summary["against"].items():
        for row in rows:
            difference = row["difference"]
            text = "nothing yet to compare"
            if difference is not None:
                text = f"{difference['mean']:+.5f} [{difference['low']:+.5f}, {difference['high']:+.5f}]"
            lines.append(
                f"{row['seconds']:6g} s against {rival:10} {text}, "
                f"ahead {row['ahead']:.0%}, tied {row['tied']:.0%}, behind {row['behind']:.0%}"
            )
    for name, row in summary["to_best"].items():
        when = "" if row["median_s"] is None else f", median {row['median_s']:.3f} s"
        lines.append(f"{name}: best known reached in {row['reached']:.0%} of the races{when}")
    return lines
