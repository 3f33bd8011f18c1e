"""Controllable multi-task models: one trained model, whose widths are chosen from a budget and preferences."""

from ncp_jax.controllable.answers import Answers, WidthChoice
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.controllable import Controllable

__all__ = ["Answers", "Controllable", "ModelConfig", "WidthChoice"]
