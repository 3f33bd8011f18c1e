"""Draws how far codes carry over, and the best proposals against the labels of a target."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.drawing import BLUE, GREY, ORANGE, new_panels, number_ticks, save_figure
from transfer.pairs import ALL, NONE

LEAST = 0.02  # smallest percentage that has a colour of its own


def matrix_figure(matrices: Mapping[str, Any], path: Path) -> Path:
    """Draws the percentile of the codes found for each task (rows) on each task (columns); dark is good."""
    figure, panels = new_panels(len(matrices), width=3.4 * len(matrices) + 0.8, height=3.6)
    for axes, (space, matrix) in zip(panels, matrices.items(), strict=True):
        tasks = matrix["tasks"]
        level = np.array([[matrix["percentile"][a][b]["mean"] for b in tasks] for a in tasks])
        axes.imshow(np.log10(np.maximum(level, LEAST)), cmap="Blues_r", vmin=np.log10(LEAST), vmax=2)
        for i, row in enumerate(level):
            for j, value in enumerate(row):
                colour = "white" if value < 1 else "black"
                axes.annotate(f"{value:.2g}", (j, i), ha="center", va="center", fontsize=6, color=colour)
        axes.grid(visible=False)
        axes.set_title(f"{space}: % of the table", fontsize=8)
        axes.set_xticks(range(len(tasks)), tasks, rotation=90, fontsize=6)
        axes.set_yticks(range(len(tasks)), tasks, fontsize=6)
    return save_figure(figure, path)


def saving_figure(transfer: Mapping[str, Any], path: Path) -> Path:
    """Draws the percentile of the best proposal against the number of labels of the target."""
    figure, panels = new_panels(len(transfer), width=3.6 * len(transfer) + 1.4, height=3.4)
    colours = {"scratch": GREY, "starts": ORANGE, "predictor": BLUE}
    for axes, (space, found) in zip(panels, transfer.items(), strict=True):
        for scheme, by_kind in found["levels"].items():
            for kind, style in ((NONE, "-"), ("one", ":"), (ALL, "-")):
                if kind in by_kind:
                    labels = [int(count) for count in by_kind[kind]]
                    level = [at["percentile"]["mean"] for at in by_kind[kind].values()]
                    name = scheme if kind == NONE else f"{scheme}, {kind} source" + "s" * (kind == ALL)
                    axes.plot(labels, level, style, color=colours[scheme], linewidth=1.4, marker=".", label=name)
        axes.set_xscale("log")
        axes.set_yscale("log")
        number_ticks(axes.xaxis)
        number_ticks(axes.yaxis)
        axes.set_title(space, fontsize=9)
        axes.set_xlabel("labels of the target")
        axes.set_ylabel("best of ten proposals, % of the table")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, frameon=False, fontsize=8, loc="outside right upper")
    return save_figure(figure, path)
