"""Arch-Graph: pairwise relations between architectures, learned with evidence from source tasks."""

from __future__ import annotations

from ncp_jax.searchers.arch_graph.process import ProcessConfig, ProcessSearch
from ncp_jax.searchers.arch_graph.samples import measured_scores, sampled_values
from ncp_jax.searchers.arch_graph.search import (
    ArchGraphConfig,
    ArchGraphRuns,
    acyclic_order,
    final_order,
    next_to_measure,
    run_arch_graph,
)
from ncp_jax.searchers.arch_graph.smoothing import smoothed_sources
from ncp_jax.searchers.arch_graph.sources import (
    Sources,
    SourceTasks,
    full_sources,
    learn_sources,
    read_source_budget,
    source_values,
)
from ncp_jax.training.relations import RelationInputs, RelationRecipe

__all__ = [
    "ArchGraphConfig",
    "ArchGraphRuns",
    "ProcessConfig",
    "ProcessSearch",
    "RelationInputs",
    "RelationRecipe",
    "SourceTasks",
    "Sources",
    "acyclic_order",
    "final_order",
    "full_sources",
    "learn_sources",
    "measured_scores",
    "next_to_measure",
    "read_source_budget",
    "run_arch_graph",
    "sampled_values",
    "smoothed_sources",
    "source_values",
]
