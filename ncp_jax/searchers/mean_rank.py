"""Asks for the architectures that rank best on the source tasks; a baseline of studies with source tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import QueryGuard
from ncp_jax.searchers.base import Predictions, register
from ncp_jax.searchers.source_searcher import SourceSearcher
from ncp_jax.training.relations import RelationInputs
from ncp_jax.types import Float

if TYPE_CHECKING:
    from ncp_jax.searchers.arch_graph.sources import SourceTasks


@register
class MeanRank(SourceSearcher):
    """The order of the mean ranks on the source tasks, best first; ties go to the lower row.

    The values that it pays for do not change what it asks for. With whole sources all runs are the same. With a source
    budget, the ranks are those of the utilities that a relation predictor learns from a run's sample.
    """

    name: ClassVar[str] = "mean-rank"
    needs_sources: ClassVar[bool] = True

    def run(self, guard: QueryGuard, seeds: Sequence[int], sources: SourceTasks | None = None) -> Predictions | None:
        """Searches with each seed."""
        if sources is None or not len(sources.values):
            raise checks.UsageError(expected="source tasks for mean-rank", got="none", remedy="add sources to the grid")
        if sources.budget is None:
            known = sources.values.T[None]
        else:
            known = self.evidence(RelationInputs.of(guard.space, guard.codes), seeds, sources)
        ranks = np.stack([mean_ranks(values) for values in known])
        ranks = np.repeat(ranks, len(seeds) // len(ranks), axis=0)
        guard.query(np.argsort(ranks, axis=1, kind="stable")[:, : guard.budget])
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
