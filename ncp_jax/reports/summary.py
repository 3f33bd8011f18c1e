"""What a study found, as JSON: means with intervals, comparisons, effects of settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax.analysis.comparison import compare, holm, signed_rank
from ncp_jax.analysis.intervals import bootstrap_means, interval, wilson_interval
from ncp_jax.analysis.survival import resampled_means, time_to_event
from ncp_jax.reports.checklist import checklist
from ncp_jax.reports.data import StudyData
from ncp_jax.reports.provenance import study_card
from ncp_jax.reports.settings import setting_effects
from ncp_jax.types import Float

ALPHA = 0.05
# Measure → +1 where lower is better, -1 where higher is. "value" is regret seen from the other side: it has no mark.
_MARKED = {"final_rank": 1, "percentile": 1, "regret": 1, "queries_to_optimum": 1, "hypervolume": -1}

# (method, benchmark) → measure → bootstrap means.
Resampled = dict[tuple[int, int], dict[str, Float[np.ndarray, " resamples"]]]
# Measure → its value for every run.
Measured = dict[str, Float[np.ndarray, " r"]]


def summarise(data: StudyData, *, seed: int = 0) -> dict[str, Any]:
    """Puts a study's runs together.

    Intervals are 95 % percentile-bootstrap intervals over seeds; methods that ran the same seeds on a benchmark are
    resampled alike. Over all benchmarks, each counts the same, and its seeds are resampled within it.

    Args:
      data: the study.
      seed: of the bootstrap.

    Returns:
      JSON-ready, without NaN:
        "runs", "cells", "budget", "notes";
        "methods": label → "searcher", "settings", "runs", "benchmarks" (how many it has runs on), "average_rank", and
          the measures over all benchmarks: "final_rank", "percentile", "hypervolume", "queries_to_optimum", and
          "regret" where all benchmarks share a unit;
        "benchmarks": benchmark → label → "final_rank", "percentile" (100 × rank / rows of the table), "regret",
          "value": each "mean", "low", "high", "n"; "hypervolume" likewise, where the records have it;
          "queries_to_optimum" (see ``survival.time_to_event``). "mark" in each is "best" (by the mean), "tied" (not
          told apart from the best: Wilcoxon's signed ranks over paired seeds, Holm's correction, p >= 0.05), or "";
        "comparison": see ``comparison.compare``, over blocks (benchmark, seed) by final percentile, with "measure",
          "left_out" (blocks that some method lacks) and, of the same form, "over_benchmarks" (a block a benchmark),
          "by_benchmark" and "queries_to_optimum" (runs that never found it come last); None with one method;
        "settings": see ``settings.setting_effects``; "run_card"; "checklist".
    """
    columns = run_columns(data)
    resampled: Resampled = {}
    benchmarks: dict[str, dict[str, Any]] = {}
    for b, benchmark in enumerate(data.benchmarks):
        benchmarks[benchmark] = {}
        for m, method in enumerate(data.methods):
            group = data.group(m, b)
            if group.stop > group.start:
                benchmarks[benchmark][method], resampled[m, b] = _group(data, columns, group, [seed, b])
        _mark(data, columns, benchmarks[benchmark], b)
    methods = {label: _overall(data, benchmarks, resampled, m) for m, label in enumerate(data.methods)}
    methods = {label: found for label, found in methods.items() if found["runs"]}
    _mark(data, columns, methods, None)
    comparison = _comparison(data, columns)
    for label, found in methods.items():
        ranks = comparison["average_rank"] if comparison else {}
        found["average_rank"] = ranks.get(label)
    summary = {
        "runs": len(data),
        "cells": int(data.study["cells"]),
        "budget": data.budget,
        "notes": list(data.notes),
        "methods": methods,
        "benchmarks": benchmarks,
        "comparison": comparison,
        "settings": setting_effects(data, resampled, methods),
        "run_card": study_card(data),
    }
    return summary | {"checklist": checklist(data, summary)}


def run_columns(data: StudyData) -> Measured:
    """What a run is judged by in the end: "final_rank", "percentile", "regret", "value", "hypervolume", and one more.

    "queries_to_optimum" of a run that never found it is one more than the budget: after all that did.
    """
    last = data.last
    return {
        "final_rank": data.ranks[last].astype(float),
        "percentile": data.percentile,
        "regret": data.regrets[last],
        "value": data.values[last],
        "hypervolume": data.hypervolume,
        "queries_to_optimum": np.where(data.found, data.at[last], data.budget + 1.0),
    }


def _group(
    data: StudyData, columns: Measured, group: slice, seed: list[int]
) -> tuple[dict[str, Any], dict[str, Float[np.ndarray, " resamples"]]]:
    """Means and intervals of one method on one benchmark, and the bootstrap means behind them."""
    here = {name: column[group] for name, column in columns.items() if name != "queries_to_optimum"}
    if np.isnan(here["hypervolume"]).any():
        del here["hypervolume"]
    means = bootstrap_means(np.stack(list(here.values()), axis=1), seed=seed)
    boot = dict(zip(here, means.T, strict=True))
    stats: dict[str, Any] = {name: interval(float(c.mean()), boot[name], len(c)) for name, c in here.items()}
    last, found = data.last[group], data.found[group]
    times = np.where(found, data.at[last], data.queries[group])
    boot["queries_to_optimum"] = resampled_means(times, found, data.budget, seed=seed)
    stats["queries_to_optimum"] = time_to_event(times, found, data.budget, resampled=boot["queries_to_optimum"])
    return stats, boot


def _overall(data: StudyData, benchmarks: dict[str, dict[str, Any]], resampled: Resampled, m: int) -> dict[str, Any]:
    """One method over its benchmarks, each of the same weight."""
    label = data.methods[m]
    have = [b for b in range(len(data.benchmarks)) if (m, b) in resampled]
    rows = [benchmarks[data.benchmarks[b]][label] for b in have]
    described = data.study["methods"][label]
    found: dict[str, Any] = {"searcher": described["searcher"], "settings": described["settings"]}
    found |= {"runs": int((data.method == m).sum()), "benchmarks": len(have)}
    if not have:
        return found
    for name in _MARKED:
        if any(name not in row for row in rows) or (name == "regret" and not _one_unit(data)):
            continue
        boot = np.mean([resampled[m, b][name] for b in have], axis=0)
        found[name] = interval(float(np.mean([row[name]["mean"] for row in rows])), boot, found["runs"])
    queries = [row["queries_to_optimum"] for row in rows]
    hits, n = (sum(q[key] for q in queries) for key in ("found", "runs"))
    low, high = wilson_interval(hits, n)
    restricted = any(q["restricted"] for q in queries)
    counts = {"runs": n, "found": hits, "censored": n - hits, "rate": hits / n, "rate_low": low, "rate_high": high}
    found["queries_to_optimum"] |= {"restricted": restricted, "median": _median(queries), **counts}
    return found


def _median(queries: Sequence[dict[str, Any]]) -> float | None:
    """The mean of the benchmarks' medians; None where one has none."""
    medians = [q["median"] for q in queries]
    return None if None in medians else float(np.mean(medians))


def _one_unit(data: StudyData) -> bool:
    metrics = [data.metric(name) for name in data.benchmarks]
    return len({(metric.unit, metric.name.rsplit("/", 1)[-1]) for metric in metrics}) == 1


def paired_scores(
    data: StudyData, column: Float[np.ndarray, " r"], benchmark: int | None = None
) -> tuple[Float[np.ndarray, "blocks methods"], list[int], np.ndarray, int]:
    """A measure as blocks (benchmark, seed) × methods that have any runs there; only blocks that all of them have.

    Returns:
      The scores, the methods, the benchmark of each block, and how many blocks were left out.
    """
    chosen = np.ones(len(data), bool) if benchmark is None else data.benchmark == benchmark
    labels = np.unique(data.method[chosen])
    keys = np.stack([data.benchmark[chosen].astype(np.int64), data.seed[chosen]], axis=1)
    blocks, place = np.unique(keys, axis=0, return_inverse=True)
    table = np.full((len(blocks), len(labels)), np.nan)
    table[place.ravel(), np.searchsorted(labels, data.method[chosen])] = column[chosen]
    whole = ~np.isnan(table).any(axis=1)
    return table[whole], labels.tolist(), blocks[whole, 0], int((~whole).sum())


def _mark(data: StudyData, columns: Measured, stats: dict[str, Any], benchmark: int | None) -> None:
    """Adds "mark" to the measures of all methods, of one benchmark or over all."""
    for name, sign in _MARKED.items():
        if not stats or any(name not in found for found in stats.values()):
            continue
        means = np.array([sign * found[name]["mean"] for found in stats.values()])
        # Ranks in tables of different size are no common scale: percentiles are.
        column = columns["percentile" if name == "final_rank" else name]
        scores, labels, _, _ = paired_scores(data, sign * column, benchmark)
        marks = _marks(scores, [data.methods[m] for m in labels], list(stats)[int(means.argmin())])
        best = means <= means.min() + 1e-12 * max(1.0, abs(float(means.min())))
        for (label, found), is_best in zip(stats.items(), best, strict=True):
            found[name]["mark"] = "best" if is_best else marks.get(label, "")


def _marks(scores: np.ndarray, labels: Sequence[str], best: str) -> dict[str, str]:
    """Which methods are "tied" with the best one; nothing can be told of those without common blocks."""
    if not len(scores):
        return {}
    column = scores[:, labels.index(best)]
    others = [(label, scores[:, i]) for i, label in enumerate(labels) if label != best]
    p = holm([signed_rank(theirs, column)["p"] for _, theirs in others])
    return {label: "tied" if p_ >= ALPHA else "" for (label, _), p_ in zip(others, p, strict=True)}


def _comparison(data: StudyData, columns: Measured) -> dict[str, Any] | None:
    scores, labels, strata, left_out = paired_scores(data, columns["percentile"])
    if len(labels) < 2 or not len(scores):
        return None
    names = [data.methods[m] for m in labels]
    result = {"measure": "percentile", "left_out": left_out, **compare(scores, names, strata=strata, alpha=ALPHA)}
    present = np.unique(strata)
    result["over_benchmarks"] = None
    if len(present) > 1:
        means = np.stack([scores[strata == b].mean(axis=0) for b in present])
        result["over_benchmarks"] = compare(means, names, alpha=ALPHA)
    result["by_benchmark"] = {}
    for b in present:
        here, some, _, _ = paired_scores(data, columns["percentile"], int(b))
        if len(some) > 1 and len(here):
            found = compare(here, [data.methods[m] for m in some], alpha=ALPHA)
            result["by_benchmark"][data.benchmarks[b]] = found
    result["queries_to_optimum"] = None
    if data.found.any():
        queries, _, strata, _ = paired_scores(data, columns["queries_to_optimum"])
        result["queries_to_optimum"] = compare(queries, names, strata=strata, alpha=ALPHA)
    return result
