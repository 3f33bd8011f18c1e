"""Draws the margins of proposed architectures over the best measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.drawing import BLUE, ORANGE, new_axes, save_figure


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
