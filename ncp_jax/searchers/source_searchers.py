"""Baselines of studies with source tasks; they get the evidence that Arch-Graph gets."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import QueryGuard
from ncp_jax.searchers.base import HostSearcher, Predictions, choice, register, searcher_class
from ncp_jax.searchers.gaussian_process import Kernel, expected_improvement, fit_kernel, geometry, posterior, prior
from ncp_jax.searchers.ties import best_first, best_first_on_host, tie_breakers
from ncp_jax.spaces import get_space
from ncp_jax.training.relations import RelationInputs, RelationRecipe
from ncp_jax.types import Array, Float, Int

if TYPE_CHECKING:
    from ncp_jax.searchers.arch_graph.sources import SourceTasks

FAVOURITES = 5  # first queries with sources: those that are best on the sources on average
START = 10  # first queries without sources, at random
_CELLS = 2**26  # float32 in the covariances of the runs that are computed together


@searcher_class
class SourceSearcher(HostSearcher):
    """A searcher that gets Arch-Graph's evidence about the sources, and learns no relations on the target.

    Attributes:
      members: number of networks in the ensemble of the sources' relation predictor.
      steps: number of gradient steps of its fit.
      encoder: its encoder, "code" or "graph".
      width: units of every layer.
    """

    runs_per_call: ClassVar[int] = 32

    members: int = choice(5, "networks in the ensemble of the sources' predictor")
    steps: int = choice(150, "gradient steps of the sources' predictor")
    encoder: str = choice("code", "encoder of the sources' predictor", options=("code", "graph"))
    width: int = choice(32, "units of every layer of the sources' predictor")

    def evidence(
        self, inputs: RelationInputs, seeds: Sequence[int], sources: SourceTasks | None
    ) -> Float[np.ndarray, "e n s"]:
        """Returns utilities on the sources, one variant for all runs or one per run; without sources s is 0."""
        recipe = RelationRecipe(encoder=self.encoder, width=self.width, members=self.members, steps=self.steps)
        known = None if sources is None else sources.learn(inputs, seeds, recipe)
        return np.zeros((1, len(inputs.nodes), 0), np.float32) if known is None else np.asarray(known.evidence)


@register
class SourceGaussianProcess(SourceSearcher):
    """Bayesian optimisation: a Gaussian process on what Arch-Graph knows, and expected improvement.

    The features are the graphs' attributes, the codes, and the utilities on the sources, with scales of their own.
    Targets are the normal scores of the paid values, so nothing depends on the metric's unit or outliers. In each round
    the hyper-parameters of ``Kernel`` are set to their maximum a posteriori by 40 steps of Adam, starting from those of
    the last round. Then the ``batch`` new architectures of highest expected improvement are asked for; ties are
    broken at random. The improvement is that of a measured value, noise included, over the best value paid for.

    A run depends on its seed, not on the other runs, up to rounding. A program is compiled once for each shape, and
    serves all rounds, tasks and seeds. It runs without sources too.

    Attributes:
      batch: queries between two fits.
    """

    name: ClassVar[str] = "source-gaussian-process"

    batch: int = choice(5, "queries between two fits")

    def run(self, guard: QueryGuard, seeds: Sequence[int], sources: SourceTasks | None = None) -> Predictions | None:
        """Searches with each seed; a run's draws depend on its seed alone."""
        from scipy.special import ndtri
        from scipy.stats import rankdata

        runs, n, budget = len(seeds), len(guard.codes), guard.budget
        inputs = RelationInputs.of(guard.space, guard.codes)
        codes = np.asarray(get_space(guard.space).encode(jnp.asarray(guard.codes)))
        structure = np.concatenate([np.asarray(inputs.attributes), codes], axis=1)
        evidence = self.evidence(inputs, seeds, sources)
        blocks = tuple(size for size in (structure.shape[1], evidence.shape[-1]) if size)
        features = [standardise(np.concatenate([structure, e], axis=1).astype(np.float32)) for e in evidence]
        ties = tie_breakers([[seed] for seed in seeds], n)
        if evidence.shape[-1]:
            worth = np.repeat(evidence.mean(axis=-1), runs // len(evidence), axis=0)
            picks = best_first_on_host(worth, ties)[:, :FAVOURITES]
        else:
            picks = np.stack([np.random.default_rng([0, seed]).permutation(n)[:START] for seed in seeds])
        # Runs with the same features are fitted together.
        groups = [slice(None)] if len(features) == 1 else [slice(run, run + 1) for run in range(runs)]
        kernels = [
            jax.tree.map(lambda leaf: jnp.repeat(leaf[None], runs // len(groups), axis=0), prior(len(blocks)))
            for _ in groups
        ]
        count = 0
        while True:
            guard.query(picks[:, : budget - count])
            count = min(count + picks.shape[1], budget)
            z = np.zeros((runs, budget), np.float32)
            z[:, :count] = ndtri((rankdata(guard.paid[:, :count], axis=1) - 0.5) / count)
            rows, mask = np.maximum(guard.asked, 0), np.arange(budget) < count
            advance = functools.partial(_advance, blocks=blocks, batch=min(self.batch, budget))
            found = [
                advance(kernel, rows[group], z[group], mask, x, ties[group])
                for kernel, group, x in zip(kernels, groups, features, strict=True)
            ]
            kernels = [kernel for kernel, _, _ in found]
            if count == budget:
                return Predictions(np.concatenate([mean for _, mean, _ in found]))
            picks = np.concatenate([ranking for _, _, ranking in found])


@functools.partial(jax.jit, static_argnames=("blocks", "batch"))
def _advance(
    kernel: Kernel,
    rows: Int[Array, "r b"],
    targets: Float[Array, "r b"],
    mask: Array,
    features: Float[Array, "n f"],
    ties: Float[Array, "r n"],
    *,
    blocks: tuple[int, ...],
    batch: int,
) -> tuple[Kernel, Float[Array, "r n"], Int[Array, "r k"]]:
    """Fits all runs; returns kernels, posterior means and the next rows to ask."""

    def one(run: tuple[Kernel, Array, Array, Array]) -> tuple[Kernel, Array, Array]:
        kernel, asked, z, chance = run
        kernel = fit_kernel(kernel, geometry(features[asked], features[asked], blocks), z, mask)
        mean, variance = posterior(kernel, asked, z, mask, features, blocks=blocks)
        best = jnp.where(mask, z, -jnp.inf).max()
        gain = expected_improvement(mean, jnp.sqrt(variance + jnp.exp(kernel.noise)), best)
        gain = gain.at[jnp.where(mask, asked, len(features))].set(-jnp.inf, mode="drop")
        return kernel, mean, best_first(gain, chance)[:batch]

    together = min(len(rows), max(1, _CELLS // (rows.shape[1] * len(features))))
    return jax.lax.map(one, (kernel, rows, targets, ties), batch_size=together)


def standardise(features: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
    """Returns features of mean 0 and variance 1 over the architectures, float32; those that never vary become 0."""
    x = np.asarray(features, float)
    centred, deviation = x - x.mean(axis=0), x.std(axis=0)
    varies = deviation > 1e-6 * np.abs(x).max(axis=0)
    return np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0).astype(np.float32)


@register
class MeanRank(SourceSearcher):
    """The order of the mean ranks on the source tasks, best first; ties are broken at random.

    The values that it pays for do not change what it asks for. With whole sources all runs are the same but for ties.
    With a source budget, the ranks are those of the utilities that a relation predictor learns from a run's sample.
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
