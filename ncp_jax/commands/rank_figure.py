"""Draws the measurements of a ranking, and the final order against the values that are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ncp_jax.benchmarks import Table
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_panels, save_figure
from ncp_jax.types import Int


def rank_figure(
    path: Path,
    table: Table,
    *,
    asked: Int[np.ndarray, " q"],
    wanted: Int[np.ndarray, " k"],
    order: Int[np.ndarray, " n"],
) -> Path:
    """Draws the values of the queries on the left, and values against places in the final order on the right.

    Args:
      path: PNG file to write.
      table: the ranked table, NaN where a value is not known.
      asked: measured rows, at least one.
      wanted: rows to be measured next.
      order: all rows, best first.
    """
    metric = table.main
    values = table.measured(metric.name)
    paid = values[asked]
    best = metric.sign * np.maximum.accumulate(metric.sign * paid)
    figure, (left, right) = new_panels(2, width=10.0, height=4.2)
    queries = np.arange(1, len(paid) + 1)
    left.plot(queries, best, color=ORANGE, drawstyle="steps-post", label="best so far")
    left.plot(queries, paid, "o", color=BLUE, markersize=3, label="measured")
    left.set_xlabel("query" if np.isfinite(values).all() else "measured architecture, as in the file")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.set_ylabel(f"{metric.name} [{metric.unit}]" if metric.unit else metric.name)
    places = np.empty(len(table), int)
    places[order] = np.arange(1, len(table) + 1)
    others = np.setdiff1d(np.flatnonzero(np.isfinite(values)), asked)
    if len(others):
        label = "not measured (the table's values)"
        right.plot(places[others], values[others], "o", color=GREY, markersize=2, alpha=0.6, label=label)
        top = metric.sign * np.max(metric.sign * values)
        left.axhline(top, color=GREEN, linewidth=1, linestyle="--", label="best of the table")
    right.plot(places[asked], paid, "o", color=BLUE, markersize=3, label="measured")
    for number, place in enumerate(places[wanted]):
        label = "_" if number else "to be measured next"  # no second entry in the legend
        right.axvline(place, color=ORANGE, linewidth=0.8, linestyle=":", label=label)
    right.set_xscale("log")
    right.set_xlabel("place in the final order")
    for axes in (left, right):
        axes.legend(frameon=False, fontsize=8)
    figure.suptitle(f"{table.name}: {len(paid)} of {len(table)} architectures measured", fontsize=10)
    return save_figure(figure, path)
