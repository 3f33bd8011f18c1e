from __future__ import annotations

import pytest

from ncp_jax.analysis.intervals import Interval
from ncp_jax.reports.text import duration, moment, number, p_value, plural, share, span


@pytest.mark.parametrize(
    ("value", "text"),
    [
        *((None, "–"), (0.0, "0"), (1.0, "1.00"), (12.345, "12.3"), (99.96, "100"), (9.999, "10.0"), (123.4, "123")),
        *((999.6, "1,000"), (1234.5, "1,234"), (1e6, "1,000,000"), (0.012345, "0.0123"), (0.00012, "0.000120")),
        *((1.5e-7, "1.5e-07"), (-3.14159, "-3.14"), (0.9999, "1.00"), (100.0, "100")),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_more_digits() -> None:
    assert number(73.2567, 5) == "73.257"
    assert number(99.99999, 5) == "100.00"
    assert number(12345.0, 5) == "12,345"


def test_plurals() -> None:
    assert [plural(count, "run") for count in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]
    assert plural(2, "query", "queries") == "2 queries"


def test_spans() -> None:
    assert span(Interval(1.0, 1.0, 2.5)) == "1.00 – 2.50"
    assert span(Interval(1.0, 1.0, 1.0)) == ""
    assert span(Interval(73.2567, 73.2567, 73.2601), 5) == "73.257 – 73.260"


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0 %"), (0.004, "0.4 %"), (0.5, "50 %"), (0.996, "99.6 %"), (1.0, "100 %")]
)
def test_shares(value: float, text: str) -> None:
    assert share(value) == text


@pytest.mark.parametrize(("p", "text"), [(None, "–"), (1.0, "1.000"), (0.0444, "0.044"), (0.0009, "< 0.001")])
def test_p_values(p: float | None, text: str) -> None:
    assert p_value(p) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((None, "–"), (0.5, "0.5 s"), (59.2, "59.2 s"), (60.0, "1 min"), (200.0, "3 min 20 s"), (3600.0, "1 h")),
        *((7500.0, "2 h 5 min"), (90_000.0, "1 d 1 h"), (86_400_000.0, "1,000 d"), (59.96, "60 s")),
    ],
)
def test_durations(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_moments() -> None:
    assert moment("2026-11-24T10:05:59+00:00") == "2026-11-24 10:05 UTC"
    assert moment("2026-11-24T10:05:59") == "2026-11-24 10:05"
    assert moment("yesterday") == "yesterday"
