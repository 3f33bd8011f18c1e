"""Compiles conditions and forbidden combinations of a description to tables and constraints."""

from __future__ import annotations

import dataclasses
import functools
import math
import random
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.combinations import LARGEST_TABLE, Combinations, Constraint, elimination_order
from ncp_jax.spaces.description import SpaceDescription
from ncp_jax.spaces.expressions import INTERVALS, Node, Values, evaluate, magnitude, scope
from ncp_jax.spaces.parser import parse
from ncp_jax.spaces.positions import Position

DRAWS = 2**14  # combinations that are tried for a legal code where it cannot be computed
ANCHORS = 16  # legal codes that are kept of them
Kept = tuple[tuple[int, ...], ...]


class Tables:
    """The tables of some constraints in one array, so that all of them are looked up at once."""

    def __init__(self, constraints: Sequence[Constraint]) -> None:
        widest = max((len(constraint.scope) for constraint in constraints), default=0)
        self._scopes: Any = np.zeros((len(constraints), widest), int)
        self._strides: Any = np.zeros((len(constraints), widest), np.int32)
        flat, self._starts, start = [np.zeros(0, bool)], np.zeros(len(constraints), np.int32), 0
        for row, constraint in enumerate(constraints):
            shape = constraint.table.shape
            self._scopes[row, : len(shape)] = constraint.scope
            self._strides[row, : len(shape)] = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
            self._starts[row] = start
            flat.append(constraint.table.ravel())
            start += constraint.table.size
        self._flat = np.concatenate(flat)

    def __call__(self, states: Any) -> Any:
        """Returns what each table says of states [..., d], bool [..., tables]; NumPy for NumPy."""
        if not len(self._flat):
            return np.zeros((*states.shape[:-1], 0), bool)
        place = self._starts + (states[..., self._scopes] * self._strides).sum(axis=-1, dtype=np.int32)
        return self._flat[place] if isinstance(place, np.ndarray) else jnp.asarray(self._flat)[place]


@dataclasses.dataclass(frozen=True, eq=False)
class Rules:
    """The rules of a space, over the states of its positions: the places of their values, and one more for "dead".

    Attributes:
      sizes: number of states of each position.
      conditions: position → its condition as a constraint on other positions alone: where it is live. In an order in
        which every position comes behind those that its condition names.
      tables: (text, constraint) of each forbidden combination that has a table.
      wide: (text, expression) of the others, whose positions have more than 2**16 combinations.
      combinations: all that conditions and ``tables`` allow.
      anchors: some legal states, int32 [k, d], where there are ``wide`` ones.
    """

    sizes: tuple[int, ...]
    conditions: dict[int, Constraint]
    tables: tuple[tuple[str, Constraint], ...]
    wide: tuple[tuple[str, Node], ...]
    combinations: Combinations
    anchors: np.ndarray

    @functools.cached_property
    def forbids(self) -> Tables:
        """``tables`` in one array."""
        return Tables([constraint for _, constraint in self.tables])

    @functools.cached_property
    def levels(self) -> list[tuple[np.ndarray, Tables]]:
        """Conditional positions, and where they are live; those of a level depend on earlier levels alone."""
        level: dict[int, int] = {}
        for place, condition in self.conditions.items():
            level[place] = 1 + max((level.get(other, 0) for other in condition.scope), default=0)
        numbers = sorted(set(level.values()))
        groups = [[place for place in level if level[place] == number] for number in numbers]
        return [(np.array(places), Tables([self.conditions[place] for place in places])) for places in groups]


def make_rules(description: SpaceDescription, kept: Kept = ()) -> Rules:
    """Compiles the rules of a description.

    Args:
      description: the description.
      kept: for each position, the places of the values that it may have where it is live; () for all.

    Raises:
      UsageError: text that is no expression, conditions in a circle, expressions beyond the limits, or nothing left.
    """
    positions = description.positions
    nodes = {
        place: _parsed(f"only_if of {p.name}", p.only_if, positions) for place, p in enumerate(positions) if p.only_if
    }
    order = _condition_order(nodes, positions)
    sizes = tuple(len(position.grid) + (place in nodes) for place, position in enumerate(positions))
    conditions = {place: _condition(nodes[place], positions[place], positions, sizes) for place in order}
    fixed = [_liveness(place, conditions[place], sizes) for place in order]
    fixed += [
        Constraint((place,), np.array([digit in some or digit == len(positions[place].grid) for digit in range(size)]))
        for place, (some, size) in enumerate(zip(kept, sizes, strict=False))
        if len(some) < len(positions[place].grid)
    ]
    plan = elimination_order(sizes, [constraint.scope for constraint in fixed])
    if fixed and not plan:
        raise checks.UsageError(
            expected=f"conditions of {description.name} that can be tabulated",
            got="some over too many positions together",
            remedy="let each depend on fewer positions, or on positions with fewer values",
        )
    tables, wide = [], []
    for text in dict.fromkeys(description.forbid):
        node = _parsed("a forbidden combination", text, positions)
        if math.prod(sizes[place] for place in scope(node)) > LARGEST_TABLE:
            wide.append((text, node))
        else:
            tables.append((text, Constraint(scope(node), ~truth_table(node, positions, sizes))))
    tables.sort(key=lambda pair: pair[1].table.size)
    active = [pair for pair in tables if not pair[1].table.all()]
    whole = elimination_order(sizes, [c.scope for c in fixed] + [c.scope for _, c in active])
    if active and not whole:
        active, whole = _those_that_fit(active, fixed, sizes, plan)
    chosen = {text for text, _ in active}
    wide += [(text, _parsed("", text, positions)) for text, c in tables if text not in chosen and not c.table.all()]
    for text, node in wide:
        if magnitude(node, positions) >= 2**31:
            raise checks.UsageError(
                expected="a forbidden combination with numbers below 2**31, counted in its smallest decimals, since "
                f"its positions have more than {LARGEST_TABLE} combinations",
                got=checks.shorten(repr(text)),
                remedy="round its numbers, or let it name fewer positions",
            )
    combinations = Combinations(sizes, [*fixed, *(constraint for _, constraint in active)], whole or plan)
    rules = Rules(sizes, conditions, tuple(active), tuple(wide), combinations, np.zeros((0, len(sizes)), np.int32))
    if combinations.size == 0:
        raise _nothing_left(description, tables, kept)
    if not wide:
        return rules
    return dataclasses.replace(rules, anchors=_anchors(description, rules))


def truth_table(node: Node, positions: Sequence[Position], sizes: Sequence[int]) -> np.ndarray:
    """Returns where an expression is true, one axis for each position of its scope, whose states it runs through."""
    places = scope(node)
    mesh = dict(zip(places, np.ix_(*(np.arange(sizes[place]) for place in places)), strict=True))
    kind: Any = np.int64 if magnitude(node, positions) < 2**62 else object
    true, _ = evaluate(node, positions, _values_of(mesh, positions, np, kind))
    return np.broadcast_to(true, [sizes[place] for place in places]).astype(bool)


def forbidden(node: Node, positions: Sequence[Position], states: Any) -> Any:
    """Returns where an expression of small numbers is true for states [..., d], NumPy or JAX."""
    xp: Any = np if isinstance(states, np.ndarray) else jnp
    columns = {place: states[..., place] for place in scope(node)}
    return evaluate(node, positions, _values_of(columns, positions, xp, np.int32))[0]


def _values_of(states: dict[int, Any], positions: Sequence[Position], xp: Any, kind: Any) -> Values:
    counts = [len(position.grid) for position in positions]

    def digit(place: int) -> Any:
        return xp.minimum(states[place], counts[place] - 1)

    def number(wholes: tuple[int, ...], place: int | None) -> Any:
        array = np.array(wholes, dtype=kind)
        return array[0] if place is None else (xp.asarray(array) if xp is jnp else array)[digit(place)]

    return Values(digit, lambda place: states[place] < counts[place], number)


def _parsed(what: str, text: str, positions: Sequence[Position]) -> Node:
    try:
        node = parse(text, positions)
    except checks.UsageError as error:
        raise checks.UsageError(f"{what}: {error}") from None
    if not scope(node):
        raise checks.UsageError(expected=f"a position in {what}", got=repr(text), remedy="name one")
    return node


def _condition_order(nodes: dict[int, Node], positions: Sequence[Position]) -> list[int]:
    """Returns the conditional positions, each behind those that its condition names."""
    sorter = TopologicalSorter({place: scope(node) for place, node in nodes.items()})
    try:
        return [place for place in sorter.static_order() if place in nodes]
    except CycleError as error:
        circle = [positions[place].name for place in error.args[1]]
        raise checks.UsageError(
            expected="conditions without a circle",
            got=" depends on ".join(reversed(circle)),
            remedy="drop one of these only_if",
        ) from None


def _condition(node: Node, position: Position, positions: Sequence[Position], sizes: Sequence[int]) -> Constraint:
    count = math.prod(sizes[place] for place in scope(node)) * (len(position.grid) + 1)
    if count > LARGEST_TABLE:
        raise checks.UsageError(
            expected=f"a condition of {position.name} whose positions have at most {LARGEST_TABLE} combinations",
            got=f"{count} in {checks.shorten(repr(position.only_if))}",
            remedy="let it depend on fewer positions",
        )
    return Constraint(scope(node), truth_table(node, positions, sizes))


def _liveness(place: int, condition: Constraint, sizes: Sequence[int]) -> Constraint:
    """Returns the constraint that a position has a value where its condition is true, and else is dead."""
    dead = np.arange(sizes[place]) == sizes[place] - 1
    table = condition.table[..., None] != dead
    axes = (*condition.scope, place)
    order = sorted(range(len(axes)), key=lambda axis: axes[axis])
    return Constraint(tuple(sorted(axes)), table.transpose(order))


def _those_that_fit(
    active: list[tuple[str, Constraint]], fixed: list[Constraint], sizes: Sequence[int], plan: list[Any]
) -> tuple[list[tuple[str, Constraint]], list[Any]]:
    """Returns the forbidden combinations that can be eliminated together, smallest tables first, and the order."""
    chosen: list[tuple[str, Constraint]] = []
    for pair in active:
        scopes = [c.scope for c in fixed] + [c.scope for _, c in [*chosen, pair]]
        if order := elimination_order(sizes, scopes):
            chosen, plan = [*chosen, pair], order
    return chosen, plan


def _nothing_left(description: SpaceDescription, tables: list[tuple[str, Constraint]], kept: Kept) -> checks.UsageError:
    alone = next((text for text, constraint in tables if not constraint.table.any()), None)
    got = f"none: {alone!r} is always true" if alone is not None else "none with all of them"
    return checks.UsageError(
        expected=f"forbidden combinations {'and bounds ' * bool(kept)}that leave a code of {description.name}",
        got=checks.shorten(got),
        remedy="forbid less",
    )


def _anchors(description: SpaceDescription, rules: Rules) -> np.ndarray:
    """Returns some legal states of a space with wide rules, by draws; UsageError where none are found."""
    positions = description.positions
    always = next(
        (text for text, node in rules.wide if evaluate(node, positions, INTERVALS)[0] and _all_live(node, rules)), None
    )
    if always is not None:
        raise checks.UsageError(
            expected=f"forbidden combinations that leave a code of {description.name}",
            got=f"none: {checks.shorten(always)!r} is always true",
            remedy="forbid less",
        )
    states, legal = tried(positions, rules)
    if not legal.any():
        proven = rules.combinations.size <= DRAWS
        raise checks.UsageError(
            expected=f"forbidden combinations that leave a code of {description.name}",
            got="none" if proven else f"none in {DRAWS} draws, which proves nothing: there may be some",
            remedy="forbid less" if proven else "write the forbidden combinations over fewer positions each",
        )
    return np.unique(states[legal], axis=0)[:: max(1, int(legal.sum()) // ANCHORS)][:ANCHORS]


def tried(positions: Sequence[Position], rules: Rules) -> tuple[np.ndarray, np.ndarray]:
    """Returns states [k, d] that are drawn uniformly from what tables allow, and whether wide rules allow them [k]."""
    draw, size = random.Random(0), rules.combinations.size
    ranks = range(size) if size <= DRAWS else [draw.randrange(size) for _ in range(DRAWS)]
    states = np.asarray(rules.combinations.unrank(np.array(list(ranks), dtype=object), np, object), np.int32)
    return states, ~np.logical_or.reduce([forbidden(node, positions, states) for _, node in rules.wide])


def _all_live(node: Node, rules: Rules) -> bool:
    return not any(place in rules.conditions for place in scope(node))
