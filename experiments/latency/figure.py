"""Draws code-steps per second against the number of codes, for all engines and for plain matrix products."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from latency.rows import ENGINE, Row
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, save_figure

_ENGINE_COLOURS = (BLUE, "#66ccee", "#222255")
_BASELINE_COLOURS = (ORANGE, GREEN, "#aa3377")


def latency_figure(rows: Iterable[Row], path: Path) -> Path:
    """Draws medians over seeds; dashed lines are the rates that plain products of the same shapes would allow.

    Args:
      rows: rows of ``measurement.measure``.
      path: PNG file to write.
    """
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    ceilings: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        curves.setdefault((row.engine, row.precision), {}).setdefault(row.codes, []).append(row.code_steps_per_s)
        if row.engine == ENGINE:
            ceiling = row.products.reference / row.flops_per_code_step
            ceilings.setdefault(row.precision, {}).setdefault(row.codes, []).append(ceiling)
    figure, axes = new_axes()
    own, others = iter(_ENGINE_COLOURS * len(curves)), iter(_BASELINE_COLOURS * len(curves))
    for (engine, precision), by_codes in curves.items():
        colour = next(own if engine == ENGINE else others)
        label = f"{engine}, {precision}" if engine == ENGINE else engine
        _draw(axes, by_codes, color=colour, marker="o", markersize=4, linewidth=1.4, label=label)
        if engine == ENGINE:
            style = {"color": colour, "alpha": 0.6, "marker": "_", "linewidth": 1.0, "linestyle": "--"}
            _draw(axes, ceilings[precision], label=f"plain products, {precision}", **style)
    sizes = sorted({n for by_codes in curves.values() for n in by_codes})
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{n:,}" for n in sizes], fontsize=8)
    axes.minorticks_off()
    axes.tick_params(axis="x", color=GREY)
    axes.set_xlabel("codes inverted at once")
    axes.set_ylabel("code-steps / s")
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return save_figure(figure, path)


def _draw(axes: object, by_codes: dict[int, list[float]], **style: object) -> None:
    sizes = sorted(by_codes)
    axes.plot(sizes, [statistics.median(by_codes[n]) for n in sizes], **style)  # type: ignore[attr-defined]
