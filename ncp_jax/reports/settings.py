"""Which values of a setting help: marginal means over everything else that a grid varies."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncp_jax.analysis.intervals import interval, percentile_interval
from ncp_jax.reports.data import StudyData


def setting_effects(
    data: StudyData,
    resampled: Mapping[tuple[int, int], Mapping[str, np.ndarray]],
    overall: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The effect of every setting that differs between the methods of one searcher.

    A value's mean is over the methods that have it and over all benchmarks, each of the same weight. It is the value's
    own effect where the grid is a full one; where values of two settings go together ("balanced" is False), it is
    theirs together.

    Args:
      data: the study.
      resampled: (method, benchmark) → measure → bootstrap means.
      overall: the summary's "methods".

    Returns:
      JSON-ready: "searcher", "setting", "balanced", and "values", in the order of the study, each with "value" (its
      JSON; "default" where a method does not set it), "methods", "runs", "percentile" (mean and interval),
      "average_rank" (mean over its methods, None where they were not compared), "rate" (share of runs that found the
      optimum), and "worse": by how much its percentile is above the best value's, "mean", "low", "high" (resampled
      together; above zero: the best value is better); None for the best one.
    """
    every = set(range(len(data.benchmarks)))
    by_searcher: dict[str, list[int]] = collections.defaultdict(list)
    for m, label in enumerate(data.methods):
        # A method that has not run everywhere yet would compare benchmarks, not values.
        if {b for method, b in resampled if method == m} == every:
            by_searcher[data.study["methods"][label]["searcher"]].append(m)
    effects = []
    for searcher, methods in by_searcher.items():
        settings = {m: data.study["methods"][data.methods[m]]["settings"] for m in methods}
        for name in dict.fromkeys(key for found in settings.values() for key in found):
            values: dict[str, list[int]] = collections.defaultdict(list)
            for m in methods:
                values[json.dumps(settings[m][name], sort_keys=True) if name in settings[m] else "default"].append(m)
            if len(values) > 1:
                rows = _rows(data, values, resampled, overall)
                balanced = _balanced(name, values, settings)
                effects.append({"searcher": searcher, "setting": name, "balanced": balanced, "values": rows})
    return effects


def _balanced(name: str, values: Mapping[str, Sequence[int]], settings: Mapping[int, Mapping[str, Any]]) -> bool:
    """Whether each value meets the same other settings equally often."""

    def others(m: int) -> str:
        return json.dumps({key: value for key, value in settings[m].items() if key != name}, sort_keys=True)

    counts = [collections.Counter(map(others, methods)) for methods in values.values()]
    return all(count == counts[0] for count in counts)


def _rows(
    data: StudyData,
    values: Mapping[str, Sequence[int]],
    resampled: Mapping[tuple[int, int], Mapping[str, np.ndarray]],
    overall: Mapping[str, Mapping[str, Any]],
) -> list[dict[str, Any]]:
    rows, boots = [], []
    for value, methods in values.items():
        found = [overall[data.methods[m]] for m in methods]
        boot = np.mean([resampled[m, b]["percentile"] for m in methods for b in range(len(data.benchmarks))], axis=0)
        mean = float(np.mean([f["percentile"]["mean"] for f in found]))
        ranks = [f["average_rank"] for f in found]
        hits, runs = (sum(f["queries_to_optimum"][key] for f in found) for key in ("found", "runs"))
        boots.append(boot)
        rows.append(
            {
                "value": value,
                "methods": len(methods),
                "runs": runs,
                "percentile": interval(mean, boot, runs),
                "average_rank": None if None in ranks else float(np.mean(ranks)),
                "rate": hits / runs,
            }
        )
    best = min(range(len(rows)), key=lambda i: rows[i]["percentile"]["mean"])
    for i, row in enumerate(rows):
        low, high = percentile_interval(boots[i] - boots[best])
        gap = row["percentile"]["mean"] - rows[best]["percentile"]["mean"]
        row["worse"] = None if i == best else {"mean": gap, "low": float(low), "high": float(high)}
    return rows
