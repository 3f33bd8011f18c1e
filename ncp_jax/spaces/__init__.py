"""What an architecture is: integer codes, their relaxation, and the costs that codes alone determine."""

from __future__ import annotations

from ncp_jax import checks
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.bounds import Bounds, parse_bounds
from ncp_jax.spaces.cells import NAS_BENCH_201, TRANSNAS_MICRO
from ncp_jax.spaces.costs import CostModel, cost_model, cost_model_for, cost_tasks
from ncp_jax.spaces.macro import TRANSNAS_MACRO
from ncp_jax.spaces.multi_resolution import NAS_BENCH_MR
from ncp_jax.spaces.reading import find_code, read_code

SPACES: dict[str, Space] = {
    space.name: space for space in (NAS_BENCH_MR, NAS_BENCH_201, TRANSNAS_MICRO, TRANSNAS_MACRO)
}
ALIASES: dict[str, str] = {
    "mr": "nas-bench-mr",
    "nb201": "nas-bench-201",
    "micro": "transnas-micro",
    "macro": "transnas-macro",
    "transnas-bench-101-micro": "transnas-micro",
    "transnas-bench-101-macro": "transnas-macro",
}


def get_space(name: str) -> Space:
    """The space of that name or alias (case does not matter).

    Raises:
      UsageError: no such space; the text lists the nearest names.
    """
    known = checks.choose("space", name, [*SPACES, *ALIASES])
    return SPACES[ALIASES.get(known, known)]


__all__ = [
    "ALIASES",
    "SPACES",
    "Bounds",
    "CostModel",
    "Space",
    "cost_model",
    "cost_model_for",
    "cost_tasks",
    "find_code",
    "get_space",
    "parse_bounds",
    "read_code",
]
