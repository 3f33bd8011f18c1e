"""A study's folder, read as arrays: any number of record files, lines in any order, the same data."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec
from ncp_jax.reports.columns import Columns
from ncp_jax.reports.text import plural
from ncp_jax.types import Float, Int

_STUDY_KEYS = ("tables", "budget", "methods", "cells")


@dataclasses.dataclass(frozen=True, eq=False)
class StudyData:
    """All runs of a study, r of them, ordered by method and benchmark as in study.json, then by seed.

    Attributes:
      folder: where it was read.
      study: study.json.
      sessions: the lines of sessions.jsonl.
      notes: what a reader of the results should know: lines dropped, runs missing, ….
      methods: labels, in the order of study.json.
      benchmarks: names, likewise.
      cell: uint64 [r], the hash of each run's config.
      method: int32 [r], index into ``methods``.
      benchmark: int32 [r], index into ``benchmarks``.
      seed: int64 [r].
      queries: int64 [r], paid queries.
      asks: int64 [r], queries and repeats that were not paid for.
      seconds: float64 [r], simulated training seconds spent, NaN where the table has none.
      hypervolume: float64 [r], share of the whole table's, NaN where there is none.
      offsets: int64 [r + 1]; the improvements of run i are i's slice ``offsets[i]:offsets[i + 1]`` of the next six.
      at: int64 [m], the query, from 1, at which the best so far became better.
      rows: int64 [m], the row of the table that was found.
      values: float64 [m], its value in the metric's unit.
      ranks: int64 [m], its rank in the whole table, 1 is best.
      regrets: float64 [m], >= 0, what it lacks to the table's best, in the metric's unit. Ranks and regrets fall
        along a run, but where results are judged by another column than the searched one.
      times: float64 [m], simulated training seconds spent until then, NaN where the table has none.
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

    def __len__(self) -> int:
        return len(self.cell)

    @property
    def budget(self) -> int:
        """Queries that a run may pay for."""
        return int(self.study["budget"])

    @property
    def last(self) -> Int[np.ndarray, " r"]:
        """The place of each run's last improvement, for ``values[data.last]`` and the like."""
        return self.offsets[1:] - 1

    @property
    def percentile(self) -> Float[np.ndarray, " r"]:
        """The final rank of each run as a percentage of its table: lower is better."""
        return 100.0 * self.ranks[self.last] / self.table_rows[self.benchmark]

    @property
    def found(self) -> np.ndarray:
        """Bool [r]: the run ended with the table's best, which it has had since ``at[last]``."""
        return self.ranks[self.last] == 1

    @property
    def table_rows(self) -> Int[np.ndarray, " benchmarks"]:
        """Architectures of each benchmark's table."""
        return np.array([self.study["tables"][name]["rows"] for name in self.benchmarks], np.int64)

    def metric(self, benchmark: str) -> MetricSpec:
        """What the searches of a benchmark raise or lower."""
        return MetricSpec(**self.study["tables"][benchmark]["metric"])

    def group(self, method: int, benchmark: int) -> slice:
        """The runs of one method on one benchmark; they lie together."""
        key = self.method.astype(np.int64) * len(self.benchmarks) + self.benchmark
        low, high = np.searchsorted(key, method * len(self.benchmarks) + benchmark + np.array([0, 1]))
        return slice(int(low), int(high))


def load_study(folder: str | Path) -> StudyData:
    """Reads a study's folder: study.json, every records*.jsonl, sessions.jsonl.

    Lines are read one by one into arrays, so that 100,000 runs take tens of MB. A run recorded twice counts once. A
    last line cut short, as a killed runner leaves it, is dropped; ``notes`` says so.

    Args:
      folder: the study's folder. The study may be unfinished, and may be running.

    Returns:
      The same data for any order of lines and any number of files.

    Raises:
      UsageError: the folder is not there, or is no study's.
      DataError: it has no finished run yet, or files are damaged, or hold runs that are not of this study.
      OSError: a file cannot be read.
    """
    path = Path(folder)
    study = _read_study(path)
    files = sorted(path.glob("records*.jsonl"))
    columns = Columns(tuple(study["methods"]), tuple(study["tables"]))
    dropped = 0
    for file in files:
        for name, line, record in _lines(file):
            if line is None:
                dropped += 1
            else:
                columns.add(name, line, record)
    rows = {name: table["rows"] for name, table in study["tables"].items()}
    searched, judge = searched_and_judged(study)
    arrays, notes = columns.finish(rows, judged=judge is not None)
    if judge is not None:
        notes.append(f"searches saw {searched}, results are judged by {judge}: the best so far may get worse")
    if dropped:
        notes.insert(0, plural(dropped, "line cut short was", "lines cut short were") + " dropped")
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
    """What the searches saw, and the column that results are judged by where it is another one, else None."""
    grid = study.get("grid")
    grid = grid if isinstance(grid, dict) else {}
    searched, judge = grid.get("metric"), grid.get("judge")
    return searched or "the table's main metric", None if judge == searched else judge


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
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise checks.DataError(
            expected=f"a study in {path}",
            got=f"something else ({type(error).__name__}: {error})",
            remedy="make the study anew",
        ) from error
    return study


def _lines(path: Path) -> Iterator[tuple[str, bytes | None, Any]]:
    """Yields "file:number", the line and its content; None and None for a last line that was cut short."""
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            name = f"{path.name}:{number}"
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                if not line.endswith(b"\n"):
                    yield name, None, None
                    return
                raise checks.DataError(
                    expected=f"a JSON record in {path}, line {number}",
                    got=f"something else ({error})",
                    remedy="remove the line; the run can be repeated",
                ) from error
            yield name, line, record


def _read_sessions(path: Path) -> list[dict[str, Any]]:
    """The sessions that can be read: what a kill cut short says nothing about the results."""
    if not path.exists():
        return []
    sessions = []
    for line in path.read_bytes().splitlines():
        try:
            session = json.loads(line)
        except ValueError:
            continue
        if isinstance(session, dict):
            sessions.append(session)
    return sorted(sessions, key=lambda session: (str(session.get("date", "")), json.dumps(session, sort_keys=True)))
