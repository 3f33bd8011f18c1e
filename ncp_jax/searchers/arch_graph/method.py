"""The searchers that a grid can name: those that are array programs, and those that run on the host."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import QueryGuard, Table
from ncp_jax.searchers import SEARCHERS, Searcher
from ncp_jax.searchers.base import choice, make
from ncp_jax.searchers.run import Runs


@dataclasses.dataclass(frozen=True)
class ArchGraph:
    """Arch-Graph without sources, as ``run_arch_graph`` searches: rounds on the host around jitted programs.

    Repeats never occur, so the rule about them does not matter; isomorphs are paid for.

    Attributes:
      first: queries before the first ranking.
      batch: queries between two rankings; 0 for 4, or an eighth of the budget where that is more.
      members: networks in the ensemble.
      steps: gradient steps of a fit.
      ranking: "mwas" or "borda".
    """

    name: ClassVar[str] = "arch-graph"

    first: int = choice(10, "queries before the first ranking", least=2)
    batch: int = choice(0, "queries between two rankings, 0 for an eighth of the budget", least=0)
    members: int = choice(3, "networks in the ensemble")
    steps: int = choice(100, "gradient steps of a fit")
    ranking: str = choice("mwas", "what orders the candidates", options=("mwas", "borda"))

    lanes: ClassVar[int] = 32

    def settings(self) -> dict[str, Any]:
        """Name → value of every setting."""
        return dataclasses.asdict(self)

    def run(self, table: Table, metric: str, budget: int, seeds: Sequence[int]) -> Runs:
        """Searches with each seed; a run's draws depend on its seed alone."""
        from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, run_arch_graph
        from ncp_jax.training.relations import RelationInputs, RelationRecipe

        batch = self.batch or max(4, budget // 8)
        recipe = RelationRecipe(members=self.members, steps=self.steps)
        config = ArchGraphConfig(first=self.first, batch=batch, ranking=self.ranking, recipe=recipe)
        guard = QueryGuard(table, metric, budget=budget, runs=len(seeds))
        inputs = RelationInputs.of(table.space, np.asarray(table.codes))
        run_arch_graph([guard], inputs, numbers=seeds, config=config)
        count = (guard.asked >= 0).sum(axis=1).astype(np.int32)
        values = np.where(guard.asked >= 0, guard.paid, -np.inf)
        return Runs(guard.asked, values, count, count, np.zeros(len(seeds), np.float32))  # type: ignore[arg-type]


Method = Searcher | ArchGraph
HOST_METHODS: dict[str, type[Any]] = {ArchGraph.name: ArchGraph}


def methods() -> dict[str, type[Any]]:
    """Name → searcher: the array programs registered by now, and those that run on the host."""
    return {**SEARCHERS, **HOST_METHODS}


def make_method(name: str, settings: dict[str, Any]) -> Method:
    """A searcher by its name, with checked settings.

    Raises:
      UsageError: an unknown searcher or setting (the text lists the nearest), or an illegal value.
    """
    known = methods()
    return make(known[checks.choose("searcher", name, known)], settings)
