"""Creates and saves figures without a display."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO, Literal

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
    figure, (axes,) = new_panels(1, width=width, height=height, layout=None if margins else "constrained")
    if margins:
        left, below, right, above = margins
        figure.subplots_adjust(left / width, below / height, 1 - right / width, 1 - above / height)
    return figure, axes


def new_panels(
    count: int,
    *,
    width: float,
    height: float,
    rows: int = 1,
    layout: Literal["constrained"] | None = "constrained",
) -> tuple[Any, tuple[Any, ...]]:
    """Returns a figure and its axes side by side, in the project's style.

    Args:
      count: number of axes.
      rows: number of rows of axes, filled from the left and the top.
      width: width in inches.
      height: height in inches.
      layout: "constrained" fits the labels, None leaves the margins to the caller.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout=layout)
    FigureCanvasAgg(figure)
    panels = tuple(figure.add_subplot(rows, -(-count // rows), place) for place in range(1, count + 1))
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e6e6e6", linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, panels


def number_ticks(axis: Any) -> None:
    """Labels a logarithmic axis with plain numbers; between powers of ten only if it spans few of them."""

    def text(value: float, _: object = None) -> str:
        return f"{value:,.0f}" if 1000 <= value < 1e9 else f"{value:g}"

    def between(value: float, _: object = None) -> str:
        low, high = axis.get_view_interval()
        shown = (2, 5) if high > 4 * low else (2, 3, 4, 5, 6, 7, 8, 9)
        leading = round(value / 10 ** math.floor(math.log10(value)))
        return text(value) if high < 30 * low and leading in shown else ""

    axis.set_major_formatter(text)
    axis.set_minor_formatter(between)


def save_figure(figure: Any, path: Path) -> Path:
    """Writes a figure as PNG, atomically; returns the path."""

    def write(file: BinaryIO) -> None:
        figure.savefig(file, format="png")

    return atomic_write(path, write)
