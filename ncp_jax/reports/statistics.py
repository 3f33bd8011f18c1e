"""Computes what a report says: means with intervals, curves, comparisons of methods."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ncp_jax.analysis.comparison import compare, holm, signed_rank
from ncp_jax.analysis.intervals import Interval, interval, wilson_interval
from ncp_jax.analysis.survival import TimeToEvent, influences, time_to_event
from ncp_jax.reports.contributions import Contributions, Parts, mean_of_groups
from ncp_jax.reports.curves import Curve, curve_axes, mean_curve
from ncp_jax.reports.data import StudyData
from ncp_jax.reports.provenance import checklist, study_card
from ncp_jax.reports.report import MethodSummary, OverallSummary, Report, StudyComparison
from ncp_jax.reports.settings import setting_effects
from ncp_jax.types import Float

ALPHA = 0.05
# Measure → +1 if lower is better, -1 if higher is. "value" has no mark, since regret says the same.
_MARKED = {"final_rank": 1, "percentile": 1, "regret": 1, "queries_to_optimum": 1, "hypervolume": -1}

# Measure → lower and upper bound of its mean.
_BOUNDS = {
    "final_rank": (1.0, np.inf),
    "percentile": (0.0, 100.0),
    "regret": (0.0, np.inf),
    "value": (-np.inf, np.inf),
    "hypervolume": (0.0, 1.0),
    "queries_to_optimum": (0.0, np.inf),
}
# Measure → its value for every run.
RunMeasures = dict[str, Float[np.ndarray, " r"]]


def summarise(data: StudyData) -> Report:
    """Computes the report of a study, without any files."""
    final = run_measures(data)
    parts: Parts = {}
    benchmarks: dict[str, dict[str, MethodSummary]] = {}
    curves: list[Curve] = []
    for b, benchmark in enumerate(data.benchmarks):
        axes, measures = curve_axes(data, b), {}
        for m, method in enumerate(data.methods):
            group = data.group(m, b)
            if group.stop > group.start:
                measures[method], parts[m, b] = _group(data, final, group)
                curves += [mean_curve(data, m, b, axis, x) for axis, x in axes.items()]
        marks = _marks(data, final, measures, b)
        benchmarks[benchmark] = {label: MethodSummary(found, marks[label]) for label, found in measures.items()}
    curves.sort(key=lambda curve: (data.benchmarks.index(curve.benchmark), curve.axis))

    comparison = _comparison(data, final)
    methods = _overall(data, final, benchmarks, parts, comparison)
    card = study_card(data)
    return Report(
        runs=len(data),
        cells=int(data.study["cells"]),
        budget=data.budget,
        notes=data.notes,
        methods=methods,
        benchmarks=benchmarks,
        comparison=comparison,
        settings=setting_effects(data, parts, methods),
        run_card=card,
        checklist=checklist(data, comparison, card),
        curves=curves,
    )


def run_measures(data: StudyData) -> RunMeasures:
    """Returns the final results of every run: all measures of ``MethodSummary``.

    "queries_to_optimum" of a run that never found the optimum is the budget plus one, so that it comes after all runs
    that did.
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


def _group(data: StudyData, final: RunMeasures, group: slice) -> tuple[dict[str, Interval], Contributions]:
    """Returns means with intervals of one method on one benchmark, and what each run contributes to their errors."""
    here = {name: column[group] for name, column in final.items() if name != "queries_to_optimum"}
    if np.isnan(here["hypervolume"]).any():
        del here["hypervolume"]
    parts, found = {}, {}
    for name, column in here.items():
        mean, (least, most) = float(column.mean()), _BOUNDS[name]
        parts[name] = (column - mean) / len(column)
        found[name] = interval(mean, parts[name], n=len(column), least=least, most=most)
    optimal = data.found[group]
    times = np.where(optimal, data.at[data.last[group]], data.queries[group])
    parts["queries_to_optimum"] = influences(times, optimal, data.budget)
    found["queries_to_optimum"] = time_to_event(times, optimal, data.budget)
    return found, Contributions(data.seed[group], parts)


def _overall(
    data: StudyData,
    final: RunMeasures,
    benchmarks: Mapping[str, Mapping[str, MethodSummary]],
    parts: Parts,
    comparison: StudyComparison | None,
) -> dict[str, OverallSummary]:
    """Summarises each method that has runs over its benchmarks, each of the same weight."""
    measures, counts = {}, {}
    for m, label in enumerate(data.methods):
        groups = [parts[m, b] for b in range(len(data.benchmarks)) if (m, b) in parts]
        rows = [found[label] for found in benchmarks.values() if label in found]
        if rows:
            measures[label] = _mean_over_benchmarks(rows, groups, one_unit=_one_unit(data))
            counts[label] = len(rows)
    marks = _marks(data, final, measures, None)
    ranks = comparison.by_percentile.average_rank if comparison else {}
    return {
        label: OverallSummary(
            measures=found,
            marks=marks[label],
            searcher=data.study["methods"][label]["searcher"],
            settings=data.study["methods"][label]["settings"],
            runs=_queries(found).runs,
            benchmarks=counts[label],
            average_rank=ranks.get(label),
        )
        for label, found in measures.items()
    }


def _mean_over_benchmarks(
    rows: Sequence[MethodSummary], groups: Sequence[Contributions], *, one_unit: bool
) -> dict[str, Interval]:
    """Averages the measures that all benchmarks have. Runs with one seed count together in the intervals."""
    queries = [row.queries for row in rows]
    hits, n = sum(q.found for q in queries), sum(q.runs for q in queries)
    found: dict[str, Interval] = {}
    for name in _MARKED:
        if all(name in row.measures for row in rows) and (name != "regret" or one_unit):
            mean = float(np.mean([row.measures[name].mean for row in rows]))
            found[name] = mean_of_groups(mean, groups, name, n=n, bounds=_BOUNDS[name])
    low, high = wilson_interval(hits, n)
    # A benchmark on which fewer than half of the runs found the optimum has no median, and so there is no mean of it.
    medians = [q.median for q in queries if q.median is not None]
    found["queries_to_optimum"] = TimeToEvent(
        **dataclasses.asdict(found["queries_to_optimum"]),
        restricted=any(q.restricted for q in queries),
        median=float(np.mean(medians)) if len(medians) == len(queries) else None,
        runs=n,
        found=hits,
        rate_low=low,
        rate_high=high,
    )
    return found


def _queries(measures: Mapping[str, Interval]) -> TimeToEvent:
    found = measures["queries_to_optimum"]
    assert isinstance(found, TimeToEvent)
    return found


def _one_unit(data: StudyData) -> bool:
    """Returns whether all benchmarks measure the same metric in the same unit."""
    metrics = [data.metric(name) for name in data.benchmarks]
    return len({(metric.unit, metric.name.rsplit("/", 1)[-1]) for metric in metrics}) == 1


def paired_scores(
    data: StudyData, column: Float[np.ndarray, " r"], benchmark: int | None = None
) -> tuple[Float[np.ndarray, "blocks methods"], list[int], np.ndarray, int]:
    """Arranges a measure of all runs as blocks (benchmark, seed) × methods.

    Args:
      data: the runs of the study.
      column: the measure of every run.
      benchmark: index of the one benchmark to take; all if None.

    Returns:
      The scores of the blocks that all methods have, the methods that have any runs there, the benchmark of each
      block, and the number of blocks left out because a method lacks them.
    """
    strata, block = data.blocks
    runs = np.arange(len(data)) if benchmark is None else np.flatnonzero(data.benchmark == benchmark)
    labels = np.unique(data.method[runs])
    table = np.full((len(strata), len(labels)), np.nan)
    table[block[runs], np.searchsorted(labels, data.method[runs])] = column[runs]
    if benchmark is not None:
        table, strata = table[strata == benchmark], strata[strata == benchmark]
    whole = ~np.isnan(table).any(axis=1)
    return table[whole], labels.tolist(), strata[whole], int((~whole).sum())


def _marks(
    data: StudyData, final: RunMeasures, methods: Mapping[str, Mapping[str, Interval]], benchmark: int | None
) -> dict[str, dict[str, str]]:
    """Returns the marks of all methods for the measures that all of them have, on one benchmark or over all."""
    marks: dict[str, dict[str, str]] = {label: {} for label in methods}
    for name, sign in _MARKED.items():
        if not methods or any(name not in found for found in methods.values()):
            continue
        means = np.array([sign * found[name].mean for found in methods.values()])
        # Ranks in tables of different sizes have no common scale, but percentiles do.
        column = final["percentile" if name == "final_rank" else name]
        scores, numbers, _, _ = paired_scores(data, sign * column, benchmark)
        tied = _tied(scores, [data.methods[m] for m in numbers], list(methods)[int(means.argmin())])
        best = means <= means.min() + 1e-12 * max(1.0, abs(float(means.min())))
        for label, is_best in zip(methods, best, strict=True):
            marks[label][name] = "best" if is_best else "tied" if label in tied else ""
    return marks


def _tied(scores: np.ndarray, labels: Sequence[str], best: str) -> set[str]:
    """Returns the methods that do not differ significantly from the best one; none if there are no common blocks."""
    if not len(scores):
        return set()
    column = scores[:, labels.index(best)]
    others = [(label, scores[:, i]) for i, label in enumerate(labels) if label != best]
    p = holm([signed_rank(theirs, column)[1] for _, theirs in others])
    return {label for (label, _), adjusted in zip(others, p, strict=True) if adjusted >= ALPHA}


def _comparison(data: StudyData, final: RunMeasures) -> StudyComparison | None:
    """Compares the methods over all blocks, over benchmarks, on each benchmark, and by queries to the optimum."""
    scores, labels, strata, left_out = paired_scores(data, final["percentile"])
    if len(labels) < 2 or not len(scores):
        return None
    names = [data.methods[m] for m in labels]
    over_benchmarks = by_queries = None
    by_benchmark = {}
    present = np.unique(strata)
    if len(present) > 1:
        means = np.stack([scores[strata == b].mean(axis=0) for b in present])
        over_benchmarks = compare(means, names, alpha=ALPHA)
    for b in present:
        here, some, _, _ = paired_scores(data, final["percentile"], int(b))
        if len(some) > 1 and len(here):
            by_benchmark[data.benchmarks[b]] = compare(here, [data.methods[m] for m in some], alpha=ALPHA)
    if data.found.any():
        queries, _, groups, _ = paired_scores(data, final["queries_to_optimum"])
        by_queries = compare(queries, names, strata=groups, alpha=ALPHA)
    return StudyComparison(
        left_out=left_out,
        by_percentile=compare(scores, names, strata=strata, alpha=ALPHA),
        over_benchmarks=over_benchmarks,
        by_benchmark=by_benchmark,
        by_queries=by_queries,
    )
