"""Reads a study's folder into arrays, whatever the order of the records and the number of files."""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.console import short_repr
from ncp_jax.metrics import ON_TEST, MetricSpec
from ncp_jax.records.journal import read_records
from ncp_jax.reports.columns import Columns
from ncp_jax.reports.text import plural
from ncp_jax.types import Float, Int

_STUDY_KEYS = ("tables", "budget", "methods", "cells")


@dataclasses.dataclass(frozen=True, eq=False)
class StudyData:
    """All r runs of a study, ordered by method and benchmark as in study.json, then by seed.

    Attributes:
      folder: folder of the study.
      study: content of study.json.
      sessions: lines of sessions.jsonl.
      notes: what readers of the results should know: lines dropped, runs missing, ….
      methods: labels of the methods, in the order of study.json.
      benchmarks: names of the benchmarks, in the order of study.json.
      cell: uint64 [r], hash of the run's configuration.
      method: int32 [r], index into ``methods``.
      benchmark: int32 [r], index into ``benchmarks``.
      seed: int64 [r].
      queries: int64 [r], queries that cost budget.
      asks: int64 [r], all queries, with the repeated ones that cost nothing.
      seconds: float64 [r], simulated training seconds spent, NaN if the table has no training times.
      hypervolume: float64 [r], as a share of the whole table's, NaN where there is none.
      offsets: int64 [r + 1]; the improvements of run i are ``offsets[i]:offsets[i + 1]`` of the next six arrays.
      at: int64 [m], query, from 1, at which the best so far improved.
      rows: int64 [m], row in the table of the architecture found.
      values: float64 [m], its value in the metric's unit.
      ranks: int64 [m], its rank in the whole table, 1 is best.
      regrets: float64 [m], >= 0, difference of its value from the table's best, in the metric's unit. Ranks and
        regrets fall along a run, except where results are judged by another column than the one searched.
      times: float64 [m], simulated training seconds spent until then, NaN if the table has no training times.
    """

    folder: Path
    study: dict[str, Any]
    sessions: list[dict[str, Any]]
    notes: tuple[str, ...]
    methods: tuple[str, ...]
    benchmarks: tuple[str, ...]
    cell: Int[np.ndarray, " r"]
    method: Int[np.ndarray, " r"]
    benchmark: Int[np.ndarray, " r"]
    seed: Int[np.ndarray, " r"]
    queries: Int[np.ndarray, " r"]
    asks: Int[np.ndarray, " r"]
    seconds: Float[np.ndarray, " r"]
    hypervolume: Float[np.ndarray, " r"]
    offsets: Int[np.ndarray, " r+1"]
    at: Int[np.ndarray, " m"]
    rows: Int[np.ndarray, " m"]
    values: Float[np.ndarray, " m"]
    ranks: Int[np.ndarray, " m"]
    regrets: Float[np.ndarray, " m"]
    times: Float[np.ndarray, " m"]

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def budget(self) -> int:
        """Number of queries that a run may pay for."""
        return int(self.study["budget"])

    @property
    def last(self) -> Int[np.ndarray, " r"]:
        """Index of each run's last improvement, for ``values[data.last]`` and the like."""
        return self.offsets[1:] - 1

    @property
    def percentile(self) -> Float[np.ndarray, " r"]:
        """Final rank of each run as a percentage of its table: lower is better."""
        return 100.0 * self.ranks[self.last] / self.table_rows[self.benchmark]

    @property
    def found(self) -> np.ndarray:
        """Bool [r]: whether the run found the table's best architecture, at query ``at[last]``."""
        return self.ranks[self.last] == 1

    @property
    def table_rows(self) -> Int[np.ndarray, " benchmarks"]:
        """Number of architectures in each benchmark's table."""
        return np.array([self.study["tables"][name]["rows"] for name in self.benchmarks], np.int64)

    def metric(self, benchmark: str) -> MetricSpec:
        """Returns the metric that the searches on a benchmark optimize."""
        return MetricSpec(**self.study["tables"][benchmark]["metric"])

    @functools.cached_property
    def blocks(self) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " r"]]:
        """The benchmark of each block, that is, each distinct pair of benchmark and seed, and the block of each run."""
        order = np.lexsort((self.seed, self.benchmark))
        new = np.ones(len(order), bool)
        new[1:] = (np.diff(self.seed[order]) != 0) | (np.diff(self.benchmark[order]) != 0)
        number = np.empty(len(order), np.int64)
        number[order] = np.cumsum(new) - 1
        return self.benchmark[order][new], number

    def group(self, method: int, benchmark: int) -> slice:
        """Returns which runs are those of one method on one benchmark; they lie together."""
        key = self.method.astype(np.int64) * len(self.benchmarks) + self.benchmark
        low, high = np.searchsorted(key, method * len(self.benchmarks) + benchmark + np.array([0, 1]))
        return slice(int(low), int(high))


def load_study(folder: str | Path) -> StudyData:
    """Reads a study's folder: study.json, every records*.jsonl, sessions.jsonl.

    A run that is recorded twice counts once. Damaged lines are dropped, as the journal does; ``notes`` says so.

    Args:
      folder: folder of the study. The study may be unfinished, and may be running.

    Returns:
      The runs; the same for any order of lines and any number of files.

    Raises:
      UsageError: the folder does not exist, or is not a study's.
      DataError: no run has finished yet, or files are damaged or contain runs of another study.
      OSError: a file cannot be read.
    """
    path = Path(folder)
    study = _read_study(path)
    files = sorted(path.glob("records*.jsonl"))
    columns = Columns(tuple(study["methods"]), tuple(study["tables"]))
    dropped = 0
    for file in files:
        reader = read_records(file)
        for line in reader:
            columns.add(f"{file.name}:{line.number}", line.text, line.record)
        dropped += reader.dropped
    rows = {name: table["rows"] for name, table in study["tables"].items()}
    searched, judge = searched_and_judged(study)
    arrays, notes = columns.finish(rows, judged=judge is not None)
    if judge is not None:
        notes.append(f"searches saw {searched}, results are judged by {judge}: the best so far may get worse")
    tested = tested_benchmarks(study)
    if tested:
        notes.append(f"{ON_TEST}: {', '.join(tested)}; results cannot be compared with searches on validation values")
    if dropped:
        notes.insert(0, plural(dropped, "damaged line was", "damaged lines were") + " dropped")
    runs, cells = len(arrays["cell"]), int(study["cells"])
    if not runs:
        raise checks.DataError(
            expected=f"finished runs in {path}",
            got=f"{len(files)} record files without any",
            remedy="run the study first",
        )
    if runs > cells:
        raise checks.DataError(
            expected=f"at most the {cells} runs of study.json in {path}",
            got=str(runs),
            remedy="remove what is not its own",
        )
    if runs + columns.empty < cells:
        notes.insert(0, f"the study is unfinished: {runs + columns.empty:,} of {cells:,} runs")
    return StudyData(
        folder=path,
        study=study,
        sessions=_read_sessions(path / "sessions.jsonl"),
        notes=tuple(notes),
        methods=tuple(study["methods"]),
        benchmarks=tuple(study["tables"]),
        **arrays,
    )


def searched_and_judged(study: dict[str, Any]) -> tuple[str, str | None]:
    """Returns the column that was searched, and the one that results are judged by, or None if it is the same."""
    grid = study.get("grid")
    grid = grid if isinstance(grid, dict) else {}
    searched, judge = grid.get("metric"), grid.get("judge")
    return searched or "the table's main metric", None if judge == searched else judge


def tested_benchmarks(study: dict[str, Any]) -> list[str]:
    """Returns the benchmarks whose searched column is of the test split."""
    return [name for name in study["tables"] if searched_split(study, name) == "test"]


def searched_split(study: dict[str, Any], benchmark: str) -> str:
    """Returns the split of the column that is searched on a benchmark; "" where it was not recorded."""
    table = study["tables"][benchmark]
    if "searched" in table:  # recorded where columns of the test split are allowed
        return MetricSpec(**table["searched"]).split
    return "" if searched_and_judged(study)[1] else MetricSpec(**table["metric"]).split


def _read_study(folder: Path) -> dict[str, Any]:
    path = folder / "study.json"
    if not path.is_file():
        raise checks.UsageError(
            expected=f"a study's folder, with study.json, at {folder}",
            got="none there" if folder.is_dir() else "no such folder",
            remedy="give another",
        )
    try:
        study = json.loads(path.read_bytes())
        if not isinstance(study, dict):
            raise ValueError("not an object")
        missing = [key for key in _STUDY_KEYS if key not in study]
        if missing:
            raise ValueError(f"no {', '.join(missing)}")
        for name, table in study["tables"].items():
            MetricSpec(**table["metric"])
            checks.positive(f"rows of {name}", table["rows"])
        for method in study["methods"].values():
            method["searcher"], method["settings"].items()
        checks.positive("budget", study["budget"])
        checks.positive("cells", study["cells"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise checks.DataError(
            expected=f"a study in {path}",
            got=f"something else ({type(error).__name__}: {error})",
            remedy="make the study anew",
        ) from error
    return study


def _read_sessions(path: Path) -> list[dict[str, Any]]:
    """Returns the sessions that can be read; the results do not depend on a line that was cut off."""
    if not path.exists():
        return []
    sessions = [line.record for line in read_records(path) if isinstance(line.record, dict)]
    return sorted(sessions, key=lambda session: (str(session.get("date", "")), json.dumps(session, sort_keys=True)))
