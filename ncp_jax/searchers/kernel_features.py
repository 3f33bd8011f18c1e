"""Features that a Gaussian process's kernel compares: equal for all codes of a network, in blocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ncp_jax.searchers.candidates import Candidates
from ncp_jax.spaces import get_space
from ncp_jax.types import Array, Float

LEAST_SPREAD = 1e-6  # features with a smaller standard deviation become zeros


def kernel_features(candidates: Candidates) -> tuple[Float[Array, "n f"], tuple[int, ...]]:
    """Returns features of all candidates for a ``Kernel``, and the sizes of their blocks.

    The first block is ``Candidates.attributes`` (the relaxed codes where no attribute varies), in standard units. Cells
    have a second: ``Space.path_counts``, centred, all divided by one number. Codes of the same network get the mean of
    their features (attributes distinguish nodes that could change names); networks, not codes, set centres and units.

    Returns:
      ``(features, blocks)``: float32 [n, f]; the mean square over a block and the networks is 1 if all features vary.
    """
    return _features(candidates), block_sizes(candidates)


@jax.jit  # one program in place of forty small ones
def _features(candidates: Candidates) -> Float[Array, "n f"]:
    n = len(candidates)
    features = candidates.attributes if candidates.attributes.shape[1] else candidates.relaxed
    members = jnp.maximum(jax.ops.segment_sum(jnp.ones(n), candidates.classes, n), 1)
    weights = 1 / members[candidates.classes]
    weights = (weights / weights.sum())[:, None]
    attributes = (jax.ops.segment_sum(features, candidates.classes, n) / members[:, None])[candidates.classes]
    attributes, squares = _centred(attributes, weights)
    parts = [attributes * _inverse(squares)]
    counts = get_space(candidates.space).path_counts(candidates.codes)
    if counts.shape[1]:
        counts, squares = _centred(counts, weights)
        parts.append(counts * _inverse(squares.mean()))
    return jnp.concatenate(parts, axis=1)


def block_sizes(candidates: Candidates) -> tuple[int, ...]:
    """Returns the sizes of the blocks of ``kernel_features``."""
    attributes, relaxed = candidates.attributes.shape[1], candidates.relaxed.shape[1]
    counts = jax.eval_shape(get_space(candidates.space).path_counts, candidates.codes).shape[1]
    return (attributes or relaxed, counts) if counts else (attributes or relaxed,)


def _centred(
    features: Float[Array, "n f"], weights: Float[Array, "n 1"]
) -> tuple[Float[Array, "n f"], Float[Array, " f"]]:
    """Returns features minus their weighted mean, and the weighted mean squares of the difference."""
    centred = features - (features * weights).sum(axis=0)
    return centred, (centred**2 * weights).sum(axis=0)


def _inverse(squares: Array) -> Array:
    spread = jnp.sqrt(squares)
    return jnp.where(spread > LEAST_SPREAD, 1 / jnp.maximum(spread, LEAST_SPREAD), 0.0)
