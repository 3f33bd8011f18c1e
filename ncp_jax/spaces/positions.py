"""Defines ``Position``: what one position of a code stands for in a space that is described."""

from __future__ import annotations

import bisect
import dataclasses
import difflib
import itertools
import math
import re
from collections.abc import Sequence
from typing import Any

from ncp_jax import checks
from ncp_jax.text_tables import number

MOST_VALUES = 1024  # of one position
LONGEST = 100  # characters of a name or a choice
LARGEST = 2**22  # larger integers, and the middles between them, float32 does not hold
WORDS = ("and", "or", "not", "in", "true", "false")  # mean something in expressions

YES, NO = ("true", "1", "yes", "on", "1.0"), ("false", "0", "no", "off", "0.0")

_POSITION_NAME = re.compile(r"[^\W\d]\w*(?:\.\w+|\[\w+\])*")
_KINDS = ("values", "range", "choices", "boolean", "real")


@dataclasses.dataclass(frozen=True)
class Position:
    """One position of a code. Exactly one of ``values``, ``range``, ``choices``, ``boolean`` and ``real`` is given.

    Attributes:
      name: name of the position: letters, digits, "_", with parts after "." or in brackets ("stage1.widths[0]").
      values: ordered numbers, two or more.
      range: lowest and highest of evenly spaced integers, both inclusive.
      step: distance between the integers of ``range``, 1 by default.
      choices: texts without an order, two or more.
      boolean: whether the position is on or off.
      real: lowest and highest real number, both inclusive.
      log: whether the numbers of ``real`` are evenly spaced on a logarithmic scale.
      levels: how many numbers of ``real`` there are, 2 or more.
      only_if: an expression; where it is not true, the position is dead: it means nothing. "" for always.
      unit: unit of the numbers ("ms"), "" for none.

    Raises:
      UsageError: a name that is none, no values or several kinds of them, values that repeat, too many.
    """

    name: str
    values: tuple[float, ...] = ()
    range: tuple[int, int] | None = None
    step: int | None = None
    choices: tuple[str, ...] = ()
    boolean: bool = False
    real: tuple[float, float] | None = None
    log: bool = False
    levels: int | None = None
    only_if: str = ""
    unit: str = ""
    grid: tuple[Any, ...] = dataclasses.field(init=False, repr=False)
    """What the values are, in order: integers, real numbers, texts, or False and True."""

    def __post_init__(self) -> None:
        check_text("name of a position", self.name)
        if not _POSITION_NAME.fullmatch(self.name) or self.name.lower() in WORDS:
            raise checks.UsageError(
                expected="a position's name of letters, digits and _, with parts after . or in []",
                got=repr(self.name),
                remedy=f"rename it; {', '.join(WORDS)} are words of expressions",
            )
        for key in ("only_if", "unit"):
            if not isinstance(getattr(self, key), str):
                raise self._wrong(f"text for {key}", repr(getattr(self, key)), "write it in quotes")
        given = [kind for kind in _KINDS if getattr(self, kind) not in ((), None, False)]
        if len(given) != 1:
            got = " and ".join(given) or "none of them"
            raise self._wrong(f"one of {', '.join(_KINDS)}", got, "see docs/spaces-of-your-own.md")
        for key, kind in (("step", "range"), ("levels", "real"), ("log", "real")):
            if getattr(self, key) not in (None, False) and kind != given[0]:
                raise self._wrong(f"{key} beside {kind}", f"it beside {given[0]}", f"leave {key} out")
        if not isinstance(self.log, bool) or not isinstance(self.boolean, bool):
            raise self._wrong("true or false for log and boolean", f"{self.log!r}, {self.boolean!r}", "correct it")
        grid = getattr(self, f"_from_{given[0]}")()
        for key in ("values", "range", "choices", "real"):
            if isinstance(getattr(self, key), list):
                object.__setattr__(self, key, tuple(getattr(self, key)))
        if len(grid) < 2:
            got = f"{grid[0]!r} alone" if grid else "none"
            raise self._wrong("two values or more", got, "leave the position out: there is nothing to choose")
        object.__setattr__(self, "grid", grid)

    @property
    def ordered(self) -> bool:
        """Whether the values have an order: the position is a number, not a choice."""
        return not self.choices and not self.boolean

    @property
    def kind(self) -> str:
        """What the values are: "integer", "real", "choice" or "boolean"."""
        if self.ordered:
            return "integer" if all(isinstance(value, int) for value in self.grid) else "real"
        return "boolean" if self.boolean else "choice"

    @property
    def codes(self) -> tuple[int, ...]:
        """Integers that stand for the values in codes: integers stand for themselves, other values have numbers."""
        whole = self.ordered and self.real is None and all(isinstance(value, int) for value in self.grid)
        return self.grid if whole and self.grid[0] >= 0 and self.grid[-1] <= LARGEST else tuple(_span(len(self.grid)))

    def text(self, digit: int) -> str:
        """Returns how a value is written, given its place in ``grid``."""
        value = self.grid[digit]
        return value if isinstance(value, str) else repr(value).lower().removesuffix(".0")

    def digit_of(self, text: str) -> int | None:
        """Returns the place in ``grid`` of the value that a text means, or None if it means none.

        Numbers may be written in other ways ("1e-3", "64.0"); a real number may differ by a hundredth of a step.
        """
        if not self.ordered:
            return self._digit_of_choice(text)
        value = number(text)
        if value is None:
            return None
        digit = self._nearest(value)
        return digit if value == self.grid[digit] or self._is_close(digit, value) else None

    def nearest_to(self, text: str) -> str:
        """Returns what is legal near a text that means no value, for errors."""
        if self.ordered and (value := number(text)) is not None and math.isfinite(value):
            return f"the nearest value is {self.text(self._nearest(value))}"
        listed = [self.text(digit) for digit in _span(len(self.grid))]
        if not self.ordered:
            near = difflib.get_close_matches(text[:LONGEST], listed, n=1, cutoff=0.0)
            return f"the values are {_listed(listed)}; nearest: {near[0] if near else listed[0]}"
        return f"a number belongs here: {_listed(listed)}"

    def _digit_of_choice(self, text: str) -> int | None:
        if self.boolean:
            return 1 if text.lower() in YES else 0 if text.lower() in NO else None
        if text in self.grid:
            return self.grid.index(text)
        lower = [choice.lower() for choice in self.grid]
        for form in (text.lower(), re.sub(r"\.0+$", "", text)):  # "3.0" is what libraries make of 3 beside gaps
            if lower.count(form) == 1:
                return lower.index(form)
        return None

    def _nearest(self, value: float) -> int:
        """Returns the place of the nearest number; on a logarithmic scale, by the ratio."""
        place = min(bisect.bisect_left(self.grid, value), len(self.grid) - 1)
        if place == 0 or value >= self.grid[place]:
            return place
        below, above = self.grid[place - 1], self.grid[place]
        nearer = value * value <= below * above if self.log else value - below <= above - value
        return place - 1 if nearer else place

    def _is_close(self, digit: int, value: float) -> bool:
        if all(isinstance(number, int) for number in self.grid):
            return False
        step = min(
            abs(self.grid[digit] - self.grid[other]) for other in (digit - 1, digit + 1) if 0 <= other < len(self.grid)
        )
        return abs(value - self.grid[digit]) <= step / 100

    def to_json(self) -> dict[str, Any]:
        """Returns what was given, as the table of the TOML form."""
        shown = {key: list(v) if isinstance(v := getattr(self, key), tuple) else v for key in POSITION_KEYS}
        return {key: value for key, value in shown.items() if value not in ([], None, False, "")}

    def _wrong(self, expected: str, got: str, remedy: str) -> checks.UsageError:
        return checks.UsageError(expected=f"{expected} at position {self.name}", got=got, remedy=remedy)

    def _pair(self, key: str, kind: tuple[type[int] | type[float], ...]) -> tuple[Any, Any]:
        pair = getattr(self, key)
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(_is_number(end, kind) for end in pair):
            what = "integers" if float not in kind else "finite numbers"
            raise self._wrong(f"two {what}, [lowest, highest], for {key}", repr(pair), "correct it")
        if pair[0] >= pair[1]:
            raise self._wrong(
                f"a {key} whose lowest is below its highest", repr(list(pair)), "an empty one has no codes"
            )
        return pair[0], pair[1]

    def _from_values(self) -> tuple[Any, ...]:
        given = self.values
        if not isinstance(given, list | tuple) or not all(_is_number(value, (int, float)) for value in given):
            raise self._wrong("a list of numbers for values", repr(given), "texts without an order are choices")
        self._few(len(given))
        whole = all(isinstance(value, int) for value in given)
        grid = tuple(sorted(given if whole else map(float, given)))
        self._differ(grid)
        return grid

    def _from_range(self) -> tuple[int, ...]:
        low, high = self._pair("range", (int,))
        step = 1 if self.step is None else self.step
        if not _is_number(step, (int,)) or step < 1:
            raise self._wrong("a step that is an integer of 1 or more", repr(self.step), "correct it")
        if (high - low) % step:
            ends = f"{high - (high - low) % step} or {high + step - (high - low) % step}"
            raise self._wrong(
                "a range whose ends are whole steps apart", f"{low}..{high} by {step}", f"end it at {ends}"
            )
        self._few((high - low) // step + 1)
        return tuple(_span(low, high + 1, step))

    def _from_choices(self) -> tuple[str, ...]:
        given = self.choices
        if not isinstance(given, list | tuple) or not all(isinstance(c, str) or _is_number(c, (int,)) for c in given):
            raise self._wrong("a list of texts for choices", repr(given), "write them in quotes")
        self._few(len(given))
        grid = tuple(map(str, given))
        for choice in grid:
            check_text(f"choice of position {self.name}", choice)
        object.__setattr__(self, "choices", grid)
        self._differ(grid)
        return grid

    def _from_boolean(self) -> tuple[bool, bool]:
        return (False, True)

    def _from_real(self) -> tuple[float, ...]:
        low, high = map(float, self._pair("real", (int, float)))
        levels = checks.integer(
            f"levels of position {self.name}", self.levels, least=2, remedy="give the number of levels"
        )
        self._few(levels)
        if self.log and low <= 0:
            raise self._wrong("positive numbers on a logarithmic scale", repr(low), "raise the lowest, or drop log")
        return _levels(low, high, levels, self.log)

    def _few(self, count: int) -> None:
        if count > MOST_VALUES:
            raise self._wrong(f"at most {MOST_VALUES} values", str(count), "take a larger step or fewer levels")

    def _differ(self, grid: tuple[Any, ...]) -> None:
        repeated = next((value for place, value in enumerate(grid) if value in grid[:place]), None)
        if repeated is not None:
            raise self._wrong("values that differ", f"{repeated!r} twice", "keep one")


POSITION_KEYS = tuple(field.name for field in dataclasses.fields(Position) if field.init)
_span = range  # ``Position.range`` hides the built-in's name in its class


def _levels(low: float, high: float, count: int, log: bool) -> tuple[float, ...]:
    """Returns evenly spaced numbers, rounded to so few digits that a level is wrong by at most 1/200 of a step.

    What is written is what is meant: strings and files show these numbers, and expressions compare them.
    """
    shares = [place / (count - 1) for place in range(count)]
    if log:
        exact = [math.exp(math.log(low) * (1 - share) + math.log(high) * share) for share in shares]
    else:
        exact = [low * (1 - share) + high * share for share in shares]
    for digits in range(3, 18):
        inner = [float(f"{value:.{digits}g}") for value in exact[1:-1]]
        grid = (low, *inner, high)
        gaps = [after - before for before, after in itertools.pairwise(exact)]
        errors = [abs(a - b) for a, b in zip(inner, exact[1:-1], strict=True)]
        if all(error <= min(gap) / 200 for error, gap in zip(errors, itertools.pairwise(gaps), strict=True)):
            break
    if any(after <= before for before, after in itertools.pairwise(grid)):
        raise checks.UsageError(
            expected=f"{count} different numbers from {low!r} to {high!r}", got="fewer", remedy="give fewer levels"
        )
    return grid


def _listed(texts: Sequence[str]) -> str:
    return ", ".join(texts) if len(texts) <= 8 else f"{texts[0]}, {texts[1]}, ..., {texts[-1]}"


def _is_number(value: Any, kind: tuple[type[int] | type[float], ...]) -> bool:
    """Returns whether a value is a number of a kind, in the range where expressions are exact."""
    return isinstance(value, int | float) and isinstance(value, kind) and type(value) is not bool and abs(value) < 1e30


def check_text(what: str, text: Any) -> None:
    """Raises UsageError unless a name or a choice is a short printable text."""
    legal = isinstance(text, str) and text == text.strip() and text.isprintable() and 0 < len(text) <= LONGEST
    if not legal:
        raise checks.UsageError(
            expected=f"a {what}: 1 to {LONGEST} printable characters without blanks around them",
            got=checks.shorten(repr(text)),
            remedy="correct it",
        )
