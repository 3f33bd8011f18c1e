"""Summarises searches under limits, and draws them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from few_labels.summary import paired_test, share, with_holm
from few_labels.within import METHODS
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_panels, save_figure

Records = Sequence[Mapping[str, Any]]


def summarise(records: Records) -> dict[str, Any]:
    """Summarises all records.

    Returns:
      "budgets": table → budget → numbers of the limit, and for each method "percentile" and "loss" over the seeds;
      "methods": the percentile over all budgets, by method, with the paired "test" of inversion against it, whose pairs
      are means of a seed over the budgets of a table; "over": proposals beyond their limit, of "proposals".
    """
    budgets: dict[str, dict[str, Any]] = {}
    for (table, label), some in _grouped(records).items():
        first = some[0]["results"]
        budgets.setdefault(table, {})[label] = {
            "limits": first["limits"],
            "within": first["within"],
            **{
                method: {
                    "percentile": share(_column(some, method, "percentile")),
                    "loss": mean_interval(_column(some, method, "loss"), least=0.0),
                }
                for method in METHODS
            },
        }
    pairs: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for record in records:
        pairs.setdefault((record["cell"]["table"], record["cell"]["seed"]), []).append(record)
    means = {m: [float(np.mean(_column(some, m, "percentile"))) for some in pairs.values()] for m in METHODS}
    tests = with_holm({m: paired_test(means["inversion"], means[m]) for m in METHODS if m != "inversion"})
    seeds = [seed for _, seed in pairs]
    methods: dict[str, Any] = {
        m: {"percentile": mean_interval(means[m], seeds=seeds, least=0.0, most=100.0)} for m in METHODS
    }
    for method, test in tests.items():
        methods[method]["test"] = test
    made = [method for record in records for method in record["results"]["methods"].values()]
    return {
        "methods": methods,
        "over": int(sum(one["over"] for one in made)),
        "proposals": int(sum(one["proposals"] for one in made)),
        "budgets": budgets,
    }


def _grouped(records: Records) -> dict[tuple[str, str], Records]:
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        found.setdefault((record["cell"]["table"], record["cell"]["budget"]), []).append(record)
    return dict(found)


def _column(records: Records, method: str, measure: str) -> list[float]:
    return [record["results"]["methods"][method][measure] for record in records]


def budget_figure(budgets: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Draws the mean percentile of each method at each budget, a panel for each table.

    Args:
      budgets: "budgets" of the summary.
      path: where the PNG goes.
    """
    across = min(len(budgets), 4)
    rows = -(-len(budgets) // across)
    figure, panels = new_panels(len(budgets), width=3.0 * across + 1.4, height=2.8 * rows, rows=rows)
    colours = dict(zip(METHODS, (BLUE, ORANGE, "#66ccee", GREEN, GREY), strict=True))
    for axes, (table, by_label) in zip(panels, budgets.items(), strict=False):
        places = np.arange(len(by_label))
        for number, method in enumerate(METHODS):
            drawn = [row[method]["percentile"] for row in by_label.values()]
            mean, low, high = (np.array([interval[end] for interval in drawn]) for end in ("mean", "low", "high"))
            style: dict[str, Any] = {"color": colours[method], "label": method, "markersize": 3, "linewidth": 1.0}
            axes.errorbar(mean, places + 0.14 * (number - 2), xerr=[mean - low, high - mean], fmt="o", **style)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        shown = [tick for tick in (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100) if low <= tick <= high]
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.minorticks_off()
        axes.set_yticks(places, list(by_label), fontsize=7)
        axes.invert_yaxis()
        axes.set_title(table, fontsize=8)
        axes.set_xlabel("percentile within the limit", fontsize=8)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right upper")
    return save_figure(figure, path)
