"""A study's numbers as CSV: runs, curves, the summary's tables, pairs of methods."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np

from ncp_jax.reports.curves import MEASURES, Curve
from ncp_jax.reports.data import StudyData

_SUMMARY = ("final_rank", "percentile", "regret", "value", "queries_to_optimum", "hypervolume")


def write_csv(file: BinaryIO, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Writes rows as CSV (UTF-8, lines end with a line feed); None and NaN are empty."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    text.flush()
    text.detach()


def _cell(value: Any) -> Any:
    if value is None or (isinstance(value, float | np.floating) and np.isnan(value)):
        return ""
    # Ten digits: what a table's float32 holds, without the noise of its conversion.
    return f"{value:.10g}" if isinstance(value, float | np.floating) else value


RUNS_HEADER = (
    *("cell", "method", "searcher", "settings", "benchmark", "seed", "queries", "asks", "row", "value", "rank"),
    *("percentile", "regret", "best_at_query", "found_optimum", "seconds", "hypervolume"),
)


def run_rows(data: StudyData) -> Iterable[Sequence[Any]]:
    """A row a run, see ``RUNS_HEADER``: how it ended, and at which query it found the last of its improvements."""
    described = {name: data.study["methods"][name] for name in data.methods}
    settings = {name: json.dumps(found["settings"], sort_keys=True) for name, found in described.items()}
    percentile, found = data.percentile, data.found
    for i, last in enumerate(data.last.tolist()):
        method = data.methods[data.method[i]]
        yield (
            *(f"{int(data.cell[i]):016x}", method, described[method]["searcher"], settings[method]),
            *(data.benchmarks[data.benchmark[i]], data.seed[i], data.queries[i], data.asks[i]),
            *(data.rows[last], data.values[last], data.ranks[last], percentile[i], data.regrets[last]),
            *(data.at[last], int(found[i]), data.seconds[i], data.hypervolume[i]),
        )


CURVES_HEADER = (
    *("method", "benchmark", "axis", "x", "runs"),
    *(name + end for name in MEASURES for end in ("", "_low", "_high")),
)


def curve_rows(curves: Sequence[Curve]) -> Iterable[Sequence[Any]]:
    """A row a point of a curve, see ``CURVES_HEADER``; empty where some run has nothing yet."""
    for curve in curves:
        bands = [band[name] for name in MEASURES for band in (curve.mean, curve.low, curve.high)]
        for i, x in enumerate(curve.x):
            yield (curve.method, curve.benchmark, curve.axis, x, curve.runs, *(band[i] for band in bands))


SUMMARY_HEADER = (
    *("benchmark", "method", "runs", "average_rank"),
    *(name + end for name in _SUMMARY for end in ("", "_low", "_high")),
    *("queries_to_optimum_median", "found", "censored", "rate", "rate_low", "rate_high"),
)


def summary_rows(summary: Mapping[str, Any]) -> Iterable[Sequence[Any]]:
    """A row a method over all benchmarks ("all"), then a row a benchmark and method; see ``SUMMARY_HEADER``."""
    comparison = summary["comparison"] or {"by_benchmark": {}, "average_rank": {}}
    blocks = [("all", summary["methods"], comparison)]
    blocks += [(name, found, comparison["by_benchmark"].get(name)) for name, found in summary["benchmarks"].items()]
    for benchmark, methods, compared in blocks:
        for label, found in methods.items():
            queries, rank = found["queries_to_optimum"], (compared or {}).get("average_rank", {}).get(label)
            bands = (found.get(name, {}).get(key) for name in _SUMMARY for key in ("mean", "low", "high"))
            tail = (queries[key] for key in ("median", "found", "censored", "rate", "rate_low", "rate_high"))
            yield (benchmark, label, queries["runs"], rank, *bands, *tail)


PAIRS_HEADER = (
    *("measure", "benchmark", "a", "b", "blocks", "wins", "ties", "losses", "statistic", "p", "p_holm"),
    *("a12", "rank_difference", "nemenyi_p"),
)


def pair_rows(summary: Mapping[str, Any]) -> Iterable[Sequence[Any]]:
    """A row a pair of methods and comparison, see ``PAIRS_HEADER``."""
    comparison = summary["comparison"]
    if comparison is None:
        return
    compared = [("percentile", "all", comparison), ("queries_to_optimum", "all", comparison["queries_to_optimum"])]
    compared += [("percentile", name, found) for name, found in comparison["by_benchmark"].items()]
    for measure, benchmark, found in compared:
        for pair in found["pairs"] if found else ():
            keys = ("wins", "ties", "losses", "statistic", "p", "p_holm", "a12", "rank_difference", "nemenyi_p")
            yield (measure, benchmark, pair["a"], pair["b"], found["blocks"], *(pair[key] for key in keys))
