"""Prepares a report's numbers for CSV: runs, curves, summary, pairs of methods."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ncp_jax.analysis.comparison import Comparison
from ncp_jax.reports.curves import MEASURES, Curve
from ncp_jax.reports.data import StudyData, searched_split
from ncp_jax.reports.report import MethodSummary, Report

_SUMMARY = ("final_rank", "percentile", "regret", "value", "queries_to_optimum", "hypervolume")

RUNS_HEADER = (
    *("cell", "method", "searcher", "settings", "benchmark", "seed", "queries", "asks", "row", "value", "rank"),
    *("percentile", "regret", "best_at_query", "found_optimum", "seconds", "hypervolume", "searched_split"),
)


def run_rows(data: StudyData) -> Iterable[Sequence[str]]:
    """Returns one row per run, see ``RUNS_HEADER``: its results, and the query of its last improvement."""
    described = [data.study["methods"][name] for name in data.methods]
    searchers = np.array([found["searcher"] for found in described], object)
    settings = np.array([json.dumps(found["settings"], sort_keys=True) for found in described], object)
    splits = np.array([searched_split(data.study, name) for name in data.benchmarks], object)
    last = data.last
    columns = (
        *([f"{cell:016x}" for cell in data.cell.tolist()], np.array(data.methods, object)[data.method]),
        *(searchers[data.method], settings[data.method], np.array(data.benchmarks, object)[data.benchmark]),
        *(data.seed, data.queries, data.asks, data.rows[last], data.values[last], data.ranks[last]),
        *(data.percentile, data.regrets[last], data.at[last], data.found.astype(int), data.seconds, data.hypervolume),
        splits[data.benchmark],
    )
    return zip(*map(_texts, columns), strict=True)


CURVES_HEADER = (
    *("method", "benchmark", "axis", "x", "runs"),
    *(name + end for name in MEASURES for end in ("", "_low", "_high")),
)


def curve_rows(curves: Sequence[Curve]) -> Iterable[Sequence[Any]]:
    """Yields one row per point of a curve, see ``CURVES_HEADER``; cells are empty where a run has nothing yet."""
    for curve in curves:
        bands = [_texts(band[name]) for name in MEASURES for band in (curve.mean, curve.low, curve.high)]
        for x, *cells in zip(_texts(curve.x), *bands, strict=True):
            yield (curve.method, curve.benchmark, curve.axis, x, curve.runs, *cells)


SUMMARY_HEADER = (
    *("benchmark", "method", "runs", "average_rank"),
    *(name + end for name in _SUMMARY for end in ("", "_low", "_high")),
    *("queries_to_optimum_median", "found", "censored", "rate", "rate_low", "rate_high", "searched_split"),
)


def summary_rows(report: Report) -> Iterable[Sequence[object]]:
    """Yields one row per method over all benchmarks ("all"), then one per benchmark and method, see the header."""
    comparison = report.comparison
    blocks: list[tuple[str, Mapping[str, MethodSummary], Comparison | None]]
    blocks = [("all", report.methods, comparison.by_percentile if comparison else None)]
    for name, methods in report.benchmarks.items():
        blocks.append((name, methods, comparison.by_benchmark.get(name) if comparison else None))
    for benchmark, methods, compared in blocks:
        for label, found in methods.items():
            queries = found.queries
            ends: list[float | None] = []
            for name in _SUMMARY:
                measure = found.measures.get(name)
                ends += [measure.mean, measure.low, measure.high] if measure else [None] * 3
            tail = (queries.median, queries.found, queries.censored, queries.rate, queries.rate_low, queries.rate_high)
            rank = compared.average_rank.get(label) if compared else None
            splits = {t.searched_split for name, t in report.run_card.tables.items() if benchmark in ("all", name)}
            yield (benchmark, label, queries.runs, *_texts((rank, *ends, *tail)), " ".join(sorted(splits)))


PAIRS_HEADER = (
    *("measure", "benchmark", "a", "b", "blocks", "wins", "ties", "losses", "statistic", "p", "p_holm"),
    *("a12", "rank_difference", "nemenyi_p"),
)


def pair_rows(report: Report) -> Iterable[Sequence[object]]:
    """Yields one row per comparison and pair of methods, see ``PAIRS_HEADER``."""
    if report.comparison is None:
        return
    compared = [("percentile", "all", report.comparison.by_percentile)]
    if report.comparison.by_queries:
        compared.append(("queries_to_optimum", "all", report.comparison.by_queries))
    compared += [("percentile", name, found) for name, found in report.comparison.by_benchmark.items()]
    for measure, benchmark, found in compared:
        for pair in found.pairs:
            effects = (pair.statistic, pair.p, pair.p_holm, pair.a12, pair.rank_difference, pair.nemenyi_p)
            counts = (pair.wins, pair.ties, pair.losses)
            yield (measure, benchmark, pair.a, pair.b, found.blocks, *counts, *_texts(effects))


def _texts(values: Sequence[Any] | np.ndarray) -> list[str]:
    """Returns the cells of a column: numbers with up to ten digits, nothing for None and NaN."""
    if isinstance(values, np.ndarray):
        if values.dtype == object or len(values) < 1000:
            return _texts(values.tolist())
        # Columns of many runs have few distinct values, and these take long to write.
        distinct, place = np.unique(values, return_inverse=True)
        return np.array(_texts(distinct.tolist()), object)[place].tolist()
    return ["" if v is None or v != v else f"{v:.10g}" if isinstance(v, float) else str(v) for v in values]
