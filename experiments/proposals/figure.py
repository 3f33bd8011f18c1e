"""Draws the margins of proposed architectures over the best measured ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ncp_jax.drawing import BLUE, ORANGE, new_axes, save_figure
from proposals.comparison import Comparison


def margin_figure(comparisons: Mapping[str, Sequence[Comparison]], path: Path) -> Path:
    """Draws the margin of each proposal over the table's best, in standard deviations, one row per task.

    Args:
      comparisons: comparisons by task; those without a baseline are left out.
      path: PNG file to write.
    """
    figure, axes = new_axes(width=7.5, height=4.2)
    for row, of_task in enumerate(comparisons.values()):
        decided = [(c.limit is not None, c.baseline.margin_std) for c in of_task if c.baseline is not None]
        limited = np.array([has_limit for has_limit, _ in decided], bool)
        margins = np.array([margin for _, margin in decided])
        for chosen, colour, label in ((limited, BLUE, "under a GFLOPs limit"), (~limited, ORANGE, "trade-off")):
            offset = np.linspace(-0.18, 0.18, max(int(chosen.sum()), 1))[: int(chosen.sum())]
            axes.scatter(margins[chosen], row + offset, s=16, c=colour, lw=0, label=label if row == 0 else None)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(comparisons)), list(comparisons), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("predicted margin over the table's best at equal or lower GFLOPs [standard deviations]")
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)
