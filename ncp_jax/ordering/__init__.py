"""Orders elements by weights between pairs: solves the linear ordering problem, on the host."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncp_jax.ordering.relations import Reliability, borda, relation_matrix, reliability, trusted_weights
    from ncp_jax.ordering.result import Cycles, Ordering
    from ncp_jax.ordering.solver import order

_WHERE = {
    **dict.fromkeys(("Cycles", "Ordering"), "result"),
    **dict.fromkeys(("Reliability", "borda", "relation_matrix", "reliability", "trusted_weights"), "relations"),
    "order": "solver",
}

__all__ = [
    "Cycles",
    "Ordering",
    "Reliability",
    "borda",
    "order",
    "relation_matrix",
    "reliability",
    "trusted_weights",
]


def __getattr__(name: str) -> Any:
    # Names load when first used: Numba takes a quarter of a second to import, and relations do not need it.
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value
