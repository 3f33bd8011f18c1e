"""Inverts predictors: an objective, gradient steps on relaxed codes, and the architectures that result."""

from ncp_jax.propagation.config import Execution, PropagationConfig
from ncp_jax.propagation.engine import invert, tile_shape
from ncp_jax.propagation.found import Front
from ncp_jax.propagation.limit import HeldOutError, Limit
from ncp_jax.propagation.objective import Objective, ObjectiveWeights
from ncp_jax.propagation.pipeline import Found, propagate, propagate_many
from ncp_jax.propagation.region import TrustRegion

__all__ = [
    "Execution",
    "Found",
    "Front",
    "HeldOutError",
    "Limit",
    "Objective",
    "ObjectiveWeights",
    "PropagationConfig",
    "TrustRegion",
    "invert",
    "propagate",
    "propagate_many",
    "tile_shape",
]
