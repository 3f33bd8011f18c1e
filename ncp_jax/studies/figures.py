"""Figures, drawn from results without a display."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.files import atomic_write
from ncp_jax.spaces import cost_model_for, get_space

if TYPE_CHECKING:
    from ncp_jax.ordering.relations import Reliability
    from ncp_jax.studies.search import SearchResult

GREY, BLUE, ORANGE, GREEN = "#9a9a9a", "#4477aa", "#ee7733", "#228833"


def new_axes(width: float = 7.0, height: float = 4.6) -> tuple[Any, Any]:
    """Returns a figure and its axes in the project's style."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Any, path: Path) -> Path:
    """Writes a PNG atomically."""

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png")

    return atomic_write(path, write)


def search_figure(result: SearchResult, path: Path) -> Path:
    """Draws the sought metric against GFLOPs: the measured table, the starts, what was found.

    Where the space has no GFLOPs, the ensemble's spread takes the place of the horizontal axis.
    """
    found = result.found
    sought = result.predictor.metric(result.objective.names[0])
    column = [m.name for m in found.metrics].index(sought.name)
    space = get_space(found.space)
    start_mean, start_spread = (
        np.asarray(a)[:, column] for a in result.predictor(space.encode(jnp.asarray(found.starts)))
    )
    model = cost_model_for(space, result.predictor.metrics)
    figure, axes = new_axes()
    if model is not None:
        table = result.table
        if table is not None and sought.name in [m.name for m in table.metrics]:
            x = model.in_units(np.asarray(table.codes))["flops"]
            axes.scatter(x, np.asarray(table.column(sought.name)), s=5, c=GREY, lw=0, label="table (measured)")
        axes.scatter(
            model.in_units(found.starts)["flops"], start_mean, s=5, c=BLUE, lw=0, alpha=0.5, label="start (predicted)"
        )
        x, best_x = found.costs["flops"], found.costs["flops"][0]
        axes.set_xscale("log")
        axes.set_xlabel("GFLOPs (multiply-adds / 1e9)")
    else:
        axes.scatter(start_spread, start_mean, s=5, c=BLUE, lw=0, alpha=0.5, label="start (predicted)")
        x, best_x = found.spread[:, column], found.spread[0, column]
        axes.set_xlabel("spread over the ensemble" + (f" [{sought.unit}]" if sought.unit else ""))
    axes.scatter(x, found.mean[:, column], s=6, c=ORANGE, lw=0, alpha=0.7, label="found (predicted)")
    axes.scatter([best_x], [found.mean[0, column]], s=90, marker="*", c=GREEN, zorder=3, label="best by the objective")
    axes.set_ylabel(f"{sought.name} [{sought.unit}]" if sought.unit else sought.name)
    axes.set_title(
        f"{result.summary['task']}: {found.starts.shape[0]} codes, {result.summary['steps']} steps", fontsize=10
    )
    axes.legend(frameon=False, fontsize=8, markerscale=1.6)
    return save_figure(figure, path)


def bar_figure(values: Mapping[str, Mapping[str, float]], path: Path, *, ylabel: str) -> Path:
    """Draws grouped bars: one group a task (and their mean), one colour a method.

    Args:
      values: method → task → value.
      path: where the PNG goes.
      ylabel: what the values are.
    """
    tasks = [*next(iter(values.values())), "mean"]
    figure, axes = new_axes(width=8.0)
    width = 0.8 / len(values)
    colours = (BLUE, ORANGE, GREEN, GREY)
    for i, (method, by_task) in enumerate(values.items()):
        heights = [*by_task.values(), float(np.mean(list(by_task.values())))]
        x = np.arange(len(tasks)) + (i - (len(values) - 1) / 2) * width
        axes.bar(x, heights, width * 0.92, label=method, color=colours[i % len(colours)])
        for at, height in zip(x, heights, strict=True):
            axes.annotate(f"{height:.2f}", (at, height), ha="center", va="bottom", fontsize=6)
    axes.set_xticks(np.arange(len(tasks)), tasks, rotation=20, fontsize=8)
    axes.set_ylabel(ylabel)
    axes.legend(frameon=False, fontsize=8, ncols=len(values), loc="upper left", bbox_to_anchor=(0, 1.08))
    return save_figure(figure, path)


def margin_figure(contests: Mapping[str, list[dict[str, Any]]], path: Path) -> Path:
    """Draws the judge's margin of each proposal over the table's best, in standard deviations, a row a task."""
    figure, axes = new_axes(width=7.5, height=4.2)
    for row, (_task, outcomes) in enumerate(contests.items()):
        margins = np.array([c["margin_std"] for c in outcomes])
        limited = np.array([c["limit"] is not None for c in outcomes], bool)
        for chosen, colour, label in ((limited, BLUE, "under a GFLOPs limit"), (~limited, ORANGE, "trade-off")):
            offset = np.linspace(-0.18, 0.18, max(int(chosen.sum()), 1))[: int(chosen.sum())]
            axes.scatter(margins[chosen], row + offset, s=16, c=colour, lw=0, label=label if row == 0 else None)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(contests)), list(contests), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("judge's margin over the table's best at equal or lower GFLOPs [standard deviations]")
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)


def reliability_figure(curves: Mapping[str, Reliability], path: Path) -> Path:
    """Draws how often "better" came true against its predicted probability; the area of a point is its bin's share.

    Args:
      curves: name → reliability; empty bins are left out.
      path: where the PNG goes.

    Raises:
      UsageError: there are no curves.
    """
    if not curves:
        raise checks.UsageError(checks.message("at least one reliability curve", "none", "reliability() makes them"))
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
    """Draws the best percentile found against the number of queries, with bootstrap bands.

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
    axes.set_xlabel("queries of the target")
    axes.set_ylabel("best found, % of the table (lower is better)")
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)
