"""Defines what an architecture is: integer codes, their relaxation, their notation, and the costs they determine."""

from __future__ import annotations

# One line per space, in the order in which they are listed: a space registers itself where it is defined.
# isort: off
from ncp_jax.spaces.multi_resolution import NAS_BENCH_MR as NAS_BENCH_MR
from ncp_jax.spaces.nas_bench_201 import NAS_BENCH_201 as NAS_BENCH_201
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO as TRANSNAS_MICRO
from ncp_jax.spaces.transnas_macro import TRANSNAS_MACRO as TRANSNAS_MACRO
from ncp_jax.spaces.nats_size import NATS_SIZE as NATS_SIZE
# isort: on

from ncp_jax.spaces.base import CategoricalSpace, OrdinalSpace, Space
from ncp_jax.spaces.bounds import Bounds, parse_bounds
from ncp_jax.spaces.costs import CostModel, cost_model, cost_model_for, cost_tasks
from ncp_jax.spaces.described import DescribedSpace
from ncp_jax.spaces.description import CostFunction, SpaceDescription
from ncp_jax.spaces.positions import Position
from ncp_jax.spaces.registry import (
    ALIASES,
    SPACES,
    check_digest,
    describe_space,
    find_code,
    get_space,
    load_space,
    register,
)

__all__ = [
    "ALIASES",
    "SPACES",
    "Bounds",
    "CategoricalSpace",
    "CostFunction",
    "CostModel",
    "DescribedSpace",
    "OrdinalSpace",
    "Position",
    "Space",
    "SpaceDescription",
    "check_digest",
    "cost_model",
    "cost_model_for",
    "cost_tasks",
    "describe_space",
    "find_code",
    "get_space",
    "load_space",
    "parse_bounds",
    "register",
]
