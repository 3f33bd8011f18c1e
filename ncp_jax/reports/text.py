"""Formats numbers, intervals, dates and durations for people, on the page and on the terminal."""

from __future__ import annotations

import datetime
import math

from ncp_jax.analysis.intervals import Interval


def number(value: float | None, digits: int = 3) -> str:
    """Formats a number with some significant digits, all of those before the point, and commas; "–" for none."""
    if value is None or math.isnan(value):
        return "–"
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude < -4 or magnitude >= 15:
        return f"{value:.{digits - 1 if magnitude > 0 else 1}e}"
    decimals = max(0, digits - 1 - magnitude)
    text = f"{value:,.{decimals}f}"
    # 9.999 would become 10.00, with one digit too many.
    if decimals and math.floor(math.log10(abs(float(text.replace(",", ""))))) > magnitude:
        text = f"{value:,.{decimals - 1}f}"
    return text


def plural(count: int, one: str, many: str = "") -> str:
    """Formats a count with its noun: "1 run", "1,200 runs"; ``many`` is the plural if it is not made with an s."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def span(found: Interval, digits: int = 3) -> str:
    """Formats the ends of an interval, "1.20 – 1.51"; "" if it has no width."""
    if found.low == found.high:
        return ""
    return f"{number(found.low, digits)} – {number(found.high, digits)}"


def share(value: float) -> str:
    """Formats a share in percent; "0 %" and "100 %" mean none and all."""
    percent = 100 * value
    if 0 < percent < 1 or 99 < percent < 100:
        return f"{percent:.1f} %"
    return f"{percent:.0f} %"


def p_value(p: float | None) -> str:
    """Formats a p-value, "< 0.001" if it is smaller."""
    if p is None:
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def moment(date: str) -> str:
    """Formats an ISO date and time to the minute; returns other texts as they are."""
    try:
        found = datetime.datetime.fromisoformat(date)
    except ValueError:
        return date
    zone = found.tzname() or ""
    return f"{found:%Y-%m-%d %H:%M}" + (f" {zone}" if zone else "")


def duration(seconds: float | None) -> str:
    """Formats seconds as "12 s", "3 min 20 s", "2 h 5 min" or "3 d 4 h"; "–" for None."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.3g} s"
    total = round(seconds)
    for size, name, below, under in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if total >= size:
            rest = total % size // below
            return f"{total // size:,} {name}" + (f" {rest} {under}" if rest else "")
    return f"{total} s"
