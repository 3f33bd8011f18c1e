"""Draws the scores of several methods by task as grouped bars."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, save_figure


def bar_figure(values: Mapping[str, Mapping[str, float]], path: Path, *, ylabel: str) -> Path:
    """Draws one group of bars per task, and one for the mean over tasks; each method has a colour.

    Args:
      values: value by method and task.
      path: PNG file to write.
      ylabel: name of the values.
    """
    tasks = [*next(iter(values.values())), "mean"]
    figure, axes = new_axes(width=8.0)
    width = 0.8 / len(values)
    colours = (BLUE, ORANGE, GREEN, GREY, "#aa3377", "black")
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
