"""Draws percentiles against the number of labels, and the variants of the inversion."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from few_labels.inversions import CONTINUOUS, EXHAUSTIVE
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_panels, save_figure

LINES = {CONTINUOUS: (BLUE, "inversion"), EXHAUSTIVE: (ORANGE, "every architecture scored")}


def labels_figure(labels: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Draws the percentile of the best proposal against the number of labels, a panel for each data set.

    Args:
      labels: "labels" of the summary.
      path: where the PNG goes.
    """
    figure, panels = new_panels(len(labels), width=3.3 * len(labels) + 0.6, height=3.4)
    for axes, (name, by_count) in zip(panels, labels.items(), strict=True):
        counts = [int(count) for count in by_count]
        drawn = [(GREY, "best label", [row["best_label"] for row in by_count.values()])]
        for method, (colour, label) in LINES.items():
            drawn.append((colour, label, [row["methods"][method]["percentile"] for row in by_count.values()]))
        for colour, label, intervals in drawn:
            mean, low, high = (np.array([interval[end] for interval in intervals]) for end in ("mean", "low", "high"))
            axes.plot(counts, mean, color=colour, marker="o", markersize=3, linewidth=1.3, label=label)
            axes.fill_between(counts, low, high, color=colour, alpha=0.15, lw=0)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(counts, [str(count) for count in counts])
        axes.minorticks_off()
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("labels")
    panels[0].set_ylabel("percentile of the best (lower is better)")
    panels[0].legend(frameon=False, fontsize=8)
    return save_figure(figure, path)


def ablation_figure(ablation: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Draws each variant's difference of percentile from the default, with its interval.

    Args:
      ablation: "ablation" of the summary.
      path: where the PNG goes.
    """
    names = list(next(iter(ablation.values())))
    figure, (axes,) = new_panels(1, width=6.5, height=1.2 + 0.45 * len(names))
    for i, (data_set, variants) in enumerate(ablation.items()):
        drawn = [variants[name]["test"]["difference"] for name in names]
        mean, low, high = (np.array([interval[end] for interval in drawn]) for end in ("mean", "low", "high"))
        at = np.arange(len(names)) + (i - (len(ablation) - 1) / 2) * 0.18
        style: dict[str, Any] = {"color": (BLUE, ORANGE, GREEN)[i % 3], "label": data_set, "markersize": 3.5}
        axes.errorbar(mean, at, xerr=[mean - low, high - mean], fmt="o", linewidth=1.2, **style)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("percentile of the best proposal, minus that of continuous inversion")
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)
