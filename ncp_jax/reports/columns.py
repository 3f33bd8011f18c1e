"""Records taken in one by one into growing arrays, then put in order and checked as a whole."""

from __future__ import annotations

import hashlib
import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ncp_jax import checks

# Type codes of ``array``: "d" is float64, "q" int64, "i" int32. The first group has an entry a run, the second one an
# improvement.
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
    """The runs read so far.

    Args:
      methods: labels of the study.
      benchmarks: names of its tables.
    """

    def __init__(self, methods: Sequence[str], benchmarks: Sequence[str]) -> None:
        self._methods = {name: i for i, name in enumerate(methods)}
        self._benchmarks = {name: i for i, name in enumerate(benchmarks)}
        self._runs = {name: array(code) for name, code in _PER_RUN.items()}
        self._steps = {name: array(code) for name, code in _PER_IMPROVEMENT.items()}
        self._lengths, self._digests = array("q"), array("Q")
        self._empty: set[str] = set()

    def add(self, place: str, line: bytes, record: Any) -> None:
        """Takes in one record.

        Args:
          place: "file:line", for errors.
          line: as it stands in the file.
          record: its content.

        Raises:
          DataError: it is no record of a run, or of another study.
        """
        try:
            results = record["results"]
            row = {
                "cell": int(record["cell"], 16),
                "method": self._methods[record["method"]],
                "benchmark": self._benchmarks[record["benchmark"]],
                "seed": record["seed"],
                "queries": results["queries"],
                "asks": results.get("asks", results["queries"]),
                "seconds": _number(results.get("seconds")),
                "hypervolume": _number(results.get("hypervolume")),
            }
            steps = {name: results[name] for name in _PER_IMPROVEMENT if name != "times"}
            count = len(steps["at"])
            steps["times"] = results["times"] if results.get("times") is not None else [math.nan] * count
            if any(len(values) != count for values in steps.values()):
                raise ValueError("lists of unequal length")
            if not count:
                self._empty.add(record["cell"])
                return
            new = {name: array(_PER_IMPROVEMENT[name], values) for name, values in steps.items()}
            for name, value in row.items():
                self._runs[name].append(value)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise checks.DataError(
                expected=f"a record of a run of this study at {place}",
                got=f"something else ({type(error).__name__}: {error})",
                remedy="keep only the study's own records in its folder",
            ) from error
        for name, values in new.items():
            self._steps[name].extend(values)
        self._lengths.append(count)
        self._digests.append(int.from_bytes(hashlib.blake2b(line.strip(), digest_size=8).digest(), "big"))

    @property
    def empty(self) -> int:
        """Runs that made no query at all, and are left out."""
        return len(self._empty)

    def finish(self, rows: Mapping[str, int], *, judged: bool = False) -> tuple[dict[str, np.ndarray], list[str]]:
        """Puts the runs in order, drops what is there twice, and checks them.

        Args:
          rows: architectures of each benchmark's table.
          judged: results are judged by another column than the one that was searched, so that what the search takes
            for an improvement need not be one.

        Returns:
          The arrays of ``StudyData``, and notes on what was left out.

        Raises:
          DataError: runs whose numbers contradict themselves, or the study.
        """
        runs = {name: np.array(values) for name, values in self._runs.items()}
        lengths, digests = np.array(self._lengths), np.array(self._digests)
        keys = (digests, runs["cell"], runs["seed"], runs["benchmark"], runs["method"])
        order = np.lexsort(keys)
        cell = runs["cell"][order]
        again = np.zeros(len(order), bool)
        again[1:] = cell[1:] == cell[:-1]
        starts = np.cumsum(lengths) - lengths
        kept = order[~again]
        size = lengths[kept]
        offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        # The old place of every improvement: its run's old start, and its number within the run.
        source = np.repeat(starts[kept] - offsets[:-1], size) + np.arange(offsets[-1])
        steps = {name: np.array(values)[source] for name, values in self._steps.items()}
        arrays = {name: values[kept] for name, values in runs.items()} | {"offsets": offsets} | steps
        notes = []
        if again.any():
            unequal = int((again[1:] & (digests[order][1:] != digests[order][:-1])).sum())
            text = f"{int(again.sum()):,} records of runs that are there already were dropped"
            notes.append(text + (f"; {unequal:,} of them were not the same to the letter" if unequal else ""))
        if self._empty:
            notes.append(f"runs that could not afford a single query, left out: {len(self._empty):,}")
        _check(arrays, np.array(list(rows.values()), np.int64), judged)
        return arrays, notes


def _number(value: Any) -> float:
    if value is None:
        return math.nan
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def _check(arrays: Mapping[str, np.ndarray], rows: np.ndarray, judged: bool) -> None:
    """Refuses runs that no search can have made; the first one is named."""
    starts, run = arrays["offsets"][:-1], np.repeat(np.arange(len(arrays["cell"])), np.diff(arrays["offsets"]))
    n, later = rows[arrays["benchmark"]], np.ones(len(run), bool)
    later[starts] = False
    falling = later & (not judged)
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
