"""Defines and evaluates the expressions of descriptions: ``only_if`` of positions, ``where`` of what is forbidden.

Nothing of Python is evaluated. An expression has comparisons (``==  !=  <  <=  >  >=  in [...]``), ``and``, ``or``,
``not``, parentheses, ``+  -  *`` of numbers, names of positions, numbers, and texts in quotes. Numbers are exact
decimals: ``0.1 + 0.2 == 0.3`` is true.
"""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np

from ncp_jax.spaces.positions import Position

ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}


@dataclasses.dataclass(frozen=True)
class Number:
    """A number, ``whole * 10**-places``."""

    whole: int
    places: int


@dataclasses.dataclass(frozen=True)
class Label:
    """A text, or "true" or "false" of a boolean."""

    text: str
    boolean: bool = False


@dataclasses.dataclass(frozen=True)
class Place:
    """The value of a position."""

    place: int


@dataclasses.dataclass(frozen=True)
class Arithmetic:
    """A sum, difference or product of numbers."""

    sign: str
    left: Node
    right: Node


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison of two numbers, or of two labels."""

    order: str
    left: Node
    right: Node


@dataclasses.dataclass(frozen=True)
class Logic:
    """``and``, ``or`` (of any number of parts) or ``not`` (of one)."""

    word: str
    parts: tuple[Node, ...]


Node: TypeAlias = Number | Label | Place | Arithmetic | Comparison | Logic


def scope(node: Node) -> tuple[int, ...]:
    """Returns the positions that an expression names, ascending."""
    if isinstance(node, Place):
        return (node.place,)
    children = node.parts if isinstance(node, Logic) else ()
    if isinstance(node, Arithmetic | Comparison):
        children = (node.left, node.right)
    return tuple(sorted({place for child in children for place in scope(child)}))


def decimal(value: Any) -> Number:
    """Returns a number exactly as it is written in decimals."""
    sign, digits, exponent = Decimal(str(value)).as_tuple()
    assert isinstance(exponent, int)
    whole = int("".join(map(str, digits))) * (-1 if sign else 1)
    return Number(whole * 10**exponent, 0) if exponent > 0 else Number(whole, -exponent)


@dataclasses.dataclass(frozen=True)
class Interval:
    """All integers from ``low`` to ``high``; ``most`` is the largest magnitude on the way to them."""

    low: int
    high: int
    most: int = 0

    def __add__(self, other: Interval) -> Interval:
        return self._of((self.low + other.low, self.high + other.high), other)

    def __sub__(self, other: Interval) -> Interval:
        return self._of((self.low - other.high, self.high - other.low), other)

    def __mul__(self, other: Interval) -> Interval:
        return self._of([a * b for a in (self.low, self.high) for b in (other.low, other.high)], other)

    def _of(self, ends: Sequence[int], other: Interval) -> Interval:
        low, high = min(ends), max(ends)
        return Interval(low, high, max(abs(low), abs(high), self.most, other.most))

    def compared(self, order: str, other: Interval) -> tuple[bool, bool]:
        """Returns whether the comparison is surely true, and whether it is surely false."""
        differences = (self.low - other.high, self.high - other.low)
        if order in ("==", "!="):
            same = differences == (0, 0)
            apart = differences[0] > 0 or differences[1] < 0
            return (same, apart) if order == "==" else (apart, same)
        found = [ORDERS[order](difference, 0) for difference in differences]
        return all(found), not any(found)


@dataclasses.dataclass(frozen=True)
class Values:
    """What an expression is evaluated for; any arrays that broadcast against each other.

    Attributes:
      digit: position → the place of its value in ``Position.grid``; None where it may be any.
      live: position → whether it counts.
      number: integers (one per value of a position) and its place → the integer of its value; and of one alone, a
        constant.
    """

    digit: Callable[[int], Any]
    live: Callable[[int], Any]
    number: Callable[[tuple[int, ...], int | None], Any]


INTERVALS = Values(
    digit=lambda place: None,
    live=lambda place: True,
    number=lambda wholes, place: Interval(min(wholes), max(wholes), max(map(abs, wholes))),
)
"""Values for which ``evaluate`` tells what is true, and what is false, of all codes whose positions are live."""


def evaluate(node: Node, positions: Sequence[Position], values: Values) -> tuple[Any, Any]:
    """Returns where an expression is true, and where it is false.

    It is neither where it depends on a position that is dead: a comparison with such a position is unknown, and
    ``and``, ``or`` and ``not`` keep what is known whatever the unknown would be.
    """
    if isinstance(node, Logic):
        judged = [evaluate(part, positions, values) for part in node.parts]
        if node.word == "not":
            return judged[0][1], judged[0][0]
        true, false = judged[0]
        for more_true, more_false in judged[1:]:
            if node.word == "and":
                true, false = true & more_true, false | more_false
            else:
                true, false = true | more_true, false & more_false
        return true, false
    assert isinstance(node, Comparison)
    known: Any = True
    for place in scope(node):
        known = known & values.live(place)
    if any(isinstance(side, Label) or _is_choice(side, positions) for side in (node.left, node.right)):
        if any(values.digit(place) is None for place in scope(node)):
            return False, False
        labels = _labels(node, positions)
        sides = [_ids(side, positions, values, labels) for side in (node.left, node.right)]
        found = ORDERS[node.order](*sides)
        return found & known, (found ^ True) & known
    left, right = (_numbers(side, positions, values) for side in (node.left, node.right))
    places = max(left[1], right[1])
    first, second = (_scaled(side, places, values) for side in (left, right))
    if isinstance(first, Interval):
        true, false = first.compared(node.order, second)
        return true and known, false and known
    found = ORDERS[node.order](first, second)
    return found & known, (found ^ True) & known


def magnitude(node: Node, positions: Sequence[Position]) -> int:
    """Returns the largest integer that ``evaluate`` may meet, whatever the positions are."""
    if isinstance(node, Logic):
        return max(magnitude(part, positions) for part in node.parts)
    assert isinstance(node, Comparison)
    if any(isinstance(side, Label) or _is_choice(side, positions) for side in (node.left, node.right)):
        return 0
    left, right = (_numbers(side, positions, INTERVALS) for side in (node.left, node.right))
    places = max(left[1], right[1])
    return max(_scaled(side, places, INTERVALS).most for side in (left, right))


def _is_choice(node: Node, positions: Sequence[Position]) -> bool:
    return isinstance(node, Place) and not positions[node.place].ordered


def _labels(node: Comparison, positions: Sequence[Position]) -> list[str]:
    """Returns the labels that either side may have."""
    found: dict[str, None] = {}
    for side in (node.left, node.right):
        if isinstance(side, Label):
            found[side.text] = None
        elif isinstance(side, Place):
            grid = positions[side.place].grid
            found.update(dict.fromkeys(positions[side.place].text(digit) for digit in range(len(grid))))
    return list(found)


def _ids(node: Node, positions: Sequence[Position], values: Values, labels: list[str]) -> Any:
    if isinstance(node, Label):
        return np.int32(labels.index(node.text))
    assert isinstance(node, Place)
    position = positions[node.place]
    ids = np.array([labels.index(position.text(digit)) for digit in range(len(position.grid))], np.int32)
    return _taken(ids, values.digit(node.place))


def _taken(table: np.ndarray, digits: Any) -> Any:
    """Returns table[digits], where digits beyond the table (dead positions) take any entry."""
    if isinstance(digits, np.ndarray):
        return table[np.minimum(digits, len(table) - 1)]
    import jax.numpy as jnp

    return jnp.asarray(table)[jnp.minimum(digits, len(table) - 1)]


def _numbers(node: Node, positions: Sequence[Position], values: Values) -> tuple[Any, int]:
    """Returns integers and how many of their digits are decimals."""
    if isinstance(node, Number):
        return values.number((node.whole,), None), node.places
    if isinstance(node, Place):
        grid = [decimal(repr(value)) for value in positions[node.place].grid]
        places = max(number.places for number in grid)
        wholes = tuple(number.whole * 10 ** (places - number.places) for number in grid)
        return values.number(wholes, node.place), places
    assert isinstance(node, Arithmetic)
    left, right = (_numbers(side, positions, values) for side in (node.left, node.right))
    if node.sign == "*":
        return left[0] * right[0], left[1] + right[1]
    places = max(left[1], right[1])
    return _ARITHMETIC[node.sign](_scaled(left, places, values), _scaled(right, places, values)), places


def _scaled(side: tuple[Any, int], places: int, values: Values) -> Any:
    return side[0] if side[1] == places else side[0] * values.number((10 ** (places - side[1]),), None)
