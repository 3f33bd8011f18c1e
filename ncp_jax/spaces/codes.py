"""Defines ``CodeSet``: a finite set of integer codes that can be sampled, edited, numbered and checked."""

from __future__ import annotations

import dataclasses
import functools
import math
import operator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.types import Array, Bool, Int, Key

ENUMERABLE = 2**20  # larger spaces are not listed: the table of all codes would fill the memory
ISOMORPHISM = "isomorphism"  # the rule for the same network that every space has
FEWEST_ROWS, MOST_ROWS = 64, 4096  # samples of these sizes are rounded up to a power of two
DEVICE_INDEX = 2**31  # indices below this fit in int32


@functools.partial(jax.jit, static_argnums=(0, 1))
def _run(space: CodeSet, hook: str, *arrays: Any) -> Any:
    """Compiles one hook of one space; eager calls then cost one dispatch, and calls inside jit are inlined."""
    with jax.numpy_rank_promotion("allow"):  # see ``jax_settings``
        return getattr(space, hook)(*arrays)


def row_numbers(first: int, n: int) -> np.ndarray:
    """Returns uint32 numbers from ``first`` on, n or some more: a program is compiled for each number of rows."""
    rows = max(FEWEST_ROWS, 1 << max(n - 1, 0).bit_length()) if n <= MOST_ROWS else n
    return np.arange(first, first + rows).astype(np.uint32)


def draw(key: Key, ids: Array, choices: np.ndarray) -> Array:
    """Returns uniform integers for numbered rows: row ``i`` depends on ``fold_in(key, i)`` alone.

    The remainder of 32 random bits favours low integers by at most ``choices / 2**32``, which is negligible here;
    ``jax.random.randint`` removes more of that bias and takes longer to compile.

    Args:
      key: a PRNG key; consumed.
      ids: numbers of the rows, uint32 [n].
      choices: for each column, how many integers to draw from, [m].

    Returns:
      int32 [n, m] in 0..choices-1.
    """
    bits = jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), (len(choices),), jnp.uint32))(ids)
    return (bits % choices.astype(np.uint32)).astype(jnp.int32)


def padded_values(values: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Returns the values of each position as int32 [d, largest count]; shorter rows repeat their last value."""
    widest = max(map(len, values))
    return np.array([row + (widest - len(row)) * row[-1:] for row in values], dtype=np.int32)


def has_values(codes: Any, table: np.ndarray) -> Any:
    """Returns True [...] where every position of a code [..., d] has one of its values in a table [d, k]."""
    return functools.reduce(operator.or_, (codes == column for column in table.T)).all(axis=-1)


@dataclasses.dataclass(frozen=True)
class CodeSet:
    """A finite set of codes: integers at d positions, each with its own legal values.

    Every combination of the values is legal, unless a subclass forbids some. An instance is frozen, hashable and holds
    no arrays, so jitted functions may close over it or take it as an argument like any constant. The public methods
    check their arguments and compile; they are pure and accept any leading dimensions. Subclasses override the hooks,
    whose names begin with an underscore and whose arguments are already checked.

    Attributes:
      name: name in the registry ("nas-bench-mr").
      values: for each position, its legal integers in ascending order.
      position_names: for each position, what it means, for error texts and reports.
      example: a legal architecture string, for error texts.
    """

    name: str
    values: tuple[tuple[int, ...], ...] = dataclasses.field(repr=False)
    position_names: tuple[str, ...] = dataclasses.field(repr=False)
    example: str = dataclasses.field(repr=False)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        jax.tree_util.register_static(cls)  # a space may also be an ordinary argument of a jitted function

    @property
    def length(self) -> int:
        """Number of integers in a code, d."""
        return len(self.values)

    @property
    def size(self) -> int:
        """Number of legal codes, an exact Python integer."""
        return math.prod(map(len, self.values))

    @property
    def is_product(self) -> bool:
        """Whether every combination of the positions' values is legal."""
        return self.size == math.prod(map(len, self.values))

    def sample(self, key: Key, n: int, first: int = 0) -> Int[Array, "n d"]:
        """Draws codes uniformly from the legal codes.

        Args:
          key: a PRNG key; consumed. Row ``i`` is drawn from ``fold_in(key, first + i)``: a larger ``n`` only appends.
          n: number of codes.
          first: number of the first code, for drawing a long list of codes in portions.

        Returns:
          int32 [n, d]; rows may repeat.
        """
        if n < 0:
            raise checks.UsageError(expected="n >= 0 codes to sample", got=str(n), remedy="give another n")
        return _run(self, "_sample", key, row_numbers(first, n))[:n]

    def is_valid(self, codes: Int[Array, "*batch d"]) -> Bool[Array, "*batch"]:
        """Returns True where a code is legal."""
        return _run(self, "_is_valid", self._codes(codes))

    def mutate(self, key: Key, codes: Int[Array, "*batch d"]) -> Int[Array, "*batch d"]:
        """Changes one position of each code to another value, so that the result is legal.

        Args:
          key: a PRNG key; consumed. The i-th code (rows counted through all leading dimensions) uses
            ``fold_in(key, i)``.
          codes: legal codes.

        Returns:
          Codes that differ from ``codes`` in exactly one position: the position is drawn uniformly, then its value
          (where combinations are forbidden: uniformly from the legal neighbours).
        """
        codes = self._codes(codes)
        rows = codes.reshape(-1, self.length)
        return _run(self, "_mutate", key, np.arange(len(rows), dtype=np.uint32), rows).reshape(codes.shape)

    def neighbours(self, codes: Int[Array, "*batch d"]) -> tuple[Int[Array, "*batch k d"], Bool[Array, "*batch k"]]:
        """Returns every code at one edit, that is with one position changed.

        Returns:
          ``(codes, valid)``: ``k`` candidates (the same number for every code of a space, ordered by position, then
          by value) and True where a candidate is legal. Candidates are distinct.
        """
        return _run(self, "_neighbours", self._codes(codes))

    @property
    def same_networks(self) -> tuple[str, ...]:
        """Names of the rules by which two codes of this space may be the same network, the default first."""
        return (ISOMORPHISM,)

    def check_same_network(self, rule: str) -> str:
        """Returns the name of a rule, one of ``same_networks``; UsageError with the nearest names for another."""
        return checks.choose(f"rule for the same network in {self.name}", rule, self.same_networks)

    def canonical(self, codes: Int[Array, "*batch d"], same_network: str = ISOMORPHISM) -> Int[Array, "*batch d"]:
        """Returns one representative for all codes of the same network.

        Where no two codes denote the same network, this is the code itself.

        Args:
          codes: legal codes.
          same_network: rule for the same network, one of ``same_networks``.

        Raises:
          UsageError: an unknown rule.
        """
        rule = self.check_same_network(same_network)
        hook = "_canonical" if rule == ISOMORPHISM else f"_canonical_by_{rule}"
        return _run(self, hook, self._codes(codes))

    def networks(self, codes: Int[Array, "n d"], same_network: str = ISOMORPHISM) -> Int[np.ndarray, " n"]:
        """Numbers the networks that codes denote, in order of first appearance (host-side).

        Args:
          codes: legal codes.
          same_network: rule for the same network, one of ``same_networks``.

        Returns:
          int32 [n]; two codes have the same number where their ``canonical`` codes are equal.
        """
        canonical: np.ndarray = np.asarray(self.canonical(codes, same_network))
        _, first, which = np.unique(canonical, axis=0, return_index=True, return_inverse=True)
        number = np.empty(len(first), np.int32)
        number[np.argsort(first)] = np.arange(len(first), dtype=np.int32)
        return number[which.ravel()]

    def index(self, codes: Int[Array, "*batch d"]) -> Any:
        """Returns the place of codes in the lexicographic order of all legal codes.

        Returns:
          int32 [...], -1 for an illegal code, where ``size < 2**31``. In larger spaces the host computes it: a Python
          integer for one code, an object array of them for a batch (not jittable; illegal codes raise UsageError).
        """
        if self.size < DEVICE_INDEX:
            return _run(self, "_index", self._codes(codes))
        flat = self._index_host(self.check(codes))
        return int(flat[0]) if np.ndim(codes) == 1 else flat.reshape(np.shape(codes)[:-1])

    def from_index(self, index: Any) -> Any:
        """Returns the codes at given places; the inverse of ``index``.

        Args:
          index: integers in 0..size-1, of any shape. Checked; device arrays (``size < 2**31``) are clipped.

        Returns:
          int32 [..., d]; a NumPy array where ``size >= 2**31``.
        """
        on_device = isinstance(index, jax.Array) and self.size < DEVICE_INDEX
        if not on_device:
            index = np.asarray(index, dtype=object)
            for i in index.ravel():
                if not (isinstance(i, int | np.integer) and 0 <= i < self.size):
                    raise checks.UsageError(
                        expected=f"an index of {self.name}, an integer in 0..{self.size - 1}",
                        got=str(i),
                        remedy="index() returns legal ones",
                    )
        if self.size < DEVICE_INDEX:
            return _run(self, "_from_index", jnp.clip(jnp.asarray(index.astype(np.int32)), 0, self.size - 1))
        return self._from_index_host(index)

    def all_codes(self) -> np.ndarray:
        """Returns every legal code in the order of ``index``, int32 [size, d].

        Raises:
          UsageError: the space has more than 2**20 codes.
        """
        if self.size > ENUMERABLE:
            limit = f"a space of at most {ENUMERABLE} codes"
            raise checks.UsageError(expected=limit, got=f"{self.name} with {self.size}", remedy="use sample() instead")
        return np.asarray(self.from_index(np.arange(self.size)))

    def check(self, codes: Any, where: str = "code") -> np.ndarray:
        """Checks codes that come from outside (host-side).

        Args:
          codes: one code or rows of them, anything that NumPy converts to an array.
          where: what the codes are, for the error text ("row", "--start").

        Returns:
          int32 [n, d] (a single code becomes one row).

        Raises:
          UsageError: wrong length, not integers, or an illegal value; names row, position, value and legal values.
        """
        shape = f"{where} of {self.name} to be {self.length} integers, or rows of {self.length}"
        try:
            raw = np.asarray(codes)
            raw = raw.astype(np.int64 if raw.dtype.kind in "iu" else np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise checks.UsageError(
                expected=shape, got=f"something else ({error})", remedy=f"for example {self.example}"
            ) from error
        raw = raw[None] if raw.ndim == 1 else raw.reshape(-1, raw.shape[-1]) if raw.ndim > 2 else raw
        if raw.ndim != 2 or raw.shape[-1] != self.length:
            raise checks.UsageError(
                expected=shape, got=f"shape {np.shape(codes)}", remedy=f"see {self.name}.position_names"
            )
        # Values beyond 1e9 are illegal in every space: clipping keeps the cast defined, NaN becomes illegal as well.
        rows = np.nan_to_num(np.clip(raw, -(10**9), 10**9), nan=-1e9).astype(np.int32)
        good = self._is_valid(rows) & (rows == raw).all(axis=-1)
        if not good.all():
            row = int(np.argmin(good))
            expected, got = self._fault(raw[row])
            raise checks.UsageError(
                expected=f"in {where} {row}, {expected}", got=got, remedy=f"a right one: {self.example}"
            )
        return rows

    # The hooks get int32 codes [..., d] (traced or NumPy), already checked. These serve every product space.

    def _sample(self, key: Key, ids: Array) -> Array:
        return self._at(np.arange(self.length), draw(key, ids, self._counts))

    def _is_valid(self, codes: Any) -> Any:
        return has_values(codes, self._table)

    def _mutate(self, key: Key, ids: Array, codes: Array) -> Array:
        movable = np.flatnonzero(self._counts > 1)
        # One draw gives the position, and for every position the value that it would take.
        drawn = draw(key, ids, np.append(np.maximum(self._counts - 1, 1), len(movable)))
        others, place = drawn[:, :-1], jnp.asarray(movable)[drawn[:, -1]]
        values = self._at(np.arange(self.length), others + (others >= self._digits(codes)))
        return jnp.where(np.arange(self.length) == place[:, None], values, codes)

    def _neighbours(self, codes: Array) -> tuple[Array, Array]:
        places = np.repeat(np.arange(self.length), self._counts - 1)
        others = np.concatenate([np.arange(count - 1) for count in self._counts])
        digits = others + (others >= self._digits(codes)[..., places])
        here = np.arange(self.length) == places[:, None]
        edited = jnp.where(here, self._at(places, digits)[..., None], codes[..., None, :])
        return edited, self._is_valid(edited)

    def _canonical(self, codes: Array) -> Array:
        return codes

    def _index(self, codes: Array) -> Array:
        place = (self._digits(codes) * np.array(self._weights, np.int32)).sum(axis=-1, dtype=np.int32)
        return jnp.where(self._is_valid(codes), place, -1)

    def _from_index(self, index: Array) -> Array:
        digits = (index[..., None] // np.array(self._weights, np.int32)) % self._counts
        return self._at(np.arange(self.length), digits)

    def _index_host(self, rows: np.ndarray) -> np.ndarray:
        """Returns the places of legal codes [n, d] in a space of 2**31 codes or more, Python integers [n]."""
        digits = self._digits(rows).astype(object)
        return (digits * np.array(self._weights, dtype=object)).sum(axis=-1)

    def _from_index_host(self, index: np.ndarray) -> np.ndarray:
        """Returns the codes [..., d] at places [...] that are Python integers."""
        digits = (index[..., None] // np.array(self._weights, dtype=object)) % np.array(self._counts, dtype=object)
        return self._table[np.arange(self.length), digits.astype(np.int32)]

    def _fault(self, code: np.ndarray) -> tuple[str, str]:
        """Returns what was expected of an illegal code and what was found, naming the position."""
        place = int(np.argmin((code[:, None] == self._table).any(axis=-1)))
        legal = self.values[place]
        listed = ", ".join(map(str, legal)) if len(legal) <= 6 else f"{legal[0]}, {legal[1]}, ..., {legal[-1]}"
        return f"position {place} ({self.position_names[place]}) to be one of {listed}", f"{code[place]:.10g}"

    @functools.cached_property
    def _counts(self) -> np.ndarray:
        return np.array([len(values) for values in self.values], dtype=np.int32)

    @functools.cached_property
    def _table(self) -> np.ndarray:
        return padded_values(self.values)

    @functools.cached_property
    def _weights(self) -> tuple[int, ...]:
        """What one step at each position adds to the index; the first position weighs most."""
        counts = self._counts.tolist()
        return tuple(math.prod(counts[place + 1 :]) for place in range(self.length))

    def _digits(self, codes: Any) -> Any:
        """Returns the rank of each value among the legal values of its position, int32 [..., d]."""
        return sum((codes > column).astype(np.int32) for column in self._table.T)

    def _at(self, places: Any, digits: Array) -> Array:
        return jnp.asarray(self._table)[places, digits]

    def _codes(self, codes: Any) -> Array:
        codes = jnp.asarray(codes)
        if codes.ndim == 0 or codes.shape[-1] != self.length or not jnp.issubdtype(codes.dtype, jnp.integer):
            raise checks.UsageError(
                expected=f"integer codes of {self.name} [..., {self.length}]",
                got=f"{codes.dtype} {codes.shape}",
                remedy="use check() for codes from outside",
            )
        return codes.astype(jnp.int32)
