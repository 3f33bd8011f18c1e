"""Draws hypervolume against time, and the fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_panels, save_figure

COLOURS = {"inversion": ORANGE, "evolution": BLUE, "nsga2": GREEN, "optuna-nsga2": "#aa3377", "random": GREY}


def fronts_figure(one: Mapping[str, Any], fronts: Mapping[str, Sequence[Sequence[float]]], path: Path) -> Path:
    """Draws the judged hypervolume of each method by time, and the answers of the first seed.

    Args:
      one: a benchmark's summary.
      fronts: GFLOPs and mean metrics, predicted and judged, by method.
      path: PNG file to write.
    """
    figure, (left, right) = new_panels(2, width=9.5, height=3.8)
    for method, by_mark in one["methods"].items():
        seconds = [float(mark) for mark in by_mark]
        ends = [[row["judged"][end] for row in by_mark.values()] for end in ("mean", "low", "high")]
        colour = COLOURS[method]
        left.plot(seconds, ends[0], marker="o", markersize=3, color=colour, label=method)
        left.fill_between(seconds, ends[1], ends[2], color=colour, alpha=0.15, lw=0)
        points = np.array(fronts[method], float).reshape(-1, 3)
        right.scatter(points[:, 0], points[:, 2], s=6, lw=0, color=colour, alpha=0.6)
    for name, style in (("single-task", ":"), ("table", "--")):
        left.axhline(one["sets"][name]["judged"]["mean"], color="black", lw=0.8, ls=style, label=name)
    left.set_xscale("log")
    left.set_xlabel("seconds")
    left.set_ylabel("hypervolume, as judged [share of the box]")
    left.legend(frameon=False, fontsize=7)
    right.set_xlabel("GFLOPs")
    right.set_ylabel("mean over the tasks, as judged [std]")
    return save_figure(figure, path)
