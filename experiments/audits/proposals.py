"""Audits what inversion proposes: where a complete table knows the truth, and on NAS-Bench-MR, where nothing does."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from audits.splits import TaskCoverage
from ncp_jax import (
    AuditConfig,
    Found,
    Predictor,
    PropagationConfig,
    Table,
    audit,
    fit,
    get_space,
    load_shipped,
    propagate,
)
from ncp_jax.benchmarks.table import main_metrics, tasks_of
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation.objective import default_objective
from ncp_jax.training import Recipe

TOP = 10  # proposals of each search that are audited
SEARCHED, PROPOSALS = "searched", "proposals"


@dataclasses.dataclass(frozen=True)
class SearchSettings:
    """How predictors are trained and inverted.

    Attributes:
      recipe: recipe of the predictors that are trained.
      members: networks in each.
      codes: starts of each inversion.
      steps: its gradient steps.
    """

    recipe: Recipe
    members: int = 4
    codes: int = 1024
    steps: int = 70


def searched(
    table: Table, *, labels: int, search: SearchSettings, config: AuditConfig, seed: int
) -> dict[str, TaskCoverage]:
    """Learns from some rows of a complete table, inverts, audits the proposals it lacks, and looks the truth up.

    Args:
      table: all tasks of a complete table.
      labels: number of random rows that predictor and audit see.
      search: how the predictor is trained and inverted.
      config: settings of the audit.
      seed: random seed of rows, networks and starts.

    Returns:
      The counts of the ten best proposals of each task that are not among the rows, by task.
    """
    rows = np.random.default_rng((seed, 31)).permutation(len(table))[:labels]
    known = table.select(np.sort(rows))
    key = jax.random.fold_in(jax.random.key(seed), 31)
    predictor = fit(known, recipe=search.recipe, members=search.members, key=key)
    space = get_space(table.space)
    settings = PropagationConfig(steps=search.steps, measured=space.all_codes())
    found = {}
    for task in tasks_of(table):
        of_task = for_task(predictor, task)
        goal, start = default_objective(of_task.metrics, limited=True), jax.random.fold_in(key, 1)
        ranked = propagate(of_task, goal, codes=search.codes, key=start, config=settings)
        # Only codes that the complete table has, and the known part lacks.
        here = np.asarray(table.rows(jnp.asarray(ranked.codes))) >= 0
        new = np.asarray(known.rows(jnp.asarray(ranked.codes))) < 0
        found[task] = ranked.take(np.flatnonzero(here & new)[:TOP]).codes
    report = audit(known, np.concatenate(list(found.values())), config=config, key=jax.random.fold_in(key, 2))
    counts, first = {}, 0
    for metric in report.metrics:
        task = metric.metric.task
        part = np.arange(first, first + len(found[task]))
        first += len(part)
        measured = table.measured(metric.metric.name)
        true = measured[np.asarray(table.rows(jnp.asarray(found[task])))]
        counts[task] = TaskCoverage.of(report.take(part), metric.take(part), true, deviation=float(measured.std()))
    return counts


def audit_proposals(table: Table, *, search: SearchSettings, config: AuditConfig, seed: int) -> dict[str, Any]:
    """Inverts the shipped predictor, or one that is trained, for each task and audits the ten best of two objectives.

    Returns:
      By task and objective ("metric" alone; "trade-off" with FLOPs, where the predictor has them): JSON-ready rows of
      the proposals.
    """
    key = jax.random.fold_in(jax.random.key(seed), 32)
    predictor = _proposer(table, search, key)
    found: dict[tuple[str, str], Found] = {}
    for metric in main_metrics(table, tasks_of(table)):
        of_task = for_task(predictor, metric.task)
        goals = {"metric": default_objective(of_task.metrics, limited=True)}
        if "flops" in [m.name for m in of_task.metrics]:
            goals["trade-off"] = default_objective(of_task.metrics, limited=False)
        for name, goal in goals.items():
            inversion = PropagationConfig(steps=search.steps)
            proposed = propagate(of_task, goal, codes=search.codes, key=key, config=inversion)
            found[metric.task, name] = proposed.top(TOP)
    report = audit(table, np.concatenate([f.codes for f in found.values()]), config=config, key=key)
    results: dict[str, Any] = {}
    first = 0
    for (task, goal_name), proposals in found.items():
        metric_audit = next(m for m in report.metrics if m.metric.task == task)
        name = for_task(predictor, task).main.name
        rows = []
        for place, row in enumerate(proposals.rows(), first):
            predicted = row["predicted"]
            assert isinstance(predicted, dict)
            said = metric_audit.row(place)
            nearest = report.row(place)["nearest"]
            rows.append({"string": row["string"], "proposer": predicted[name], **said, "distance": nearest["distance"]})
        first += len(proposals)
        results.setdefault(task, {})[goal_name] = rows
    return results


def _proposer(table: Table, search: SearchSettings, key: jax.Array) -> Predictor:
    shipped = load_shipped(table.name)
    if shipped is not None:
        return shipped[0]
    return fit(table, recipe=search.recipe, members=search.members, key=key)
