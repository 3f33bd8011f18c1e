"""Creates and saves figures without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

from ncp_jax.files import atomic_write

GREY, BLUE, ORANGE, GREEN = "#9a9a9a", "#4477aa", "#ee7733", "#228833"


def new_axes(width: float = 7.0, height: float = 4.6) -> tuple[Any, Any]:
    """Returns a figure and its axes in the project's style."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def save_figure(figure: Any, path: Path) -> Path:
    """Writes a figure as PNG, atomically; returns the path."""

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png")

    return atomic_write(path, write)
