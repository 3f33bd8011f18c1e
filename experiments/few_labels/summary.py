"""Summarises the runs: by number of labels, variants against the default, inversion against searchers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from few_labels.inversions import CONTINUOUS, EXHAUSTIVE, EXHAUSTIVE_BOUND
from few_labels.ranking import MEASURES
from ncp_jax.analysis.comparison import holm, signed_rank
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.analysis.ranks import percentiles
from ncp_jax.benchmarks import Table
from ncp_jax.records.journal import read_records

Runs = Sequence[Mapping[str, Any]]  # records of one table and one number of labels, by seed


def share(values: Sequence[float]) -> dict[str, float]:
    """Returns the mean of percentages with its interval."""
    return mean_interval(values, least=0.0, most=100.0)


def column(runs: Runs, method: str, measure: str) -> list[float]:
    """Returns one measure of a method at each seed."""
    return [run["methods"][method][measure] for run in runs]


def paired_test(ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Compares percentiles seed by seed; lower is better.

    Returns:
      "difference" (ours minus theirs, with its interval), "wins", "ties", "losses" and "p" of the signed-rank test.
    """
    a, b = np.asarray(ours), np.asarray(theirs)
    return {
        "difference": mean_interval(a - b),
        "wins": int((a < b).sum()),
        "ties": int((a == b).sum()),
        "losses": int((a > b).sum()),
        "p": signed_rank(a, b)[1],
    }


def with_holm(tests: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Adds "p_holm", corrected over all the tests."""
    corrected = holm([test["p"] for test in tests.values()])
    return {name: test | {"p_holm": float(p)} for (name, test), p in zip(tests.items(), corrected, strict=True)}


def describe_method(runs: Runs, method: str) -> dict[str, Any]:
    """Returns the interval of each measure, of the scored share, and the largest scored share."""
    scored = column(runs, method, "scored")
    return {
        **{measure: share(column(runs, method, measure)) for measure in MEASURES[:-1]},
        "regret": mean_interval(column(runs, method, "regret"), least=0.0),
        "scored": mean_interval(scored, least=0.0, most=1.0) | {"most": max(scored)},
        "paid": share(column(runs, method, "paid")),
    }


def summarise(runs: Mapping[str, Mapping[int, Runs]], samples: int) -> dict[str, Any]:
    """Summarises the inversions.

    Args:
      runs: data set → number of labels → records by seed.
      samples: number of labels of the main result.

    Returns:
      "percentile", "percentile_networks", "percentile_connected", "regret" and "scored" of the default inversion by
      data set; "exhaustive", the same predictor scoring every architecture, with the paired test; "ablation", every
      variant against the default; and "labels", all of it by number of labels.
    """
    main = {name: by_labels[samples] for name, by_labels in runs.items()}
    described = {name: describe_method(some, CONTINUOUS) for name, some in main.items()}
    results: dict[str, Any] = {
        key: {name: row[key] for name, row in described.items()} for key in (*MEASURES, "scored")
    }
    results["exhaustive"] = {
        name: describe_method(some, EXHAUSTIVE)
        | {"test": paired_test(column(some, CONTINUOUS, "percentile"), column(some, EXHAUSTIVE, "percentile"))}
        for name, some in main.items()
    }
    results["ablation"] = {name: _ablation(some) for name, some in main.items()}
    results["labels"] = {
        name: {
            str(count): {
                "tau": mean_interval([run["tau"] for run in some], least=-1.0, most=1.0),
                "best_label": share([run["labels"]["percentile"] for run in some]),
                "methods": {method: describe_method(some, method) for method in some[0]["methods"]},
            }
            for count, some in by_labels.items()
        }
        for name, by_labels in runs.items()
    }
    return results


def _ablation(runs: Runs) -> dict[str, Any]:
    default = column(runs, CONTINUOUS, "percentile")
    others = [name for name in runs[0]["methods"] if name not in (CONTINUOUS, EXHAUSTIVE, EXHAUSTIVE_BOUND)]
    tests = with_holm({name: paired_test(column(runs, name, "percentile"), default) for name in others})
    return {
        name: {
            "percentile": share(column(runs, name, "percentile")),
            "scored": mean_interval(column(runs, name, "scored"), least=0.0, most=1.0),
            "test": test,
        }
        for name, test in tests.items()
    }


def read_searches(folder: Path, tables: Mapping[str, Table], totals: Sequence[int]) -> dict[str, Any]:
    """Reads a finished study: percentile of the best of the first queries of each run.

    Args:
      folder: the study's folder.
      tables: data set → table.
      totals: numbers of queries.

    Returns:
      Data set → total → searcher → percentile by seed.
    """
    found: dict[str, Any] = {name: {total: {} for total in totals} for name in tables}
    names = {table.name: name for name, table in tables.items()}
    for line in read_records(folder / "records.jsonl"):
        record, results = line.record, line.record["results"]
        if record["benchmark"] not in names:
            continue
        name = names[record["benchmark"]]
        for total in totals:
            at = int(np.searchsorted(results["at"], total, side="right")) - 1
            rank = float(percentiles(results["ranks"][at], len(tables[name])))
            found[name][total].setdefault(record["method"], {})[record["seed"]] = rank
    return found


def compare_searches(
    searches: Mapping[str, Any], runs: Mapping[str, Mapping[int, Runs]], queries: int
) -> dict[str, Any]:
    """Compares what inversion paid for, labels and proposals, with searchers after as many queries.

    Returns:
      Data set → total number of queries → method → "percentile", and for searchers the "test" of inversion against
      them.
    """
    results: dict[str, Any] = {}
    for name, by_total in searches.items():
        results[name] = {}
        for total, by_method in by_total.items():
            some = runs[name][total - queries]
            ours = column(some, CONTINUOUS, "paid")
            others = {method: [by_seed[s] for s in range(len(ours))] for method, by_seed in by_method.items()}
            tests = with_holm({method: paired_test(ours, values) for method, values in others.items()})
            results[name][str(total)] = {"inversion": {"percentile": share(ours)}} | {
                method: {"percentile": share(values), "test": tests[method]} for method, values in others.items()
            }
    return results
