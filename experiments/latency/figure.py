"""Code-steps a second against the number of codes: the engines, and what plain matrix products would allow."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from pathlib import Path

from latency.study import ENGINE, Row
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, save_figure

_OWN = (BLUE, "#66ccee", "#222255")
_OTHERS = (ORANGE, GREEN, "#aa3377")


def latency_figure(rows: Iterable[Row], path: Path) -> Path:
    """Draws the rows of a study, medians over seeds; dashed: the rate at which plain products of these shapes run.

    Args:
      rows: see ``study.measure``.
      path: where the PNG goes.
    """
    curves: dict[tuple[str, str], dict[int, list[float]]] = {}
    ceilings: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        at = row["codes"]
        curves.setdefault((row["engine"], row["precision"]), {}).setdefault(at, []).append(row["code_steps_per_s"])
        if row["engine"] == ENGINE:
            ceiling = row["products_flops_per_s"] / row["flops_per_code_step"]
            ceilings.setdefault(row["precision"], {}).setdefault(at, []).append(ceiling)
    figure, axes = new_axes()
    own, others = iter(_OWN * len(curves)), iter(_OTHERS * len(curves))
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
