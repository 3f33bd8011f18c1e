"""Runs and scores Arch-Graph and baselines on every task of a space, with the other tasks as sources."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.analysis.ranks import best_ranks, kendall_tau, percentiles, regret
from ncp_jax.benchmarks import QueryGuard, Table
from ncp_jax.embeddings import agreement, choose_anchors, fingerprint, rank_correlations, similarity
from ncp_jax.ordering import Reliability, reliability
from ncp_jax.searchers.arch_graph.search import (
    ArchGraphConfig,
    ArchGraphRuns,
    SearchHistory,
    final_order,
    run_arch_graph,
)
from ncp_jax.searchers.arch_graph.sources import Sources, full_sources, learn_sources, sampled_values, source_values
from ncp_jax.spaces import get_space
from ncp_jax.training.relations import RelationInputs
from transfer.baselines import gaussian_process, mean_rank, random_search

FINAL_GRAPH = 256  # candidates in the graph of a run's final order; the others follow by expected wins
PAIRS = 4000  # pairs per run for the calibration
ANCHORS = 50  # architectures that a task's fingerprint is made of


@dataclasses.dataclass(frozen=True)
class Problem:
    """The tasks of a space and the evidence that is known before the first query.

    Attributes:
      tables: one table per task, over the same architectures.
      values: ``[t, n]``, main metrics, higher is better; only for scoring results.
      inputs: predictor inputs of the candidates.
      known: values of each target's sources, ``[s, n]``; empty without sources.
      rows: architectures measured on each target's sources, ``[runs, b]``; None where all are.
      sources: evidence for the relation predictor, one variant per target or per run; None without sources.
    """

    tables: tuple[Table, ...]
    values: np.ndarray
    inputs: RelationInputs
    known: tuple[np.ndarray, ...]
    rows: tuple[np.ndarray, ...] | None
    sources: Sources | None

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return tuple(table.name.partition("/")[2] for table in self.tables)


def make_problem(
    tables: Sequence[Table],
    *,
    sources: str,
    source_budget: int | None,
    runs: int,
    seed: int,
    config: ArchGraphConfig,
) -> Problem:
    """Prepares every task as a target.

    Args:
      tables: one table per task.
      sources: "none", "one" (the task that follows, cyclically) or "all" (all the others).
      source_budget: number of architectures measured on the sources, drawn anew for each run; None for all.
      runs: number of runs of each target.
      seed: random seed of the samples and of the sources' predictors.
      config: settings of the search; its recipe trains the sources' predictors.

    Raises:
      UsageError: unknown ``sources``, a source budget out of range, or fewer than two tasks with sources.
    """
    checks.choose("sources", sources, ("none", "one", "all"))
    inputs = RelationInputs.of(tables[0].space, np.asarray(tables[0].codes))
    values = np.stack([np.asarray(t.oriented(t.main.name)) for t in tables])
    count = len(tables)
    if sources != "none" and count < 2:
        raise checks.UsageError(expected="two tasks or more with sources", got=str(count), remedy="use --sources none")
    chosen: dict[str, Callable[[int], list[int]]] = {
        "none": lambda t: [],
        "one": lambda t: [(t + 1) % count],
        "all": lambda t: [s for s in range(count) if s != t],
    }
    others = [chosen[sources](t) for t in range(count)]
    known = tuple(source_values(tables[t], [tables[s] for s in others[t]]) for t in range(count))
    if sources == "none":
        return Problem(tuple(tables), values, inputs, known, None, None)
    if source_budget is None:
        whole = full_sources(inputs, known, seed=seed, recipe=config.recipe)
        return Problem(tuple(tables), values, inputs, known, None, whole)
    drawn = [sampled_values(v, source_budget, runs=runs, seed=seed) for v in known]
    learned = learn_sources(
        inputs,
        np.concatenate([rows for rows, _ in drawn]),
        np.concatenate([sampled for _, sampled in drawn]),
        seed=seed,
        recipe=config.recipe,
    )
    return Problem(tuple(tables), values, inputs, known, tuple(rows for rows, _ in drawn), learned)


def guards(problem: Problem, budget: int, runs: int) -> list[QueryGuard]:
    """Returns a new guard for each task."""
    return [QueryGuard(table, table.main.name, budget=budget, runs=runs) for table in problem.tables]


def search_all(
    method: str,
    problem: Problem,
    *,
    budget: int,
    runs: int,
    seed: int,
    config: ArchGraphConfig,
    progress: Callable[[int, int], None] | None = None,
) -> list[ArchGraphRuns | SearchHistory]:
    """Runs one method on every task: "arch_graph", "borda" (without the graph), "no_transfer", or a baseline."""
    fresh = guards(problem, budget, runs)
    if method in ("arch_graph", "borda", "no_transfer"):
        ranking = "borda" if method == "borda" else config.ranking
        return list(
            run_arch_graph(
                fresh,
                problem.inputs,
                sources=None if method == "no_transfer" else problem.sources,
                seed=seed,
                config=dataclasses.replace(config, ranking=ranking),
                progress=progress,
            )
        )
    if method == "random":
        return [random_search(guard, seed=seed) for guard in fresh]
    baseline = _mean_rank if method == "mean_rank" else _gaussian_process
    return [baseline(problem, t, guard, seed) for t, guard in enumerate(fresh)]


def _evidence(problem: Problem, target: int) -> np.ndarray:
    """The evidence for the baselines: ``[1 or runs, n, s]``."""
    if problem.sources is None:
        return np.zeros((1, len(problem.values[0]), 0), np.float32)
    return np.split(np.asarray(problem.sources.evidence), len(problem.tables))[target]


def _each_run(
    problem: Problem, target: int, guard: QueryGuard, search: Callable[[QueryGuard, int], SearchHistory]
) -> SearchHistory:
    """Searches run by run, where every run has its own sample of the sources."""
    table = problem.tables[target]
    single = [
        search(QueryGuard(table, table.main.name, budget=guard.budget), run) for run in range(len(guard.remaining))
    ]
    return SearchHistory(*(np.concatenate([getattr(t, f) for t in single]) for f in ("asked", "paid", "scores")))


def _mean_rank(problem: Problem, target: int, guard: QueryGuard, seed: int) -> SearchHistory:
    del seed
    if problem.rows is None:
        return mean_rank(guard, problem.known[target].T)
    evidence = _evidence(problem, target)
    return _each_run(problem, target, guard, lambda one, run: mean_rank(one, evidence[run]))


def _gaussian_process(problem: Problem, target: int, guard: QueryGuard, seed: int) -> SearchHistory:
    """A Gaussian process with the information that Arch-Graph has: graph attributes, codes, the sources' utilities."""
    space = get_space(problem.tables[0].space)
    codes = np.asarray(space.encode(jnp.asarray(guard.codes)))
    structure = np.concatenate([np.asarray(problem.inputs.attributes), codes], axis=1)
    evidence = _evidence(problem, target)
    blocks = (structure.shape[1], evidence.shape[-1]) if evidence.shape[-1] else (structure.shape[1],)

    def search(one: QueryGuard, variant: int, number: int) -> SearchHistory:
        features = np.concatenate([structure, evidence[variant]], axis=1).astype(np.float32)
        start = None
        if evidence.shape[-1]:
            favourites = np.argsort(-evidence[variant].mean(axis=-1), kind="stable")[:5].astype(np.int32)
            start = np.tile(favourites, (len(one.remaining), 1))
        return gaussian_process(one, features, seed=number, start=start, blocks=blocks)

    if len(evidence) == 1:
        return search(guard, 0, seed)
    return _each_run(problem, target, guard, lambda one, run: search(one, run, seed + run))


def score_runs(
    found: ArchGraphRuns | SearchHistory, values: np.ndarray, *, ranking: str, trust: float
) -> dict[str, list[Any]]:
    """Scores a method's runs on one task.

    Returns:
      JSON-ready lists with one entry per run: "ranks" (of the best after each query), "regret" (in the metric's unit),
      "tau" (of the final order).
    """
    history = found if isinstance(found, SearchHistory) else found.history
    scores = history.scores
    if isinstance(found, ArchGraphRuns) and ranking == "mwas":
        runs = range(len(scores))
        orders = [final_order(found, run, trust=trust, nearest=FINAL_GRAPH, time_limit=0.1)[0] for run in runs]
        scores = -np.argsort(np.stack(orders), axis=1).astype(np.float32)
    tau = kendall_tau(scores, values)
    return {
        "ranks": best_ranks(history.asked, values).tolist(),
        "regret": regret(history.asked, values)[:, -1].tolist(),
        "tau": [float(x) if np.isfinite(x) else None for x in tau],
    }


def calibration(found: ArchGraphRuns, values: np.ndarray, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true relations of random pairs that were not measured: ``[k]`` probabilities and outcomes."""
    rng = np.random.default_rng(seed)
    predicted, outcomes = [], []
    for asked, utilities in zip(found.history.asked, np.asarray(found.utilities), strict=True):
        left = np.setdiff1d(np.arange(len(values)), asked)
        if not len(left):
            continue
        a, b = rng.choice(left, (2, PAIRS))
        predicted.append(np.asarray(jax.nn.sigmoid(utilities[:, a] - utilities[:, b])).mean(axis=0))
        outcomes.append(0.5 * (1 + np.sign(values[a] - values[b])))
    if not predicted:  # everything was measured, so there is no relation to predict
        return np.array([0.5]), np.array([0.5])
    return np.concatenate(predicted), np.concatenate(outcomes)


def summarise(scored: dict[str, dict[str, dict[str, Any]]], sizes: dict[str, int]) -> dict[str, Any]:
    """Means over tasks and seeds with bootstrap intervals over seeds.

    Args:
      scored: method → task → result of ``score_runs``.
      sizes: number of architectures of each task.

    Returns:
      "percentile", "rank", "tau" (method → interval over the seeds of the mean over tasks), "tasks" (the same for each
      task, and "regret" in its metric's unit) and "curves" (mean best percentile after each query).
    """
    per_task: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    overall: dict[str, dict[str, Any]] = {"percentile": {}, "rank": {}, "tau": {}}
    for method, by_task in scored.items():
        ranks = {task: np.asarray(r["ranks"]) for task, r in by_task.items()}
        share = {task: percentiles(r, sizes[task]) for task, r in ranks.items()}
        tau = {task: np.array([np.nan if x is None else x for x in r["tau"]], float) for task, r in by_task.items()}
        overall["percentile"][method] = mean_interval(np.mean([s[:, -1] for s in share.values()], axis=0))
        overall["rank"][method] = mean_interval(np.mean([r[:, -1] for r in ranks.values()], axis=0))
        overall["tau"][method] = mean_interval(np.nan_to_num(np.mean(list(tau.values()), axis=0)))
        mean = np.mean(list(share.values()), axis=0)
        intervals = [mean_interval(column) for column in mean.T]
        curves[method] = {k: [interval[k] for interval in intervals] for k in ("mean", "low", "high")}
        for task in by_task:
            per_task.setdefault(task, {})[method] = {
                "percentile": mean_interval(share[task][:, -1]),
                "rank": mean_interval(ranks[task][:, -1]),
                "regret": mean_interval(by_task[task]["regret"]),
                "tau": mean_interval(np.nan_to_num(tau[task])),
            }
    return {**overall, "tasks": per_task, "curves": curves}


def task_similarity(problem: Problem) -> dict[str, Any]:
    """Similarity of the tasks' fingerprints, and their rank correlations on the whole tables, JSON-ready."""
    anchors = np.asarray(choose_anchors(np.asarray(problem.tables[0].codes), ANCHORS, key=jax.random.key(0)))
    by_fingerprint = np.asarray(similarity(fingerprint(problem.values[:, anchors])))
    by_rank = np.asarray(rank_correlations(problem.values))
    return {
        "tasks": list(problem.tasks),
        "anchors": ANCHORS,
        "fingerprint": by_fingerprint.tolist(),
        "kendall": by_rank.tolist(),
        "agreement": float(agreement(by_fingerprint, by_rank)) if len(problem.tasks) > 2 else None,
    }


def relation_quality(found: Sequence[ArchGraphRuns], values: np.ndarray) -> Reliability:
    """Calibration of the relations over all tasks and runs."""
    both = [calibration(f, v) for f, v in zip(found, values, strict=True)]
    return reliability(*(np.concatenate(part) for part in zip(*both, strict=True)))
