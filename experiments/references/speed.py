"""How fast the compiled searches are, against plain Python doing the same, in one process."""

from __future__ import annotations

import time
from typing import Any

import jax
import numpy as np

from ncp_jax.searchers import ArraySearcher, Searcher
from ncp_jax.studies import runner
from ncp_jax.studies.grid import Grid
from ncp_jax.studies.plan import Pack, Plan, make_plan
from references.plain import PLAIN, PlainTable, plain_search

ROUNDS = 5
PLAIN_RUNS = 20  # runs of the plain loop a round: enough for tenths of a second, and its rate does not depend on them


def measure_speed(grid: Grid, *, memory_mb: float | None = None) -> dict[str, dict[str, Any]]:
    """Times each array-program method of a grid, and its plain Python loop where there is one.

    The first benchmark of the grid serves. Both sides take turns, ours with all seeds, compiled before, the loop with
    at most 20 seeds, its dictionaries made before; each side's rate is the median of five rounds. Searchers that train
    models have no plain loop, and are timed once, by one call. Queries are those paid for.

    Returns:
      Label → "queries_per_s", "runs", "seconds" (of a round), "first_call_s" (with compilation), and where there is a
      plain loop "python_queries_per_s", "python_runs" (of a round) and "ratio" (ours over its).
    """
    plan = make_plan(grid, memory_mb=memory_mb)
    benchmark = next(iter(plan.tables))
    plain = PlainTable.of(plan.tables[benchmark], grid.metric)
    measured = {}
    for label, method in plan.methods.items():
        if not isinstance(method, ArraySearcher):
            continue
        packs = [p for p in plan.packs if p.benchmark == benchmark and label in p.methods]
        # A searcher that trains models takes minutes over all seeds: one call shows its rate.
        packs = packs if method.name in PLAIN else packs[:1]
        measured[label] = _measure(plan, packs, label, method, plain)
    return measured


def _measure(plan: Plan, packs: list[Pack], label: str, method: Searcher, plain: PlainTable) -> dict[str, Any]:
    began = time.perf_counter()
    queries = _ours(plan, packs)
    first, ours, theirs, paid = time.perf_counter() - began, [], [], 0
    has_plain = method.name in PLAIN and not plan.grid.seconds
    seeds = range(min(plan.grid.seeds, PLAIN_RUNS))
    # A search that takes minutes is timed once: its noise is small against it.
    for _ in range(ROUNDS if method.name in PLAIN else 1):
        began = time.perf_counter()
        _ours(plan, packs)
        ours.append(time.perf_counter() - began)
        if has_plain:
            began = time.perf_counter()
            paid = sum(_plain(plan, label, plain, seed) for seed in seeds)
            theirs.append(time.perf_counter() - began)
    rate = queries / float(np.median(ours))
    result: dict[str, Any] = {
        "queries_per_s": rate,
        "runs": sum(len(pack.seeds) for pack in packs),
        "seconds": float(np.median(ours)),
        "first_call_s": first,
    }
    if has_plain:
        python = paid / float(np.median(theirs))
        result |= {"python_queries_per_s": python, "ratio": rate / python, "python_runs": len(seeds)}
    return result


def _ours(plan: Plan, packs: list[Pack]) -> int:
    """Runs packs on the first device; the number of queries paid for."""
    first = jax.local_devices()[:1]
    return sum(int(np.sum(runs.count)) for pack in packs for runs in runner.run_packs(plan, [pack], first))


def _plain(plan: Plan, label: str, table: PlainTable, seed: int) -> int:
    grid, method = plan.grid, plan.methods[label]
    run = plain_search(
        method.name, table, budget=grid.budget, seed=seed, repeats=grid.repeats, settings=method.settings()
    )
    return len(run.codes)
