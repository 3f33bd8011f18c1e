"""Predicts metrics from relaxed codes: Flax modules for training, folded layers for inference."""

from ncp_jax.predictors.folded import FoldedMLP
from ncp_jax.predictors.predictor import Predictor, Standardisation, for_task
from ncp_jax.predictors.shipped import load_shipped
from ncp_jax.predictors.storage import load_predictor, save_predictor

__all__ = ["FoldedMLP", "Predictor", "Standardisation", "for_task", "load_predictor", "load_shipped", "save_predictor"]
