"""What networks see of an architecture: smooth functions of its relaxed code, so that gradients lead back to it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.searchers.candidates import Candidates
from ncp_jax.spaces import get_space
from ncp_jax.spaces.base import CategoricalSpace, Space
from ncp_jax.spaces.cells import CellSpace
from ncp_jax.spaces.graphs import CONVOLUTIONS, PATHS
from ncp_jax.spaces.macro import MacroSpace
from ncp_jax.types import Array, Float

LEAST_SPREAD = 1e-6  # features that vary by less are zeros


def smooth_attributes(space: Space, relaxed: Float[Array, "n f"]) -> Float[Array, "n a"]:
    """The attributes of ``architecture_graphs`` between the legal codes too.

    In cells and macro sequences the relaxed code of a position is read as shares of its letters, and counts, products
    along paths and sums take their values for shares; at legal codes the attributes are the graphs' own, in their
    order. Elsewhere (positions that are quantities) only the logarithms are made: the scaled values are the code.

    Args:
      space: a space.
      relaxed: relaxed codes in the space's box, raw units; categorical ones with shares that sum to 1 a position.
    """
    if isinstance(space, CellSpace):
        return _cell(space, relaxed.reshape(len(relaxed), space.length, space.letters))
    if isinstance(space, MacroSpace):
        return _macro(relaxed.reshape(len(relaxed), space.length, space.letters))
    if isinstance(space, CategoricalSpace):
        return relaxed[:, :0]
    return jnp.log(relaxed[:, np.flatnonzero(space.lower > 0)])


class Units(NamedTuple):
    """Standard units of the networks' inputs.

    Attributes:
      mean: float32 [g], of each feature over the candidates.
      scale: float32 [g], one over its standard deviation; 0 where it never varies.
    """

    mean: Float[Array, " g"]
    scale: Float[Array, " g"]


def input_units(candidates: Candidates) -> Units:
    """The units in which the features of all candidates have mean 0 and variance 1."""
    everything = raw_inputs(candidates.space, candidates.relaxed)
    spread = everything.std(axis=0)
    scale = jnp.where(spread > LEAST_SPREAD, 1 / jnp.maximum(spread, LEAST_SPREAD), 0.0)
    return Units(everything.mean(axis=0), scale)


def network_inputs(space: str, relaxed: Float[Array, "n f"], units: Units) -> Float[Array, "n g"]:
    """Relaxed codes and their smooth attributes, in standard units.

    Args:
      space: the name of their space.
      relaxed: relaxed codes in raw units.
      units: of ``input_units``.
    """
    return (raw_inputs(space, relaxed) - units.mean) * units.scale


def raw_inputs(space: str, relaxed: Float[Array, "n f"]) -> Float[Array, "n g"]:
    """Relaxed codes and, behind them, their smooth attributes."""
    return jnp.concatenate([relaxed, smooth_attributes(get_space(space), relaxed)], axis=1)


def network_features(candidates: Candidates) -> int:
    """Length of the networks' inputs."""
    return int(jax.eval_shape(lambda: raw_inputs(candidates.space, candidates.relaxed[:1])).shape[1])


def _cell(space: CellSpace, shares: Float[Array, "n e o"]) -> Float[Array, "n a"]:
    ops = shares[..., 1:]
    there = ops.sum(axis=-1)
    whole = [jnp.prod(there[:, np.array(path)], axis=1) for path in PATHS]

    def live(edge: int) -> Array:
        missing = [1 - share for path, share in zip(PATHS, whole, strict=True) if edge in path]
        return 1 - jnp.prod(jnp.stack(missing), axis=0)

    def longest(counted: Array) -> Array:
        each = [share * counted[:, np.array(path)].sum(axis=1) for path, share in zip(PATHS, whole, strict=True)]
        return jnp.stack(each).max(axis=0)

    alive = jnp.stack([live(edge) for edge in range(space.length)], axis=1)
    weights = np.array([CONVOLUTIONS.get(op, 0) for op in space.ops[1:]], np.float32)
    wide = weights == CONVOLUTIONS["nor_conv_3x3"]
    kinds = jnp.einsum("ne,neo->no", alive, ops)
    total = jnp.log1p((kinds * weights).sum(axis=1))
    depths = [longest((ops * counted).sum(axis=-1)) for counted in (weights > 0, wide)]
    scalars = jnp.stack([alive.sum(axis=1), *depths, total, *whole], axis=1)
    return jnp.concatenate([kinds, scalars], axis=1)


def _macro(shares: Float[Array, "n p m"]) -> Float[Array, "n a"]:
    live = 1 - shares[..., 0]
    doubles, halves = shares[..., 2] + shares[..., 4], shares[..., 3] + shares[..., 4]
    changes = shares[..., 2:].sum(axis=-1)
    channels, sides = jnp.cumsum(doubles, axis=1), -jnp.cumsum(halves, axis=1)
    outputs = jnp.exp2(channels)
    inputs = outputs / (1 + doubles)
    weights = 9 * inputs * outputs + 27 * outputs**2 + changes * inputs * outputs
    costs = [jnp.log2((cost * live).sum(axis=1)) for cost in (jnp.exp2(2 * sides) * weights, weights)]
    means = [trail.mean(axis=1, keepdims=True) for trail in (channels, sides)]
    return jnp.concatenate([jnp.stack([live.sum(axis=1), *costs], axis=1), channels, sides, *means], axis=1)
