"""Arch-Graph without sources, as a searcher that a grid can name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from ncp_jax.benchmarks import QueryGuard
from ncp_jax.searchers.base import HostSearcher, choice, register


@register
class ArchGraph(HostSearcher):
    """Arch-Graph without sources, as ``run_arch_graph`` searches: rounds on the host around jitted programs.

    It never asks for an architecture twice, so the grid's rule about repeats does not matter. It pays for isomorphs.

    Attributes:
      first: queries before the first ranking.
      batch: queries between two rankings; 0 for 4, or an eighth of the budget where that is more.
      members: number of networks in the ensemble.
      steps: number of gradient steps of a fit.
      ranking: "mwas" or "borda", see ``ArchGraphConfig``.
    """

    name: ClassVar[str] = "arch-graph"
    runs_per_call: ClassVar[int] = 32

    first: int = choice(10, "queries before the first ranking", least=2)
    batch: int = choice(0, "queries between two rankings, 0 for an eighth of the budget", least=0)
    members: int = choice(3, "networks in the ensemble")
    steps: int = choice(100, "gradient steps of a fit")
    ranking: str = choice("mwas", "what orders the candidates", options=("mwas", "borda"))

    def run(self, guard: QueryGuard, seeds: Sequence[int]) -> None:
        """Searches with each seed; a run's draws depend on its seed alone."""
        from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, run_arch_graph
        from ncp_jax.training.relations import RelationInputs, RelationRecipe

        batch = self.batch or max(4, guard.budget // 8)
        recipe = RelationRecipe(members=self.members, steps=self.steps)
        config = ArchGraphConfig(first=self.first, batch=batch, ranking=self.ranking, recipe=recipe)
        run_arch_graph([guard], RelationInputs.of(guard.space, guard.codes), run_numbers=seeds, config=config)
