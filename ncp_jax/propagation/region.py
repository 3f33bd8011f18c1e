"""A trust region around the measured architectures: how far a relaxed code is from them, and the push back.

A predictor knows nothing of architectures unlike those it learned from, and inversion goes where its errors look like
gains. The region is the set of relaxed codes that are as near to the table as most of its own rows are to each other.
Everything is in the standard units of the predictor's scale.

"distance" measures the Euclidean distance to the nearest row. "density" softens it: with p the Gaussian kernel density
of r rows, bandwidth h, without its constant,

    D(x) = sqrt(-2 h² log p(x)),    p(x) = (1/r) sum_i exp(-|x - x_i|² / (2 h²)),

a distance that falls as the density grows, so that {D <= threshold} is a level set of the density. Its gradient is
(x - c) / D with c the rows' mean under the kernel's weights. By Jensen's inequality |x - c| <= D: the gradient is never
longer than 1, whereas that of log p grows with the distance. For h -> 0 D is the distance to the nearest row.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces import Space
from ncp_jax.types import Array, Float, Int

KINDS = ("density", "distance")
PUSH = 0.1  # length of the gradient far outside at weight 1: the default ``delta`` that inversion asks a metric to move
_TINY = 1e-12  # squared distances below this count as this: the square root keeps a finite slope


class Scale(Protocol):
    """What the region needs of a standardisation (see ``predictors.Standardisation``)."""

    def standard_x(self, relaxed: Any) -> Any:
        """Relaxed codes in raw units → standard units."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrustRegion:
    """The relaxed codes near the rows of a table. The numbers may be arrays, for a vmap over them.

    Attributes:
      points: ``[r, f]`` relaxed codes of the rows, standard units.
      bandwidth: of the kernel, standard units; without effect on "distance".
      threshold: the distance up to which a code is inside, standard units; for "density" the softened one, D.
      weight: strength of the push, >= 0. Each iteration of the default inversion moves a code by ``learning_rate * 0.1
        * weight`` = ``weight`` times its excess, at most one unit: 1 brings it to the border at once (along the way the
        predictor pulls it out again), 2 is where it begins to swing.
      kind: "density" or "distance".
    """

    points: Float[Array, "r f"]
    bandwidth: float | Float[Array, ""]
    threshold: float | Float[Array, ""]
    weight: float | Float[Array, ""] = 1.0
    kind: str = dataclasses.field(default="density", metadata={"static": True})

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", checks.choose("kind", self.kind, KINDS))
        if isinstance(self.weight, int | float):  # inside jit and vmap the numbers are arrays
            checks.positive("weight", self.weight, zero=True)

    @classmethod
    def around(
        cls,
        codes: Int[np.ndarray, "n d"],
        space: Space,
        scale: Scale,
        *,
        kind: str = "density",
        weight: float = 1.0,
        quantile: float = 0.05,
        limit: int = 1024,
    ) -> TrustRegion:
        """Returns the region around the rows of a table (host-side).

        The bandwidth is the root mean square of the distances from each row to its nearest other row, divided by
        sqrt(f): it maximises the leave-one-out likelihood where the nearest row outweighs the others, which holds on
        the published tables (the best of a grid of bandwidths is near it).

        Args:
          codes: the rows; repeated ones count once.
          space: their space.
          scale: the predictor's standardisation.
          kind: "density" or "distance".
          weight: strength of the push.
          quantile: the share of the rows that would be outside of a region around the others; sets the threshold.
          limit: at most so many rows are used, drawn without regard to their order and always the same. A thousand cost
            an iteration about what a network of the default recipe costs; fewer cost in proportion.

        Raises:
          UsageError: codes of another space, fewer than two different ones, an unknown kind, a weight that is negative
            or no number, a quantile outside (0, 1), a limit below 2.
        """
        rows = np.unique(space.check(codes, where="row"), axis=0)
        if len(rows) < 2:
            raise checks.UsageError(
                expected="at least two different architectures to make a region around",
                got=str(len(rows)),
                remedy="give more rows",
            )
        if not isinstance(quantile, int | float) or not 0 < quantile < 1:
            raise checks.UsageError(
                expected="a quantile between 0 and 1", got=repr(quantile), remedy="try quantile=0.05"
            )
        if not isinstance(limit, int) or limit < 2:
            raise checks.UsageError(expected="limit to be an integer >= 2", got=repr(limit), remedy="try limit=1024")
        if len(rows) > limit:
            rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), limit, replace=False))]
        points = np.asarray(scale.standard_x(space.encode(jnp.asarray(rows))))
        squared = _squared_distances(points.astype(np.float64))
        np.fill_diagonal(squared, np.inf)
        bandwidth = math.sqrt(squared.min(axis=1).mean() / points.shape[1])
        left_out = _softened(squared, bandwidth, len(rows) - 1) if kind == "density" else squared.min(axis=1)
        threshold = float(np.quantile(np.sqrt(left_out), 1 - quantile))
        return cls(jnp.asarray(points), jnp.float32(bandwidth), jnp.float32(threshold), weight, kind)

    def excess(self, x: Float[Array, "*n f"]) -> Float[Array, "*n"]:
        """How far a relaxed code is outside, in standard units; 0 inside.

        Args:
          x: relaxed codes in standard units, one or many.
        """
        return jnp.maximum(self._reach(x)[0] - self.threshold, 0.0)

    def penalty(self, x: Float[Array, "*n f"]) -> Float[Array, "*n"]:
        """``0.1 * weight`` times the smooth L1 loss (threshold 1) of the excess, for the inversion to descend."""
        excess = self.excess(x)
        return PUSH * self.weight * jnp.where(excess < 1, excess**2 / 2, excess - 0.5)

    def gradient(self, x: Float[Array, "*n f"]) -> Float[Array, "*n f"]:
        """Gradient of ``penalty`` by each code, in closed form: matrix products of the codes with the rows.

        It is 0 inside, finite everywhere and never longer than ``0.1 * weight``.
        """
        distance, centre = self._reach(x)
        slope = PUSH * self.weight * jnp.clip(distance - self.threshold, 0.0, 1.0)
        return (slope / distance)[..., None] * (x - centre)

    def distance(self, codes: Int[np.ndarray, "n d"], space: Space, scale: Scale) -> Float[np.ndarray, " n"]:
        """Distance of each code to the nearest row of the region, in standard units (host-side, for reports).

        Where the table has more rows than the region keeps, an upper bound of the distance to the table.

        Raises:
          UsageError: codes of another space.
        """
        return np.sqrt(self._from_points(codes, space, scale).min(axis=1))

    def log_density(self, codes: Int[np.ndarray, "n d"], space: Space, scale: Scale) -> Float[np.ndarray, " n"]:
        """Log of the kernel density at each code, per volume in standard units (host-side, for reports).

        Raises:
          UsageError: codes of another space.
        """
        squared, h = self._from_points(codes, space, scale), float(self.bandwidth)
        constant = self.points.shape[1] * math.log(h * math.sqrt(2 * math.pi))
        return -_softened(squared, h, len(self.points)) / (2 * h * h) - constant

    def _reach(self, x: Array) -> tuple[Array, Array]:
        """The (softened) distance to the rows, > 0, and the point that it is measured from."""
        product = jnp.matmul(x, self.points.T, precision=jax.lax.Precision.HIGHEST)
        squared = (x * x).sum(axis=-1, keepdims=True) - 2 * product + (self.points * self.points).sum(axis=-1)
        nearest = squared.min(axis=-1, keepdims=True)
        if self.kind == "distance":
            # Not an argmin, which is slow on CPU; of several rows at the same distance it is their mean.
            kernel, twice = (squared <= nearest).astype(x.dtype), jnp.zeros(())
        else:
            twice = 2 * jnp.square(jnp.asarray(self.bandwidth))
            kernel = jnp.exp((nearest - squared) / twice)
        total = kernel.sum(axis=-1, keepdims=True)
        reach = nearest - twice * jnp.log(total / len(self.points))
        centre = jnp.matmul(kernel, self.points, precision=jax.lax.Precision.HIGHEST) / total
        return jnp.sqrt(jnp.maximum(reach[..., 0], _TINY)), centre

    def _from_points(self, codes: Any, space: Space, scale: Scale) -> Float[np.ndarray, "n r"]:
        if space.features != self.points.shape[1]:
            raise checks.UsageError(
                expected=f"a space with {self.points.shape[1]} features, as the region has",
                got=f"{space.name} with {space.features}",
                remedy="give the space that the region was made in",
            )
        relaxed = np.asarray(scale.standard_x(space.encode(jnp.asarray(space.check(codes)))), np.float64)
        return _squared_distances(relaxed, np.asarray(self.points, np.float64))


def _squared_distances(
    x: Float[np.ndarray, "n f"], points: Float[np.ndarray, "r f"] | None = None
) -> Float[np.ndarray, "n r"]:
    """Squared distances of all pairs; between the rows of ``x`` without ``points``."""
    points = x if points is None else points
    squared = (x * x).sum(axis=1)[:, None] - 2 * (x @ points.T) + (points * points).sum(axis=1)
    return np.maximum(squared, 0.0)


def _softened(squared: Float[np.ndarray, "n r"], bandwidth: float, rows: int) -> Float[np.ndarray, " n"]:
    """D² of each code from its squared distances to the rows, ``rows`` in number; an infinite one is left out."""
    twice, nearest = 2 * bandwidth**2, squared.min(axis=1)
    return nearest - twice * np.log(np.exp((nearest[:, None] - squared) / twice).sum(axis=1) / rows)
