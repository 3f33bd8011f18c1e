"""Defines ``Combinations``: counts, draws, numbers and minimises over combinations that constraints allow, exactly.

Each variable has some states, and each constraint allows some combinations of the states of few variables. Variables
are eliminated one after the other (bucket elimination; Dechter, Artificial Intelligence 113, 1999): what a variable
contributes becomes a table over the variables that it shares constraints with. The work is that of the largest table,
whatever the number of combinations.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax.types import Array

LARGEST_TABLE = 2**16
LARGEST_IN_ALL = 2**19  # entries of the tables of all variables
BITS = 31  # of randomness for each variable


@dataclasses.dataclass(frozen=True, eq=False)
class Constraint:
    """The combinations of some variables that are allowed.

    Attributes:
      scope: the variables, ascending.
      table: whether a combination of their states is allowed, bool, one axis a variable.
    """

    scope: tuple[int, ...]
    table: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class _Step:
    """The elimination of one variable.

    Attributes:
      variable: the variable.
      others: the variables that it shares tables with at this point, ascending.
      allowed: which combinations its constraints allow, bool [others..., variable].
      children: earlier steps whose results are tables over variables of this step.
      counts: number of combinations of what is eliminated so far for each combination here, Python integers.
    """

    variable: int
    others: tuple[int, ...]
    allowed: np.ndarray
    children: tuple[int, ...]
    counts: np.ndarray

    @property
    def axes(self) -> tuple[int, ...]:
        return (*self.others, self.variable)

    @functools.cached_property
    def totals(self) -> np.ndarray:
        """Number of combinations for each combination of the others."""
        return np.asarray(self.counts.sum(axis=-1, dtype=object))


@dataclasses.dataclass(frozen=True, eq=False)
class _Group:
    """Steps that are computed together.

    Attributes:
      steps: their numbers.
      variables: their variables, [m].
      others: the other variables of each, [m, k].
      allowed: what each allows, bool [m, others..., states].
      messages: for each child of a step: the group and the members of it that are the steps' children; the axes of
        the steps' tables that their results have; and all axes of the steps' tables.
    """

    steps: tuple[int, ...]
    variables: np.ndarray
    others: np.ndarray
    allowed: np.ndarray
    messages: tuple[tuple[int, np.ndarray, tuple[int, ...], tuple[int, ...]], ...]

    def flat(self, states: Any) -> Any:
        """Returns the place of the others' states, for states [..., variables], in a flat table: [..., m]."""
        sizes = self.allowed.shape[1:-1]
        strides = [math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
        return (states[..., self.others] * np.array(strides, np.int32)).sum(axis=-1, dtype=np.int32)


def elimination_order(sizes: Sequence[int], scopes: Sequence[tuple[int, ...]]) -> list[tuple[int, tuple[int, ...]]]:
    """Returns each variable with the others of its table, smallest table first; [] where the tables grow too large."""
    near: dict[int, set[int]] = {variable: set() for scope in scopes for variable in scope}
    for scope in scopes:
        for variable in scope:
            near[variable].update(other for other in scope if other != variable)

    def size(variable: int) -> int:
        return math.prod(sizes[other] for other in near[variable]) * sizes[variable]

    tables, order, entries = {variable: size(variable) for variable in near}, [], 0
    while tables:
        variable = min(tables, key=lambda candidate: (tables[candidate], -candidate))
        entries += tables[variable]
        if tables.pop(variable) > LARGEST_TABLE or entries > LARGEST_IN_ALL:
            return []
        others = tuple(sorted(near.pop(variable)))
        order.append((variable, others))
        for other in others:
            near[other].discard(variable)
            near[other].update(third for third in others if third != other)
        for other in others:
            tables[other] = size(other)
    return order


class Combinations:
    """The combinations of states that constraints allow.

    Args:
      sizes: number of states of each variable.
      constraints: what is allowed. Variables without a constraint are free.
      order: what ``elimination_order`` returns for the scopes of the constraints.
    """

    def __init__(
        self, sizes: Sequence[int], constraints: Sequence[Constraint], order: Sequence[tuple[int, tuple[int, ...]]]
    ) -> None:
        self.sizes = tuple(sizes)
        self.steps: list[_Step] = []
        left, waiting = list(constraints), list[int]()
        for variable, others in order:
            axes = (*others, variable)
            allowed = np.ones([sizes[axis] for axis in axes], bool)
            for constraint in left:
                if variable in constraint.scope:
                    allowed &= _spread(constraint.table, constraint.scope, axes, np)
            left = [constraint for constraint in left if variable not in constraint.scope]
            children = tuple(child for child in waiting if variable in self.steps[child].others)
            counts = allowed.astype(object)
            for child in children:
                counts = counts * _spread(self.steps[child].totals, self.steps[child].others, axes, np)
            waiting = [child for child in waiting if child not in children]
            if others:
                waiting.append(len(self.steps))
            self.steps.append(_Step(variable, others, allowed, children, counts))
        tied = {step.variable for step in self.steps}
        self.free = tuple(variable for variable in range(len(sizes)) if variable not in tied)
        self._roots = [place for place, step in enumerate(self.steps) if not step.others]

    @functools.cached_property
    def size(self) -> int:
        """Number of combinations, an exact Python integer."""
        free = math.prod(self.sizes[variable] for variable in self.free)
        return math.prod((int(self.steps[root].totals[()]) for root in self._roots), start=free)

    def states_left(self) -> list[np.ndarray]:
        """Returns for each variable whether some combination has each of its states, bool [size]."""
        left: list[Any] = [np.ones(size, bool) for size in self.sizes]
        reached: dict[int, Any] = {}
        for place in range(len(self.steps) - 1, -1, -1):
            step = self.steps[place]
            here: Any = (step.counts > 0).astype(bool)
            if place in reached:
                here &= reached[place][..., None]
            left[step.variable] = here.reshape(-1, here.shape[-1]).any(axis=0)
            for child in step.children:
                others = self.steps[child].others
                gone = tuple(axis for axis, variable in enumerate(step.axes) if variable not in others)
                kept = [variable for variable in step.axes if variable in others]
                reached[child] = here.any(axis=gone).transpose([kept.index(variable) for variable in others])
        return left

    def drawn(self, bits: Array) -> Array:
        """Returns combinations [..., variables] that are uniform where bits, uint32 [..., variables], are uniform."""
        states = (bits % np.array(self.sizes, np.uint32)).astype(jnp.int32)
        for group in reversed(self._groups):
            table = jnp.asarray(np.stack([self._thresholds(self.steps[place]) for place in group.steps]))
            rows = table[np.arange(len(group.steps)), group.flat(states)]
            number = bits[..., group.variables] >> np.uint32(32 - BITS)
            states = states.at[..., group.variables].set((number[..., None] >= rows).sum(axis=-1, dtype=jnp.int32))
        return states

    @staticmethod
    def _thresholds(step: _Step) -> np.ndarray:
        """Returns the shares of a variable's first states in units of 2**-31, uint32 [others, states - 1]."""
        sums = np.cumsum(step.counts, axis=-1, dtype=object)
        shares = sums * 2**BITS // np.maximum(sums[..., -1:], 1)
        return shares[..., :-1].astype(np.uint32).reshape(-1, shares.shape[-1] - 1)

    def nearest(self, costs: Array, states: Array) -> Array:
        """Returns the allowed combination for which the sum of costs is least.

        Args:
          costs: costs of the states of each variable, finite [n, variables, most states].
          states: the states of the variables that are free, int32 [n, variables].

        Returns:
          int32 [n, variables]; of equals, the lowest state of the variable that is decided first.
        """
        results: list[Any] = []
        choices: list[Any] = []
        for group in self._groups:
            sizes = group.allowed.shape[1:]
            table = costs[:, group.variables, : sizes[-1]]
            table = table.reshape(*table.shape[:2], *(1,) * (len(sizes) - 1), sizes[-1])
            table = jnp.where(group.allowed, table, jnp.inf)
            for child, members, scope, axes in group.messages:
                table = table + _spread(results[child][:, members], scope, axes, jnp, leading=2)
            results.append(table.min(axis=-1))
            choices.append(table.argmin(axis=-1).astype(jnp.int32))
        for group, choice in zip(reversed(self._groups), reversed(choices), strict=True):
            flat = choice.reshape(*choice.shape[:2], -1)
            found = jnp.take_along_axis(flat, group.flat(states)[..., None], axis=-1)[..., 0]
            states = states.at[:, group.variables].set(found)
        return states

    @functools.cached_property
    def _groups(self) -> list[_Group]:
        """Steps of equal shape whose children are alike, so that each group is one computation, children first."""
        members: dict[Any, list[int]] = {}
        group_of: dict[int, tuple[int, int]] = {}
        kinds: list[Any] = []
        for place, step in enumerate(self.steps):
            children = sorted(step.children, key=lambda child: group_of[child][0])
            into = tuple((group_of[child][0], self._alignment(child, step)) for child in children)
            kind = (step.allowed.shape, into)
            if kind not in members:
                kinds.append(kind)
                members[kind] = []
            group_of[place] = (kinds.index(kind), len(members[kind]))
            members[kind].append(place)
        found = []
        for kind in kinds:
            steps = [self.steps[place] for place in members[kind]]
            ordered = [sorted(step.children, key=lambda child: group_of[child][0]) for step in steps]
            messages = []
            for number, (child, scope) in enumerate(kind[1]):
                rows = np.array([group_of[children[number]][1] for children in ordered])
                messages.append((child, rows, scope, tuple(range(len(kind[0])))))
            found.append(
                _Group(
                    tuple(members[kind]),
                    np.array([step.variable for step in steps]),
                    np.array([step.others for step in steps], int).reshape(len(steps), -1),
                    np.stack([step.allowed for step in steps]),
                    tuple(messages),
                )
            )
        return found

    def _alignment(self, child: int, step: _Step) -> tuple[int, ...]:
        """Returns the axes of a step's table that the axes of a child's result are."""
        return tuple(step.axes.index(variable) for variable in self.steps[child].others)

    def rank(self, states: Any, xp: Any, kind: Any) -> Any:
        """Returns the number of combinations [..., variables] among all, in the order of the elimination.

        Args:
          states: combinations that are allowed.
          xp: ``numpy`` or ``jax.numpy``.
          kind: type of the numbers: ``object`` for NumPy, ``int32`` for JAX where there are fewer than 2**31.
        """
        by_variable = dict(enumerate(xp.moveaxis(states, -1, 0)))
        ranks: list[Any] = []
        for step in self.steps:
            rank: Any = 0
            for child in step.children:
                total = self._at(self.steps[child].totals.astype(kind), self.steps[child].others, by_variable)
                rank = rank * total + ranks[child]
            before = np.cumsum(step.counts, axis=-1, dtype=object) - step.counts
            ranks.append(self._at(before.astype(kind), step.axes, by_variable) + rank)
        found: Any = 0
        for root in self._roots:
            found = found * int(self.steps[root].totals[()]) + ranks[root]
        for variable in self.free:
            found = found * self.sizes[variable] + by_variable[variable].astype(kind)
        return found

    def unrank(self, index: Any, xp: Any, kind: Any) -> Any:
        """Returns the combinations [..., variables] of numbers [...]; the inverse of ``rank``."""
        states: dict[int, Any] = {}
        ranks: dict[int, Any] = {}
        for variable in reversed(self.free):
            states[variable] = (index % self.sizes[variable]).astype(np.int32)
            index = index // self.sizes[variable]
        for root in reversed(self._roots):
            total = int(self.steps[root].totals[()])
            ranks[root] = index % total
            index = index // total
        for place in range(len(self.steps) - 1, -1, -1):
            step = self.steps[place]
            sums = np.cumsum(step.counts, axis=-1, dtype=object)
            rows = self._at(sums.astype(kind), step.others, states)
            states[step.variable] = (rows <= ranks[place][..., None]).sum(axis=-1).astype(np.int32)
            rest = ranks[place] - self._at((sums - step.counts).astype(kind), step.axes, states)
            for child in reversed(step.children):
                total = self._at(self.steps[child].totals.astype(kind), self.steps[child].others, states)
                ranks[child] = rest % total
                rest = rest // total
        return xp.stack([states[variable] for variable in range(len(self.sizes))], axis=-1)

    def _flat(self, variables: tuple[int, ...], states: Mapping[int, Any]) -> Any:
        """Returns the place of the variables' states in a flat table; None where there are no variables."""
        place: Any = None
        for variable in variables:
            place = states[variable] if place is None else place * self.sizes[variable] + states[variable]
        return place

    def _at(self, table: np.ndarray, variables: tuple[int, ...], states: Mapping[int, Any]) -> Any:
        """Returns the entries of a table [variables..., *rest] for the variables' states: [..., *rest]."""
        flat = table.reshape(-1, *table.shape[len(variables) :])
        place = self._flat(variables, states)
        if place is None:
            return flat[0]
        return flat[place] if isinstance(place, np.ndarray) else jnp.asarray(flat)[place]


def _spread(table: Any, scope: tuple[int, ...], axes: tuple[int, ...], xp: Any, leading: int = 0) -> Any:
    """Returns a table over some variables as one that broadcasts over ``axes``, behind some leading axes."""
    ordered = [axis for axis in axes if axis in scope]
    moved = xp.transpose(table, [*range(leading), *(leading + scope.index(axis) for axis in ordered)])
    sizes = iter(moved.shape[leading:])
    shape = [next(sizes) if axis in scope else 1 for axis in axes]
    return moved.reshape(*moved.shape[:leading], *shape)
