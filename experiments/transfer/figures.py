"""Draws the figures of the transfer study: calibration of relations, best found against queries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ncp_jax import checks
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, number_ticks, save_figure
from ncp_jax.ordering.relations import Reliability


def reliability_figure(curves: Mapping[str, Reliability], path: Path) -> Path:
    """Draws the frequency of "better" against its predicted probability; a point's area is its bin's share of pairs.

    Args:
      curves: name → reliability; empty bins are left out.
      path: where the PNG goes.

    Raises:
      UsageError: there are no curves.
    """
    if not curves:
        raise checks.UsageError(
            expected="at least one reliability curve", got="none", remedy="reliability() makes them"
        )
    figure, axes = new_axes(width=5.2, height=5.0)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, linestyle="--", label="calibrated")
    colours = (BLUE, ORANGE, GREEN, "black")
    for i, (name, curve) in enumerate(curves.items()):
        some = curve.counts > 0
        x, y, share = curve.confidence[some], curve.frequency[some], curve.counts[some] / curve.counts.sum()
        colour = colours[i % len(colours)]
        label = f"{name} (calibration error {curve.error:.3f}, Brier {curve.brier:.3f})"
        axes.plot(x, y, color=colour, linewidth=1.2, marker=".", markersize=3, label=label)
        axes.scatter(x, y, s=12 + 400 * share, color=colour, alpha=0.5, lw=0)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    axes.set_xlabel("predicted probability to be better")
    axes.set_ylabel("how often it was better (ties count half)")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return save_figure(figure, path)


def query_figure(curves: Mapping[str, Mapping[str, list[float]]], path: Path) -> Path:
    """Draws the best percentile found against the number of queries, with bands of 95 % intervals.

    Args:
      curves: method → "mean", "low", "high" after each query, in percent.
      path: where the PNG goes.
    """
    figure, axes = new_axes()
    colours = (BLUE, ORANGE, GREEN, "#aa3377", "black", GREY)
    for i, (name, curve) in enumerate(curves.items()):
        queries, colour = np.arange(1, len(curve["mean"]) + 1), colours[i % len(colours)]
        axes.plot(queries, curve["mean"], color=colour, linewidth=1.4, label=name)
        axes.fill_between(queries, curve["low"], curve["high"], color=colour, alpha=0.15, lw=0)
    axes.set_yscale("log")
    number_ticks(axes.yaxis)
    axes.set_xlabel("queries of the target")
    axes.set_ylabel("best found, % of the table (lower is better)")
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)
