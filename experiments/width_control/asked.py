"""Defines the questions of the comparison: budgets and preferences."""

from __future__ import annotations

import dataclasses

import numpy as np

from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.search import budget_grid, questions


@dataclasses.dataclass(frozen=True)
class Asked:
    """Budgets and preferences of the comparison.

    Attributes:
      budgets: ``[b]`` multiply-adds.
      rays: ``[k, t]`` preferences.
    """

    budgets: np.ndarray
    rays: np.ndarray

    @classmethod
    def make(cls, model: ModelConfig, budgets: int, rays: int) -> Asked:
        """Returns evenly spaced budgets, the largest model's not among them, and Dirichlet preferences."""
        return cls(budget_grid(model, budgets + 1)[:-1], questions(model, rays, seed=11)[1])
