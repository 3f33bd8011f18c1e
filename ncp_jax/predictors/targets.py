"""What predictors of a search learn: not values but their order, which is what matters to it."""

from __future__ import annotations

import jax.numpy as jnp
from jax.scipy.special import ndtri

from ncp_jax.types import Array, Bool, Float


def normal_scores(
    values: Float[Array, "*r b"], mask: Float[Array, "*r b"] | Bool[Array, "*r b"], *, edge: float = 0.0
) -> Float[Array, "*r b"]:
    """Quantiles of the standard normal at (rank - ½) / count, equal values sharing the middle (jittable).

    Nothing depends on the unit of the values, nor on how far out the worst ones are.

    Args:
      values: higher better; what is masked out may be anything, NaN too.
      mask: True, or 1, where measured. The scores of the rest are 0.
      edge: quantiles are kept so far from 0 and 1.
    """
    known = mask > 0
    safe = jnp.where(known, values, 0.0)
    pairs = known[..., None, :] & known[..., :, None]
    below = ((safe[..., :, None] > safe[..., None, :]) & pairs).sum(-1)
    level = ((safe[..., :, None] == safe[..., None, :]) & pairs).sum(-1)
    quantile = (below + 0.5 * level) / jnp.maximum(known.sum(-1, keepdims=True), 1)
    return jnp.where(known, ndtri(jnp.clip(quantile, edge, 1 - edge)), 0.0)
