"""Inversion of predictors: objectives, the gradient loop on codes, and what it finds."""

from ncp_jax.propagation.engine import PropagationConfig, invert, step_one
from ncp_jax.propagation.objective import Objective, ObjectiveWeights
from ncp_jax.propagation.pipeline import Found, propagate

__all__ = ["Found", "Objective", "ObjectiveWeights", "PropagationConfig", "invert", "propagate", "step_one"]
