"""Collects the records of runs into arrays, sorts them, and checks that they are what a search can have made."""

from __future__ import annotations

import hashlib
import math
import sys
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncp_jax import checks

# Type codes of ``array``: "d" is float64, "q" int64, "Q" uint64, "i" int32. The first group has one entry per run, the
# second one per improvement.
_PER_RUN = {
    "cell": "Q",
    "method": "i",
    "benchmark": "i",
    "seed": "q",
    "queries": "q",
    "asks": "q",
    "seconds": "d",
    "hypervolume": "d",
}
_PER_IMPROVEMENT = {"at": "q", "rows": "q", "values": "d", "ranks": "q", "regrets": "d", "times": "d"}


class Columns:
    """Collects records into growing arrays, one by one, then sorts and checks them as a whole.

    Args:
      methods: labels of the study's methods.
      benchmarks: names of its tables.
    """

    def __init__(self, methods: Sequence[str], benchmarks: Sequence[str]) -> None:
        self._methods = {name: i for i, name in enumerate(methods)}
        self._benchmarks = {name: i for i, name in enumerate(benchmarks)}
        self._runs: dict[str, array[Any]] = {name: array(code) for name, code in _PER_RUN.items()}
        self._steps: dict[str, array[Any]] = {name: array(code) for name, code in _PER_IMPROVEMENT.items()}
        self._lengths, self._digests, self._on_curves = array("q"), array("Q"), array("b")
        self._empty: set[str] = set()

    def add(self, place: str, line: bytes, record: Any) -> None:
        """Adds one record. The columns are of no use after an error.

        Args:
          place: "file:line", for errors.
          line: the line in the file.
          record: its content.

        Raises:
          DataError: it is not a record of a run of this study.
        """
        try:
            results = record["results"]
            cell, queries, count = int(record["cell"], 16), results["queries"], len(results["at"])
            method, benchmark = self._methods[record["method"]], self._benchmarks[record["benchmark"]]
            if not count:
                self._empty.add(record["cell"])
                return
            runs, steps = self._runs, self._steps
            runs["cell"].append(cell)
            runs["method"].append(method)
            runs["benchmark"].append(benchmark)
            runs["seed"].append(record["seed"])
            runs["queries"].append(queries)
            runs["asks"].append(results.get("asks", queries))
            runs["seconds"].append(_number(results.get("seconds")))
            runs["hypervolume"].append(_number(results.get("hypervolume")))
            for name, column in steps.items():
                values = results[name] if name != "times" else results.get(name)
                column.fromlist([math.nan] * count if values is None and name == "times" else values)
            self._lengths.append(count)
            self._on_curves.append("epochs" in results)
            end = len(steps["at"])
            if any(len(column) != end for column in steps.values()):
                raise ValueError("lists of unequal length")
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise checks.DataError(
                expected=f"a record of a run of this study at {place}",
                got=f"something else ({type(error).__name__}: {error})",
                remedy="keep only the study's own records in its folder",
            ) from error
        self._digests.append(int.from_bytes(hashlib.blake2b(line, digest_size=8).digest(), "big"))

    @property
    def empty(self) -> int:
        """Number of runs that made no query at all, and are left out."""
        return len(self._empty)

    def finish(self, rows: Mapping[str, int], *, judged: bool = False) -> tuple[dict[str, np.ndarray], list[str]]:
        """Sorts the runs, drops repeated ones, and checks them. The collected records are released.

        Args:
          rows: number of architectures in each benchmark's table.
          judged: whether results are judged by another column than the one searched, so that the best so far may
            get worse. So it may in runs on learning curves.

        Returns:
          The arrays of ``StudyData``, and notes on what was left out.

        Raises:
          DataError: runs that contradict themselves, or the study.
        """
        runs = {name: np.asarray(values) for name, values in self._runs.items()}
        lengths, digests = np.asarray(self._lengths), np.asarray(self._digests)
        keys = (digests, runs["cell"], runs["seed"], runs["benchmark"], runs["method"])
        order = np.lexsort(keys)
        cell = runs["cell"][order]
        again = np.zeros(len(order), bool)
        again[1:] = cell[1:] == cell[:-1]
        starts = np.cumsum(lengths) - lengths
        kept = order[~again]
        size = lengths[kept]
        offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        # Where each improvement is in the order of the files: the start of its run plus its number within the run.
        source = np.repeat(starts[kept] - offsets[:-1], size) + np.arange(offsets[-1])
        steps = {name: np.asarray(self._steps.pop(name))[source] for name in _PER_IMPROVEMENT}
        arrays = {name: values[kept] for name, values in runs.items()} | {"offsets": offsets} | steps
        notes = []
        if again.any():
            unequal = int((again[1:] & (digests[order][1:] != digests[order][:-1])).sum())
            text = f"{int(again.sum()):,} records of runs that are there already were dropped"
            notes.append(text + (f"; {unequal:,} of them were not the same to the letter" if unequal else ""))
        if self._empty:
            notes.append(f"runs that could not afford a single query, left out: {len(self._empty):,}")
        on_curves = np.asarray(self._on_curves)[kept] != 0
        if on_curves.any():
            text = "runs on learning curves are judged by what they would return, trained to the end"
            notes.append(f"{text}, which may get worse: {int(on_curves.sum()):,}")
        _check(arrays, np.array(list(rows.values()), np.int64), judged | on_curves)
        return arrays, notes


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if not abs(value) <= sys.float_info.max:
        raise ValueError("not a finite number")
    return float(value)


def _check(arrays: Mapping[str, np.ndarray], rows: np.ndarray, worse: np.ndarray) -> None:
    """Raises a DataError that names the first run that no search can have made; ``worse``: runs that may get worse."""
    starts, run = arrays["offsets"][:-1], np.repeat(np.arange(len(arrays["cell"])), np.diff(arrays["offsets"]))
    n, later = rows[arrays["benchmark"]], np.ones(len(run), bool)
    later[starts] = False
    falling = later & ~worse[run]
    at, ranks, regrets = arrays["at"], arrays["ranks"], arrays["regrets"]
    rising = np.diff(at, prepend=0) > 0
    tests = {
        "improvements at rising queries within the run's": (at < 1) | (at > arrays["queries"][run]) | (later & ~rising),
        "ranks that fall, within the table": (ranks < 1)
        | (ranks > n[run])
        | (falling & (np.diff(ranks, prepend=0) > 0)),
        "rows of the table": (arrays["rows"] < 0) | (arrays["rows"] >= n[run]),
        "finite values": ~np.isfinite(arrays["values"]),
        "regrets >= 0 that fall": ~(regrets >= 0) | np.isinf(regrets) | (falling & (np.diff(regrets, prepend=0) > 0)),
        "times >= 0 that rise": (arrays["times"] < 0) | (later & (np.diff(arrays["times"], prepend=0) < 0)),
    }
    for expected, bad in tests.items():
        if bad.any():
            _refuse(expected, arrays, int(run[np.argmax(bad)]))
    same = np.ones(max(len(starts) - 1, 0), bool)
    for name in ("method", "benchmark", "seed"):
        same &= arrays[name][1:] == arrays[name][:-1]
    if same.any():
        _refuse("one run of a method, benchmark and seed", arrays, int(np.argmax(same)) + 1)


def _refuse(expected: str, arrays: Mapping[str, np.ndarray], run: int) -> None:
    raise checks.DataError(
        expected=expected,
        got=f"others in the run of cell {arrays['cell'][run]:016x}",
        remedy="remove its line from the records, and run the study again to repeat it",
    )
