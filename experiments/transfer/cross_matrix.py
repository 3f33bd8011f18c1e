"""Codes found for one task, scored on every other task: by measured tables, or by an independent ensemble."""

from __future__ import annotations

import jax
import numpy as np
from harness.scoring import fit_pair, predicted_scores

from ncp_jax.analysis.ranks import percentiles, table_ranks
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import tasks_of
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation import PropagationConfig, propagate
from ncp_jax.propagation.objective import default_objective
from ncp_jax.searchers import NCPSearch
from ncp_jax.training import Recipe
from transfer.source_runs import SourceRuns

INVERTED = 29  # sets the keys of the starts apart

Matrix = dict[str, dict[str, list[float]]]  # task of the search → task that scores → percentage, for each seed


def measured_matrix(sources: SourceRuns, method: NCPSearch) -> Matrix:
    """Searches each task, and looks the best code that was paid for up in the tables of all tasks.

    Returns:
      The percentage of each table that is as good as the code or better: lower is better.
    """
    tables = sources.tasks.tables
    ranks = {name: table_ranks(sources.tasks.values([name])[0]) for name in tables}
    best = {name: sources.best_rows(method, name, name)[:, 0] for name in tables}
    return {a: {b: percentiles(ranks[b][best[a]], sources.tasks.size).tolist() for b in tables} for a in tables}


def judged_matrix(
    table: Table, seed: int, *, recipe: Recipe, members: int, codes: int, steps: int
) -> dict[str, dict[str, float]]:
    """Inverts a predictor of all tasks for each in turn; an ensemble trained on other rows scores the best code.

    Args:
      table: all tasks, on the same architectures.
      seed: seed of the halves of the rows, the networks and the starts.
      recipe: recipe of both ensembles.
      members: networks of each.
      codes: starts of each inversion.
      steps: steps of each inversion.

    Returns:
      Task of the search → task that scores → percentage of the table that the evaluator scores as high or higher.
    """
    proposer, evaluator = fit_pair(table, recipe=recipe, members=members, seed=seed)
    tasks, found = tasks_of(table), {}
    for task in tasks:
        of_task, key = for_task(proposer, task), jax.random.fold_in(jax.random.key(seed), INVERTED)
        goal = default_objective(of_task.metrics, limited=True)  # its main metric alone
        config = PropagationConfig(steps=steps)
        found[task] = propagate(of_task, goal, codes=codes, key=key, config=config).top(1).codes
    every, proposals = np.asarray(table.codes), np.concatenate([found[task] for task in tasks])
    matrix: dict[str, dict[str, float]] = {task: {} for task in tasks}
    for judge in tasks:
        score = predicted_scores(evaluator, table, judge)
        level, proposed = score(every), score(proposals)
        for task, value in zip(tasks, proposed, strict=True):
            matrix[task][judge] = float(100 * np.mean(level >= value))
    return matrix
