"""Translates between Optuna's distributions and the positions of a space."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial

from ncp_jax.spaces import CategoricalSpace, DescribedSpace, Position, Space, SpaceDescription
from ncp_jax.spaces.cells import CellSpace
from ncp_jax.spaces.constrained import make_space
from ncp_jax.spaces.description import MOST_IN_ALL, MOST_POSITIONS
from ncp_jax.spaces.positions import MOST_VALUES
from ncp_jax.types import Bool, Int

LEVELS = 256  # of a parameter with more values, in search spaces of few parameters
RESOLUTION = 2**16  # places of values that are not evenly spaced are rounded to this part of the range


@dataclasses.dataclass(frozen=True, eq=False)
class Parameter:
    """One parameter of a search space, with the values that are proposed for it.

    Attributes:
      distribution: Optuna's distribution.
      values: the values in order, Python numbers; the choices of a categorical parameter.
    """

    distribution: BaseDistribution
    values: tuple[Any, ...]

    @classmethod
    def of(cls, distribution: BaseDistribution, levels: int = LEVELS) -> Parameter:
        """Returns the values that are proposed: all of them, or some levels spaced evenly on the parameter's scale."""
        if isinstance(distribution, CategoricalDistribution):
            return cls(distribution, tuple(distribution.choices))
        assert isinstance(distribution, FloatDistribution | IntDistribution)
        low, high, step = distribution.low, distribution.high, distribution.step
        count = levels if step is None else round((high - low) / step) + 1
        if distribution.log:
            values = np.geomspace(low, high, levels)
        elif step is None or count > levels:
            values = np.linspace(low, high, levels)
        else:
            values = np.asarray(low + step * np.arange(count), float)
        if isinstance(distribution, IntDistribution):
            steps = np.unique(np.round((values - low) / distribution.step)).astype(int).tolist()
            # Above 2^53 the last one may be rounded beyond the end.
            return cls(distribution, tuple(min(low + distribution.step * at, high) for at in steps))
        if step is not None:
            values = low + step * np.round((values - low) / step)
        return cls(distribution, tuple(np.unique(np.clip(values, low, high)).tolist()))

    @property
    def ordered(self) -> bool:
        """Whether the values are numbers with an order."""
        return not isinstance(self.distribution, CategoricalDistribution)

    @functools.cached_property
    def places(self) -> np.ndarray:
        """Place of each value on the parameter's scale, float64; of ordered parameters."""
        values = np.array(self.values, float)
        return np.log(values) if getattr(self.distribution, "log", False) else values

    def position(self, name: str) -> Position:
        """Returns the position of a space that has these values."""
        if not self.ordered:
            return Position(name, choices=tuple(map(str, range(len(self.values)))))
        steps = np.diff(self.places)
        if np.ptp(steps) <= 1e-6 * steps.mean():
            return Position(name, range=(0, len(self.values) - 1))
        shares = (self.places - self.places[0]) / np.ptp(self.places)
        return Position(name, values=tuple(np.round(shares * RESOLUTION).astype(int).tolist()))

    def digit(self, value: Any) -> int:
        """Returns the place among the values of the one that is nearest to a value of the distribution."""
        if not self.ordered:
            return int(self.distribution.to_internal_repr(value))
        place = np.log(value) if getattr(self.distribution, "log", False) else value
        return int(np.abs(self.places - place).argmin())


class SearchSpace:
    """A search space of Optuna as a space of this package. It is not registered: its name is its own.

    Attributes:
      names: names of the parameters, in the order of the code.
      space: the space.
    """

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        levels = min(LEVELS, _most_values(len(distributions)))
        self.parameters = {name: Parameter.of(one, levels) for name, one in distributions.items()}
        self.names = tuple(self.parameters)
        positions = tuple(part.position(f"p{place}") for place, part in enumerate(self.parameters.values()))
        self.space: DescribedSpace = make_space(SpaceDescription(f"optuna-{digest(distributions)[:16]}", positions))

    def codes(self, rows: list[Mapping[str, Any]]) -> Int[np.ndarray, "n d"]:
        """Returns the codes of parameters by name."""
        table = self.space.values
        codes = [
            [values[part.digit(row[name])] for (name, part), values in zip(self.parameters.items(), table, strict=True)]
            for row in rows
        ]
        return np.array(codes, np.int32).reshape(-1, self.space.length)

    def code_of_trial(self, trial: FrozenTrial) -> Int[np.ndarray, " d"] | None:
        """Returns the code of a trial; None if it lacks a parameter, or has one out of the present range."""
        params = trial.params
        for name, part in self.parameters.items():
            if name not in params or not part.distribution._contains(part.distribution.to_internal_repr(params[name])):
                return None
        return self.codes([params])[0]

    def params(self, code: Int[np.ndarray, " d"]) -> dict[str, Any]:
        """Returns the parameters by name that a code stands for."""
        triples = zip(self.parameters.items(), self.space.values, code.tolist(), strict=True)
        return {name: part.values[values.index(value)] for (name, part), values, value in triples}


def digest(distributions: Mapping[str, BaseDistribution]) -> str:
    """SHA-256 (hexadecimal) of a search space."""
    written = [[name, type(d).__name__, repr(d)] for name, d in distributions.items()]
    return hashlib.sha256(json.dumps(written).encode()).hexdigest()


def free_parameters(asked: Mapping[str, BaseDistribution]) -> dict[str, BaseDistribution]:
    """Returns the parameters that can be positions of one space: with several values, and not too many choices."""
    free = {name: one for name, one in asked.items() if not one.single()}
    most = _most_values(len(free))
    fit = [n for n, one in free.items() if not isinstance(one, CategoricalDistribution) or len(one.choices) <= most]
    return {name: free[name] for name in fit[:MOST_POSITIONS]}


def _most_values(count: int) -> int:
    """Returns how many values each of some parameters may have, at least 2."""
    return max(2, min(MOST_VALUES, MOST_IN_ALL // max(count, 1)))


def distributions_of(space: Space) -> dict[str, BaseDistribution]:
    """Returns a distribution for each position of a space, by the position's name.

    Numbers whose values are evenly spaced become integers or floats with a step; other values are choices, which
    have no order. Real positions on a logarithmic grid become logarithmic floats.
    """
    return {name: _distribution(space, place) for place, name in enumerate(space.position_names)}


def _distribution(space: Space, place: int) -> BaseDistribution:
    values = meanings(space, place)
    if isinstance(space, DescribedSpace) and space.positions[place].log:
        return FloatDistribution(values[0], values[-1], log=True)
    if isinstance(space, DescribedSpace):
        ordered = space.positions[place].ordered
    else:
        ordered = not isinstance(space, CategoricalSpace)
    if not ordered:
        return CategoricalDistribution(values)
    steps = np.diff(values)
    even = bool(np.ptp(steps) <= 1e-9 * abs(steps).max())
    if even and all(isinstance(value, int) for value in values):
        return IntDistribution(values[0], values[-1], step=int(steps[0]))
    if even:
        return FloatDistribution(values[0], values[-1], step=(values[-1] - values[0]) / len(steps))
    return CategoricalDistribution(values)


def meanings(space: Space, place: int) -> tuple[Any, ...]:
    """Returns what the values of a position mean, in order: numbers, names of operations or choices, booleans."""
    if isinstance(space, DescribedSpace):
        return tuple(space.positions[place].grid)
    return tuple(space.ops[value] if isinstance(space, CellSpace) else value for value in space.values[place])


def code_of(space: Space, params: Mapping[str, Any]) -> Int[np.ndarray, " d"]:
    """Returns the code, int32 [d], of values by the names of a space's positions: the nearest values that it has."""
    code = []
    for place, name in enumerate(space.position_names):
        known, value = meanings(space, place), params[name]
        if value in known:
            digit = known.index(value)
        else:
            scale = np.log if isinstance(space, DescribedSpace) and space.positions[place].log else np.asarray
            digit = int(np.abs(scale(np.array(known, float)) - scale(value)).argmin())
        code.append(space.values[place][digit])
    return np.array(code, np.int32)


def known_rows(
    space: Space, codes: Int[np.ndarray, "n d"], search: SearchSpace
) -> tuple[Int[np.ndarray, "k e"], Bool[np.ndarray, " n"]]:
    """Returns codes of one space as those of a search space, and which rows lie in it.

    Args:
      space: the space of the codes; the parameters of the search space are among its positions.
      codes: the codes.
      search: the search space.
    """
    places = [space.position_names.index(name) for name in search.names]
    named = {place: dict(zip(space.values[place], meanings(space, place), strict=True)) for place in places}
    rows = [dict(zip(search.names, (named[p][int(code[p])] for p in places), strict=True)) for code in codes]
    inside = np.array([_contains(search, row) for row in rows], bool)
    return search.codes([row for row, good in zip(rows, inside, strict=True) if good]), inside


def _contains(search: SearchSpace, row: Mapping[str, Any]) -> bool:
    for name, part in search.parameters.items():
        if not part.ordered:
            if row[name] not in part.values:
                return False
            continue
        if not isinstance(row[name], int | float) or not part.values[0] <= row[name] <= part.values[-1]:
            return False
    return True
