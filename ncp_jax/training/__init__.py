"""Fits predictors to tables, many at once."""

from ncp_jax.training.fitting import Columns, Fitted, choose_decay, fit, fit_many
from ncp_jax.training.recipes import ENSEMBLE, NCP, RECIPES, Recipe, get_recipe

__all__ = ["ENSEMBLE", "NCP", "RECIPES", "Columns", "Fitted", "Recipe", "choose_decay", "fit", "fit_many", "get_recipe"]
