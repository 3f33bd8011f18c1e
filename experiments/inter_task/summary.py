"""Summarises the cells: hypervolumes by method and time, and inversion against each of the others."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inter_task.methods import METHODS
from ncp_jax.analysis.comparison import holm, signed_rank
from ncp_jax.analysis.intervals import mean_interval

FIRST = "inversion"
SETS = ("single-task", "table", "exhaustive")  # sets of architectures that no race made
# Measures of a method at a time, and the largest value that each can have.
MEASURES = {"judged": 1.0, "predicted": 1.0, "answered": 1.0} | dict.fromkeys(
    ("distinct", "scored", "seconds"), math.inf
)


def summarise(cells: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """Returns the results by benchmark, JSON-ready.

    Args:
      cells: results of the seeds by benchmark.

    Returns:
      For each benchmark: "methods" (by method and second: hypervolumes "predicted" and "judged" as shares of the box,
      "distinct", "scored", "answered"), "sets" (the same for sets that no race made), "against" (by method and second:
      judged hypervolume of inversion minus the method's, "wins", "p" of the signed-rank test and "holm"), and more.
    """
    return {name: _summarise_one(some) for name, some in cells.items() if some}


def _summarise_one(cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    marks = [f"{mark:g}" for mark in cells[0]["marks"]]
    methods = [name for name in METHODS if name in cells[0]["methods"]]  # records have them by name

    def values(method: str, place: int, measure: str) -> list[float]:
        return [float(cell["methods"][method][place][measure]) for cell in cells]

    by_method = {
        method: {
            mark: {
                measure: mean_interval(values(method, place, measure), least=0.0, most=most)
                for measure, most in MEASURES.items()
            }
            for place, mark in enumerate(marks)
        }
        for method in methods
    }
    sets = {
        name: {
            key: mean_interval([cell["sets"][name][key] for cell in cells], least=0.0, most=1.0)
            for key in ("judged", "predicted")
        }
        for name in SETS
        if name in cells[0]["sets"]
    }
    against: dict[str, dict[str, Any]] = {method: {} for method in methods if method != FIRST}
    for place, mark in enumerate(marks):
        own = np.array(values(FIRST, place, "judged"))
        tests = {method: signed_rank(own, np.array(values(method, place, "judged")))[1] for method in against}
        adjusted = dict(zip(tests, holm(list(tests.values())).tolist(), strict=True)) if tests else {}
        for method in against:
            difference = own - np.array(values(method, place, "judged"))
            against[method][mark] = {
                "difference": mean_interval(difference, least=-1.0, most=1.0),
                "wins": int((difference > 0).sum()),
                "ties": int((difference == 0).sum()),
                "p": float(tests[method]),
                "holm": adjusted[method],
            }
    alone = np.array([cell["sets"]["single-task"]["judged"] for cell in cells])
    joint = np.array(values(FIRST, len(marks) - 1, "judged"))
    return {
        "tasks": cells[0]["tasks"],
        "budgets": cells[0]["budgets"],
        "methods": by_method,
        "sets": sets,
        "against": against,
        "over_single_task": mean_interval(joint - alone, least=-1.0, most=1.0),
        "compile_s": mean_interval([cell["compile_s"] for cell in cells], least=0.0),
        "most_of_budget": max(cell["most_of_budget"] for cell in cells),
    }


def lines(results: Mapping[str, Any]) -> list[str]:
    """Returns the results as lines of text: hypervolumes at each time."""
    found = []
    for name, one in results.items():
        for method, by_mark in one["methods"].items():
            shown = [f"{row['judged']['mean']:.4f} at {mark} s" for mark, row in by_mark.items()]
            found.append(f"{name} {method}: {', '.join(shown)}")
        found += [f"{name} {key}: {row['judged']['mean']:.4f}" for key, row in one["sets"].items()]
    return found
