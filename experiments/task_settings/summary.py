"""Summarises settings: the matrix of what carries over, and the positions whose gradients agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.drawing import new_panels, save_figure

Results = Mapping[str, Sequence[Mapping[str, Any]]]  # setting → records by seed


def summarise(found: Results, groups: Mapping[str, Sequence[str]], positions: Sequence[str]) -> dict[str, Any]:
    """Summarises all settings.

    Args:
      found: records of ``SettingResult`` by setting, each with one entry per seed.
      groups: task → its settings.
      positions: names of the positions.

    Returns:
      "loss": task → setting that architectures were found for → setting that they are judged on → how much worse they
      are than those found for the latter, in standard deviations; "gradient" and "shift": setting → position →
      interval; "similarity": cosine of the gradients of two settings of one task ("within") and of two tasks
      ("between"); "positions": task → those that all its settings push the same way ("shared") or some against others
      ("opposed"), where the intervals exclude 0.
    """
    loss = {
        group: {
            source: {
                target: mean_interval(
                    [
                        own["judged"][target] - other["judged"][target]
                        for own, other in zip(found[target], found[source], strict=True)
                    ]
                )
                for target in settings
            }
            for source in settings
        }
        for group, settings in groups.items()
    }
    measures = {
        key: {
            setting: {name: mean_interval([run[key][place] for run in runs]) for place, name in enumerate(positions)}
            for setting, runs in found.items()
        }
        for key in ("gradient", "shift")
    }
    return {
        "loss": loss,
        **measures,
        "similarity": _similarity(found, groups),
        "positions": {group: _agreement(measures["gradient"], settings) for group, settings in groups.items()},
    }


def _similarity(found: Results, groups: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Returns the mean cosine within and between tasks, over seeds, and the matrix of all settings."""
    names = [setting for settings in groups.values() for setting in settings]
    group_of = {setting: group for group, settings in groups.items() for setting in settings}
    slopes = np.array([[run["gradient"] for run in found[name]] for name in names])  # [settings, seeds, positions]
    unit = slopes / np.maximum(np.linalg.norm(slopes, axis=-1, keepdims=True), 1e-12)
    cosines = np.einsum("asp,bsp->sab", unit, unit)
    same = np.array([[group_of[a] == group_of[b] for b in names] for a in names])
    pairs = ~np.eye(len(names), dtype=bool)
    means = {
        key: mean_interval(cosines[:, some & pairs].mean(axis=1), least=-1.0, most=1.0)
        for key, some in (("within", same), ("between", ~same))
        if (some & pairs).any()
    }
    return {**means, "settings": names, "matrix": cosines.mean(axis=0).tolist()}


def _agreement(gradient: Mapping[str, Mapping[str, Mapping[str, float]]], settings: Sequence[str]) -> dict[str, Any]:
    shared, opposed = [], []
    for position in gradient[settings[0]]:
        ends = [gradient[setting][position] for setting in settings]
        signs = [1 if end["low"] > 0 else -1 if end["high"] < 0 else 0 for end in ends]
        if abs(sum(signs)) == len(signs):
            shared.append(position)
        elif 1 in signs and -1 in signs:
            opposed.append(position)
    return {"shared": shared, "opposed": opposed}


def gradient_figure(gradient: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Draws the mean normalised gradients as a heat map, a row for each setting and a column for each position.

    Args:
      gradient: "gradient" of the summary.
      path: where the PNG goes.
    """
    settings, positions = list(gradient), list(next(iter(gradient.values())))
    values = np.array([[gradient[setting][name]["mean"] for name in positions] for setting in settings])
    height = 1.9 + 0.3 * len(settings)
    figure, (axes,) = new_panels(1, width=2.4 + 0.32 * len(positions), height=height)
    most = max(float(np.abs(values).max()), 1e-9)
    image = axes.imshow(values, cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    axes.set_xticks(range(len(positions)), positions, rotation=90, fontsize=7)
    axes.set_yticks(range(len(settings)), settings, fontsize=8)
    axes.grid(visible=False)
    figure.colorbar(image, ax=axes, label="mean normalised gradient")
    return save_figure(figure, path)


def loss_figure(loss: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> Path:
    """Draws the matrices of what carries over, a panel for each task.

    Args:
      loss: "loss" of the summary.
      path: where the PNG goes.
    """
    figure, panels = new_panels(len(loss), width=4.0 * len(loss), height=3.6)
    for axes, (group, matrix) in zip(panels, loss.items(), strict=True):
        names = list(matrix)
        values = np.array([[matrix[source][target]["mean"] for target in names] for source in names])
        axes.imshow(values, cmap="Oranges", vmin=0.0, vmax=max(1.0, float(values.max())))
        for row, source in enumerate(names):
            for column, target in enumerate(names):
                text = f"{matrix[source][target]['mean']:.2f}"
                axes.text(column, row, text, ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(names)), names, rotation=30, fontsize=7)
        axes.set_yticks(range(len(names)), names, fontsize=7)
        axes.grid(visible=False)
        axes.set_title(group, fontsize=9)
        axes.set_xlabel("judged on", fontsize=8)
    panels[0].set_ylabel("found for", fontsize=8)
    return save_figure(figure, path)
