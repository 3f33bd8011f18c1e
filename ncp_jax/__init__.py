"""Neural architecture search with predictors in JAX.

One function for each job; each takes a config or its fields as keywords, or what an earlier one returned:

- ``search``: architectures for a task, from a predictor that ships or is trained from a table;
- ``rank``: a table's architectures, ranked from few measurements and other tasks (Arch-Graph);
- ``order``: elements ordered by pairwise weights, with a bound on every order;
- ``audit``: what independent models predict for proposals, with calibrated intervals;
- ``fit``: a predictor from a table; ``propagate``: architectures from a predictor and an objective, ``propagate_many``
  for many objectives at once;
- ``run_study``: a grid of searches, run and recorded; ``write_report``: its page, tables and figures;
- ``build``: the network of a code; ``cost``: its parameters and FLOPs; ``export_source``, ``export_onnx``: its file
  without this package;
- ``Controllable``: a trained multi-task model, whose widths are chosen from a budget and preferences.

Public names are loaded when first used, so that importing the package takes no time and starts no backend.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ncp_jax.auditing import Audit, AuditConfig, Calibration, MetricAudit, audit
    from ncp_jax.benchmarks import Table, join, list_tables, load_table
    from ncp_jax.benchmarks.curves import load_curves
    from ncp_jax.benchmarks.imported import Curves
    from ncp_jax.benchmarks.official.importing import import_tables
    from ncp_jax.benchmarks.torch_files import read_torch
    from ncp_jax.checks import DataError, UsageError
    from ncp_jax.commands.cost import CostConfig, CostResult, cost
    from ncp_jax.commands.next import NextConfig, NextResult, suggest_next
    from ncp_jax.commands.order import OrderConfig, OrderResult, order
    from ncp_jax.commands.rank import RankConfig, RankResult, rank
    from ncp_jax.commands.search import SearchResult, search
    from ncp_jax.commands.search_config import SearchConfig
    from ncp_jax.controllable.answers import WidthChoice
    from ncp_jax.controllable.controllable import Controllable
    from ncp_jax.metrics import MetricSpec
    from ncp_jax.networks import Network, build, count_operations, count_parameters
    from ncp_jax.networks.export import export_onnx, export_source, export_weights, import_weights
    from ncp_jax.predictors import FoldedMLP, Predictor, load_predictor, load_shipped, save_predictor
    from ncp_jax.propagation import (
        Execution,
        Found,
        Front,
        HeldOutError,
        Limit,
        Objective,
        PropagationConfig,
        TrustRegion,
        propagate,
        propagate_many,
    )
    from ncp_jax.reports import Report, write_report
    from ncp_jax.searchers import Candidates, Searcher, SearchSession, make_searcher, register
    from ncp_jax.searchers.halving import HalvingConfig, HalvingResult, search_curves
    from ncp_jax.searchers.open_ended import Observation, OpenConfig, OpenSession, Suggestion
    from ncp_jax.spaces import (
        SPACES,
        Bounds,
        CostFunction,
        Position,
        Space,
        SpaceDescription,
        cost_model,
        cost_tasks,
        describe_space,
        get_space,
        load_space,
    )
    from ncp_jax.studies import Grid, RunnerOptions, read_grid, run_study
    from ncp_jax.training import Recipe, fit, fit_many, held_out_errors

_WHERE = {
    "auditing": ("Audit", "AuditConfig", "Calibration", "MetricAudit", "audit"),
    "benchmarks": ("Table", "join", "list_tables", "load_table"),
    "benchmarks.curves": ("load_curves",),
    "benchmarks.imported": ("Curves",),
    "benchmarks.official.importing": ("import_tables",),
    "benchmarks.torch_files": ("read_torch",),
    "checks": ("DataError", "UsageError"),
    "commands.cost": ("CostConfig", "CostResult", "cost"),
    "commands.next": ("NextConfig", "NextResult", "suggest_next"),
    "commands.order": ("OrderConfig", "OrderResult", "order"),
    "commands.rank": ("RankConfig", "RankResult", "rank"),
    "commands.search": ("SearchResult", "search"),
    "commands.search_config": ("SearchConfig",),
    "controllable.answers": ("WidthChoice",),
    "controllable.controllable": ("Controllable",),
    "metrics": ("MetricSpec",),
    "networks": ("Network", "build", "count_operations", "count_parameters"),
    "networks.export": ("export_onnx", "export_source", "export_weights", "import_weights"),
    "predictors": ("FoldedMLP", "Predictor", "load_predictor", "load_shipped", "save_predictor"),
    "propagation": (
        "Execution",
        "Found",
        "Front",
        "HeldOutError",
        "Limit",
        "Objective",
        "PropagationConfig",
        "TrustRegion",
        "propagate",
        "propagate_many",
    ),
    "reports": ("Report", "write_report"),
    "searchers": ("Candidates", "SearchSession", "Searcher", "make_searcher", "register"),
    "searchers.open_ended": ("Observation", "OpenConfig", "OpenSession", "Suggestion"),
    "spaces": (
        "SPACES",
        "Bounds",
        "CostFunction",
        "Position",
        "Space",
        "SpaceDescription",
        "cost_model",
        "cost_tasks",
        "describe_space",
        "get_space",
        "load_space",
    ),
    "searchers.halving": ("HalvingConfig", "HalvingResult", "search_curves"),
    "studies": ("Grid", "RunnerOptions", "read_grid", "run_study"),
    "training": ("Recipe", "fit", "fit_many", "held_out_errors"),
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names}
_PYTHON, _JAX = (3, 11), (0, 10, 2)  # the oldest that are supported, as in pyproject.toml


def _check_versions() -> None:
    """Raises an ImportError where Python or JAX is older than what the package needs, or JAX is missing."""
    if sys.version_info < _PYTHON:
        here = ".".join(map(str, sys.version_info[:3]))
        raise ImportError(f"ncp-jax: expected Python {'.'.join(map(str, _PYTHON))} or newer, got {here}; install it")
    try:
        jax = importlib.metadata.version("jax")
    except importlib.metadata.PackageNotFoundError:
        jax = "none"
    if tuple(int(part) for part in re.findall(r"\d+", jax)[:3]) < _JAX:
        least = ".".join(map(str, _JAX))
        raise ImportError(f'ncp-jax: expected JAX {least} or newer, got {jax}; pip install "jax>={least}"')


_check_versions()

__version__ = "0.1.0"
__all__ = [
    "SPACES",
    "Audit",
    "AuditConfig",
    "Bounds",
    "Calibration",
    "Candidates",
    "Controllable",
    "CostConfig",
    "CostFunction",
    "CostResult",
    "Curves",
    "DataError",
    "Execution",
    "FoldedMLP",
    "Found",
    "Front",
    "Grid",
    "HalvingConfig",
    "HalvingResult",
    "HeldOutError",
    "Limit",
    "MetricAudit",
    "MetricSpec",
    "Network",
    "NextConfig",
    "NextResult",
    "Objective",
    "Observation",
    "OpenConfig",
    "OpenSession",
    "OrderConfig",
    "OrderResult",
    "Position",
    "Predictor",
    "PropagationConfig",
    "RankConfig",
    "RankResult",
    "Recipe",
    "Report",
    "RunnerOptions",
    "SearchConfig",
    "SearchResult",
    "SearchSession",
    "Searcher",
    "Space",
    "SpaceDescription",
    "Suggestion",
    "Table",
    "TrustRegion",
    "UsageError",
    "WidthChoice",
    "audit",
    "build",
    "cost",
    "cost_model",
    "cost_tasks",
    "count_operations",
    "count_parameters",
    "describe_space",
    "export_onnx",
    "export_source",
    "export_weights",
    "fit",
    "fit_many",
    "get_space",
    "held_out_errors",
    "import_tables",
    "import_weights",
    "join",
    "list_tables",
    "load_curves",
    "load_predictor",
    "load_shipped",
    "load_space",
    "load_table",
    "make_searcher",
    "order",
    "propagate",
    "propagate_many",
    "rank",
    "read_grid",
    "read_torch",
    "register",
    "run_study",
    "save_predictor",
    "search",
    "search_curves",
    "suggest_next",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    # What a reader completes names from: no imports, no submodules.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
