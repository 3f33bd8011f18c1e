"""Enforces an upper limit on GFLOPs: starts codes below it, steers and pulls them below it, and checks results."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.propagation.found import Found, first_of_each, in_batches
from ncp_jax.propagation.gradients import Invertible
from ncp_jax.spaces import Bounds, CostModel, cost_model_for
from ncp_jax.types import Array, Bool, Float, Int, Key

LOWER = 2**32 - 1  # the order of edits comes from fold_in(key, LOWER), which never meets the numbers of codes
TRIED = 4096  # codes among which the cheapest is sought where FLOPs are predicted and the space is too large to list


@dataclasses.dataclass(frozen=True, eq=False)
class Limit:
    """An upper limit on the GFLOPs of the architectures found.

    Attributes:
      gflops: the limit, multiply-adds / 1e9.
      bounds: bounds of the legal codes.
      predictor: predicts FLOPs where ``model`` is None.
      model: cost model of the space, or None if its costs are unknown.
      unit: GFLOPs per unit of the predicted metric "flops".
      ceiling: limit on that metric in standard units, by name; empty if it is not predicted.
      cheapest: ``[f]`` relaxed code of the lowest cost within the bounds, by prediction if costs are unknown.
      rows: rows of one device call, which do not depend on the limit; ``found.batch_rows()`` if None.
    """

    gflops: float
    bounds: Bounds
    predictor: Invertible
    model: CostModel | None
    unit: float
    ceiling: dict[str, float]
    cheapest: Float[np.ndarray, " f"]
    rows: int | None = None

    @classmethod
    def make(cls, bounds: Bounds, predictor: Invertible, gflops: float) -> Limit:
        """Returns the limit for codes within ``bounds``.

        Raises:
          UsageError: the limit is not a number above zero, FLOPs are neither known nor predicted, or no code satisfies
            both limit and bounds.
        """
        checks.positive("max_gflops", gflops)
        model, unit, ceiling = cost_model_for(bounds.space, predictor.metrics), 1.0, {}
        model = model if model is not None and model.has_flops else None
        names = [m.name for m in predictor.metrics]
        if "flops" in names:
            i = names.index("flops")
            unit = 1e-3 if predictor.metrics[i].unit == "M" else 1.0
            stored, own = predictor.metrics[i].stored, gflops / unit
            most = own if stored is None else float(stored.store(np.float64(own)))
            ceiling = {"flops": float((most - predictor.scale.y_mean[i]) / predictor.scale.y_std[i])}
        if model is None and not ceiling:
            raise checks.UsageError(
                expected="a space with known FLOPs, or a metric 'flops' in the table",
                got=bounds.space.name,
                remedy="leave out the GFLOPs limit",
            )
        limit = cls(gflops, bounds, predictor, model, unit, ceiling, np.asarray(bounds.lower))
        limit = dataclasses.replace(limit, cheapest=limit._find_cheapest())
        if model is not None:
            least = float(limit.gflops_of(limit.cheapest_code[None])[0])
            if gflops < least:
                raise checks.UsageError(
                    expected=f"a GFLOPs limit >= {least:.4g}, the {'space' if bounds.all else 'bounds'}'s smallest",
                    got=f"{gflops:g}",
                    remedy="raise the limit",
                )
        return limit

    @functools.cached_property
    def cheapest_code(self) -> Int[np.ndarray, " d"]:
        """The legal code of ``cheapest``."""
        return np.asarray(self.bounds.project(jnp.asarray(self.cheapest)))

    def gflops_of(self, codes: Int[np.ndarray, "n d"], rows: int | None = None) -> Float[np.ndarray, " n"]:
        """Returns the GFLOPs of legal codes, exact or else predicted in batches of ``rows`` codes."""
        if self.model is not None:
            return self.model.in_units(codes)["flops"]
        encode = self.bounds.space.encode
        mean, _ = in_batches(lambda some: self.predictor(encode(jnp.asarray(some))), codes, rows or self.rows)
        return self._predicted(mean)

    def fits(self, codes: Int[np.ndarray, "n d"], rows: int | None = None) -> Bool[np.ndarray, " n"]:
        """Returns True for each legal code within the limit."""
        return self.gflops_of(codes, rows) <= self.gflops

    def project(self, relaxed: Float[np.ndarray, "n f"]) -> Int[np.ndarray, "n d"]:
        """Returns the nearest legal codes, in batches of one shape: JAX would compile for each number of codes."""
        return in_batches(lambda rows: self.bounds.project(jnp.asarray(rows)), relaxed, self.rows)[0]

    def lower(self, codes: Int[np.ndarray, "n d"], key: Key | None, first: int) -> Int[np.ndarray, "n d"]:
        """Returns the codes with as many positions set to the cheapest code's as the limit asks for.

        The positions are taken in a random order, another one for each code, so that codes near a tight limit differ
        from each other. A code within the limit stays as it is, and so does every code if not even the cheapest fits.

        Args:
          codes: legal codes within the bounds.
          key: PRNG key; None for key 0. The order of row ``i`` comes from ``fold_in(fold_in(key, LOWER), first + i)``.
          first: number of the first code.
        """
        over = np.flatnonzero(~self.fits(codes))
        if len(over) == 0 or not self.fits(self.cheapest_code[None])[0]:
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
        return np.where(order < count[:, None], self.cheapest_code, codes)

    def _fit_if_legal(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        (legal,) = in_batches(lambda rows: self.bounds.contains(jnp.asarray(rows)), codes, self.rows)
        return legal & self.fits(np.where(legal[:, None], codes, self.cheapest_code))

    def pull_back(
        self, relaxed: Float[np.ndarray, "n f"], towards: Float[np.ndarray, "n f"] | None = None
    ) -> Float[np.ndarray, "n f"]:
        """Moves each code over the limit along a straight line until it fits.

        If every position adds a cost of its own, the cost of the projected code falls along the line to the cheapest
        code, and bisection finds the last code that fits. Otherwise it finds some code that fits.

        Args:
          relaxed: relaxed codes.
          towards: other ends of the lines, relaxed codes that fit; the cheapest code if None.
        """
        ends = np.broadcast_to(self.cheapest, relaxed.shape) if towards is None else towards

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
          The end of each code, pulled towards the cheapest code where it was over the limit. And others, of the codes
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
        """Returns True for each architecture found that is within the limit."""
        return self._gflops(found) <= self.gflops

    def least(self, found: Found) -> float:
        """Returns the GFLOPs of the cheapest architecture found."""
        return float(self._gflops(found).min())

    def none_within(self, least: float) -> checks.UsageError:
        """Returns the error for a search that found nothing within the limit, ``least`` GFLOPs being its smallest."""
        return checks.UsageError(
            expected=f"architectures of at most {self.gflops:g} GFLOPs",
            got=f"none (the smallest found has {least:.4g})",
            remedy="raise the limit",
        )

    def _gflops(self, found: Found) -> Float[np.ndarray, " k"]:
        return found.costs["flops"] if self.model is not None else self._predicted(found.mean)

    def _predicted(self, mean: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
        return mean[:, [m.name for m in self.predictor.metrics].index("flops")] * self.unit

    def _find_cheapest(self) -> Float[np.ndarray, " f"]:
        """Returns the relaxed code of fewest FLOPs: the lower corner where costs increase, else one of many codes."""
        bounds, space = self.bounds, self.bounds.space
        if self.model is not None and self.model.increasing:
            return np.asarray(bounds.lower)
        if self.model is not None or space.size <= TRIED:
            codes = space.all_codes()
            codes = codes[np.asarray(bounds.contains(jnp.asarray(codes)))]
        else:
            corner = np.asarray(bounds.project(jnp.asarray(bounds.lower)))
            codes = np.concatenate([corner[None], np.asarray(bounds.sample(jax.random.key(0), TRIED))])
        return np.asarray(space.encode(jnp.asarray(codes[self.gflops_of(codes).argmin()])))


def _own(key: Key | None) -> Key:
    return jax.random.fold_in(jax.random.key(0) if key is None else key, LOWER)


@functools.partial(jax.jit, static_argnums=2)
def _orders(key: Key, ids: Int[Array, " n"], length: int) -> Int[Array, "n d"]:
    """Returns a random permutation of 0..d-1 for each code."""
    return jax.vmap(lambda i: jax.random.permutation(jax.random.fold_in(key, i), length))(ids)
