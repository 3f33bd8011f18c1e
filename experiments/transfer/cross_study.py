"""The parts of ncp_cross_task.py that run nothing: what the summary says about labels that transfer saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncp_jax.analysis.intervals import mean_interval
from transfer.gains import Runs, chosen_sources, foresight, gains, levels, log_ranks, single
from transfer.pairs import ALL, NONE, Tasks

AIM = 50  # labels of the target at which transfer is to help
LEAST_BETTER = 5 / 7  # share of the targets on which it is to be better


def matrix_json(matrix: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, Any]:
    """Returns a matrix of percentages with intervals over seeds, JSON-ready."""
    return {
        "tasks": list(matrix),
        "percentile": {
            a: {b: mean_interval(values, least=0.0, most=100.0) for b, values in row.items()}
            for a, row in matrix.items()
        },
    }


def labels_saved(scheme: Runs, scratch: Runs, labels: Sequence[int]) -> dict[str, Any]:
    """Says how many labels a search from scratch needs to be as good as transfer is with fewer.

    Returns:
      "one" and "all" → number of labels → labels from scratch with the same mean logarithm of the rank, by
      interpolation over the logarithm of the number; None where more than the largest number are needed.
    """
    curve = np.array([np.mean([log_ranks(by[NONE], count).mean() for by in scratch.values()]) for count in labels])
    best = np.minimum.accumulate(curve)
    found: dict[str, Any] = {}
    for kind in ("one", ALL):
        parts = [one for by in scheme.values() for s, one in by.items() if (s == ALL) == (kind == ALL) and s != NONE]
        if parts:
            reached = {count: float(np.mean([log_ranks(one, count).mean() for one in parts])) for count in labels}
            found[kind] = {str(count): _needed(level, best, labels) for count, level in reached.items()}
    return found


def _needed(level: float, curve: np.ndarray, labels: Sequence[int]) -> float | None:
    """The number of labels at which a falling curve reaches a level; the least number where it begins below it."""
    there = np.flatnonzero(curve <= level)
    if not len(there):
        return None
    k = int(there[0])
    if k == 0:
        return float(labels[0])
    share = (curve[k - 1] - level) / (curve[k - 1] - curve[k])
    return float(np.exp(np.log(labels[k - 1]) + share * (np.log(labels[k]) - np.log(labels[k - 1]))))


def labels_of_aim(labels: Sequence[int]) -> int:
    """Returns the largest number of labels up to ``AIM``, or else the smallest one."""
    return max((count for count in labels if count <= AIM), default=min(labels))


def aim(compared: Mapping[str, Any], labels: Sequence[int]) -> dict[str, Any]:
    """Says whether transfer is worse than scratch on no target, and better on most, at ``labels_of_aim``.

    Counted are the targets with all sources together, or, where no target has several, the pairs with one source.

    Args:
      compared: what ``gains`` returns.
      labels: numbers of labels.
    """
    at = labels_of_aim(labels)
    found = compared[str(at)].get(ALL) or compared[str(at)]["one"]
    reached = found["worse"] == 0 and found["better"] >= LEAST_BETTER * len(found["pairs"]) - 1e-9
    return {"labels": at, "better": found["better"], "worse": found["worse"], "reached": bool(reached)}


def summarise(
    runs: Mapping[str, Runs], tasks: Tasks, measures: Mapping[str, np.ndarray], labels: Sequence[int]
) -> dict[str, Any]:
    """Returns the results of the inversions on one space, JSON-ready."""
    scratch, names = runs["scratch"], [*tasks.tables]
    schemes = {name: by for name, by in runs.items() if name != "scratch"}
    compared = {name: gains(by, scratch, labels) for name, by in schemes.items()}
    middle = labels_of_aim(labels)
    several = {name: by for name, by in schemes.items() if all(single(one) for one in by.values())}
    return {
        "levels": {name: levels(by, tasks.size, labels) for name, by in runs.items()},
        "gains": compared,
        "labels_saved": {name: labels_saved(by, scratch, labels) for name, by in schemes.items()},
        "aim": {name: aim(found, labels) for name, found in compared.items()},
        "similarity": {"tasks": names, **{name: matrix.tolist() for name, matrix in measures.items()}},
        "foresight": {
            "labels": middle,
            "correlation": {n: foresight(compared[n][str(middle)]["one"], names, measures) for n in several},
            "chosen": {n: chosen_sources(by, scratch, names, measures, middle) for n, by in several.items()},
        },
        "architectures": tasks.size,
    }


def told(results: Mapping[str, Any]) -> list[str]:
    """Lines of text about each space: how far codes carry over, and what transfer does at ``labels_of_aim``."""
    lines = []
    for space, matrix in results["matrix"].items():
        own = [row[a]["mean"] for a, row in matrix["percentile"].items()]
        other = [v["mean"] for a, row in matrix["percentile"].items() for b, v in row.items() if a != b]
        lines.append(
            f"{space}: codes are in the top {np.mean(own):.2f} % of their own task, {np.mean(other):.2f} % of others"
        )
    for space, found in results["transfer"].items():
        for name, reached in found["aim"].items():
            saved = found["labels_saved"][name]
            at = str(reached["labels"])
            needed = {k: f"{v[at]:.0f}" if v[at] else "more than all" for k, v in saved.items()}
            lines.append(
                f"{space} {name}: with {at} labels as good as scratch with "
                f"{', '.join(f'{n} ({k})' for k, n in needed.items())}; all sources: better on {reached['better']}, "
                f"worse on {reached['worse']} targets"
            )
    return lines
