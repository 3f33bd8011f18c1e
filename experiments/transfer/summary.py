"""Summarises a transfer study: percentiles, ranks and tau by method and by task, calibration, similarity of tasks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.analysis.ranks import percentiles, table_ranks
from ncp_jax.benchmarks import Table
from ncp_jax.embeddings import agreement, choose_anchors, fingerprint, rank_correlations, similarity
from ncp_jax.ordering import Reliability, reliability
from ncp_jax.records.journal import read_records
from ncp_jax.spaces import get_space
from ncp_jax.types import Float

ANCHORS = 50  # architectures that a task's fingerprint is made of

Results = dict[str, dict[str, list[dict[str, Any]]]]


def read_results(folder: Path, methods: dict[str, str]) -> Results:
    """Reads the records of a finished study.

    Args:
      folder: the study's folder.
      methods: label in the study → name of the method.

    Returns:
      Method → task → results of each seed.
    """
    found: Results = {name: {} for name in methods.values()}
    for line in read_records(folder / "records.jsonl"):
        record = line.record
        task = record["benchmark"].partition("/")[2]
        found[methods[record["method"]]].setdefault(task, []).append(record["results"])
    return found


def score_runs(runs: Sequence[dict[str, Any]], budget: int) -> dict[str, list[Any]]:
    """Turns the results of a method's runs on one task into lists with one entry per run.

    Returns:
      "ranks" (of the best after each query), "regret" (in the metric's unit), "tau" (of the final predictions).
    """
    # The best after a query is that of the last improvement until then; the first query is always one.
    latest = [np.searchsorted(run["at"], np.arange(1, budget + 1), side="right") - 1 for run in runs]
    return {
        "ranks": [np.asarray(run["ranks"])[at].tolist() for run, at in zip(runs, latest, strict=True)],
        "regret": [run["regrets"][-1] for run in runs],
        "tau": [run.get("tau") for run in runs],
    }


def read_seconds(folder: Path, methods: dict[str, str]) -> dict[str, float]:
    """Returns the wall seconds of each method over all sessions of a study, also those before its grid changed."""
    spent = dict.fromkeys(methods.values(), 0.0)
    for line in read_records(folder / "sessions.jsonl"):
        for label, seconds in line.record.get("method_seconds", {}).items():
            if label in methods:
                spent[methods[label]] += seconds
    return spent


def pool_calibration(by_task: dict[str, list[dict[str, Any]]]) -> Reliability:
    """Pools the calibrations of a method's runs on all tasks; all runs have the same number of pairs.

    Where every run measured the whole table, there is no relation to predict: the result is one pair at 0.5.
    """
    runs = [run for task in by_task.values() for run in task]
    curves = [Reliability.from_json(run["calibration"]) for run in runs if "calibration" in run]
    if not curves:
        return reliability(np.array([0.5]), np.array([0.5]))
    counts = np.sum([curve.counts for curve in curves], axis=0)
    some = np.where(counts > 0, counts, np.nan)
    confidence, frequency = (
        np.sum([np.nan_to_num(getattr(curve, name)) * curve.counts for curve in curves], axis=0) / some
        for name in ("confidence", "frequency")
    )
    error = np.nansum(counts * np.abs(confidence - frequency)) / counts.sum()
    brier = np.mean([curve.brier for curve in curves])
    return Reliability(confidence, frequency, counts, float(error), float(brier))


def _share_interval(values: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Returns the mean of percentages with its interval."""
    return mean_interval(values, least=0.0, most=100.0)


def summarise(results: Results, sizes: dict[str, int], budget: int) -> dict[str, Any]:
    """Means over tasks and seeds with 95 % intervals over seeds.

    Args:
      results: what ``read_results`` returns.
      sizes: number of architectures of each task.
      budget: number of queries of a run.

    Returns:
      "percentile", "rank", "tau" (method → interval over the seeds of the mean over tasks), "tasks" (the same for each
      task, and "regret" in its metric's unit) and "curves" (mean best percentile after each query).
    """
    per_task: dict[str, Any] = {}
    curves: dict[str, Any] = {}
    overall: dict[str, dict[str, Any]] = {"percentile": {}, "rank": {}, "tau": {}}
    for method, found in results.items():
        by_task = {task: score_runs(runs, budget) for task, runs in found.items()}
        ranks = {task: np.asarray(r["ranks"]) for task, r in by_task.items()}
        share = {task: percentiles(r, sizes[task]) for task, r in ranks.items()}
        tau = {task: np.array([np.nan if x is None else x for x in r["tau"]], float) for task, r in by_task.items()}
        overall["percentile"][method] = _share_interval(np.mean([s[:, -1] for s in share.values()], axis=0))
        overall["rank"][method] = mean_interval(np.mean([r[:, -1] for r in ranks.values()], axis=0), least=1.0)
        overall["tau"][method] = mean_interval(np.nan_to_num(np.mean(list(tau.values()), axis=0)))
        mean = np.mean(list(share.values()), axis=0)
        intervals = [_share_interval(column) for column in mean.T]
        curves[method] = {k: [interval[k] for interval in intervals] for k in ("mean", "low", "high")}
        for task in by_task:
            per_task.setdefault(task, {})[method] = {
                "percentile": _share_interval(share[task][:, -1]),
                "rank": mean_interval(ranks[task][:, -1], least=1.0),
                "regret": mean_interval(by_task[task]["regret"], least=0.0),
                "tau": mean_interval(np.nan_to_num(tau[task])),
            }
    return {**overall, "tasks": per_task, "curves": curves}


def network_means(table: Table) -> Float[np.ndarray, " n"]:
    """Returns the mean of the searched metric over the codes of each architecture's network; higher is better.

    A table's value is that of one training. Codes that denote one network (``Space.networks``) are trainings of it, and
    their mean has less noise.
    """
    values = np.asarray(table.oriented(table.main.name), np.float64)
    networks = get_space(table.space).networks(table.codes)
    return (np.bincount(networks, values) / np.bincount(networks))[networks]


def denoised(results: Results, tables: Sequence[Table]) -> dict[str, dict[str, Any]]:
    """Judges the best architecture that each run measured by its network's mean, see ``network_means``.

    Returns:
      "percentile" and "rank": method → interval over the seeds of the mean over tasks. Ranks are among the table's
      architectures, ties share the better one. Nothing where each network has one code.
    """
    networks = get_space(tables[0].space).networks(tables[0].codes)
    if len(np.unique(networks)) == len(networks):
        return {}
    ranked = {table.name.partition("/")[2]: table_ranks(network_means(table)) for table in tables}
    found: dict[str, dict[str, Any]] = {"percentile": {}, "rank": {}}
    for method, by_task in results.items():
        ranks = {task: ranked[task][[run["rows"][-1] for run in runs]] for task, runs in by_task.items()}
        shares = [percentiles(rank, len(ranked[task])) for task, rank in ranks.items()]
        found["percentile"][method] = _share_interval(np.mean(shares, axis=0))
        found["rank"][method] = mean_interval(np.mean(list(ranks.values()), axis=0), least=1.0)
    return found


def task_similarity(tables: Sequence[Table]) -> dict[str, Any]:
    """Similarity of the tasks' fingerprints, and their rank correlations on the whole tables, JSON-ready."""
    values = np.stack([np.asarray(t.oriented(t.main.name)) for t in tables])
    anchors = np.asarray(choose_anchors(np.asarray(tables[0].codes), ANCHORS, key=jax.random.key(0)))
    by_fingerprint = np.asarray(similarity(fingerprint(values[:, anchors])))
    by_rank = np.asarray(rank_correlations(values))
    return {
        "tasks": [table.name.partition("/")[2] for table in tables],
        "anchors": ANCHORS,
        "fingerprint": by_fingerprint.tolist(),
        "kendall": by_rank.tolist(),
        "agreement": float(agreement(by_fingerprint, by_rank)) if len(tables) > 2 else None,
    }
