"""Draws the figures of a report: anytime curves, critical-difference diagrams, effects of settings."""

from __future__ import annotations

import functools
import io
import math
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from ncp_jax.drawing import BLUE, GREEN, GREY, new_axes, number_ticks
from ncp_jax.reports.curves import Curve
from ncp_jax.reports.data import StudyData
from ncp_jax.reports.report import OverallSummary, Report, SettingEffect

# Distinguishable with most kinds of colour blindness (P. Tol, "bright" and "muted"); with dashes, for 30 methods.
COLOURS = ("#4477aa", "#ee6677", "#228833", "#aa8800", "#66ccee", "#aa3377", "#777777", "#ee7733", "#332288", "#999933")
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_MARKERS = "osD^v<>pPX"  # of curves, at other places on each one: they tell curves apart where they overlap
_MARKED = 5  # markers of a curve
_LEGEND_ROW = 0.19  # height of a row of the legend, in inches
SHOWN = 10  # maximum number of curves in a figure
# The curves of a benchmark: name → axis, measure, text for readers who do not see the picture.
CURVES = {
    "percentile": ("queries", "percentile", "percentile of the best so far against queries"),
    "regret": ("queries", "regret", "regret of the best so far against queries"),
    "seconds-percentile": ("seconds", "percentile", "percentile of the best so far against simulated seconds"),
    "seconds-regret": ("seconds", "regret", "regret of the best so far against simulated seconds"),
}
_SCALES = {"percentile": "best so far: percentile", "regret": "best so far: regret"}
_AXES = {"queries": "queries", "seconds": "simulated training seconds"}


def draw_figures(data: StudyData, report: Report) -> tuple[dict[str, bytes], list[str]]:
    """Draws all figures of a report.

    Returns:
      PNG bytes by name ("curve/BENCHMARK/KIND", see ``CURVES``, "ranks", "ranks/queries", "settings"), and notes on
      what the figures leave out.
    """
    numbers = {label: i for i, label in enumerate(report.methods)}
    shown, notes = _best_methods(report.methods), []
    if len(shown) < len(numbers):
        notes.append(f"The {len(shown)} best of {len(numbers)} methods by average rank; all are in curves.csv.")
    pictures: dict[str, bytes] = {}
    for benchmark in data.benchmarks:
        here = [curve for curve in report.curves if curve.benchmark == benchmark and curve.method in shown]
        rows, unit = data.study["tables"][benchmark]["rows"], data.metric(benchmark).unit
        for kind, (axis, measure, _) in CURVES.items():
            lines = [c for c in here if c.axis == axis and np.isfinite(c.mean[measure]).any()]
            if lines:
                image = anytime_figure(lines, measure, numbers, rows=rows, unit=unit)
                pictures[f"curve/{benchmark}/{kind}"] = image
    if report.comparison:
        compared = {"ranks": report.comparison.by_percentile, "ranks/queries": report.comparison.by_queries}
        for name, found in compared.items():
            if found:
                drawn = (found.average_rank, found.groups, found.critical_difference)
                pictures[name] = difference_figure(*drawn, numbers)
    if report.settings:
        pictures["settings"] = setting_figure(report.settings)
    return pictures, notes


def _best_methods(methods: Mapping[str, OverallSummary]) -> set[str]:
    """Returns the methods whose curves are drawn: all, or the best ones if they are too many for one figure."""

    def rank(label: str) -> float:
        found = methods[label]
        return found.measures["percentile"].mean if found.average_rank is None else found.average_rank

    return set(sorted(methods, key=rank)[:SHOWN])


Drawer = TypeVar("Drawer", bound=Callable[..., bytes])


def _literal(draw: Drawer) -> Drawer:
    """Makes a function draw names of methods and units as they are: a dollar sign does not start a formula."""

    @functools.wraps(draw)
    def drawn(*arguments: Any, **options: Any) -> bytes:
        import matplotlib

        with matplotlib.rc_context({"text.parse_math": False}):
            return draw(*arguments, **options)

    return cast("Drawer", drawn)


def line_style(number: int) -> dict[str, Any]:
    """Returns colour and dashes of a study's method number 0, 1, …, the same in all figures."""
    dashes = _DASHES[number // len(COLOURS) % len(_DASHES)]
    return {"color": COLOURS[number % len(COLOURS)], "linestyle": dashes}


def short(text: str, width: int = 44) -> str:
    """Returns a label as one line, cut to a width."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1].rstrip() + "…"


def png(figure: Any) -> bytes:
    """Returns a figure as PNG bytes; equal drawings give equal bytes."""
    buffer = io.BytesIO()
    # Unlike ``savefig``, this does not draw everything twice to lay it out once.
    figure.canvas.print_png(buffer, metadata={"Software": None})
    return buffer.getvalue()


@_literal
def anytime_figure(
    curves: Sequence[Curve], measure: str, numbers: Mapping[str, int], *, rows: int, unit: str = ""
) -> bytes:
    """Draws the mean best so far of the methods on one benchmark, with intervals, on a logarithmic scale.

    Args:
      curves: curves of one benchmark and one axis, one per method.
      measure: "percentile" or "regret". A mean regret of zero is drawn on a line called 0 at the lower edge.
      numbers: method → its number in the study, which determines its colour.
      rows: number of architectures in the table, for the scale of ranks beside the percentiles.
      unit: unit of the regret.

    Returns:
      PNG bytes.
    """
    from matplotlib.ticker import MaxNLocator, NullLocator

    labels = [short(curve.method) for curve in curves]
    columns = _columns(labels)
    below = 0.55 + _LEGEND_ROW * (1 + math.ceil(len(labels) / columns))
    # A report draws dozens of these: fixed margins, which leave room for numbers of nine characters.
    margins = (0.95, below, 0.8 if measure == "percentile" else 0.15, 0.12)
    figure, axes = new_axes(width=5.6, height=3.3 + below, margins=margins)
    floor, handles = _floor(curves, measure), []
    styles = _overlap_styles(curves, measure, numbers)
    for curve, style in zip(curves, styles, strict=True):
        middle, low, high = (np.maximum(band[measure], floor) for band in (curve.mean, curve.low, curve.high))
        handles += axes.plot(curve.x, middle, linewidth=1.7, markersize=4, drawstyle="steps-post", **style)
        axes.fill_between(curve.x, low, high, color=style["color"], alpha=0.14, linewidth=0, step="post")
    axes.set_yscale("log")
    if curves[0].axis == "seconds" or curves[0].x[-1] >= 1000:
        axes.set_xscale("log")
        number_ticks(axes.xaxis)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # there are no halves of queries
    axes.margins(x=0.01)
    axes.set_xlabel(_AXES[curves[0].axis])
    scale = f" [{unit}]" if measure == "regret" and unit else " [%]" if measure == "percentile" else ""
    axes.set_ylabel(_SCALES[measure] + scale)
    number_ticks(axes.yaxis)
    if measure == "regret" and any((curve.mean[measure] == 0).any() for curve in curves):
        axes.set_ylim(bottom=floor * 0.8)
        axes.axhline(floor, color="black", linewidth=0.8, linestyle=":")
        axes.annotate("0", (0, floor), xycoords=("axes fraction", "data"), xytext=(-4, 0), **_BESIDE)
    if measure == "percentile":
        second = axes.secondary_yaxis("right", functions=(lambda p: p * rows / 100, lambda r: r * 100 / rows))
        second.set_ylabel("rank", labelpad=2)
        number_ticks(second.yaxis)
        low, high = axes.get_ylim()
        if high >= 30 * low:
            # Without labels, minor ticks repeat those on the left, and take a quarter of the drawing time.
            second.yaxis.set_minor_locator(NullLocator())
        second.spines["right"].set_visible(False)
    options: dict[str, Any] = {
        "frameon": False,
        "fontsize": 8,
        "handlelength": 2.4,
        "columnspacing": 1.4,
        "borderaxespad": 0.2,
    }
    options |= {"title": "lines: means over seeds; bands: their 95 % intervals", "title_fontsize": 7.5}
    figure.legend(handles, labels, loc="lower center", ncols=columns, **options)
    return png(figure)


_BESIDE = {"textcoords": "offset points", "ha": "right", "va": "center", "fontsize": 10}


def _overlap_styles(curves: Sequence[Curve], measure: str, numbers: Mapping[str, int]) -> list[dict[str, Any]]:
    """Returns the styles of curves: markers at other points on each, and dashes that equal curves share."""
    styles = []
    for i, curve in enumerate(curves):
        points = len(curve.x)
        step = max(1, points // _MARKED)
        shifted = step * i // len(curves)
        style = line_style(numbers[curve.method])
        same = [j for j, other in enumerate(curves) if _equal(other.mean[measure], curve.mean[measure])]
        if len(same) > 1:
            place = same.index(i)
            shifted = step * place // len(same)
            style["linestyle"] = (5 * place, (5, 5 * (len(same) - 1)))
        style |= {"marker": _MARKERS[numbers[curve.method] % len(_MARKERS)]}
        style |= {"markevery": (min(shifted, points - 1), step)}
        styles.append(style)
    return styles


def _equal(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and np.allclose(a, b, rtol=1e-6, atol=0, equal_nan=True)


def _floor(curves: Sequence[Curve], measure: str) -> float:
    """Returns a number below every mean that is above zero; zero itself has no place on a logarithmic scale."""
    if measure == "percentile":
        return 0.0
    found = np.concatenate([curve.mean[measure] for curve in curves])
    some = found[found > 0]
    return float(some.min()) / 2 if len(some) else 1e-3


def _columns(labels: Sequence[str]) -> int:
    """Returns as many columns of a legend as the labels allow."""
    longest = max(map(len, labels))
    columns = 1 if longest > 34 else 2 if longest > 16 or len(labels) < 6 else 3
    return min(columns, len(labels))


@_literal
def difference_figure(
    ranks: Mapping[str, float], groups: Sequence[Sequence[str]], critical: float | None, numbers: Mapping[str, int]
) -> bytes:
    """Draws average ranks on a line, with bars below methods that do not differ (Demšar, JMLR 2006, figure 1).

    Args:
      ranks: method → average rank, of at least one method; 1 is best and on the left.
      groups: methods that do not differ significantly, best first.
      critical: critical difference, drawn as a bar above the line; None if there is none.
      numbers: method → its number in the study, which determines its colour.

    Returns:
      PNG bytes.
    """
    names = sorted(ranks, key=lambda name: (ranks[name], list(ranks).index(name)))
    # The better half is named on the left from the top down, the other on the right from the bottom up: lines from
    # the axis to the labels never cross.
    half = (len(names) + 1) // 2
    width = 24
    texts = {name: textwrap.fill(short(name), width) for name in names}
    step = 0.8 + 0.5 * max(text.count("\n") for text in texts.values())
    low, high = 1, max(2, len(names))
    levels = _levels([(ranks[group[0]], ranks[group[-1]]) for group in groups])
    top = 0.45 * max(levels, default=-1) + 1.4
    depth = top + step * (half - 0.4)
    figure, axes = new_axes(width=7.4, height=0.26 * (depth + 2.4))
    axes.set_axis_off()
    span = high - low
    axes.set_xlim(low - 0.42 * span, high + 0.42 * span)
    axes.set_ylim(depth, -2.2)
    axes.plot([low, high], [0, 0], color="black", linewidth=1.2)
    for tick in range(low, high + 1) if span <= 12 else np.unique(np.linspace(low, high, 9).round().astype(int)):
        axes.plot([tick, tick], [0, -0.22], color="black", linewidth=1.0)
        axes.annotate(str(tick), (tick, -0.4), ha="center", va="bottom", fontsize=8)
    if critical is not None and critical <= span:
        axes.plot([low, low + critical], [-1.55] * 2, color=GREY, linewidth=2.5, solid_capstyle="butt")
        axes.annotate(
            f"critical difference {critical:.2f}",
            (low + critical, -1.55),
            fontsize=8,
            va="center",
            xytext=(5, 0),
            textcoords="offset points",
            color="#555555",
        )
    for i, name in enumerate(names):
        left = i < half
        y = top + step * (i if left else len(names) - 1 - i)
        edge = low - 0.04 * span if left else high + 0.04 * span
        colour = line_style(numbers[name])["color"]
        axes.plot([ranks[name], ranks[name], edge], [0, y, y], color=colour, linewidth=1.1)
        axes.plot([ranks[name]], [0], marker="o", markersize=4, color=colour, zorder=3)
        place = {"ha": "right" if left else "left", "xytext": (-4 if left else 4, 0), "textcoords": "offset points"}
        label = f"{texts[name]} ({ranks[name]:.2f})"
        axes.annotate(label, (edge, y), va="center", fontsize=8, color="#222222", linespacing=1.0, **place)
    for level, group in zip(levels, groups, strict=True):
        ends = [ranks[group[0]] - 0.012 * span, ranks[group[-1]] + 0.012 * span]
        axes.plot(ends, [0.5 + 0.45 * level] * 2, color="black", linewidth=3.2, solid_capstyle="round", zorder=4)
    return png(figure)


def _levels(bars: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the row of each bar so that no two in a row touch; bars are (left, right), sorted by their left end."""
    ends: list[float] = []
    levels = []
    for left, right in bars:
        free = next((i for i, end in enumerate(ends) if end < left), len(ends))
        ends[free : free + 1] = [right]
        levels.append(free)
    return levels


@_literal
def setting_figure(effects: Sequence[SettingEffect]) -> bytes:
    """Draws the mean percentile of every value of every setting with its interval, one panel per setting.

    Args:
      effects: effects of at least one setting.

    Returns:
      PNG bytes.
    """
    rows = sum(len(effect.values) + 1.2 for effect in effects)
    figure, axes = new_axes(width=6.4, height=0.8 + 0.24 * rows)
    y, ticks = 0.0, []
    for effect in effects:
        title = f"{effect.searcher}: {effect.setting}"
        axes.annotate(
            short(title),
            (0.0, y),
            xycoords=("axes fraction", "data"),
            xytext=(4, 0),
            va="center",
            textcoords="offset points",
            fontsize=8,
            fontweight="bold",
            color="#333333",
        )
        y += 1
        for value in effect.values:
            found, best = value.percentile, value.worse is None
            errors = [[max(0.0, found.mean - found.low)], [max(0.0, found.high - found.mean)]]
            colour = GREEN if best else BLUE
            axes.errorbar([found.mean], [y], xerr=errors, fmt="o", markersize=4.5, linewidth=1.3, color=colour)
            ticks.append((y, short(value.value, 28)))
            y += 1
        y += 0.2
    axes.set_yticks([at for at, _ in ticks], [text for _, text in ticks], fontsize=8)
    axes.set_ylim(y - 0.3, -0.8)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("final percentile of the table [%], mean and 95 % interval (lower is better)", fontsize=9)
    return png(figure)
