"""Enforces an upper limit on GFLOPs: steers codes below it, pulls them below it, and checks results."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.propagation.found import Found, in_batches
from ncp_jax.propagation.gradients import Invertible
from ncp_jax.spaces import Bounds, CostModel, cost_model_for
from ncp_jax.types import Bool, Float, Int


@dataclasses.dataclass(frozen=True)
class Limit:
    """An upper limit on the GFLOPs of the architectures found.

    Attributes:
      gflops: the limit, multiply-adds / 1e9.
      bounds: bounds of the legal codes.
      model: cost model of the space, or None if its costs are unknown.
      unit: GFLOPs per unit of the predicted metric "flops".
      ceiling: limit on that metric in standard units, by name; empty if it is not predicted.
      cheapest: ``[f]`` relaxed code of the lowest cost within the bounds; the lower corner if costs are unknown.
    """

    gflops: float
    bounds: Bounds
    model: CostModel | None
    unit: float
    ceiling: dict[str, float]
    cheapest: Float[np.ndarray, " f"]

    @classmethod
    def make(cls, bounds: Bounds, predictor: Invertible, gflops: float) -> Limit:
        """Returns the limit for codes within ``bounds``.

        Raises:
          UsageError: the limit is not a number above zero, FLOPs are neither known nor predicted, or no code satisfies
            both limit and bounds.
        """
        checks.positive("max_gflops", gflops)
        model, unit, ceiling = cost_model_for(bounds.space, predictor.metrics), 1.0, {}
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
        cheapest = _cheapest(bounds, model)
        if model is not None:
            least = float(model.in_units(np.asarray(bounds.project(jnp.asarray(cheapest)))[None])["flops"][0])
            if gflops < least:
                raise checks.UsageError(
                    expected=f"a GFLOPs limit >= {least:.4g}, the {'space' if bounds.all else 'bounds'}'s smallest",
                    got=f"{gflops:g}",
                    remedy="raise the limit",
                )
        return cls(gflops, bounds, model, unit, ceiling, cheapest)

    def pull_back(self, relaxed: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
        """Moves each code over the limit along the straight line to the cheapest code until it fits.

        If every position adds a cost of its own, the cost of the projected code falls along that line, and bisection
        finds the last code that fits. Otherwise (TransNAS macro) it finds some code that fits.
        """
        if self.model is None:
            return relaxed
        low = self.cheapest

        def fits(candidates: np.ndarray) -> np.ndarray:
            assert self.model is not None
            # In batches of one shape: JAX would compile for each number of codes over the limit.
            (codes,) = in_batches(lambda rows: self.bounds.project(jnp.asarray(rows)), candidates)
            return self.model.in_units(codes)["flops"] <= self.gflops

        over = np.flatnonzero(~fits(relaxed))
        if len(over) == 0:
            return relaxed
        # Bisect the share of the way from the cheapest code: ``inside`` fits, ``outside`` does not.
        inside, outside = np.zeros((len(over), 1), np.float32), np.ones((len(over), 1), np.float32)
        for _ in range(12):
            middle = (inside + outside) / 2
            ok = fits(low + middle * (relaxed[over] - low))[:, None]
            inside, outside = np.where(ok, middle, inside), np.where(ok, outside, middle)
        pulled = relaxed.copy()
        pulled[over] = low + inside * (relaxed[over] - low)
        return pulled

    def within(self, found: Found) -> Bool[np.ndarray, " k"]:
        """Returns True for each architecture found that is within the limit."""
        return self._gflops(found) <= self.gflops

    def known(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"] | None:
        """Returns True for each code within the limit by exact costs; None if the space has no cost model."""
        return None if self.model is None else self.model.in_units(codes)["flops"] <= self.gflops

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
        if self.model is not None:
            return found.costs["flops"]
        return found.mean[:, [m.name for m in found.metrics].index("flops")] * self.unit


def _cheapest(bounds: Bounds, model: CostModel | None) -> Float[np.ndarray, " f"]:
    """Returns the relaxed code of fewest FLOPs: the lower corner where costs increase, else one of the listed codes."""
    if model is None or model.increasing:
        return np.asarray(bounds.lower)
    codes = bounds.space.all_codes()
    codes = codes[np.asarray(bounds.contains(jnp.asarray(codes)))]
    return np.asarray(bounds.space.encode(jnp.asarray(codes[model.exact(codes)["flops"].argmin()])))
