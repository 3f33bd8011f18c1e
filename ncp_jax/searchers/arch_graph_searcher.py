"""Arch-Graph as a searcher that a grid can name; in a study with source tasks it learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ncp_jax.benchmarks import QueryGuard
from ncp_jax.searchers.base import HostSearcher, Predictions, choice, register
from ncp_jax.types import Float

if TYPE_CHECKING:
    from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, ArchGraphRuns
    from ncp_jax.searchers.arch_graph.sources import SourceTasks

FINAL_GRAPH = 256  # candidates in the graph of a run's final order; the others follow by expected wins


@register
class ArchGraph(HostSearcher):
    """Arch-Graph, as ``run_arch_graph`` searches: rounds on the host around jitted programs.

    It never asks for an architecture twice, so the grid's rule about repeats does not matter. It pays for isomorphs.

    Attributes:
      first: queries before the first ranking.
      batch: queries between two rankings; 0 for 4, or an eighth of the budget where that is more.
      members: number of networks in the ensemble.
      steps: number of gradient steps of a fit.
      ranking: "mwas" or "borda", see ``ArchGraphConfig``.
      encoder: encoder of the relation predictor, "code" or "graph".
      width: units of every layer of the relation predictor.
      sources: whether the source tasks of a study are "used" or "ignored".
    """

    name: ClassVar[str] = "arch-graph"
    runs_per_call: ClassVar[int] = 32

    first: int = choice(10, "queries before the first ranking", least=2)
    batch: int = choice(0, "queries between two rankings, 0 for an eighth of the budget", least=0)
    members: int = choice(3, "networks in the ensemble")
    steps: int = choice(100, "gradient steps of a fit")
    ranking: str = choice("mwas", "what orders the candidates", options=("mwas", "borda"))
    encoder: str = choice("code", "encoder of the relation predictor", options=("code", "graph"), later=True)
    width: int = choice(32, "units of every layer", later=True)
    sources: str = choice("used", "what the search does with source tasks", options=("used", "ignored"), later=True)

    def run(self, guard: QueryGuard, seeds: Sequence[int], sources: SourceTasks | None = None) -> Predictions | None:
        """Searches with each seed; a run's draws depend on its seed alone."""
        from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, run_arch_graph
        from ncp_jax.training.relations import RelationInputs, RelationRecipe

        batch = self.batch or max(4, guard.budget // 8)
        recipe = RelationRecipe(encoder=self.encoder, width=self.width, members=self.members, steps=self.steps)
        config = ArchGraphConfig(first=self.first, batch=batch, ranking=self.ranking, recipe=recipe)
        inputs = RelationInputs.of(guard.space, guard.codes)
        known = None if sources is None or self.sources == "ignored" else sources.learn(inputs, seeds, recipe)
        found = run_arch_graph(guard, inputs, sources=known, run_numbers=seeds, config=config)
        if sources is None:
            return None
        return Predictions(final_scores(found, config), np.asarray(found.utilities))


def final_scores(found: ArchGraphRuns, config: ArchGraphConfig) -> Float[np.ndarray, "r n"]:
    """Returns scores in the final order of each run: that of the graph of relations, or that of expected wins.

    They are predictions for measured architectures, too: a study scores what a search has learned.
    """
    from ncp_jax.searchers.arch_graph.search import final_order

    scores, found = found.scores, found._replace(measured=None)
    if config.ranking == "borda":
        return scores
    orders = [
        final_order(found, run, trust=config.trust, nearest=FINAL_GRAPH, time_limit=0.1)[0]
        for run in range(len(scores))
    ]
    return -np.argsort(np.stack(orders), axis=1).astype(np.float32)
