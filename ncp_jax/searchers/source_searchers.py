"""Searchers of studies with source tasks: a Gaussian process that learns from them, and their mean ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import QueryGuard
from ncp_jax.searchers.base import HostSearcher, Predictions, choice, number, register, searcher_class
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.ties import best_first_on_host, tie_breakers
from ncp_jax.training.relations import RelationInputs, RelationRecipe
from ncp_jax.types import Float

if TYPE_CHECKING:
    from ncp_jax.searchers.arch_graph.sources import SourceTasks


@searcher_class
class SourceSearcher(HostSearcher):
    """A searcher of studies with source tasks; comparisons without sources leave it out."""

    runs_per_call: ClassVar[int] = 32


@register
class SourceGaussianProcess(SourceSearcher):
    """Bayesian optimisation with what the sources say, as ``ProcessSearch`` searches. It runs without sources too.

    A run depends on its seed, not on the other runs, up to rounding. A program is compiled once for each shape, and
    serves all rounds, tasks and seeds.

    Attributes:
      first: queries before the first model, without sources; they are far apart.
      batch: queries between two models; 0 for one in 25 of those paid for.
      optimism: standard deviations added to a candidate's expected value.
    """

    name: ClassVar[str] = "source-gaussian-process"

    first: int = choice(3, "queries before the first model, without sources")
    batch: int = choice(0, "queries between two models, 0 for one in 25 of those paid for", least=0)
    optimism: float = number(1.0, "standard deviations added to a candidate's expected value", least=0, most=100)

    def run(self, guard: QueryGuard, seeds: Sequence[int], sources: SourceTasks | None = None) -> Predictions | None:
        """Searches with each seed; a run's draws depend on its seed alone."""
        from ncp_jax.searchers.arch_graph.process import ProcessConfig, ProcessSearch

        candidates = Candidates.of_space(guard.space, guard.codes)
        evidence = None if sources is None else sources.smooth(candidates, seeds)
        config = ProcessConfig(first=self.first, batch=self.batch, optimism=float(self.optimism))
        found = ProcessSearch(candidates, evidence, config).run(guard, seeds)
        return None if sources is None else Predictions(found.scores, np.asarray(found.utilities))


@register
class MeanRank(SourceSearcher):
    """The order of the mean ranks on the source tasks, best first; ties are broken at random.

    The values that it pays for do not change what it asks for. With whole sources all runs are the same but for ties.
    With a source budget, the ranks are those of the utilities that a relation predictor learns from a run's sample.

    Attributes:
      members: number of networks in the ensemble of the relation predictor.
      steps: number of gradient steps of its fit.
      encoder: its encoder, "code" or "graph".
      width: units of every layer.
    """

    name: ClassVar[str] = "mean-rank"
    needs_sources: ClassVar[bool] = True

    members: int = choice(5, "networks in the ensemble of the sources' predictor")
    steps: int = choice(150, "gradient steps of the sources' predictor")
    encoder: str = choice("code", "encoder of the sources' predictor", options=("code", "graph"))
    width: int = choice(32, "units of every layer of the sources' predictor")

    def run(self, guard: QueryGuard, seeds: Sequence[int], sources: SourceTasks | None = None) -> Predictions | None:
        """Searches with each seed."""
        if sources is None or not len(sources.values):
            raise checks.UsageError(expected="source tasks for mean-rank", got="none", remedy="add sources to the grid")
        if sources.budget is None:
            known = sources.values.T[None]
        else:
            recipe = RelationRecipe(encoder=self.encoder, width=self.width, members=self.members, steps=self.steps)
            learned = sources.learn(RelationInputs.of(guard.space, guard.codes), seeds, recipe)
            assert learned is not None
            known = np.asarray(learned.evidence)
        ranks = np.stack([mean_ranks(values) for values in known])
        ranks = np.repeat(ranks, len(seeds) // len(ranks), axis=0)
        ties = tie_breakers([[seed] for seed in seeds], len(guard.codes))
        guard.query(best_first_on_host(-ranks, ties)[:, : guard.budget])
        return Predictions(-ranks.astype(np.float32))


def mean_ranks(values: Float[np.ndarray, "n s"]) -> Float[np.ndarray, " n"]:
    """Returns each architecture's mean rank over the tasks on which it was measured, 0.5 if there are none.

    The rank on a task goes from 0 (best) to 1 (worst) among the architectures measured there, with ties at the mean of
    their ranks.

    Args:
      values: the tasks' values, higher is better; NaN where not measured.
    """
    from scipy.stats import rankdata

    known = ~np.isnan(values)
    counts = np.maximum(known.sum(axis=0), 1)
    relative = (rankdata(-np.asarray(values, float), axis=0, nan_policy="omit") - 0.5) / counts
    total = np.where(known, relative, 0.0).sum(axis=1)
    return np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), 0.5)
