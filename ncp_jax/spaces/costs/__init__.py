"""Counts parameters and FLOPs from the code alone: exact at codes, relaxed between them.

Each space has the convention of its published figures (see the modules and docs/costs.md): what is counted differs, so
costs of different spaces are not to be compared.
"""

from __future__ import annotations

# Each module registers the costs of its benchmarks; the first benchmark of a space is its default.
# isort: off
from ncp_jax.spaces.costs import multi_resolution, cells, macro, digits, nats_size  # noqa: F401
# isort: on

from ncp_jax.spaces.costs.model import CostModel
from ncp_jax.spaces.costs.multi_resolution import exact_cost, relaxed_cost
from ncp_jax.spaces.costs.registry import CostFamily, cost_model, cost_model_for, cost_tasks, register_costs

__all__ = [
    "CostFamily",
    "CostModel",
    "cost_model",
    "cost_model_for",
    "cost_tasks",
    "exact_cost",
    "register_costs",
    "relaxed_cost",
]
