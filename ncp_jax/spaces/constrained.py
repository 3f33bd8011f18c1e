"""Defines ``ConstrainedSpace``: a described space with conditional positions or forbidden combinations."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.codes import ENUMERABLE
from ncp_jax.spaces.described import DescribedSpace
from ncp_jax.spaces.description import SpaceDescription
from ncp_jax.spaces.rules import Rules, forbidden, make_rules, tried
from ncp_jax.types import Array, Int, Key

PROPOSALS = 16  # edits that ``mutate`` tries at once
TRIES = 32  # combinations that ``sample`` tries at once
ENTRIES = 2**24  # numbers that ``project`` and ``mutate`` hold at once
WAYPOINTS = 16  # points on the line from a relaxed code to a known legal code
ROUNDS = 64  # edits at most by which a repaired code goes nearer
FAR = 1e6  # beyond this many widths of the box, relaxed codes are equally far


@dataclasses.dataclass(frozen=True)
class ConstrainedSpace(DescribedSpace):
    """A described space whose positions may be dead, or whose values exclude each other.

    A dead position has the first of its values in the canonical form of a code. ``size``, ``sample``, ``project``,
    ``neighbours``, ``mutate`` and ``index`` know canonical codes alone; other codes of the same network are legal, and
    ``check`` returns their canonical form. An edit changes one live position; positions that it brings to life have
    the first of their values.

    Attributes:
      kept: for each position, the places of the values that it may have where it is live; () for all.
    """

    kept: tuple[tuple[int, ...], ...] = dataclasses.field(default=(), kw_only=True, repr=False)

    def __hash__(self) -> int:
        return self._hash

    @property
    def size(self) -> int:
        """Number of canonical codes, an exact Python integer; an upper bound where ``counted`` is False."""
        return self._rules.combinations.size if self._listed is None else len(self._listed[0])

    @property
    def counted(self) -> bool:
        """Whether ``size`` is exact: not where a forbidden combination ties positions of too many values together."""
        return not self._rules.wide or self._listed is not None

    def legal_draws(self) -> tuple[int, int]:
        """Returns how many of some uniform draws from the ``size`` codes are legal, and how many draws these are."""
        if self.counted:
            return self.size, self.size
        _, legal = tried(self.positions, self._rules)
        return int(legal.sum()), len(legal)

    @property
    def is_product(self) -> bool:
        """False."""
        return False

    def check(self, codes: Any, where: str = "code") -> np.ndarray:
        """Checks codes that come from outside, and returns their canonical forms; see ``Space.check``."""
        return self.settled(super().check(codes, where))

    def all_codes(self) -> np.ndarray:
        """Returns every canonical code in the order of ``index``, int32 [size, d]; see ``Space.all_codes``."""
        return super().all_codes() if self._listed is None else self._listed[0].copy()

    def index(self, codes: Any) -> Any:
        """Returns the number of codes among all: lexicographic in spaces of up to 2**20 codes; see ``Space.index``."""
        self._refuse_uncounted()
        return super().index(codes)

    def from_index(self, index: Any) -> Any:
        """Returns the codes at given places; see ``Space.from_index``."""
        self._refuse_uncounted()
        return super().from_index(index)

    def live(self, codes: Any) -> Any:
        """Returns True where a position counts, [..., d], for legal codes."""
        return self._states(codes) < self._valued

    # Hooks

    def _restricted(self, values: tuple[tuple[int, ...], ...]) -> ConstrainedSpace:
        kept = tuple(
            tuple(all_values.index(value) for value in some)
            for all_values, some in zip(self.values, values, strict=True)
        )
        return dataclasses.replace(self, kept=kept)

    def values_left(self) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
        """Returns for each position the values that live ones have in some code, and those that codes hold."""
        live, held = [], []
        for values, states in zip(self.values, self._rules.combinations.states_left(), strict=True):
            some = tuple(value for value, left in zip(values, states, strict=False) if left)
            dead = len(states) > len(values) and states[-1]
            live.append(some or values[:1])
            held.append(tuple(sorted({*some, *(values[:1] if dead else ())})))
        return tuple(live), tuple(held)

    def _sample(self, key: Key, ids: Array) -> Array:
        combinations = self._rules.combinations
        if not self._rules.wide:
            states = combinations.drawn(draw_bits(key, ids, self.length))
            return self._codes_of(states)
        bits = draw_bits(key, ids, TRIES * self.length).reshape(len(ids), TRIES, self.length)
        states = combinations.drawn(bits)
        allowed = self._allowed(states)
        first = jnp.take_along_axis(states, allowed.argmax(axis=-1)[:, None, None], axis=1)[:, 0]
        codes = self._codes_of(first)
        return self._repaired(self._encode(codes), codes, allowed.any(axis=-1))

    def _is_valid(self, codes: Any) -> Any:
        return super()._is_valid(codes) & self._allowed(self._states(codes))

    def _canonical(self, codes: Array) -> Array:
        return self._codes_of(self._states(codes))

    def settled(self, codes: Int[np.ndarray, "*batch d"]) -> Int[np.ndarray, "*batch d"]:
        """Returns the canonical forms of codes with legal values, NumPy arrays; see ``Space.settled``."""
        digits = np.where(self._states(codes) < self._valued, self._digits(codes), 0)
        return self._table[np.arange(self.length), digits]

    def _neighbours(self, codes: Array) -> tuple[Array, Array]:
        codes = self._canonical(codes)
        edited, legal = super()._neighbours(codes)
        places = np.repeat(np.arange(self.length), self._counts - 1)
        states = self._states(edited)
        good = legal & self.live(codes)[..., places]
        return jnp.where(good[..., None], self._codes_of(states), edited), good

    def _mutate(self, key: Key, ids: Array, codes: Array) -> Array:
        """Draws a position and a value until the edit is legal; a code without a legal edit stays as it is."""
        codes = self._canonical(codes)
        bits = draw_bits(key, ids, 2 * PROPOSALS + 1)
        places = (bits[:, :PROPOSALS] % np.uint32(self.length)).astype(jnp.int32)
        counts = jnp.asarray(self._counts)[places]
        others = (bits[:, PROPOSALS:-1] % (counts - 1).astype(np.uint32)).astype(jnp.int32)
        digits = jnp.take_along_axis(self._digits(codes), places, axis=-1)
        values = self._at(places, others + (others >= digits))
        edited = jnp.where(np.arange(self.length) == places[..., None], values[..., None], codes[:, None])
        states = self._states(edited)
        good = self._allowed(states) & jnp.take_along_axis(self.live(codes), places, axis=-1)
        first = jnp.take_along_axis(states, good.argmax(axis=-1)[:, None, None], axis=1)[:, 0]
        none = ~good.any(axis=-1)
        changed = jnp.where(none[:, None], codes, self._codes_of(first))

        def one(row: tuple[Array, Array, Array]) -> Array:
            code, number, stuck = row
            candidates, valid = self._neighbours(code)
            rank = (number % jnp.maximum(valid.sum(), 1).astype(jnp.uint32)).astype(jnp.int32)
            chosen = candidates[(valid.cumsum() > rank).argmax()]
            return jnp.where(stuck & valid.any(), chosen, code)

        def listed() -> Array:
            step = max(1, ENTRIES // (int((self._counts - 1).sum()) * self.length))
            return jax.lax.map(one, (changed, bits[:, -1], none), batch_size=step)

        return jax.lax.cond(none.any(), listed, lambda: changed)

    def _index(self, codes: Array) -> Array:
        rank = self._rules.combinations.rank(self._states(codes), jnp, np.int32)
        valid = self._is_valid(codes)
        if self._listed is not None:
            rank = jnp.asarray(self._listed[1])[jnp.where(valid, rank, 0)]
        return jnp.where(valid, rank, -1)

    def _from_index(self, index: Array) -> Array:
        rank = index if self._listed is None else jnp.asarray(self._listed[2])[index]
        return self._codes_of(self._rules.combinations.unrank(rank, jnp, np.int32))

    def _index_host(self, rows: np.ndarray) -> np.ndarray:
        return self._rules.combinations.rank(self._states(rows), np, object)

    def _from_index_host(self, index: np.ndarray) -> np.ndarray:
        states = self._rules.combinations.unrank(index.reshape(-1), np, object)
        codes = self._table[np.arange(self.length), np.where(states < self._valued, states, 0)]
        return codes.reshape(*index.shape, self.length)

    def _project(self, relaxed: Array) -> Array:
        rows = relaxed.reshape(-1, self.features)
        entries = sum(step.allowed.size for step in self._rules.combinations.steps) + self._table.size
        step = max(1, ENTRIES // max(entries, 1))
        if len(rows) <= step:
            return self._nearest(rows).reshape(*relaxed.shape[:-1], self.length)
        # ``batch_size`` maps portions of the rows: a row alone is a batch of one.
        found = jax.lax.map(lambda row: self._nearest(row[None])[0], rows, batch_size=step)
        return found.reshape(*relaxed.shape[:-1], self.length)

    def _nearest(self, relaxed: Array) -> Array:
        """Returns the nearest codes of relaxed codes [n, f]: exact but for wide rules, whose codes are repaired."""
        states = self._rules.combinations.nearest(self._costs(relaxed), self._nearest_digits(relaxed))
        return self._repaired(relaxed, self._codes_of(states), self._allowed(states))

    def _costs(self, relaxed: Array) -> Array:
        """Returns how much farther than the nearest value each state of each position is, [n, d, most states].

        Differences of squared distances, with each number divided by the width of the box. A dead position is as far
        as the value that it has in the canonical form.
        """
        ordered = np.array([position.ordered for position in self.positions])
        scale = 1 / (self.upper - self.lower)[self._starts]
        grid = (self._table - self.lower[self._starts][:, None]) * scale[:, None]
        at = jnp.clip(jnp.nan_to_num((relaxed[:, self._starts] - self.lower[self._starts]) * scale), -FAR, FAR)
        nearest = jnp.asarray(grid)[np.arange(self.length), self._nearest_digits(relaxed)][..., None]
        number = (grid - nearest) * (grid + nearest - 2 * at[..., None])
        # Features of blocks narrower than the widest row are repeated, which does not change what is nearest.
        last = np.where(ordered, 0, self._counts - 1)[:, None]
        features = (self._starts[:, None] + np.minimum(np.arange(self._table.shape[1]), last)).astype(np.int32)
        shares = jnp.clip(jnp.nan_to_num(relaxed[:, features]), -FAR, FAR)
        choice = 2 * (shares.max(axis=-1, keepdims=True) - shares)
        cost = jnp.maximum(jnp.where(ordered[:, None], number, choice), 0)
        states = np.arange(max(self._rules.sizes))
        return cost[:, np.arange(self.length)[:, None], np.where(states < self._valued[:, None], states, 0)]

    def _repaired(self, relaxed: Array, codes: Array, good: Array) -> Array:
        """Returns legal codes near those that wide rules forbid: the nearest of some.

        These are the codes on the ways to some known legal codes, and the edits of the code. More edits then go nearer,
        one by one, until none does.
        """
        if not self._rules.wide:
            return codes
        anchors = self._codes_of(jnp.asarray(self._rules.anchors))
        edits = int((self._counts - 1).sum())

        def one(row: tuple[Array, Array, Array]) -> Array:
            point, code, legal = row
            costs = self._costs(point[None])[0]

            def distance(candidates: Array) -> Array:
                return costs[np.arange(self.length), self._digits(candidates)].sum(axis=-1)

            def nearest(candidates: Array, allowed: Array) -> Array:
                return candidates[jnp.where(allowed, distance(candidates), jnp.inf).argmin()]

            # Straight lines, and the positions one by one, those first that lose least.
            shares = np.arange(1, WAYPOINTS + 1, dtype=np.float32)[:, None, None] / WAYPOINTS
            lines = self._nearest_digits((point + shares * (self._encode(anchors) - point)).reshape(-1, self.features))
            losses = costs[np.arange(self.length), self._digits(anchors)]
            order = jnp.argsort(jnp.argsort(losses, axis=-1), axis=-1)
            taken = order[:, None] < np.arange(self.length + 1)[:, None]
            one_by_one = jnp.where(taken, anchors[:, None], code).reshape(-1, self.length)
            ways = self._canonical(jnp.concatenate([self._at(np.arange(self.length), lines), one_by_one]))
            start = nearest(ways, self._is_valid(ways))

            def nearer(state: tuple[Any, Array, Array]) -> tuple[Any, Array, Array]:
                number, found, _ = state
                near, allowed = self._neighbours(jnp.where(number == 0, code, found))
                options = jnp.concatenate([found[None], near])
                return number + 1, nearest(options, jnp.concatenate([jnp.ones(1, bool), allowed])), found

            def moving(state: tuple[Any, Array, Array]) -> Array:
                number, found, before = state
                return (number < 2) | ((number < ROUNDS) & (found != before).any())

            _, found, _ = jax.lax.while_loop(moving, nearer, (0, start, start))
            return jnp.where(legal, code, found)

        def repaired() -> Array:
            step = max(1, ENTRIES // ((edits + len(anchors) * (self.length + WAYPOINTS)) * self.length))
            return jax.lax.map(one, (relaxed, codes, good), batch_size=step)

        return jax.lax.cond(good.all(), lambda: codes, repaired)

    def _fault(self, code: np.ndarray) -> tuple[str, str]:
        whole = np.nan_to_num(np.clip(code, -(10**9), 10**9), nan=-1e9).astype(np.int32)
        if not (DescribedSpace._is_valid(self, whole) and (whole == code).all()):
            return super()._fault(code)
        states = self._states(whole)
        listed = [(t, ~c.table[tuple(states[place] for place in c.scope)]) for t, c in self._rules.tables]
        listed += [(t, np.any(forbidden(node, self.positions, states[None]))) for t, node in self._rules.wide]
        text = next((text for text, wrong in listed if wrong), "a bound")
        return f"no combination that {checks.shorten(text)!r} forbids", self._format(whole.tolist())

    # States: the places of values, and the number of values for a dead position

    def _states(self, codes: Any) -> Any:
        """Returns the states of codes [..., d] with legal values, NumPy for NumPy."""
        states = self._digits(codes)
        for places, tables in self._rules.levels:
            live = tables(states)
            if isinstance(states, np.ndarray):
                states[..., places] = np.where(live, states[..., places], self._valued[places])
            else:
                states = states.at[..., places].set(jnp.where(live, states[..., places], self._valued[places]))
        return states

    def _codes_of(self, states: Array) -> Array:
        return self._at(np.arange(self.length), jnp.where(states < self._valued, states, 0))

    def _allowed(self, states: Any) -> Any:
        """Returns True where no rule forbids states [..., d], NumPy for NumPy."""
        xp: Any = np if isinstance(states, np.ndarray) else jnp
        allowed = self._rules.forbids(states).all(axis=-1)
        for _, node in self._rules.wide:
            allowed &= ~forbidden(node, self.positions, states)
        if self.kept:
            kept = np.zeros((self.length, max(self._rules.sizes)), bool)
            for place, some in enumerate(self.kept):
                kept[place, [*some, *range(self._valued[place], self._rules.sizes[place])]] = True
            allowed &= xp.asarray(kept)[np.arange(self.length), states].all(axis=-1)
        return allowed

    def _some_code(self) -> np.ndarray:
        """Returns a legal code [d], found on the host."""
        if self._rules.wide:
            states = self._rules.anchors[0]
            return self._table[np.arange(self.length), np.where(states < self._valued, states, 0)]
        return self._from_index_host(np.array([self._rules.combinations.size // 2], dtype=object))[0]

    def _refuse_uncounted(self) -> None:
        if not self.counted:
            raise checks.UsageError(
                expected="a space whose codes can be counted",
                got=f"{self.name}, whose forbidden combinations name too many positions at once",
                remedy="use sample()",
            )

    @functools.cached_property
    def _hash(self) -> int:
        return hash((self.name, self.description, self.kept))

    @functools.cached_property
    def _rules(self) -> Rules:
        return make_rules(self.description, self.kept)

    @functools.cached_property
    def _valued(self) -> np.ndarray:
        """Number of values of each position, which is its dead state where it is conditional, int32 [d]."""
        return self._counts

    @functools.cached_property
    def _listed(self) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
        """All codes in lexicographic order, the place of each rank (-1 if illegal), and the rank of each place.

        None in spaces of more than 2**20 combinations.
        """
        combinations = self._rules.combinations
        if combinations.size > ENUMERABLE:
            return None
        states = combinations.unrank(np.arange(combinations.size), np, np.int64)
        ranks = np.flatnonzero(self._allowed(np.asarray(states, np.int32)))
        codes = self._table[np.arange(self.length), np.where(states < self._valued, states, 0)][ranks]
        order = np.lexsort(codes.T[::-1])
        places = np.full(combinations.size, -1, np.int32)
        places[ranks[order]] = np.arange(len(order), dtype=np.int32)
        return codes[order], places, ranks[order].astype(np.int32)


def draw_bits(key: Key, ids: Array, count: int) -> Array:
    """Returns random bits for numbered rows, uint32 [n, count]; row ``i`` depends on ``fold_in(key, i)`` alone."""
    return jax.vmap(lambda i: jax.random.bits(jax.random.fold_in(key, i), (count,), jnp.uint32))(ids)


def make_space(description: SpaceDescription) -> DescribedSpace:
    """Returns the space of a description, without registering it.

    Raises:
      UsageError: conditions or forbidden combinations that are no expressions, or that leave nothing.
    """
    positions = description.positions
    fields: dict[str, Any] = {
        "name": description.name,
        "values": tuple(position.codes for position in positions),
        "position_names": tuple(position.name for position in positions),
        "description": description,
    }
    if not description.forbid and not any(position.only_if for position in positions):
        middle = [values[(len(values) - 1) // 2] for values in fields["values"]]
        return DescribedSpace(**fields, example=DescribedSpace(**fields, example="")._format(middle))
    space = ConstrainedSpace(**fields, example="")
    return dataclasses.replace(space, example=space._format(space._some_code().tolist()))
