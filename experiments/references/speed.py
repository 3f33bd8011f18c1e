"""Measures the speed of the compiled searches against Python loops that do the same, in one process."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from ncp_jax.searchers import ArraySearcher, Searcher
from ncp_jax.studies import runner
from ncp_jax.studies.grid import Grid
from ncp_jax.studies.plan import Pack, Plan, make_plan
from references.python_searches import PYTHON_SEARCHES, PythonTable, python_search

ROUNDS = 5
PYTHON_RUNS = 20  # runs of the Python loop per round: some tenths of a second; its rate does not depend on their number


def measure_speed(grid: Grid, *, memory_mb: float | None = None) -> dict[str, dict[str, Any]]:
    """Times each array searcher of a grid, and its Python loop where there is one, on the first benchmark.

    Both sides alternate for five rounds, and the rate of a side is the median of its rounds. A round of the compiled
    search has all seeds, after compilation; a round of the loop has at most 20 seeds, after its dictionaries are made.
    Searchers that train models have no Python loop and are timed once, by one call. Only paid queries count.

    Returns:
      Label → "queries_per_s", "runs", "seconds" (of a round), "first_call_s" (with compilation); with a Python loop
      also "python_queries_per_s", "python_runs" (of a round) and "ratio" (compiled over Python).
    """
    plan = make_plan(grid, memory_mb=memory_mb)
    benchmark = next(iter(plan.tables))
    dictionaries = PythonTable.of(plan.tables[benchmark], grid.metric, grid.same_network)
    measured = {}
    for label, method in plan.methods.items():
        if not isinstance(method, ArraySearcher):
            continue
        packs = [p for p in plan.packs if p.benchmark == benchmark and label in p.methods]
        # A searcher that trains models takes minutes over all seeds: one call shows its rate.
        packs = packs if method.name in PYTHON_SEARCHES else packs[:1]
        measured[label] = _measure(plan, packs, label, method, dictionaries)
    return measured


def _measure(plan: Plan, packs: list[Pack], label: str, method: Searcher, dictionaries: PythonTable) -> dict[str, Any]:
    began = time.perf_counter()
    queries = _ours(plan, packs)
    first, ours, theirs, paid = time.perf_counter() - began, [], [], 0
    has_python = method.name in PYTHON_SEARCHES and not plan.grid.seconds
    seeds = range(min(plan.grid.seeds, PYTHON_RUNS))
    # A search that takes minutes is timed once: its noise is small against it.
    for _ in range(ROUNDS if method.name in PYTHON_SEARCHES else 1):
        began = time.perf_counter()
        _ours(plan, packs)
        ours.append(time.perf_counter() - began)
        if has_python:
            began = time.perf_counter()
            paid = sum(_python(plan, label, dictionaries, seed) for seed in seeds)
            theirs.append(time.perf_counter() - began)
    rate = queries / float(np.median(ours))
    result: dict[str, Any] = {
        "queries_per_s": rate,
        "runs": sum(len(pack.seeds) for pack in packs),
        "seconds": float(np.median(ours)),
        "first_call_s": first,
    }
    if has_python:
        python = paid / float(np.median(theirs))
        result |= {"python_queries_per_s": python, "ratio": rate / python, "python_runs": len(seeds)}
    return result


def _ours(plan: Plan, packs: list[Pack]) -> int:
    """Runs packs on the first device; returns the number of queries paid for."""
    first = jax.local_devices()[:1]
    return sum(int(np.sum(runs.count)) for pack in packs for runs in runner.run_packs(plan, [pack], first))


def _python(plan: Plan, label: str, table: PythonTable, seed: int) -> int:
    grid, method = plan.grid, plan.methods[label]
    run = python_search(
        method.name, table, budget=grid.budget, seed=seed, repeats=grid.repeats, settings=method.settings()
    )
    return len(run.codes)
