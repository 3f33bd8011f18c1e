"""Defines ``Bounds``: a space whose positions keep to some of their values, with its nearest codes and samples."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.console import short_repr
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.codes import _run, draw, has_values, padded_values, row_numbers
from ncp_jax.spaces.registry import get_space
from ncp_jax.types import Array, Bool, Float, Int, Key

Ends = tuple[int | None, int | None]
Limits = Mapping[str | int, Ends]


@dataclasses.dataclass(frozen=True)
class Bounds:
    """The codes of a space whose positions keep to some of their values; a constant for JAX, like the space.

    Attributes:
      space: the space.
      values: for each position, the legal values left, ascending. Where a space forbids combinations, a value that no
        legal code is left with is dropped too.

    Raises:
      UsageError: values that are not the position's, a position without any, or no legal code left.
    """

    space: Space
    values: tuple[tuple[int, ...], ...]

    __repr__ = short_repr

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", get_space(self.space))
        space = self.space
        if len(self.values) != space.length:
            raise checks.UsageError(
                expected=f"values for each of the {space.length} positions of {space.name}",
                got=f"{len(self.values)}",
                remedy="Bounds.of() fills in the others",
            )
        positions = zip(space.position_names, space.values, self.values, strict=True)
        self._keep(_legal_among(*position) for position in positions)
        if self._part is not None:
            if not self.all:
                self._keep(self._part.values_left()[0])
        elif self._combinations is not None:
            if len(self._combinations) == 0:
                left = "; ".join(f"{name} in {_listed(values)}" for name, values in self.to_json().items())
                raise checks.UsageError(
                    expected=f"bounds that leave a legal code of {space.name}",
                    got=f"none with {left}",
                    remedy="widen one of them",
                )
            self._keep(tuple(np.unique(column).tolist()) for column in self._combinations.T)

    @classmethod
    def of(cls, space: Space | str, limits: Limits) -> Bounds:
        """Returns the bounds that some limits set.

        Args:
          space: the space, or its name.
          limits: for a position (0..d-1, its name, or a pattern of names: ``*`` stands for any characters, ``?`` for
            one, case does not matter) its lowest and highest value, integers, both inclusive; None leaves that end
            open. A position that several keys match keeps what all of them allow. On a categorical space the integers
            are those of the choices.

        Raises:
          UsageError: a key that matches no position (the text has the nearest names), ends that are not integers or in
            the wrong order, limits between which a position has no value, or that together leave no legal code.
        """
        if not isinstance(limits, Mapping):
            raise checks.UsageError(
                expected="bounds as a mapping of position to (low, high)",
                got=repr(limits),
                remedy='try {"stage1.num_blocks": (1, 2)}',
            )
        space = get_space(space)
        left = list(space.values)
        for key, ends in limits.items():
            low, high = _checked_ends(key, ends)
            for place in _places(space, key):
                kept = tuple(value for value in left[place] if low <= value <= high)
                if not kept:
                    raise checks.UsageError(
                        expected=f"{key!r} to leave {space.position_names[place]} some of {_listed(left[place])}",
                        got=_interval(ends),
                        remedy="widen the bounds",
                    )
                left[place] = kept
        return cls(space, tuple(left))

    @classmethod
    def from_json(cls, space: Space | str, values: Mapping[str, Sequence[int]]) -> Bounds:
        """Returns the bounds that ``to_json`` wrote: for each restricted position, by name, the values left."""
        space = get_space(space)
        left = list(space.values)
        for name, some in values.items():
            place = space.position_names.index(checks.choose("position", name, space.position_names))
            left[place] = _legal_among(name, space.values[place], some)
        return cls(space, tuple(left))

    def to_json(self) -> dict[str, list[int]]:
        """Returns the values left by position name, for the positions that are restricted; ``from_json`` reads it."""
        positions = zip(self.space.position_names, self.space.values, self.values, strict=True)
        return {name: list(left) for name, legal, left in positions if left != legal}

    @property
    def all(self) -> bool:
        """Whether nothing is restricted."""
        return self.values == self.space.values

    @property
    def size(self) -> int:
        """Number of legal codes left, an exact Python integer."""
        if self._part is not None:
            return self._part.size
        return len(self._combinations) if self._combinations is not None else math.prod(map(len, self.values))

    @functools.cached_property
    def lower(self) -> Float[np.ndarray, " f"]:
        """Lower corner of the smallest box around the relaxed codes left, float32 [f], raw units.

        Zero for a letter of a categorical space, one for the only letter left. The box of the space itself where
        nothing is restricted; so is ``upper``.
        """
        return self.space.lower if self.all else self._extremes.min(axis=0)

    @functools.cached_property
    def upper(self) -> Float[np.ndarray, " f"]:
        """Upper corner, float32 [f]; zero for a letter that is not allowed."""
        return self.space.upper if self.all else self._extremes.max(axis=0)

    def project(self, relaxed: Float[Array, "*batch f"]) -> Int[Array, "*batch d"]:
        """Returns the nearest legal code within the bounds (Euclidean distance in relaxed form; ties to lower values).

        Any real numbers are accepted, as by ``Space.project``, which this equals where nothing is restricted.
        """
        return _project(self, self.space._relaxed(relaxed))

    def contains(self, codes: Int[Array, "*batch d"]) -> Bool[Array, "*batch"]:
        """Returns True where a code is legal and within the bounds."""
        return _contains(self, codes)

    def sample(self, key: Key, n: int, first: int = 0) -> Int[Array, "n d"]:
        """Draws codes uniformly from those left.

        Args:
          key: a PRNG key; consumed. Row ``i`` is drawn from ``fold_in(key, first + i)``, as in ``Space.sample``, which
            this equals where nothing is restricted.
          n: number of codes.
          first: number of the first code.

        Returns:
          int32 [n, d]; rows may repeat.
        """
        if n < 0:
            raise checks.UsageError(expected="n >= 0 codes to sample", got=str(n), remedy="give another n")
        return _sample(self, key, row_numbers(first, n))[:n]

    @functools.cached_property
    def _part(self) -> Space | None:
        """The space of the codes left, where the space forbids combinations and knows how; else None."""
        part = None if self.space.is_product else self.space._restricted(self.values)
        return self.space if part is not None and self.all else part

    def _keep(self, values: Any) -> None:
        object.__setattr__(self, "values", tuple(values))

    @functools.cached_property
    def _combinations(self) -> np.ndarray | None:
        """The legal codes left, in lexicographic order, where a space forbids combinations; None for product spaces."""
        if self.space.is_product or self._part is not None:
            return None
        with jax.ensure_compile_time_eval():  # the list is a constant, also when asked for inside jit
            codes = self.space.all_codes()
        return codes[self._within(codes)]

    def _within(self, codes: Any) -> Any:
        return has_values(codes, self._table)

    @property
    def _table(self) -> np.ndarray:
        return padded_values(self.values)

    @functools.cached_property
    def _extremes(self) -> np.ndarray:
        """Relaxed codes that together show every value left: a position is relaxed without regard to the others."""
        with jax.ensure_compile_time_eval():
            held = self._table if self._part is None else padded_values(self._part.values_left()[1])
            return np.asarray(self.space.encode(jnp.asarray(held.T)))


jax.tree_util.register_static(Bounds)


@functools.partial(jax.jit, static_argnums=0)
def _project(bounds: Bounds, relaxed: Array) -> Array:
    space = bounds.space
    if bounds.all:
        return space.project(relaxed)
    if bounds._part is not None:
        return bounds._part.project(relaxed)
    if bounds._combinations is not None:
        return space._project_among(relaxed, bounds._combinations)
    return space._project_within(relaxed, bounds.values)


@functools.partial(jax.jit, static_argnums=0)
def _contains(bounds: Bounds, codes: Array) -> Array:
    if bounds._part is not None:
        return bounds._part.is_valid(codes)
    return bounds.space.is_valid(codes) & bounds._within(codes)


@functools.partial(jax.jit, static_argnums=0)
def _sample(bounds: Bounds, key: Key, ids: Array) -> Array:
    if bounds._part is not None:
        return _run(bounds._part, "_sample", key, ids)
    if bounds._combinations is not None:
        return jnp.asarray(bounds._combinations)[draw(key, ids, np.array([bounds.size]))[:, 0]]
    digits = draw(key, ids, np.array([len(values) for values in bounds.values]))
    return jnp.asarray(bounds._table)[np.arange(bounds.space.length), digits]


def parse_bounds(texts: Sequence[str]) -> dict[str | int, Ends]:
    """Reads limits as users write them on a command line, for ``Bounds.of``.

    Args:
      texts: limits, each on one position (number, name or pattern): ``stage1.num_blocks=1..2``, ``last_channel=..64``,
        ``last_channel=8..``, ``*.num_channels[*]=16``.

    Raises:
      UsageError: another form, or a position written twice.
    """
    limits: dict[str | int, Ends] = {}
    for text in texts:
        name, _, ends = (part.strip() for part in text.rpartition("="))
        found = re.fullmatch(r"(-?\d+)|(-?\d+)?\s*\.\.\s*(-?\d+)?", ends, re.ASCII)
        if not name or not found or not any(found.groups()):
            raise checks.UsageError(
                expected="NAME=LOW..HIGH, NAME=LOW.., NAME=..HIGH or NAME=VALUE with integers",
                got=repr(text),
                remedy="for example stage1.num_blocks=1..2",
            )
        key = int(name) if name.isascii() and name.isdigit() else name
        if key in limits:
            raise checks.UsageError(
                expected="each position or pattern once",
                got=f"{name!r} again in {text!r}",
                remedy="write both ends in one",
            )
        value, low, high = (None if end is None else int(end) for end in found.groups())
        limits[key] = (low, high) if value is None else (value, value)
    return limits


def _places(space: Space, key: Any) -> list[int]:
    """Returns the positions that a key of ``Bounds.of`` matches, at least one."""
    if isinstance(key, int | np.integer) and not isinstance(key, bool) and 0 <= key < space.length:
        return [int(key)]
    if not isinstance(key, str):
        raise checks.UsageError(
            expected=f"a position of {space.name}: its name, a pattern, or a number 0..{space.length - 1}",
            got=repr(key),
            remedy="see position_names",
        )
    pattern = key.lower().replace("[", "[[]")  # a bracket means itself: names have them
    matches = [i for i, name in enumerate(space.position_names) if fnmatch.fnmatchcase(name.lower(), pattern)]
    return matches or [space.position_names.index(checks.choose("position", key, space.position_names))]


def _checked_ends(key: Any, ends: Any) -> tuple[float, float]:
    """Returns lowest and highest value, infinite where open."""
    if not isinstance(ends, tuple | list) or len(ends) != 2 or not all(map(_is_end, ends)):
        raise checks.UsageError(
            expected=f"(low, high) for {key!r}, two integers or None",
            got=repr(ends),
            remedy="try (1, 2), or (None, 2) without a lower end",
        )
    low, high = (-math.inf if ends[0] is None else ends[0]), (math.inf if ends[1] is None else ends[1])
    if low > high:
        raise checks.UsageError(expected=f"low <= high for {key!r}", got=_interval(ends), remedy="swap the two")
    return low, high


def _is_end(end: Any) -> bool:
    return end is None or (isinstance(end, int | np.integer) and not isinstance(end, bool))


def _interval(ends: Sequence[int | None]) -> str:
    return "..".join("" if end is None else str(end) for end in ends)


def _legal_among(name: str, legal: tuple[int, ...], some: Any) -> tuple[int, ...]:
    """Returns the given values in ascending order; UsageError unless all of them are legal and there is one."""
    given = some if isinstance(some, tuple | list) else ()
    kept = tuple(value for value in legal if value in given)
    if not kept or any(value not in legal or isinstance(value, bool) for value in given):
        raise checks.UsageError(
            expected=f"values of {name}, at least one of {_listed(legal)}",
            got=repr(some),
            remedy="leave out the others",
        )
    return kept


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values)) if len(values) <= 16 else f"{values[0]}, {values[1]}, ..., {values[-1]}"
