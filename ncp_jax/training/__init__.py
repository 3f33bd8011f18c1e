"""Fits predictors to tables, many at once."""

from ncp_jax.training.columns import Columns
from ncp_jax.training.fitting import Fitted, choose_decay, fit, fit_many, with_chosen_decay
from ncp_jax.training.held_out import held_out_errors
from ncp_jax.training.recipes import ENSEMBLE, NCP, RECIPES, Recipe, get_recipe

__all__ = [
    "ENSEMBLE",
    "NCP",
    "RECIPES",
    "Columns",
    "Fitted",
    "Recipe",
    "choose_decay",
    "fit",
    "fit_many",
    "get_recipe",
    "held_out_errors",
    "with_chosen_decay",
]
