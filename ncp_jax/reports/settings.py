"""Computes the effects of settings: marginal means over everything else that a grid varies."""

from __future__ import annotations

import collections
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncp_jax.reports.contributions import Parts, mean_of_groups
from ncp_jax.reports.data import StudyData
from ncp_jax.reports.report import OverallSummary, SettingEffect, SettingValue


def setting_effects(data: StudyData, parts: Parts, overall: Mapping[str, OverallSummary]) -> list[SettingEffect]:
    """Computes the effect of every setting that differs between the methods of one searcher.

    A value's mean is over the methods that have it and over all benchmarks, each of the same weight. In a full grid
    that is the value's own effect. Where values of two settings only occur together, their effects are mixed, and
    ``balanced`` is False.

    Args:
      data: the runs of the study.
      parts: what each run contributes to the errors of the means.
      overall: label → results over all benchmarks.
    """
    every = set(range(len(data.benchmarks)))
    by_searcher: dict[str, list[int]] = collections.defaultdict(list)
    for m, label in enumerate(data.methods):
        # A method that has no runs on some benchmarks yet would compare benchmarks, not values.
        if {b for method, b in parts if method == m} == every:
            by_searcher[data.study["methods"][label]["searcher"]].append(m)
    effects = []
    for searcher, methods in by_searcher.items():
        settings = {m: data.study["methods"][data.methods[m]]["settings"] for m in methods}
        for name in dict.fromkeys(key for found in settings.values() for key in found):
            values: dict[str, list[int]] = collections.defaultdict(list)
            for m in methods:
                values[json.dumps(settings[m][name], sort_keys=True) if name in settings[m] else "default"].append(m)
            if len(values) > 1:
                balanced = _balanced(name, values, settings)
                effects.append(SettingEffect(searcher, name, balanced, _values(data, values, parts, overall)))
    return effects


def _balanced(name: str, values: Mapping[str, Sequence[int]], settings: Mapping[int, Mapping[str, Any]]) -> bool:
    """Returns whether each value occurs equally often with the same other settings."""

    def others(m: int) -> str:
        return json.dumps({key: value for key, value in settings[m].items() if key != name}, sort_keys=True)

    counts = [collections.Counter(map(others, methods)) for methods in values.values()]
    return all(count == counts[0] for count in counts)


def _values(
    data: StudyData, values: Mapping[str, Sequence[int]], parts: Parts, overall: Mapping[str, OverallSummary]
) -> tuple[SettingValue, ...]:
    """Averages the results of the methods that have each value."""
    every = range(len(data.benchmarks))
    runs_of = [[parts[m, b] for m in methods for b in every] for methods in values.values()]
    groups = [[overall[data.methods[m]] for m in methods] for methods in values.values()]
    means = [float(np.mean([found.measures["percentile"].mean for found in group])) for group in groups]
    best = int(np.argmin(means))
    results = []
    for i, (value, group) in enumerate(zip(values, groups, strict=True)):
        ranks = [found.average_rank for found in group if found.average_rank is not None]
        runs = sum(found.runs for found in group)
        results.append(
            SettingValue(
                value=value,
                methods=len(group),
                runs=runs,
                percentile=mean_of_groups(means[i], runs_of[i], "percentile", n=runs, bounds=(0.0, 100.0)),
                average_rank=float(np.mean(ranks)) if len(ranks) == len(group) else None,
                rate=sum(found.queries.found for found in group) / runs,
                worse=None
                if i == best
                else mean_of_groups(means[i] - means[best], runs_of[i], "percentile", minus=runs_of[best]),
            )
        )
    return tuple(results)
