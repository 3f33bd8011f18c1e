"""Evidence from source tasks about a target's candidates: measured values, or relations learned from a few."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.copies import is_copy
from ncp_jax.console import short_repr
from ncp_jax.metrics import check_split
from ncp_jax.searchers.arch_graph.samples import measured_scores, sampled_values
from ncp_jax.searchers.arch_graph.smoothing import smoothed_sources
from ncp_jax.training.relations import RelationInputs, RelationRecipe, fit_relations
from ncp_jax.types import Array, Float, Int, Params

if TYPE_CHECKING:
    from ncp_jax.searchers.candidates import Candidates

SAMPLE = 512  # architectures of whole source tables that a predictor is trained on


class Sources(NamedTuple):
    """Evidence from the source tasks, in e variants: one for all runs, or one per run.

    Attributes:
      evidence: float32 ``[e, n, s]``, utilities of all candidates on the sources, in standard units, higher is better.
      encoder: weights of an encoder pre-trained on the sources, leaves ``[e, members, …]``; None for fresh weights.
    """

    evidence: Float[Array, "e n s"]
    encoder: Params | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class SourceTasks:
    """What a search may know about other tasks before its first query.

    Attributes:
      values: float32 ``[s, n]``, values of the target's architectures on the sources, higher is better, NaN where not
        measured; ``[0, n]`` without sources.
      budget: number of architectures measured on the sources, drawn anew for each run; None for all of them.
      number: number of the target among the tasks of a study.
      seed: random seed of the samples and of the sources' predictors. With a budget they depend on it and on the run's
        number, without one on it and on the target's number.

    Raises:
      UsageError: a budget below 2 or above the number of architectures that all sources have.
    """

    values: Float[np.ndarray, "s n"]
    budget: int | None = None
    number: int = 0
    seed: int = 0

    __repr__ = short_repr

    def __post_init__(self) -> None:
        if self.budget is not None and len(self.values):
            sampled_values(self.values, self.budget, runs=(0,), seed=self.seed)

    def learn(self, inputs: RelationInputs, runs: Sequence[int], recipe: RelationRecipe) -> Sources | None:
        """Makes the evidence of some runs, or returns that of an earlier call with the same runs and recipe.

        Args:
          inputs: predictor inputs of the target's architectures.
          runs: numbers of the runs. They do not matter without a budget.
          recipe: settings of the relation predictor.

        Returns:
          One variant per run, or one for all runs without a budget; None without sources.
        """
        if not len(self.values):
            return None
        key = (recipe, None if self.budget is None else tuple(runs))
        if key not in self._learned:
            if self.budget is None:
                found = full_sources(inputs, self.values, seed=self.seed, number=self.number, recipe=recipe)
            else:
                drawn = sampled_values(self.values, self.budget, runs=runs, seed=self.seed)
                found = learn_sources(inputs, *drawn, seed=self.seed, numbers=runs, recipe=recipe)
            self._learned[key] = found
        return self._learned[key]

    def smooth(self, candidates: Candidates, runs: Sequence[int]) -> Float[np.ndarray, "e n s"] | None:
        """Makes the evidence of some runs for a Gaussian process, or returns that of an earlier call with these runs.

        Args:
          candidates: the target's architectures.
          runs: numbers of the runs. They do not matter without a budget.

        Returns:
          What ``smoothed_sources`` returns; None without sources, or where whole tables of them all say nothing.
        """
        if not len(self.values):
            return None
        key = None if self.budget is None else tuple(runs)
        if key not in self._smoothed:
            found = smoothed_sources(candidates, self.values, budget=self.budget, runs=runs, seed=self.seed)
            self._smoothed[key] = None if self.budget is None and not found.any() else found
        return self._smoothed[key]

    @functools.cached_property
    def _learned(self) -> dict[tuple[RelationRecipe, tuple[int, ...] | None], Sources]:
        return {}

    @functools.cached_property
    def _smoothed(self) -> dict[tuple[int, ...] | None, Float[np.ndarray, "e n s"] | None]:
        return {}


def source_values(
    target: Table, sources: Sequence[Table], metric: str | None = None, *, on_test: bool = False
) -> Float[np.ndarray, "s n"]:
    """Reads the sources' main metrics for the target's architectures: higher is better, NaN where one has no value.

    This is part of the guard: it sees the whole target, of which a search gets nothing but whether a source is refused.

    Args:
      target: the table that is searched.
      sources: tables of other tasks.
      metric: column of the target that is searched; the main one if None.
      on_test: whether the sources' main metrics may be of the test split.

    Raises:
      UsageError: a source of another space, one of the test split that is not allowed, or one that orders the
        architectures as the target does or the other way round, under any name and in any unit.
      DataError: a source that shares no architecture with the target.
    """
    columns, target_values = [], np.asarray(target.oriented(metric or target.main.name))
    for source in sources:
        if source.space != target.space:
            raise checks.UsageError(
                expected=f"sources in {target.space}",
                got=f"{source.name} in {source.space}",
                remedy="relations carry over within one space",
            )
        rows = np.asarray(source.rows(target.codes))
        if (rows < 0).all():
            raise checks.DataError(
                expected=f"architectures of {target.name} in {source.name}",
                got="none that both have",
                remedy="choose sources measured on the same architectures",
            )
        check_split(source.main, on_test=on_test)
        shared, values = rows >= 0, np.asarray(source.oriented(source.main.name))
        both = shared & np.isfinite(target_values)
        if is_copy(values[rows[both]], target_values[both]):
            raise checks.UsageError(
                expected="sources other than the target",
                got=source.name,
                remedy="leave it out: it orders the architectures as the target does, and that order is what is sought",
            )
        columns.append(np.where(shared, values[np.maximum(rows, 0)], np.nan))
    return np.asarray(columns, np.float32).reshape(len(columns), len(target))


def full_sources(
    inputs: RelationInputs, values: Float[np.ndarray, "s n"], *, seed: int, number: int = 0, recipe: RelationRecipe
) -> Sources:
    """Makes evidence from whole source tables: measured scores, and utilities that a predictor learns from a sample.

    A measured value contains the noise of its single training run, a learned utility does not.

    Args:
      inputs: predictor inputs of the candidates.
      values: values of the sources, higher is better, NaN where not measured.
      seed: random seed of the sample and of the weights.
      number: number of the target, which keeps its weights apart from those of other targets.
      recipe: settings of the relation predictor.

    Returns:
      One variant, with s measured and s learned columns.
    """
    measured = jnp.asarray(measured_scores(values))[None]
    shared = int(np.isfinite(values).all(axis=0).sum())
    if shared < 2:
        return Sources(measured)
    rows, sampled = sampled_values(values, min(SAMPLE, shared), runs=(0,), seed=seed)
    learned = learn_sources(inputs, rows, sampled, seed=seed, numbers=(number,), recipe=recipe).evidence
    return Sources(jnp.concatenate([measured, learned], axis=-1))


def learn_sources(
    inputs: RelationInputs,
    rows: Int[np.ndarray, "r b"],
    values: Float[np.ndarray, "r b s"],
    *,
    seed: int,
    numbers: Sequence[int],
    recipe: RelationRecipe,
) -> Sources:
    """Makes evidence from small source budgets: trains relation predictors and predicts utilities of every candidate.

    One encoder learns all sources of a run; each source has an embedding of its own.

    Args:
      inputs: predictor inputs of the candidates.
      rows: architectures measured on the sources, one set per run.
      values: their values on each source, higher is better, NaN where not measured.
      seed: random seed of the weights.
      numbers: numbers of the runs, which set their weights apart.
      recipe: settings of the relation predictor.

    Returns:
      The members' mean utilities and their encoders, one variant per run.
    """
    # A third number keeps these weights apart from those of the targets.
    seeds = np.stack([np.full(len(rows), seed), numbers, np.ones(len(rows), int)], axis=1)
    fits = fit_relations(inputs, rows, values, seeds=seeds, recipe=recipe)
    mean = fits.utilities.mean(axis=1)
    spread = jnp.maximum(mean.std(axis=1, keepdims=True), 1e-6)
    return Sources((mean - mean.mean(axis=1, keepdims=True)) / spread, fits.params["encoder"])


def read_source_budget(text: str) -> int | None:
    """Reads "all" (None) or a number of architectures.

    Raises:
      UsageError: neither.
    """
    if text.lower() == "all":
        return None
    if not text.isdigit() or int(text) < 2:
        raise checks.UsageError(expected="--source-budget all or a number from 2", got=repr(text), remedy="try 50")
    return int(text)
