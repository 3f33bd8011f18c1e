"""Defines a trust region around the measured architectures, and the push that keeps relaxed codes inside.

Predictions are unreliable far from the training data, and inversion moves to where errors look like gains. The region
is the set of relaxed codes that are as near to the table's rows as most rows are to each other. All distances are in
the standard units of the predictor's scale.

Kind "distance" uses the Euclidean distance to the nearest row. Kind "density" softens it. Let p be the Gaussian kernel
density of r rows with bandwidth h, without its constant:

    D(x) = sqrt(-2 h² log p(x)),    p(x) = (1/r) sum_i exp(-|x - x_i|² / (2 h²)).

D falls as the density grows, so {D <= threshold} is a level set of the density. Its gradient is (x - c) / D, where c is
the mean of the rows under the kernel's weights. By Jensen's inequality |x - c| <= D, so the gradient is never longer
than 1, whereas the gradient of log p grows with the distance. As h -> 0, D becomes the distance to the nearest row.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.console import short_repr
from ncp_jax.pytrees import register_dataclass
from ncp_jax.spaces import Space, get_space
from ncp_jax.types import Array, Float, Int

KINDS = ("density", "distance")
PUSH = 0.1  # length of the gradient far outside at weight 1: the default ``delta`` of the inversion
_TINY = 1e-12  # lower bound on squared distances, which keeps the slope of the square root finite


class Scale(Protocol):
    """The part of a standardisation that the region needs (see ``predictors.Standardisation``)."""

    def standard_x(self, relaxed: Any) -> Any:
        """Converts relaxed codes from raw to standard units."""


@register_dataclass
@dataclasses.dataclass(frozen=True)
class TrustRegion:
    """The set of relaxed codes near the rows of a table. Numbers may be arrays, so that a vmap can sweep them.

    Attributes:
      rows: ``[r, f]`` relaxed codes of the table's rows, standard units.
      bandwidth: bandwidth of the kernel, standard units; unused by kind "distance".
      threshold: distance up to which a code is inside, standard units; for kind "density" the softened distance D.
      weight: strength of the push, >= 0. Each iteration of the default inversion moves a code inwards by
        ``learning_rate * 0.1 * weight`` = ``weight`` times its excess, at most one unit. A weight of 1 brings a code to
        the border in one step (while the predictor pulls it out again); from 2 on, codes oscillate.
      kind: "density" or "distance".
    """

    rows: Float[Array, "r f"]
    bandwidth: float | Float[Array, ""]
    threshold: float | Float[Array, ""]
    weight: float | Float[Array, ""] = 1.0
    kind: str = dataclasses.field(default="density", metadata={"static": True})

    __repr__ = short_repr

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", checks.choose("kind", self.kind, KINDS))
        if isinstance(self.weight, int | float):  # inside jit and vmap the numbers are arrays
            checks.positive("weight", self.weight, zero=True)

    @classmethod
    def around(
        cls,
        codes: Int[np.ndarray, "n d"],
        space: Space | str,
        scale: Scale,
        *,
        kind: str = "density",
        weight: float = 1.0,
        quantile: float = 0.05,
        limit: int = 1024,
    ) -> TrustRegion:
        """Returns the region around the rows of a table. Runs on the host.

        The bandwidth is the root mean square distance from each row to its nearest other row, divided by sqrt(f). It
        maximises the leave-one-out likelihood where the nearest row dominates the others, as it does on the published
        tables (the best of a grid of bandwidths is close to it).

        Args:
          codes: rows of the table; repeated rows count once.
          space: space of the codes, or its name.
          scale: the predictor's standardisation.
          kind: "density" or "distance".
          weight: strength of the push.
          quantile: share of rows that would lie outside a region around the other rows; sets the threshold.
          limit: maximum number of rows used. If there are more, a random sample is taken, always the same one. A
            thousand rows cost about as much per iteration as a network of the default recipe; the cost is linear.

        Raises:
          UsageError: codes of another space, fewer than two distinct codes, an unknown kind, a weight that is negative
            or not a number, a quantile outside (0, 1), or a limit below 2.
        """
        space = get_space(space)
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
        limit = checks.integer("limit", limit, least=2, remedy="try limit=1024")
        if len(rows) > limit:
            rows = rows[np.sort(np.random.default_rng(0).choice(len(rows), limit, replace=False))]
        relaxed = np.asarray(scale.standard_x(space.encode(jnp.asarray(rows))))
        # The distance of each row to the others, leaving itself out, sets bandwidth and threshold.
        squared = _squared_distances(relaxed.astype(np.float64))
        np.fill_diagonal(squared, np.inf)
        bandwidth = math.sqrt(squared.min(axis=1).mean() / relaxed.shape[1])
        left_out = _softened(squared, bandwidth, len(rows) - 1) if kind == "density" else squared.min(axis=1)
        threshold = float(np.quantile(np.sqrt(left_out), 1 - quantile))
        return cls(jnp.asarray(relaxed), jnp.float32(bandwidth), jnp.float32(threshold), weight, kind)

    def excess(self, x: Float[Array, "*n f"]) -> Float[Array, "*n"]:
        """Returns how far each relaxed code is outside the region, in standard units; 0 inside.

        Args:
          x: relaxed codes in standard units, with any leading axes.
        """
        return jnp.maximum(self._reach(x)[0] - self.threshold, 0.0)

    def penalty(self, x: Float[Array, "*n f"]) -> Float[Array, "*n"]:
        """Returns the loss for the inversion: ``0.1 * weight`` times the smooth L1 loss (threshold 1) of the excess."""
        excess = self.excess(x)
        return PUSH * self.weight * jnp.where(excess < 1, excess**2 / 2, excess - 0.5)

    def gradient(self, x: Float[Array, "*n f"]) -> Float[Array, "*n f"]:
        """Returns the gradient of ``penalty`` at each code, in closed form.

        It is 0 inside, finite everywhere and never longer than ``0.1 * weight``.
        """
        distance, centre = self._reach(x)
        slope = PUSH * self.weight * jnp.clip(distance - self.threshold, 0.0, 1.0)
        return (slope / distance)[..., None] * (x - centre)

    def distance(self, codes: Int[np.ndarray, "n d"], space: Space | str, scale: Scale) -> Float[np.ndarray, " n"]:
        """Returns the distance of each code to the region's nearest row, in standard units. Runs on the host.

        If the table has more rows than the region keeps, this is an upper bound of the distance to the table.

        Raises:
          UsageError: codes of another space.
        """
        space = get_space(space)
        if space.features != self.rows.shape[1]:
            raise checks.UsageError(
                expected=f"a space with {self.rows.shape[1]} features, as the region has",
                got=f"{space.name} with {space.features}",
                remedy="give the space that the region was made in",
            )
        relaxed = np.asarray(scale.standard_x(space.encode(jnp.asarray(space.check(codes)))), np.float64)
        return np.sqrt(_squared_distances(relaxed, np.asarray(self.rows, np.float64)).min(axis=1))

    def _reach(self, x: Array) -> tuple[Array, Array]:
        """Returns the (softened) distance to the rows, > 0, and the centre c that it is measured from."""
        # |x - x_i|² as matrix products of the codes with the rows.
        product = jnp.matmul(x, self.rows.T, precision=jax.lax.Precision.HIGHEST)
        squared = (x * x).sum(axis=-1, keepdims=True) - 2 * product + (self.rows * self.rows).sum(axis=-1)
        nearest = squared.min(axis=-1, keepdims=True)
        if self.kind == "distance":
            # An argmin would be slow on CPU. Several rows at the same distance count with their mean.
            kernel, twice = (squared <= nearest).astype(x.dtype), jnp.zeros(())
        else:
            # Dividing by the nearest row's kernel keeps exp from underflowing far away.
            twice = 2 * jnp.square(jnp.asarray(self.bandwidth))
            kernel = jnp.exp((nearest - squared) / twice)
        total = kernel.sum(axis=-1, keepdims=True)
        reach = nearest - twice * jnp.log(total / len(self.rows))
        centre = jnp.matmul(kernel, self.rows, precision=jax.lax.Precision.HIGHEST) / total
        return jnp.sqrt(jnp.maximum(reach[..., 0], _TINY)), centre


def _squared_distances(
    x: Float[np.ndarray, "n f"], rows: Float[np.ndarray, "r f"] | None = None
) -> Float[np.ndarray, "n r"]:
    """Returns the squared distances between all rows of ``x`` and all ``rows``; by default the rows of ``x`` itself."""
    rows = x if rows is None else rows
    squared = (x * x).sum(axis=1)[:, None] - 2 * (x @ rows.T) + (rows * rows).sum(axis=1)
    return np.maximum(squared, 0.0)


def _softened(squared: Float[np.ndarray, "n r"], bandwidth: float, rows: int) -> Float[np.ndarray, " n"]:
    """Returns D² of each code from its squared distances to r ``rows``; infinite distances do not count."""
    twice, nearest = 2 * bandwidth**2, squared.min(axis=1)
    return nearest - twice * np.log(np.exp((nearest[:, None] - squared) / twice).sum(axis=1) / rows)
