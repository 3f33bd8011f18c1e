"""Inputs of the networks: smooth functions of the relaxed code, so that gradients lead back to the code."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from ncp_jax.searchers.candidates import Candidates
from ncp_jax.spaces import get_space
from ncp_jax.types import Array, Float

LEAST_SPREAD = 1e-6  # features with a smaller standard deviation become zeros


class Units(NamedTuple):
    """Standard units of the networks' inputs.

    Attributes:
      mean: float32 [g], mean of each feature over the candidates.
      scale: float32 [g], inverse of its standard deviation; 0 where it never varies.
    """

    mean: Float[Array, " g"]
    scale: Float[Array, " g"]


def input_units(candidates: Candidates) -> Units:
    """Returns the units in which the features of all candidates have mean 0 and variance 1."""
    everything = raw_inputs(candidates.space, candidates.relaxed)
    spread = everything.std(axis=0)
    scale = jnp.where(spread > LEAST_SPREAD, 1 / jnp.maximum(spread, LEAST_SPREAD), 0.0)
    return Units(everything.mean(axis=0), scale)


def network_inputs(space: str, relaxed: Float[Array, "n f"], units: Units) -> Float[Array, "n g"]:
    """Returns relaxed codes and their smooth attributes, in standard units.

    Args:
      space: name of the space.
      relaxed: relaxed codes in raw units.
      units: result of ``input_units``.
    """
    return (raw_inputs(space, relaxed) - units.mean) * units.scale


def raw_inputs(space: str, relaxed: Float[Array, "n f"]) -> Float[Array, "n g"]:
    """Returns relaxed codes followed by their smooth attributes."""
    return jnp.concatenate([relaxed, get_space(space).smooth_attributes(relaxed)], axis=1)


def network_features(candidates: Candidates) -> int:
    """Number of features of the networks' inputs."""
    return int(jax.eval_shape(lambda: raw_inputs(candidates.space, candidates.relaxed[:1])).shape[1])
