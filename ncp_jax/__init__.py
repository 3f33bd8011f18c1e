"""Neural architecture search with predictors in JAX.

The public names below are loaded when first used, so that importing the package costs nothing and starts no backend.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncp_jax.benchmarks import Table, join, list_tables, load_table
    from ncp_jax.checks import DataError, UsageError
    from ncp_jax.commands.search import SearchConfig, run_search
    from ncp_jax.metrics import MetricSpec
    from ncp_jax.networks import Network, build, count_operations, count_parameters
    from ncp_jax.predictors import FoldedMLP, Predictor, load_predictor, load_shipped, save_predictor
    from ncp_jax.propagation import Execution, Found, Objective, PropagationConfig, TrustRegion, propagate
    from ncp_jax.reports import write_report
    from ncp_jax.searchers import Candidates, SearchSession, make_searcher
    from ncp_jax.spaces import SPACES, Bounds, Space, cost_model, cost_tasks, get_space
    from ncp_jax.studies import Grid, read_grid, run_study
    from ncp_jax.training import Recipe, fit, fit_many

_WHERE = {
    "benchmarks": ("Table", "join", "list_tables", "load_table"),
    "checks": ("DataError", "UsageError"),
    "metrics": ("MetricSpec",),
    "networks": ("Network", "build", "count_operations", "count_parameters"),
    "predictors": ("FoldedMLP", "Predictor", "load_predictor", "load_shipped", "save_predictor"),
    "propagation": ("Execution", "Found", "Objective", "PropagationConfig", "TrustRegion", "propagate"),
    "searchers": ("Candidates", "SearchSession", "make_searcher"),
    "spaces": ("SPACES", "Bounds", "Space", "cost_model", "cost_tasks", "get_space"),
    "reports": ("write_report",),
    "studies": ("Grid", "read_grid", "run_study"),
    "commands.search": ("SearchConfig", "run_search"),
    "training": ("Recipe", "fit", "fit_many"),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}

__version__ = "0.1.0"
__all__ = [
    "SPACES",
    "Bounds",
    "Candidates",
    "DataError",
    "Execution",
    "FoldedMLP",
    "Found",
    "Grid",
    "MetricSpec",
    "Network",
    "Objective",
    "Predictor",
    "PropagationConfig",
    "Recipe",
    "SearchConfig",
    "SearchSession",
    "Space",
    "Table",
    "TrustRegion",
    "UsageError",
    "build",
    "cost_model",
    "cost_tasks",
    "count_operations",
    "count_parameters",
    "fit",
    "fit_many",
    "get_space",
    "join",
    "list_tables",
    "load_predictor",
    "load_shipped",
    "load_table",
    "make_searcher",
    "propagate",
    "read_grid",
    "run_search",
    "run_study",
    "save_predictor",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
