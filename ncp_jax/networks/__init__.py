"""Builds the vision networks that codes denote (Flax NNX modules), and counts them without running them."""

from __future__ import annotations

# One line per module: each registers the networks of its spaces, in the order in which they are listed.
# isort: off
from ncp_jax.networks import multi_resolution, nas_bench_201, transnas  # noqa: F401
# isort: on

from ncp_jax.networks.builder import build
from ncp_jax.networks.counting import Operations, StageCount, count_operations, count_parameters, count_stages
from ncp_jax.networks.families import FAMILIES, NetworkFamily, Parts, Task, published_cost, register
from ncp_jax.networks.network import Form, Network
from ncp_jax.networks.summary import NetworkSummary, describe, summarise

__all__ = [
    "FAMILIES",
    "Form",
    "Network",
    "NetworkFamily",
    "NetworkSummary",
    "Operations",
    "Parts",
    "StageCount",
    "Task",
    "build",
    "count_operations",
    "count_parameters",
    "count_stages",
    "describe",
    "published_cost",
    "register",
    "summarise",
]
