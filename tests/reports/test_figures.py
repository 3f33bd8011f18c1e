from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.image import imread

from ncp_jax.analysis.intervals import Interval
from ncp_jax.reports import figures, load_study
from ncp_jax.reports.curves import Curve
from ncp_jax.reports.figures import anytime_figure, difference_figure, line_style, setting_figure, short
from ncp_jax.reports.report import SettingEffect, SettingValue
from ncp_jax.reports.statistics import summarise

MakeStudy = Callable[..., Path]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[matplotlib.figure.Figure]:
    """The figures that were drawn, as matplotlib has them."""
    kept: list[matplotlib.figure.Figure] = []

    def keep(figure: matplotlib.figure.Figure) -> bytes:
        kept.append(figure)
        return original(figure)

    original = figures.png
    monkeypatch.setattr(figures, "png", keep)
    return kept


def assert_is_a_drawing(content: bytes) -> None:
    pixels = imread(io.BytesIO(content))
    assert min(pixels.shape[:2]) > 100
    assert pixels.std() > 0.01, "an empty sheet"


def assert_no_overlaps(figure: matplotlib.figure.Figure) -> None:
    """No two texts of the figure touch, and all are on the sheet."""
    axes = figure.axes[0]
    ticks = axes.get_yticklabels() if axes.axison else []
    texts = [text for text in [*axes.texts, *ticks] if text.get_text()]
    boxes = [text.get_window_extent() for text in texts]
    for i, a in enumerate(boxes):
        assert figure.bbox.x0 - 1 <= a.x0 < a.x1 <= figure.bbox.x1 + 1, texts[i]
        for j, b in enumerate(boxes[:i]):
            apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
            assert apart, (texts[i], texts[j])


def curve(method: str, values: np.ndarray, axis: str = "queries") -> Curve:
    band = {name: np.asarray(values, float) for name in ("rank", "percentile", "regret", "value")}
    return Curve(method, "b", axis, np.arange(1.0, len(values) + 1), 3, band, band, band)


def test_curves_of_a_study(make_study: MakeStudy) -> None:
    data = load_study(make_study(times=True))
    numbers = {name: i for i, name in enumerate(data.methods)}
    some = summarise(data).curves
    for axis in ("queries", "seconds"):
        lines = [c for c in some if (c.benchmark, c.axis) == ("bench/a", axis)]
        for measure in ("percentile", "regret"):
            image = anytime_figure(lines, measure, numbers, rows=1000, unit="%")
            assert_is_a_drawing(image)
            assert image == anytime_figure(lines, measure, numbers, rows=1000, unit="%"), "the same bytes"


@pytest.mark.parametrize("values", [[0, 0, 0], [5, 0, 0], [3, 3, 3], [np.nan, 2, 1], [1]])
def test_curves_that_are_flat_zero_or_short(values: list[float]) -> None:
    for measure in ("percentile", "regret"):
        shown = np.maximum(values, 0.1) if measure == "percentile" else np.array(values)
        assert_is_a_drawing(anytime_figure([curve("m", shown)], measure, {"m": 0}, rows=1000))


def test_the_scale_beside_the_percentiles_is_the_rank(drawn: list) -> None:
    anytime_figure([curve("m", np.array([50.0, 1.0]))], "percentile", {"m": 0}, rows=2000)
    axes = drawn[0].axes[0]
    (second,) = axes.child_axes
    assert second.get_ylim() == pytest.approx([20 * y for y in axes.get_ylim()])


def test_thirty_methods_look_different_and_keep_their_looks() -> None:
    styles = {(style["color"], str(style["linestyle"])) for style in map(line_style, range(30))}
    assert len(styles) == 30


@pytest.mark.parametrize("count", [1, 2, 3, 7, 8, 13, 30])
@pytest.mark.parametrize("close", [True, False])
def test_labels_of_the_diagram_never_overlap(drawn: list, count: int, close: bool) -> None:
    names = [f"neural-ensemble members={i} rounds=10 width=64" if i % 2 else f"m{i}" for i in range(count)]
    ranks = {name: (count + 1) / 2 + 0.001 * i if close else 1.0 + i for i, name in enumerate(names)}
    groups = [names[i : i + 3] for i in range(0, count - 2, 2)]
    assert_is_a_drawing(difference_figure(ranks, groups, 1.3, {name: i for i, name in enumerate(names)}))
    assert_no_overlaps(drawn[0])


def test_all_methods_are_named_with_their_rank(drawn: list) -> None:
    ranks = {"a": 2.5, "b": 1.25, "c": 2.25}
    difference_figure(ranks, [["c", "a"]], None, {"a": 0, "b": 1, "c": 2})
    texts = {text.get_text() for text in drawn[0].axes[0].texts}
    assert {"a (2.50)", "b (1.25)", "c (2.25)"} <= texts
    assert not any("critical" in text for text in texts)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)), max_size=12))
def test_bars_in_a_row_do_not_touch(found: list[tuple[int, int]]) -> None:
    bars = sorted((float(left), float(left + width)) for left, width in found)
    levels = figures._levels(bars)
    for i, (left, right) in enumerate(bars):
        for j in range(i):
            if levels[i] == levels[j]:
                assert bars[j][1] < left or right < bars[j][0]
    deepest = max((sum(a <= x <= b for a, b in bars) for x, _ in bars), default=0)
    assert max(levels, default=-1) + 1 == deepest, "no more rows than bars that meet somewhere"


def test_settings(make_study: MakeStudy, drawn: list) -> None:
    grid = {f"evolution population={p} a_setting_with_quite_a_long_name={s}": 1.0 for p in (5, 9) for s in (2, 3)}
    effects = summarise(load_study(make_study(grid))).settings
    assert_is_a_drawing(setting_figure(effects))
    assert_no_overlaps(drawn[0])


def test_long_labels_are_cut() -> None:
    assert short("a" * 44) == "a" * 44
    assert short("word " * 20) == ("word " * 20)[:43].rstrip() + "…"


@pytest.mark.parametrize("name", ["_hidden", "$\\frac{", "a $x$ b", "two\nlines"])
def test_names_are_drawn_as_they_are(drawn: list, name: str) -> None:
    anytime_figure([curve(name, np.array([5.0, 1.0]))], "regret", {name: 0}, rows=10, unit=name)
    (legend,) = drawn[0].legends
    assert [text.get_text() for text in legend.get_texts()] == [short(name)]
    assert_is_a_drawing(difference_figure({name: 1.5, "b": 1.5}, [[name, "b"]], None, {name: 0, "b": 1}))
    value = SettingValue(name, 1, 3, Interval(1.0, 0.5, 2.0), average_rank=None, rate=0.5, worse=None)
    assert_is_a_drawing(setting_figure([SettingEffect(name, name, balanced=True, values=(value,))]))


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.6, 6.0], {"0.5", "1", "2", "5"}),
        ([0.01, 100.0], {"0.01", "0.1", "1", "10", "100"}),
        ([2.0, 3.5], {"2", "3"}),
        ([3.0, 5000.0], {"10", "100", "1,000"}),
    ],
)
def test_ticks_are_plain_numbers(drawn: list, values: list[float], labels: set[str]) -> None:
    anytime_figure([curve("m", np.array(values[::-1]))], "regret", {"m": 0}, rows=10)
    axis = drawn[0].axes[0].yaxis
    texts = {t.get_text() for minor in (False, True) for t in axis.get_ticklabels(minor=minor)} - {""}
    assert labels <= texts
    assert all(text.replace(",", "").replace(".", "").isdigit() for text in texts)


def test_curves_show_what_can_be_read_off_them(drawn: list) -> None:
    """Whole queries; equal curves in turns; zero has a name; nothing beyond the table."""
    values = np.array([5.0, 2.0, 2.0, 0.0, 0.0, 0.0, 0.0])
    lines = [curve(name, values + (3 if name == "c" else 0)) for name in "abc"]
    anytime_figure(lines, "regret", {"a": 0, "b": 1, "c": 2}, rows=10)
    axes = drawn[0].axes[0]
    ticks = axes.get_xticks()
    assert len(ticks) > 2
    assert (ticks == np.round(ticks)).all()
    a, b, c = axes.get_lines()[:3]
    assert a.is_dashed()
    assert b.is_dashed()
    assert not c.is_dashed()
    assert len({line.get_marker() for line in (a, b, c)}) == 3
    assert a._unscaled_dash_pattern != b._unscaled_dash_pattern, "the dashes of one fill the gaps of the other"
    assert "0" in {text.get_text() for text in axes.texts}
    (legend,) = drawn[0].legends
    assert "bands: their 95 % intervals" in legend.get_title().get_text()


def test_a_panel_without_a_curve_is_not_drawn(make_study: MakeStudy) -> None:
    data = load_study(make_study({"a": 1.0, "b": 2.0}, seeds=3))
    report = summarise(data)
    for found in report.curves:
        if found.benchmark == "bench/a":
            for band in (found.mean, found.low, found.high):
                band["regret"][:] = np.nan
        assert (found.high["percentile"] <= 100).all()
    names = set(figures.draw_figures(data, report)[0])
    assert "curve/bench/a/percentile" in names
    assert "curve/bench/b/regret" in names
    assert "curve/bench/a/regret" not in names
