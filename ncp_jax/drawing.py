"""Creates and saves figures without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from ncp_jax.files import atomic_write

GREY, BLUE, ORANGE, GREEN = "#9a9a9a", "#4477aa", "#ee7733", "#228833"


def new_axes(
    width: float = 7.0, height: float = 4.6, margins: tuple[float, float, float, float] | None = None
) -> tuple[Any, Any]:
    """Returns a figure and its axes in the project's style.

    Args:
      width: width in inches.
      height: height in inches.
      margins: space on the left, below, on the right and above the axes, in inches. Without it, the layout fits the
        labels, which takes as long as drawing the figure.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout=None if margins else "constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if margins:
        left, below, right, above = margins
        figure.subplots_adjust(left / width, below / height, 1 - right / width, 1 - above / height)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Any, path: Path) -> Path:
    """Writes a figure as PNG, atomically; returns the path."""

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png")

    return atomic_write(path, write)
