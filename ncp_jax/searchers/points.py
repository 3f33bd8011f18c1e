"""What the kernel of a space compares: features that are the same for all codes of a network, in blocks."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ncp_jax.searchers.candidates import Candidates
from ncp_jax.spaces import get_space
from ncp_jax.types import Array, Float

LEAST_SPREAD = 1e-6  # features that vary by less are zeros


def kernel_points(candidates: Candidates) -> tuple[Float[Array, "n f"], tuple[int, ...]]:
    """Features of all candidates for a ``Kernel``, and the sizes of its blocks.

    The first block is ``Candidates.attributes`` (the relaxed codes where no attribute varies), in standard units. Cells
    have a second: ``Space.path_counts``, centred, all divided by one number. Codes of the same network get the mean of
    their features (attributes distinguish nodes that could change names); networks, not codes, set centres and units.

    Returns:
      ``(points, blocks)``: float32 [n, f]; the mean square over each block and the networks is 1 where all varies.
    """
    n = len(candidates)
    plain = candidates.attributes if candidates.attributes.shape[1] else candidates.relaxed
    members = jnp.maximum(jax.ops.segment_sum(jnp.ones(n), candidates.classes, n), 1)
    weights = 1 / members[candidates.classes]
    weights = (weights / weights.sum())[:, None]
    attributes = (jax.ops.segment_sum(plain, candidates.classes, n) / members[:, None])[candidates.classes]
    attributes, squares = _centred(attributes, weights)
    parts = [attributes * _inverse(squares)]
    counts = get_space(candidates.space).path_counts(candidates.codes)
    if counts.shape[1]:
        counts, squares = _centred(counts, weights)
        parts.append(counts * _inverse(squares.mean()))
    return jnp.concatenate(parts, axis=1), block_sizes(candidates)


def block_sizes(candidates: Candidates) -> tuple[int, ...]:
    """The sizes of the blocks of ``kernel_points``."""
    attributes, relaxed = candidates.attributes.shape[1], candidates.relaxed.shape[1]
    counts = jax.eval_shape(get_space(candidates.space).path_counts, candidates.codes).shape[1]
    return (attributes or relaxed, counts) if counts else (attributes or relaxed,)


def _centred(
    features: Float[Array, "n f"], weights: Float[Array, "n 1"]
) -> tuple[Float[Array, "n f"], Float[Array, " f"]]:
    """Features less their weighted mean, and the weighted mean squares of that."""
    centred = features - (features * weights).sum(axis=0)
    return centred, (centred**2 * weights).sum(axis=0)


def _inverse(squares: Array) -> Array:
    spread = jnp.sqrt(squares)
    return jnp.where(spread > LEAST_SPREAD, 1 / jnp.maximum(spread, LEAST_SPREAD), 0.0)
