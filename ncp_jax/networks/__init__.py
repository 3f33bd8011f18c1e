"""The vision networks that codes denote: Flax NNX modules, counted without being run."""

from __future__ import annotations

from ncp_jax.networks.builder import TASKS, Task, build
from ncp_jax.networks.counting import (
    Operations,
    StageCount,
    count_operations,
    count_parameters,
    count_stages,
    published_cost,
)
from ncp_jax.networks.network import Form, Network
from ncp_jax.networks.summary import describe, summarise

__all__ = [
    "TASKS",
    "Form",
    "Network",
    "Operations",
    "StageCount",
    "Task",
    "build",
    "count_operations",
    "count_parameters",
    "count_stages",
    "describe",
    "published_cost",
    "summarise",
]
