"""Scores proposed architectures: by their measured values, or by an evaluator that shares no data with the proposer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import main_metrics, tasks_of
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Objective
from ncp_jax.spaces import get_space
from ncp_jax.training import ENSEMBLE, Recipe, fit
from ncp_jax.types import Bool, Float, Int

TOP = 20  # number of proposals that are scored

ScoreFunction = Callable[[Int[np.ndarray, "n d"]], Float[np.ndarray, " n"]]


@dataclasses.dataclass(frozen=True)
class Evaluator:
    """An ensemble that scores proposals independently of the proposer.

    Attributes:
      predictor: ensemble of all tasks of the table.
      rows: ``[n]`` mask of the table rows that it was trained on; proposers are trained on the others.
    """

    predictor: Predictor
    rows: Bool[np.ndarray, " n"]


def fit_evaluator(table: Table, *, seed: int, recipe: Recipe = ENSEMBLE, members: int = 4) -> Evaluator:
    """Trains an evaluator, all tasks together, on a random half of a table's rows; proposers are fitted elsewhere."""
    rows = _random_half(table, seed)
    # The chosen rows as a table, not as a mask: a mask would draw other batches, and so train other networks.
    return Evaluator(fit(table.select(rows), recipe=recipe, members=members, key=_evaluator_key(seed)), rows)


def fit_pair(table: Table, *, seed: int, recipe: Recipe, members: int) -> tuple[Predictor, Evaluator]:
    """Trains a proposer on a random half of a table's rows and an evaluator on the other half, with different keys."""
    half = _random_half(table, seed)
    key = jax.random.fold_in(jax.random.key(seed), 11)
    proposer = fit(table, recipe=recipe, members=members, key=key, rows=half)
    evaluator = fit(table, recipe=recipe, members=members, key=_evaluator_key(seed), rows=~half)
    return proposer, Evaluator(evaluator, ~half)


def _random_half(table: Table, seed: int) -> Bool[np.ndarray, " n"]:
    half = np.zeros(len(table), bool)
    half[np.random.default_rng(seed).permutation(len(table))[: len(table) // 2]] = True
    return half


def _evaluator_key(seed: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), 12)


def in_standard_units(table: Table, task: str) -> Table:
    """Returns a table of one column, "quality": a task's main metric in standard deviations from the mean, to maximize.

    Where the table has FLOPs, they are a second column in their own unit. Columns of one name and direction let all
    tasks of a benchmark share their compiled programs.
    """
    (metric,) = main_metrics(table, [checks.choose("task", task, tasks_of(table))])
    oriented = np.asarray(table.oriented(metric.name), np.float64)
    columns = [(oriented - oriented.mean()) / oriented.std()]
    flops = [m for m in table.metrics if m.kind == "cost" and m.name == "flops"]
    columns += [np.asarray(table.column(m.name), np.float64) for m in flops]
    values = jax.device_put(np.stack(columns, axis=1).astype(np.float32))
    return dataclasses.replace(table, values=values, metrics=(MetricSpec("quality", unit="std"), *flops))


def measured_scores(table: Table) -> ScoreFunction:
    """Returns a function that looks codes up in the table's first column; it raises UsageError for a missing code."""

    def look_up(codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        rows = np.asarray(table.rows(jnp.asarray(codes)))
        if (rows < 0).any():
            raise checks.UsageError(
                expected=f"{table.name} to hold every architecture of its space",
                got=f"{codes[int(np.argmin(rows))].tolist()}, which it lacks",
                remedy="give an evaluator",
            )
        return np.asarray(table.values)[rows, 0]

    return look_up


def predicted_scores(evaluator: Evaluator, table: Table, task: str) -> ScoreFunction:
    """Returns the evaluator's prediction of a task's main metric as a function, in units of ``in_standard_units``."""
    (metric,) = main_metrics(table, [task])
    oriented = np.asarray(table.oriented(metric.name), np.float64)
    predictor = evaluator.predictor.select((metric.name,))

    def predict(codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        mean, _ = predictor(get_space(table.space).encode(jnp.asarray(codes)))
        return (metric.sign * np.asarray(mean, np.float64)[:, 0] - oriented.mean()) / oriented.std()

    return predict


@dataclasses.dataclass(frozen=True)
class ProposalScores:
    """Scores of the first ``TOP`` proposals of one search, the proposer's best first; higher is better.

    Attributes:
      true: scores by measurement or by the evaluator, in standard deviations.
      predicted: scores by the proposer's ensemble mean, whatever the search followed; same unit.
      percentile: percentage of the table that is better than each proposal.
    """

    true: list[float]
    predicted: list[float]
    percentile: list[float]


@dataclasses.dataclass(frozen=True)
class ProposalScorer:
    """Scores the proposals of one proposer.

    Attributes:
      table: measured architectures, in the form of ``in_standard_units``.
      goal: objective over the table's columns.
      quality: function that gives the quality of any architecture.
      ascending: ``[n]`` scores of the table's architectures in ascending order.
    """

    table: Table
    goal: Objective
    quality: ScoreFunction
    ascending: Float[np.ndarray, " n"]

    @classmethod
    def create(cls, table: Table, goal: Objective, quality: ScoreFunction) -> ProposalScorer:
        """Returns a scorer, after scoring the whole table."""
        scorer = cls(table, goal, quality, np.zeros(0))
        values = np.array(table.values, np.float64)
        values[:, 0] = quality(np.asarray(table.codes))
        return dataclasses.replace(scorer, ascending=np.sort(scorer.score(values)))

    def score(self, values: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
        """Returns the objective in standard deviations of the table's columns; the table's mean scores 0."""
        measured = np.asarray(self.table.values, np.float64)
        push = np.asarray(self.goal.weights(self.table.metrics).push, np.float64)
        return (values - measured.mean(axis=0)) / measured.std(axis=0) @ push

    def percentile(self, score: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Returns the percentage of the table that is better than each score: 0 for the best."""
        return 100.0 * (1 - np.searchsorted(self.ascending, score, side="right") / len(self.ascending))

    def score_of_best(self, rows: Int[np.ndarray, " k"]) -> float:
        """Returns the score of the table row that was measured best among ``rows``."""
        values = np.array(self.table.values, np.float64)[rows]
        best = int(np.argmax(self.score(values)))
        values[best, 0] = self.quality(np.asarray(self.table.codes)[rows[best : best + 1]])[0]
        return float(self.score(values[best : best + 1])[0])

    def score_proposals(self, found: Found) -> ProposalScores:
        """Scores the first ``TOP`` proposals of a search."""
        top = found.top(TOP)
        predicted = np.array(top.mean, np.float64)
        true = predicted.copy()
        # Padded to one shape, so that an evaluator does not compile for every number of proposals.
        true[:, 0] = self.quality(np.resize(top.codes, (TOP, top.codes.shape[1])))[: len(top)]
        score = self.score(true)
        return ProposalScores(score.tolist(), self.score(predicted).tolist(), self.percentile(score).tolist())
