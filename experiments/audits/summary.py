"""Sums the counts of audits up: coverage with intervals over seeds, lines of text, a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audits.splits import TaskCoverage
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.drawing import BLUE, GREY, ORANGE, new_panels, save_figure

WANTED = (0.85, 0.95)  # what intervals of 90 % are to cover
Counts = Mapping[str, Sequence[TaskCoverage]]  # by task, one a seed


def coverage_json(runs: Counts) -> dict[str, Any]:
    """Returns coverage and widths by task, with 95 % confidence intervals over the seeds."""
    return {task: _of_task(counts) for task, counts in runs.items()}


def _of_task(counts: Sequence[TaskCoverage]) -> dict[str, Any]:
    def share(covered: str, rows: str) -> dict[str, float] | None:
        some = [getattr(one, covered) / getattr(one, rows) for one in counts if getattr(one, rows)]
        return mean_interval(some, least=0.0, most=1.0) if some else None

    values = {name: mean_interval([getattr(one, name) for one in counts]) for name in ("width", "rmse", "bias")}
    return {
        "coverage": share("covered", "rows"),
        "top_coverage": share("top_covered", "top_rows"),
        "like_coverage": share("like_covered", "like_rows"),
        "like_share": share("like_rows", "rows"),
        "above": share("above", "rows"),
        **values,
        "distance": float(np.mean([one.distance for one in counts])),
        "rows": int(sum(one.rows for one in counts)),
        "top_rows": int(sum(one.top_rows for one in counts)),
    }


def proposals_json(results: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]) -> dict[str, Any]:
    """Returns what audits say about proposals, by task and objective: means over the proposals."""
    return {
        task: {goal: _of_proposals(rows) for goal, rows in goals.items() if rows} for task, goals in results.items()
    }


def _of_proposals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    bounded = [row for row in rows if row["low"] is not None and row["high"] is not None]
    means = {name: float(np.mean([row[name] for row in rows])) for name in ("proposer", "predicted", "distance")}
    ends = {name: float(np.mean([row[name] for row in bounded])) if bounded else None for name in ("low", "high")}
    families = {name: float(np.mean([row["families"][name] for row in rows])) for name in rows[0]["families"]}
    inside = [row["low"] <= row["proposer"] <= row["high"] for row in bounded]
    return {
        **means,
        **ends,
        "families": families,
        "proposer_inside": float(np.mean(inside)) if inside else None,
        "extrapolated": float(np.mean([row["extrapolated"] for row in rows])),
        "proposals": len(rows),
    }


def coverage_lines(kind: str, results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Returns a line for each task: coverage of all and of the best tenth."""
    lines = []
    for task, row in results.items():
        parts = [f"{name} {_text(row[key])}" for name, key in (("all", "coverage"), ("best tenth", "top_coverage"))]
        lines.append(f"{kind}, {task}: {', '.join(parts)}; width {row['width']['mean']:.2f} standard deviations")
    return lines


def _text(share: Mapping[str, float] | None) -> str:
    return "-" if share is None else f"{share['mean']:.1%} [{share['low']:.1%}, {share['high']:.1%}]"


def coverage_figure(results: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> Path:
    """Draws the coverage by task, a panel a kind of held-out rows; a grey band is what intervals of 90 % shall cover.

    Args:
      results: ``coverage_json`` by kind.
      path: PNG file to write.
    """
    most = max(len(tasks) for tasks in results.values())
    figure, panels = new_panels(len(results), width=2.6 * len(results) + 1.6, height=0.34 * most + 1.6)
    for axes, (kind, tasks) in zip(panels, results.items(), strict=True):
        axes.axvspan(*WANTED, color=GREY, alpha=0.25, lw=0)
        for key, colour, shift, label in (
            ("coverage", BLUE, -0.14, "all"),
            ("top_coverage", ORANGE, 0.14, "tenth predicted best"),
        ):
            drawn = [(place, row[key]) for place, row in enumerate(tasks.values()) if row[key] is not None]
            means = np.array([share["mean"] for _, share in drawn])
            ends = np.array([[share["mean"] - share["low"], share["high"] - share["mean"]] for _, share in drawn]).T
            places = np.array([place for place, _ in drawn]) + shift
            axes.errorbar(means, places, xerr=ends, fmt="o", ms=3.5, color=colour, lw=1, label=label)
        axes.set_yticks(range(len(tasks)), list(tasks), fontsize=7)
        axes.invert_yaxis()
        axes.set_title(kind, fontsize=9)
        axes.set_xlabel("share within 90 % intervals", fontsize=8)
    panels[0].legend(frameon=False, fontsize=7, loc="lower left")
    return save_figure(figure, path)
