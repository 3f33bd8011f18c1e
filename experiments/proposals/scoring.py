"""What architectures are really worth: measured in a table, or in the eyes of a judge that no proposer has met."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

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

TOP = 20  # proposals that are judged

Truth = Callable[[Int[np.ndarray, "n d"]], Float[np.ndarray, " n"]]


@dataclasses.dataclass(frozen=True)
class Judge:
    """An ensemble that stands for the truth where a table holds a part of its space.

    Attributes:
      predictor: of all tasks of the table.
      rows: ``[n]`` the rows that it learned from; proposers get the others.
    """

    predictor: Predictor
    rows: Bool[np.ndarray, " n"]


def train_judge(table: Table, *, seed: int, recipe: Recipe = ENSEMBLE, members: int = 4) -> Judge:
    """Splits the rows in two at random and fits the judge to one half, all tasks together."""
    rows = np.zeros(len(table), bool)
    rows[np.random.default_rng(seed).permutation(len(table))[: len(table) // 2]] = True
    key = jax.random.fold_in(jax.random.key(seed), 12)
    return Judge(fit(table.select(rows), recipe=recipe, members=members, key=key), rows)


def in_standard_units(table: Table, task: str) -> Table:
    """A task's main metric as the column "quality": standard deviations from the table's mean, higher better.

    The FLOPs stay beside it, in their own unit, where the table has them. Columns of one name and direction let all
    tasks of a benchmark share their compiled programs.
    """
    (metric,) = main_metrics(table, [checks.choose("task", task, tasks_of(table))])
    oriented = np.asarray(table.oriented(metric.name), np.float64)
    columns = [(oriented - oriented.mean()) / oriented.std()]
    flops = [m for m in table.metrics if m.kind == "cost" and m.name == "flops"]
    columns += [np.asarray(table.column(m.name), np.float64) for m in flops]
    values = jax.device_put(np.stack(columns, axis=1).astype(np.float32))
    return dataclasses.replace(table, values=values, metrics=(MetricSpec("quality", unit="std"), *flops))


def measured_truth(table: Table) -> Truth:
    """Looks architectures up in the first column; UsageError for one that the table does not have."""

    def look_up(codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        rows = np.asarray(table.rows(jnp.asarray(codes)))
        if (rows < 0).any():
            raise checks.UsageError(
                expected=f"{table.name} to hold every architecture of its space",
                got=f"{codes[int(np.argmin(rows))].tolist()}, which it lacks",
                remedy="give a judge",
            )
        return np.asarray(table.values)[rows, 0]

    return look_up


def judged_truth(judge: Judge, table: Table, task: str) -> Truth:
    """What the judge predicts of a task's main metric, in the units of ``in_standard_units``."""
    (metric,) = main_metrics(table, [task])
    oriented = np.asarray(table.oriented(metric.name), np.float64)
    predictor = judge.predictor.select((metric.name,))

    def ask(codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        mean, _ = predictor(get_space(table.space).encode(jnp.asarray(codes)))
        return (metric.sign * np.asarray(mean, np.float64)[:, 0] - oriented.mean()) / oriented.std()

    return ask


@dataclasses.dataclass(frozen=True)
class Court:
    """Judges the proposals of one proposer.

    Attributes:
      table: the measured architectures, as ``in_standard_units`` gives them.
      goal: what is sought of its columns.
      truth: gives the quality of any architecture.
      ascending: ``[n]`` the true scores of the table's architectures, in order.
    """

    table: Table
    goal: Objective
    truth: Truth
    ascending: Float[np.ndarray, " n"]

    @classmethod
    def make(cls, table: Table, goal: Objective, truth: Truth) -> Court:
        """Scores the whole table."""
        court = cls(table, goal, truth, np.zeros(0))
        values = np.array(table.values, np.float64)
        values[:, 0] = truth(np.asarray(table.codes))
        return dataclasses.replace(court, ascending=np.sort(court.score(values)))

    def score(self, values: Float[np.ndarray, "n m"]) -> Float[np.ndarray, " n"]:
        """The goal, in standard deviations of the table's columns; the table's mean is 0."""
        measured = np.asarray(self.table.values, np.float64)
        push = np.asarray(self.goal.weights(self.table.metrics).push, np.float64)
        return (values - measured.mean(axis=0)) / measured.std(axis=0) @ push

    def percentile(self, score: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """How much of the table is better, in percent: 0 for the best."""
        return 100.0 * (1 - np.searchsorted(self.ascending, score, side="right") / len(self.ascending))

    def known(self, rows: Int[np.ndarray, " k"]) -> float:
        """The true score of that of some rows which was measured best."""
        values = np.array(self.table.values, np.float64)[rows]
        best = int(np.argmax(self.score(values)))
        values[best, 0] = self.truth(np.asarray(self.table.codes)[rows[best : best + 1]])[0]
        return float(self.score(values[best : best + 1])[0])

    def verdict(self, found: Found) -> dict[str, Any]:
        """Returns what is true and what was predicted of the first ``TOP`` proposals, best by the proposer first.

        JSON-ready lists: "true" and "predicted" (scores; the ensemble's mean, whatever was followed), "percentile".
        """
        top = found.top(TOP)
        predicted = np.array(top.mean, np.float64)
        true = predicted.copy()
        # Filled up to one shape, so that a judge does not compile for every number of proposals.
        true[:, 0] = self.truth(np.resize(top.codes, (TOP, top.codes.shape[1])))[: len(top)]
        score = self.score(true)
        lists = {"true": score, "predicted": self.score(predicted), "percentile": self.percentile(score)}
        return {name: values.tolist() for name, values in lists.items()}
