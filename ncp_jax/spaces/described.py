"""Defines ``DescribedSpace``: a space that a description makes, with positions of different kinds."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ncp_jax import checks
from ncp_jax.spaces.base import TINY, Space
from ncp_jax.spaces.codes import padded_values
from ncp_jax.spaces.description import SpaceDescription
from ncp_jax.spaces.graphs import ArchitectureGraphs, chain, join_features
from ncp_jax.spaces.positions import Position
from ncp_jax.types import Array, Float


@dataclasses.dataclass(frozen=True)
class DescribedSpace(Space):
    """A space of ordered numbers, real numbers, choices and booleans; strings like ``stages=4 kernel=3x3 rate=0.01``.

    A code holds the integers of integer positions, the numbers 0, 1, … of the levels of real positions, and those of
    choices. The relaxed code has one feature for each ordered position, with the same number, and a one-hot block for
    each choice.

    Attributes:
      description: what the space was made from.
    """

    description: SpaceDescription = dataclasses.field(kw_only=True, repr=False)

    def __hash__(self) -> int:
        return self._hash

    @property
    def digest(self) -> str:
        """SHA-256 of the description, by which files know the space; see ``check_digest``."""
        return self.description.digest

    @property
    def counted(self) -> bool:
        """Whether ``size`` is exact, as it is without forbidden combinations, or an upper bound."""
        return True

    def legal_draws(self) -> tuple[int, int]:
        """Returns how many of some uniform draws from the ``size`` codes are legal, and how many draws these are."""
        return self.size, self.size

    @property
    def positions(self) -> tuple[Position, ...]:
        """The positions of the description."""
        return self.description.positions

    @property
    def lower(self) -> np.ndarray:
        """Least value of each ordered position, 0 for each choice, float32 [f]."""
        return self._ends[0]

    @property
    def upper(self) -> np.ndarray:
        """Largest value of each ordered position, 1 for each choice, float32 [f]."""
        return self._ends[1]

    def tangent(self, slope: Float[Array, "*batch f"]) -> Float[Array, "*batch f"]:
        """Returns the part of a slope along which the shares of each position's choices keep their sum."""
        if not self._hot.size:
            return slope
        shares, counts = self._shares(slope), self._real.sum(axis=-1, keepdims=True)
        return self._with_shares(slope, shares - shares.sum(axis=-1, keepdims=True) / counts)

    def clip(self, relaxed: Float[Array, "*batch f"]) -> Float[Array, "*batch f"]:
        """Returns relaxed codes in the box whose shares of choices sum to 1 at each position."""
        inside = jnp.clip(relaxed, self.lower, self.upper)
        if not self._hot.size:
            return inside
        shares = jnp.maximum(self._shares(relaxed), 0.0)
        return self._with_shares(inside, shares / jnp.maximum(shares.sum(axis=-1, keepdims=True), TINY))

    def _shares(self, relaxed: Any) -> Any:
        """Returns the one-hot blocks [..., blocks, widest], with zeros behind the narrower ones."""
        return jnp.where(self._real, relaxed[..., self._hot], 0)

    def _with_shares(self, relaxed: Any, shares: Any) -> Any:
        """Returns relaxed codes with other one-hot blocks."""
        return relaxed.at[..., self._hot[self._real]].set(shares[..., self._real])

    def smooth_attributes(self, relaxed: Float[Array, "n f"]) -> Float[Array, "n a"]:
        """Returns the logarithms of the ordered positions whose values are all positive."""
        return jnp.log(relaxed[:, np.flatnonzero(self.lower > 0)])

    def _graphs(self, codes: np.ndarray) -> ArchitectureGraphs:
        relaxed = np.asarray(self._encode_host(codes))
        scaled = (relaxed - self.lower) / (self.upper - self.lower)
        widest = self._hot.shape[-1]
        nodes = np.zeros((*codes.shape, 1 + widest), np.float32)
        starts = self._starts
        for place, position in enumerate(self.positions):
            if position.ordered:
                nodes[:, place, 0] = scaled[:, starts[place]]
            else:
                width = len(position.grid)
                nodes[:, place, 1 : 1 + width] = relaxed[:, starts[place] : starts[place] + width]
        live = np.asarray(self.live(codes))
        logs = np.log(relaxed[:, self.lower > 0])
        return join_features(nodes, live, chain(self.length), [scaled, logs])

    # Hooks

    def _encode(self, codes: Array) -> Array:
        return self._features_of(codes, jnp)

    def _encode_host(self, codes: np.ndarray) -> np.ndarray:
        return self._features_of(codes, np)

    def _features_of(self, codes: Any, xp: Any) -> Any:
        """Each feature is the value of its position, or whether the position has the feature's choice."""
        places, letters = self._origin
        values = codes[..., places]
        return xp.where(letters < 0, values, values == letters).astype(np.float32)

    def _project(self, relaxed: Array) -> Array:
        return self._at(np.arange(self.length), self._nearest_digits(relaxed))

    def _project_within(self, relaxed: Array, values: tuple[tuple[int, ...], ...]) -> Array:
        kept = padded_values(values)
        middles = _middles(kept)
        digits = (relaxed[..., self._starts][..., None] > middles).sum(axis=-1, dtype=jnp.int32)
        found = jnp.asarray(kept)[np.arange(self.length), digits]
        if self._hot.size:
            letters = np.arange(self._hot.shape[-1])[:, None]
            left = (letters == kept[self._choosing][:, None, :]).any(axis=-1)
            found = found.at[..., self._choosing].set(self._best(relaxed, left))
        return found

    def _best(self, relaxed: Array, left: np.ndarray) -> Array:
        """Returns the choice of the largest share among those left, bool [blocks, widest]: int32 [..., blocks]."""
        # A choice that is left never scores -inf, so that one of them wins whatever the numbers are.
        scores = jnp.maximum(jnp.nan_to_num(relaxed[..., self._hot]), jnp.finfo(relaxed.dtype).min)
        return jnp.argmax(jnp.where(left, scores, -jnp.inf), axis=-1).astype(jnp.int32)

    def _nearest_digits(self, relaxed: Array) -> Array:
        """Returns the place of the nearest value at each position, int32 [..., d]; ties go to the lower one."""
        values = relaxed[..., self._starts]
        digits = (values[..., None] > self._middles).sum(axis=-1, dtype=jnp.int32)
        if self._hot.size:
            digits = digits.at[..., self._choosing].set(self._best(relaxed, self._real))
        return digits

    def _is_valid(self, codes: Any) -> Any:
        digits = self._digits(codes)
        xp: Any = np if isinstance(codes, np.ndarray) else jnp
        return (xp.asarray(self._table)[np.arange(self.length), digits] == codes).all(axis=-1)

    def _digits(self, codes: Any) -> Any:
        if self._steps is not None:
            # Evenly spaced values need no comparison with each of them.
            least, steps = self._table[:, 0], self._steps
            return ((codes - least + steps - 1) // steps).clip(0, self._counts - 1).astype(np.int32)
        return (codes[..., None] > self._inner).sum(axis=-1, dtype=np.int32)

    def _format(self, code: list[int]) -> str:
        row = np.array([code], np.int32)
        return self._written(code, self.live(row)[0].tolist())

    def _written(self, code: list[int], live: list[bool]) -> str:
        return " ".join(
            f"{position.name}={position.text(values.index(value))}"
            for position, values, value, counts in zip(self.positions, self.values, code, live, strict=True)
            if counts
        )

    def to_strings(self, codes: ArrayLike) -> list[str]:
        """Returns the architecture strings of codes [n, d], without the positions that are dead."""
        rows = self.check(codes)
        return [self._written(*pair) for pair in zip(rows.tolist(), self.live(rows).tolist(), strict=True)]

    def position_texts(self, code: ArrayLike) -> list[str]:
        """Returns how each position of one code [d] is written in a column of its own; "" where it is dead."""
        row = self.check(code)
        triples = zip(self.positions, self.values, row[0].tolist(), self.live(row)[0].tolist(), strict=True)
        return [position.text(values.index(value)) if live else "" for position, values, value, live in triples]

    def from_string(self, text: str) -> np.ndarray:
        """Returns the code, int32 [d], that a string denotes; see ``Space.from_string``. Dead positions may lack."""
        return self.settled(super().from_string(text)[None])[0]

    def position_values(self, codes: Any) -> dict[str, np.ndarray]:
        """Returns what legal codes [n, d] mean, position by position: an array [n] for each name.

        Integers and real numbers are themselves (int64, float64), choices their places (int64), booleans bool. Dead
        positions have the first of their values.
        """
        rows = self.check(codes)
        digits, found = np.asarray(self._digits(rows)), {}
        for place, position in enumerate(self.positions):
            values = np.arange(len(position.grid)) if position.choices else np.array(position.grid)
            found[position.name] = values[digits[:, place]]
        return found

    def live(self, codes: Any) -> Any:
        """Returns True where a position counts, [..., d], for legal codes: everywhere, without conditions."""
        return np.ones(np.shape(codes), bool)

    def _parse(self, text: str) -> list[int]:
        parts = self._split.split(f" {text}")
        if parts[0].strip() or len(parts) < 2:
            got = checks.shorten(repr(parts[0].strip()))
            raise self._bad_string(text, f"with {got} where a position's name and = belong")
        written: dict[str, str] = {}
        for name, value in zip(parts[1::2], parts[2::2], strict=True):
            if name in written:
                raise self._bad_string(text, f"with {name} twice")
            written[name] = value.strip()

        def wrong(name: str, why: str) -> Exception:
            value = f"with {name}={checks.shorten(written[name])}, {why}" if why else f"without {name}"
            return self._bad_string(text, value)

        return self.code_of(written, wrong).tolist()

    def code_of(self, written: Mapping[str, str], wrong: Callable[[str, str], Exception]) -> np.ndarray:
        """Returns the code, int32 [d], of values that are written for positions by name; those of dead ones may lack.

        Args:
          written: position → text of its value; "" where there is none.
          wrong: makes the error for a position, by name, and what is wrong there ("where the nearest value is 4").
        """
        code = np.array([values[0] for values in self.values], np.int32)
        missing = []
        for place, (position, values) in enumerate(zip(self.positions, self.values, strict=True)):
            text = written.get(position.name, "")
            if not text:
                missing.append(place)
                continue
            digit = position.digit_of(text)
            if digit is None:
                raise wrong(position.name, position.nearest_to(text))
            code[place] = values[digit]
        live = self.live(code[None])[0]
        for place in missing:
            if live[place]:
                raise wrong(self.position_names[place], "")
        return code

    # Constants of the space

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.name, self.description))

    @functools.cached_property
    def _split(self) -> re.Pattern[str]:
        names = sorted(self.position_names, key=len, reverse=True)
        return re.compile(rf"\s({'|'.join(map(re.escape, names))})=")

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """The first feature of each position, [d]."""
        widths = [1 if position.ordered else len(position.grid) for position in self.positions]
        return np.cumsum([0, *widths[:-1]], dtype=np.int32)

    @functools.cached_property
    def _choosing(self) -> np.ndarray:
        """The positions that have one-hot blocks, [blocks]."""
        return np.flatnonzero([not position.ordered for position in self.positions]).astype(np.int32)

    @functools.cached_property
    def _hot(self) -> np.ndarray:
        """The features of each one-hot block, [blocks, widest]; see ``_real``."""
        features = self._starts[self._choosing][:, None] + np.arange(self._real.shape[-1])
        return np.where(self._real, features, 0).astype(np.int32)

    @functools.cached_property
    def _real(self) -> np.ndarray:
        """Whether an entry of ``_hot`` is a feature of the block, bool [blocks, widest]."""
        widths = np.array([len(self.positions[place].grid) for place in self._choosing], int)
        return np.arange(widths.max(initial=0)) < widths[:, None]

    @functools.cached_property
    def _origin(self) -> tuple[np.ndarray, np.ndarray]:
        """For each feature its position, and its choice (-1 for a number), [f] each."""
        pairs = [
            (place, letter)
            for place, position in enumerate(self.positions)
            for letter in ([-1] if position.ordered else range(len(position.grid)))
        ]
        places, letters = np.array(pairs, np.int32).T
        return places, letters

    @functools.cached_property
    def _ends(self) -> tuple[np.ndarray, np.ndarray]:
        places, letters = self._origin
        lower = np.where(letters < 0, self._table[places, 0], 0).astype(np.float32)
        upper = np.where(letters < 0, self._table[places, -1], 1).astype(np.float32)
        return lower, upper

    @functools.cached_property
    def _steps(self) -> np.ndarray | None:
        """The step between the values of each position, int32 [d]; None unless all are evenly spaced."""
        steps = np.array([values[1] - values[0] for values in self.values], np.int32)
        even = all(np.ptp(np.diff(values)) == 0 for values in self.values)
        return steps if even else None

    @functools.cached_property
    def _inner(self) -> np.ndarray:
        """The values of each position but the last, int32 [d, k - 1]; where there are no more, one never exceeded."""
        return np.where(self._table[:, 1:] == self._table[:, :-1], np.iinfo(np.int32).max, self._table[:, :-1])

    @functools.cached_property
    def _middles(self) -> np.ndarray:
        """The middles between the values of each position, float32 [d, k - 1]; inf where there are no more."""
        return _middles(self._table)


def _middles(table: np.ndarray) -> np.ndarray:
    middles = (table[:, 1:] + table[:, :-1]).astype(np.float32) / 2
    middles[table[:, 1:] == table[:, :-1]] = np.inf
    return middles
