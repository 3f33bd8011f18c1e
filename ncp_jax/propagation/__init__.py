"""Inversion of predictors: objectives, the gradient loop on codes, and what it finds."""

from ncp_jax.propagation.config import Execution, PropagationConfig
from ncp_jax.propagation.engine import invert, tile_shape
from ncp_jax.propagation.objective import Objective, ObjectiveWeights
from ncp_jax.propagation.pipeline import Found, propagate
from ncp_jax.propagation.region import TrustRegion

__all__ = [
    "Execution",
    "Found",
    "Objective",
    "ObjectiveWeights",
    "PropagationConfig",
    "TrustRegion",
    "invert",
    "propagate",
    "tile_shape",
]
