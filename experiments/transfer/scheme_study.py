"""The parts of transfer_schemes.py that are no searches: what is run, and what the summary says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from harness.tables import or_digits

from ncp_jax import checks
from ncp_jax.benchmarks.registry import load_tasks
from ncp_jax.metrics import check_split
from transfer.gains import Runs, chosen_sources, foresight, gains, levels
from transfer.pairs import Tasks
from transfer.schemes import SCHEMES, SCRATCH

MARKS = (10, 20, 50, 100)  # queries after which the best is compared
MIDDLE = 50  # queries at which similarities are compared with gains
SMOKE_TASKS, SMOKE_METHODS = 3, ("architectures", "population", "tuned-policy")
SMALL: dict[str, dict[str, Any]] = {  # searchers that compile and train fast
    "evolution": {"population": 6, "tournament": 3},
    "reinforce": {"width": 4, "steps": 1},
    "bayesian": {"initial": 4},
    "ncp": {"members": 2, "width": 8, "sweeps": 1, "steps": 2, "best": 3, "strangers": 2, "polish": 2},
    "arch-graph": {"members": 1, "steps": 3, "width": 4, "batch": 10},
}


def methods_of(given: Sequence[str], *, smoke: bool) -> tuple[str, ...]:
    """Returns the methods to run, in their order: those given and those that these are compared with; all if none."""
    every = (*SCRATCH, *SCHEMES)
    chosen = {checks.choose("method", name, every) for name in given} or {*(SMOKE_METHODS if smoke else every)}
    chosen |= {SCHEMES[name].method for name in chosen if name in SCHEMES}
    return tuple(name for name in every if name in chosen)


def load_spaces(
    names: Sequence[str], targets: Sequence[str], sources: Sequence[str], *, on_test: bool, smoke: bool
) -> dict[str, Tasks]:
    """Loads the tasks of each space.

    Raises:
      UsageError: an unknown space or task, a source that is a target, or tables of test values that are not allowed.
      FileNotFoundError: tables that are not on this machine.
    """
    given = names or or_digits("transnas-micro", "transnas-macro")
    spaces = tuple(dict.fromkeys(name.removeprefix("transnas-") for name in given))
    found = {}
    for space in spaces[: 1 if smoke else None]:
        tables = load_tasks(space)
        for table in tables:
            check_split(table.main, on_test=on_test)
        if smoke and not (targets or sources):
            tables = tables[:SMOKE_TASKS]
        found[space] = Tasks.choose(tables, targets, sources)
    return found


def summarise(
    runs: Mapping[str, Runs], tasks: Tasks, measures: Mapping[str, np.ndarray], budget: int
) -> dict[str, Any]:
    """Returns the results on one space, JSON-ready; see ``gains`` for each part."""
    marks = [mark for mark in MARKS if mark <= budget]
    middle, names = max(mark for mark in marks if mark <= MIDDLE), [*tasks.tables]
    schemes = {name: SCHEMES[name].method for name in runs if name in SCHEMES}
    compared = {name: gains(runs[name], runs[method], marks) for name, method in schemes.items()}
    told = {name: foresight(found[str(middle)]["one"], names, measures) for name, found in compared.items()}
    chosen = {
        name: chosen_sources(runs[name], runs[method], names, measures, middle) for name, method in schemes.items()
    }
    queries = range(1, budget + 1)
    curves = {
        name: {kind: [at["percentile"] for at in by_mark.values()] for kind, by_mark in found.items()}
        for name, found in ((name, levels(by_target, tasks.size, queries)) for name, by_target in runs.items())
    }
    return {
        "levels": {name: levels(by_target, tasks.size, marks) for name, by_target in runs.items()},
        "compared_with": schemes,
        "gains": compared,
        "similarity": {"tasks": names, **{name: matrix.tolist() for name, matrix in measures.items()}},
        "foresight": {"queries": middle, "correlation": told, "chosen": chosen},
        "curves": {
            name: {kind: {k: [at[k] for at in line] for k in ("mean", "low", "high")} for kind, line in found.items()}
            for name, found in curves.items()
        },
        "architectures": tasks.size,
    }


def told(results: Mapping[str, Any]) -> list[str]:
    """Lines of text: the level of each method and, for a scheme, its gains, at the largest number of queries to 50."""
    lines = []
    for space, found in results.items():
        mark = str(found["foresight"]["queries"])
        for name, level in found["levels"].items():
            parts = [f"{kind} top {at[mark]['percentile']['mean']:.2f} %" for kind, at in level.items()]
            if name in found["gains"]:
                one = found["gains"][name][mark]["one"]
                parts.append(f"of {len(one['pairs'])} pairs {one['better']} better, {one['worse']} worse")
            lines.append(f"{space} {name:14} after {mark} queries: {', '.join(parts)}")
    return lines
