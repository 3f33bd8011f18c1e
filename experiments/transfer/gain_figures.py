"""Draws the gains of transfer by pair of tasks, and the best found against queries."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_panels, number_ticks, save_figure
from transfer.gains import ALPHA
from transfer.pairs import ALL

COLOURS = {
    "random": GREY,
    "evolution": GREEN,
    "population": GREEN,
    "reinforce": "#999933",
    "policy": "#999933",
    "tuned-policy": "#999933",
    "bayesian": "black",
    "ncp": BLUE,
    "architectures": "#66ccee",
    "starts": "#aa3377",
    "predictor": BLUE,
    "arch-graph": ORANGE,
    "relations": ORANGE,
}
REACH = 1.0  # gain at the ends of the scale of colours: a tenth or ten times the rank


def curve_figure(results: Mapping[str, Any], path: Path) -> Path:
    """Draws the mean percentile of the best so far: from scratch; with all sources dashed, or dotted for "policy".

    Args:
      results: space → the results of ``scheme_study.summarise``.
      path: where the PNG goes.
    """
    figure, panels = new_panels(len(results), width=5.0 * len(results) + 1.8, height=4.2)
    for axes, (space, found) in zip(panels, results.items(), strict=True):
        for name, by_kind in found["curves"].items():
            line = by_kind.get("none") or by_kind.get(ALL) or by_kind["one"]
            style = "-" if "none" in by_kind else ":" if name == "policy" else "--"
            queries = np.arange(1, len(line["mean"]) + 1)
            axes.plot(queries, line["mean"], color=COLOURS[name], linestyle=style, linewidth=1.3, label=name)
        axes.set_yscale("log")
        number_ticks(axes.yaxis)
        axes.set_title(space, fontsize=9)
        axes.set_xlabel("queries of the target")
        axes.set_ylabel("best found, % of the table (lower is better)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, frameon=False, fontsize=8, loc="outside right upper")
    return save_figure(figure, path)


def gain_figure(results: Mapping[str, Any], path: Path) -> Path:
    """Draws a map of gains for each scheme and space: sources in rows, targets in columns; blue helps, red hurts.

    A dot marks a pair whose test is significant after Holm's correction.

    Args:
      results: space → the results of ``scheme_study.summarise``.
      path: where the PNG goes.
    """
    maps = [(space, name) for space, found in results.items() for name in found["gains"]]
    if not maps:
        maps = [(space, "") for space in results]
    rows = max(1, len(results))
    figure, panels = new_panels(len(maps), width=2.5 * -(-len(maps) // rows) + 0.8, height=2.9 * rows, rows=rows)
    for axes, (space, name) in zip(panels, maps, strict=True):
        axes.set_title(f"{space}: {name}" if name else space, fontsize=8)
        if name:
            gain_map(axes, results[space]["gains"][name][str(results[space]["foresight"]["queries"])])
    return save_figure(figure, path)


def gain_map(axes: Any, compared: Mapping[str, Any]) -> None:
    """Draws the gains of one scheme at one number of queries."""
    pairs = [pair for kind in compared.values() for pair in kind["pairs"]]
    sources, targets = ([*dict.fromkeys(pair[kind] for pair in pairs)] for kind in ("source", "target"))
    gain = np.full((len(sources), len(targets)), np.nan)
    for pair in pairs:
        gain[sources.index(pair["source"]), targets.index(pair["target"])] = pair["gain"]["mean"]
    axes.imshow(gain, cmap="RdBu", vmin=-REACH, vmax=REACH)
    for pair in pairs:
        if pair["p_holm"] < ALPHA:
            axes.plot(targets.index(pair["target"]), sources.index(pair["source"]), ".", color="black", markersize=3)
    axes.grid(visible=False)
    axes.set_xticks(range(len(targets)), targets, rotation=90, fontsize=6)
    axes.set_yticks(range(len(sources)), sources, fontsize=6)
