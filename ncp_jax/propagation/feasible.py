"""Enforces limits on metrics and costs: starts codes within them, steers and pulls them there, and checks results."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.propagation.constraint import Constraint, resolve
from ncp_jax.propagation.found import Found, first_of_each, in_batches
from ncp_jax.propagation.gradients import Invertible
from ncp_jax.propagation.limit import Limit, LimitStatus
from ncp_jax.propagation.polish import polish
from ncp_jax.spaces import Bounds, CostModel
from ncp_jax.types import Array, Bool, Float, Int, Key

LOWER = 2**32 - 1  # the order of edits comes from fold_in(key, LOWER), which never meets the numbers of codes
TRIED = 4096  # codes among which the best is sought where a limit is predicted and the space is too large to list
LISTED = 2**20  # codes of a space that are all looked at, where limits are exact
NEAREST = 8  # best of these codes that are improved by edits where none of them satisfies the limits


@dataclasses.dataclass(frozen=True, eq=False)
class Feasible:
    """The legal codes within some bounds that satisfy some limits.

    Attributes:
      constraints: the limits, with where their values come from.
      bounds: bounds of the legal codes.
      predictor: predicts the metrics whose limits are not exact.
      model: cost model of the space, or None if its costs are unknown.
      anchor: ``[f]`` relaxed code from which the limits are reached: the one of the lowest cost within the bounds, or
        with several limits one that satisfies all, if there is one.
      rows: rows of one device call, which do not depend on the limits; ``found.batch_rows()`` if None.
    """

    constraints: tuple[Constraint, ...]
    bounds: Bounds
    predictor: Invertible
    model: CostModel | None
    anchor: Float[np.ndarray, " f"]
    rows: int | None = None

    @classmethod
    def make(cls, bounds: Bounds, predictor: Invertible, limits: Sequence[Limit], model: CostModel | None) -> Feasible:
        """Returns the codes within ``bounds`` that satisfy ``limits``.

        Raises:
          UsageError: a limit names no metric and no cost, is not a positive number where it is on a cost, or no code
            satisfies limits and bounds.
        """
        constraints = tuple(resolve(limit, bounds, predictor, model) for limit in limits)
        feasible = cls(constraints, bounds, predictor, model, np.asarray(bounds.lower))
        feasible = dataclasses.replace(feasible, anchor=feasible._find_anchor())
        if feasible.exact and not feasible.fits(feasible.anchor_code[None])[0]:
            raise feasible._nothing(feasible.values_of(feasible.anchor_code[None])[0])
        return feasible

    @classmethod
    def of_costs(cls, bounds: Bounds, limits: Sequence[Limit], model: CostModel) -> Feasible:
        """Returns the codes within ``bounds`` that satisfy limits on known costs; needs no predictor.

        Raises:
          UsageError: as ``make``.
        """
        nobody: Any = _Unpredicted()
        return cls.make(bounds, nobody, limits, model)

    @property
    def exact(self) -> bool:
        """Whether all limits are on known costs."""
        return all(constraint.cost for constraint in self.constraints)

    @property
    def _listed(self) -> bool:
        """Whether all codes of the space are looked at."""
        return self.bounds.space.size <= (LISTED if self.exact else TRIED)

    @property
    def statuses(self) -> tuple[LimitStatus, ...]:
        """What the limits mean, for results."""
        return tuple(constraint.status for constraint in self.constraints)

    def standard_limits(self, *, upper: bool) -> dict[str, float]:
        """Returns the limits on predicted metrics in standard units, by metric; the tightest of several."""
        ends: dict[str, float] = {}
        for constraint in self.constraints:
            if constraint.limit.upper is upper and constraint.steer is not None:
                name, value = constraint.steer
                ends[name] = value if name not in ends else (min if upper else max)(ends[name], value)
        return ends

    def unpredicted(self) -> tuple[str, ...]:
        """Returns the costs with a limit that the predictor has no metric for."""
        return tuple(dict.fromkeys(c.cost for c in self.constraints if c.cost is not None and c.steer is None))

    def unpredicted_limits(self, scales: Mapping[str, tuple[float, float]], *, upper: bool) -> dict[str, float]:
        """Returns the limits on these costs in standard units of mean and deviation, by cost; the tightest of several.

        Args:
          scales: mean and standard deviation of each cost, in the cost model's unit.
          upper: whether limits from above are asked for.
        """
        ends: dict[str, float] = {}
        for c in self.constraints:
            if c.cost is not None and c.steer is None and c.limit.upper is upper:
                mean, deviation = scales[c.cost]
                value = (c.threshold - mean) / deviation
                ends[c.cost] = value if c.cost not in ends else (min if upper else max)(ends[c.cost], value)
        return ends

    @functools.cached_property
    def anchor_code(self) -> Int[np.ndarray, " d"]:
        """The legal code of ``anchor``."""
        return np.asarray(self.bounds.project(jnp.asarray(self.anchor)))

    def values_of(self, codes: Int[np.ndarray, "n d"], rows: int | None = None) -> Float[np.ndarray, "n l"]:
        """Returns what the l limits apply to: exact costs, or else predictions in batches of ``rows`` codes."""
        costs = self.model.in_units(codes) if self.model is not None else {}
        if self.exact:
            return np.stack([c.value(costs, None, None) for c in self.constraints], axis=1)
        encode = self.bounds.space.encode
        mean, spread = in_batches(lambda some: self.predictor(encode(jnp.asarray(some))), codes, rows or self.rows)
        return np.stack([c.value(costs, mean, spread) for c in self.constraints], axis=1)

    def keeps(self, values: Float[np.ndarray, "n l"]) -> Bool[np.ndarray, " n"]:
        """Returns True for each row of values that satisfies all limits."""
        kept = [c.keeps(column) for c, column in zip(self.constraints, values.T, strict=True)]
        return np.logical_and.reduce(kept)

    def fits(self, codes: Int[np.ndarray, "n d"], rows: int | None = None) -> Bool[np.ndarray, " n"]:
        """Returns True for each legal code that satisfies all limits."""
        return self.keeps(self.values_of(codes, rows))

    def project(self, relaxed: Float[np.ndarray, "n f"]) -> Int[np.ndarray, "n d"]:
        """Returns the nearest legal codes, in batches of one shape: JAX would compile for each number of codes."""
        return in_batches(lambda rows: self.bounds.project(jnp.asarray(rows)), relaxed, self.rows)[0]

    def lower(self, codes: Int[np.ndarray, "n d"], key: Key | None, first: int) -> Int[np.ndarray, "n d"]:
        """Returns the codes with as many positions set to the anchor's as the limits ask for.

        The positions are taken in a random order, another one for each code, so that codes near a tight limit differ
        from each other. A code within the limit stays as it is, and so does every code if not even the anchor fits.

        Args:
          codes: legal codes within the bounds.
          key: PRNG key; None for key 0. The order of row ``i`` comes from ``fold_in(fold_in(key, LOWER), first + i)``.
          first: number of the first code.
        """
        over = np.flatnonzero(~self.fits(codes))
        if len(over) == 0 or not self.fits(self.anchor_code[None])[0]:
            return codes
        ids = np.arange(first, first + len(codes), dtype=np.uint32)
        order = np.asarray(_orders(_own(key), ids, codes.shape[1]))[over]
        # Bisect the number of positions that are set: with ``few`` the code is over the limit, with ``many`` it fits.
        few, many = np.zeros(len(over), int), np.full(len(over), codes.shape[1])
        for _ in range(codes.shape[1].bit_length()):
            middle = (few + many) // 2
            ok = self._fit_if_legal(self._partly(codes[over], order, middle))
            few, many = np.where(ok, few, middle), np.where(ok, middle, many)
        lowered = codes.copy()
        lowered[over] = self._partly(codes[over], order, many)
        return lowered

    def _partly(
        self, codes: Int[np.ndarray, "n d"], order: Int[np.ndarray, "n d"], count: Int[np.ndarray, " n"]
    ) -> Int[np.ndarray, "n d"]:
        return self.bounds.space.settled(np.where(order < count[:, None], self.anchor_code, codes))

    def _fit_if_legal(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        (legal,) = in_batches(lambda rows: self.bounds.contains(jnp.asarray(rows)), codes, self.rows)
        return legal & self.fits(np.where(legal[:, None], codes, self.anchor_code))

    def pull_back(
        self, relaxed: Float[np.ndarray, "n f"], towards: Float[np.ndarray, "n f"] | None = None
    ) -> Float[np.ndarray, "n f"]:
        """Moves each code over the limit along a straight line until it fits.

        If every position adds a cost of its own, the cost of the projected code falls along the line to the cheapest
        code, and bisection finds the last code that fits. Otherwise it finds some code that fits.

        Args:
          relaxed: relaxed codes.
          towards: other ends of the lines, relaxed codes that fit; the anchor if None.
        """
        ends = np.broadcast_to(self.anchor, relaxed.shape) if towards is None else towards

        def fits(candidates: np.ndarray) -> np.ndarray:
            return self.fits(self.project(candidates))

        over = np.flatnonzero(~fits(relaxed))
        over = over[fits(ends[over])] if len(over) else over
        if len(over) == 0:
            return relaxed
        # Bisect the share of the way from the end of the line: ``inside`` fits, ``outside`` does not.
        low, way = ends[over], relaxed[over] - ends[over]
        inside, outside = np.zeros((len(over), 1), np.float32), np.ones((len(over), 1), np.float32)
        for _ in range(12):
            middle = (inside + outside) / 2
            ok = fits(low + middle * way)[:, None]
            inside, outside = np.where(ok, middle, inside), np.where(ok, outside, middle)
        pulled = relaxed.copy()
        pulled[over] = low + inside * way
        return pulled

    def bring_within(
        self,
        moved: Float[np.ndarray, "n f"],
        drawn: Int[np.ndarray, "n d"],
        lowered: Int[np.ndarray, "n d"],
        towards: Float[np.ndarray, "n f"],
    ) -> tuple[Int[np.ndarray, "n d"], Int[np.ndarray, "k d"]]:
        """Projects moved codes to legal codes within the limit.

        Args:
          moved: relaxed codes.
          drawn: their starts, as they were drawn or given.
          lowered: the same within the limit (see ``lower``).
          towards: relaxed form of ``lowered``.

        Returns:
          The end of each code, pulled towards the anchor where it was over the limit. And others, of the codes
          that were over it at their start or in the end: the lowered start, and the end pulled towards it.
        """
        ends = self.project(moved)
        over = ~self.fits(ends)
        other = over | (lowered != drawn).any(axis=1)
        others = [lowered[other]]
        if over.any():
            ends = ends.copy()
            ends[over] = self.project(self.pull_back(moved[over]))
            others.append(self.project(self.pull_back(moved[over], towards[over])))
        return ends, np.concatenate(others)

    def draw(self, key: Key | None, n: int) -> Int[np.ndarray, "k d"]:
        """Returns the distinct ones of n random codes within the limit."""
        own = _own(key)
        codes = self.lower(np.asarray(self.bounds.sample(own, n)), own, 0)
        codes = codes[first_of_each(codes)]
        return codes[self.fits(codes)]

    def within(self, found: Found) -> Bool[np.ndarray, " k"]:
        """Returns True for each architecture found that satisfies all limits."""
        return self.keeps(self._values(found))

    def least(self, found: Found) -> float:
        """Returns how near the architectures found come to the limits; lower is nearer (see ``none_within``)."""
        return float(self._excess(self._values(found)).min())

    def none_within(self, least: float) -> checks.UsageError:
        """Returns the error for a search that found nothing within the limits, ``least`` being the nearest."""
        if len(self.constraints) == 1:
            (only,) = self.constraints
            return only.none_found(least if only.limit.upper else -least)
        return checks.UsageError(
            expected=f"architectures with {' and '.join(str(c.limit) for c in self.constraints)}",
            got="none that satisfies all of them",
            remedy="loosen one of the limits",
        )

    def _nothing(self, nearest: Float[np.ndarray, " l"]) -> checks.UsageError:
        """Returns the error for exact limits that nothing satisfies."""
        if len(self.constraints) == 1:
            return self.constraints[0].beyond(float(nearest[0]), "space" if self.bounds.all else "bounds", self.model)
        has = ", ".join(c.shown(value) for c, value in zip(self.constraints, nearest, strict=True))
        asked = " and ".join(str(c.limit) for c in self.constraints)
        return checks.UsageError(
            expected=f"limits that an architecture satisfies, not {asked}",
            got=f"none{'' if self._listed else ' found'} (the nearest has {has})",
            remedy="loosen one of the limits",
        )

    def _values(self, found: Found) -> Float[np.ndarray, "k l"]:
        return np.stack([c.value(found.costs, found.mean, found.spread) for c in self.constraints], axis=1)

    def _excess(self, values: Float[np.ndarray, "n l"]) -> Float[np.ndarray, " n"]:
        """Returns a number that falls as values come nearer to the limits: with several, the largest excess."""
        if len(self.constraints) == 1:
            return values[:, 0] if self.constraints[0].limit.upper else -values[:, 0]
        over = [c.excess(column) for c, column in zip(self.constraints, values.T, strict=True)]
        return np.maximum.reduce(over)

    def _find_anchor(self) -> Float[np.ndarray, " f"]:
        """Returns the relaxed code nearest to the limits: a corner where costs increase, else one of many."""
        bounds, space = self.bounds, self.bounds.space
        sides = {constraint.limit.upper for constraint in self.constraints}
        increasing = self.exact and self.model is not None and self.model.increasing
        if increasing and len(sides) == 1:
            return np.asarray(bounds.lower if sides == {True} else bounds.upper)
        if self._listed:
            codes = space.all_codes()
            codes = codes[np.asarray(bounds.contains(jnp.asarray(codes)))]
        else:
            corners = [bounds.lower, bounds.upper][: 2 if False in sides else 1]
            corner = [np.asarray(bounds.project(jnp.asarray(end))) for end in corners]
            codes = np.concatenate([corner, np.asarray(bounds.sample(jax.random.key(0), TRIED))])
        excess = self._excess(self.values_of(codes))
        best = codes[excess.argmin()]
        if not self._listed and len(self.constraints) > 1 and not self.fits(best[None])[0]:
            best = self._climbed(codes[np.argsort(excess, kind="stable")[:NEAREST]])
        return np.asarray(space.encode(jnp.asarray(best)))

    def _climbed(self, codes: Int[np.ndarray, "n d"]) -> Int[np.ndarray, " d"]:
        """Returns the code nearest to satisfying the limits that edits of these codes reach."""

        def inside(edited: Int[np.ndarray, "n d"]) -> np.ndarray:
            return np.asarray(self.bounds.contains(jnp.asarray(edited)))

        def nearness(edited: Int[np.ndarray, "n d"]) -> np.ndarray:
            return np.minimum(-self._excess(self.values_of(edited, len(edited))), 0.0)

        return polish(nearness, self.bounds.space, codes, rounds=100, allowed=inside).codes[0]


@dataclasses.dataclass(frozen=True)
class _Unpredicted:
    """Stands for a predictor where nothing is predicted."""

    metrics: tuple[()] = ()


def _own(key: Key | None) -> Key:
    return jax.random.fold_in(jax.random.key(0) if key is None else key, LOWER)


@functools.partial(jax.jit, static_argnums=2)
def _orders(key: Key, ids: Int[Array, " n"], length: int) -> Int[Array, "n d"]:
    """Returns a random permutation of 0..d-1 for each code."""
    return jax.vmap(lambda i: jax.random.permutation(jax.random.fold_in(key, i), length))(ids)
