"""The folder of a study: its description, one line per finished run, and one record file in the end."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ncp_jax import checks
from ncp_jax.files import append, atomic_write, lock, make_folder
from ncp_jax.records import journal
from ncp_jax.records.journal import MAKE_ROOM, OTHER_FOLDER, Record
from ncp_jax.records.run_card import RESULT_PACKAGES
from ncp_jax.spaces.codes import ISOMORPHISM
from ncp_jax.studies.extension import (
    MERGED,
    SESSIONS,
    STUDY,
    change_grid,
    has_earlier,
    refuse_contradiction,
    same_study,
    take_back,
)
from ncp_jax.studies.plan import Pack, Plan

RECORD_FILE = re.compile(r"records(-\d+-of-\d+)?\.jsonl")  # no other file is read, or merged and removed
MOST_OPEN = 256  # files open at once; many systems allow a process 1024


class _Progress(NamedTuple):
    """How far a record file has been read.

    Attributes:
      inode: the file's inode: a file that was replaced is read anew.
      end: byte offset of the end of its last readable line.
      damaged: number of damaged lines before that.
      tail: number of damaged lines behind it; the last one may be in the course of being written.
    """

    inode: int
    end: int = 0
    damaged: int = 0
    tail: int = 0


class StudyFolder:
    """The records of one share of a study; a context manager that keeps other processes from the share meanwhile.

    ``study.json`` describes the study. A share appends to ``records-I-of-N.jsonl``, all runs of a call at once and
    synced, so a killed process loses at most the calls in flight. Damaged lines are dropped and their runs repeated
    (``ncp_jax.records.journal``). When every run of the plan is recorded, the files of all shares are merged into one
    ``records.jsonl`` in the plan's order: the same bytes, however the study was interrupted and split into shares.

    Hundreds of shares may start at the same time. What takes long, reading the records, happens without the lock of
    the folder.

    With ``resume`` the grid may be another than before (``ncp_jax.studies.extension``): more or fewer seeds, methods
    and benchmarks, or another budget. Its runs that are on record stay; what it does not ask for is kept beside.

    Args:
      folder: where to write; made if missing.
      plan: all runs of the study.
      versions: package → version, from the run card.
      shard: (share, number of shares).
      resume: continue this share's records, or change the grid. Without it, a folder that has records is refused,
        unless they are those of other shares out of the same number.

    Attributes:
      told: lines for the user about records that the grid of now does not ask for.

    Raises:
      UsageError: there are records and ``resume`` is off; or the folder is of other data or versions, or of a grid that
        this one contradicts (the difference is shown); or another process runs this share, or a share of another grid.
      DataError: a record is not a record of this study.
      OSError: the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path, plan: Plan, versions: Record, *, shard: tuple[int, int] = (0, 1), resume: bool = False
    ) -> None:
        self.folder = make_folder(folder, remedy=OTHER_FOLDER)
        self.plan = plan
        self.path = self.folder / f"records-{shard[0] % shard[1]}-of-{shard[1]}.jsonl"
        self.told: list[str] = []
        self._repaired = 0
        self._first_numbers = _first_numbers(plan)
        self._cells: dict[int, str] = {}
        self._places: dict[int, tuple[Path, int]] = {}
        self._read: dict[Path, _Progress] = {}
        self._held = contextlib.ExitStack()
        try:
            self._open(folder, versions, shard, resume)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: str | Path, versions: Record, shard: tuple[int, int], resume: bool) -> None:
        study = describe_study(self.plan, versions)
        with lock(self.folder / ".lock"):
            # Taken under the lock of the folder: who holds a share's lock is at work on the grid that is there.
            who, remedy = f"share {shard[0]}/{shard[1]} in {folder}", "let another number of shares do what is left"
            self._hold(self.folder / f".share-{self.path.stem}.lock", "share", who, f"wait for it, or {remedy}")
            if not resume and any(self._is_of_another_run(path, shard[1]) for path in self.files()):
                raise journal.refuse_existing(folder)
            if not (self.folder / STUDY).exists():
                # Read before writing: records without a study.json may belong to somebody else.
                self._read_new()
                journal.write_json(self.folder / STUDY, study)
            else:
                self._settle(study, resume)
        self._read_new()
        own = self._read.get(self.path)
        if own and own.damaged + own.tail:
            # Under the lock, because another share that merges the files relies on where their lines start.
            with lock(self.folder / ".lock"):
                self._repaired += journal.repair(self.path) if self.path.exists() else 0
            self._read_new()
        if self.done < self.plan.size and has_earlier(self.folder):
            self._take_back(study["versions"])

    def _settle(self, study: Record, resume: bool) -> None:
        """Makes the folder, which has a study.json, that of the grid of now."""
        old = journal.read_json(self.folder / STUDY)
        if same_study(old, study):
            return
        refuse_contradiction(self.folder, old, study)
        if not resume:
            remedy = f"add --resume to change its grid, or {OTHER_FOLDER}"
            journal.refuse_other(self.folder, old, study, what="study", got="one of another grid", remedy=remedy)
        with contextlib.ExitStack() as others:
            for path in self.folder.glob(".share-*.lock"):
                if path.name != f".share-{self.path.stem}.lock":
                    who = f"another grid in {self.folder}"
                    self._hold(path, "study", who, f"wait for it, or {OTHER_FOLDER}", others)
            self._repaired = sum(map(journal.repair, self.files()))
            self.told = change_grid(self.folder, self.files(), self.plan, old, study)

    def _hold(self, path: Path, what: str, who: str, remedy: str, held: contextlib.ExitStack | None = None) -> None:
        journal.hold(held or self._held, path, what=what, who=who, remedy=remedy)

    def _take_back(self, versions: Record) -> None:
        """Adds the records of before that this grid asks for again to this share's file."""
        with lock(self.folder / ".lock"):
            self._read_new()
            found = take_back(self.folder, self.plan, versions)
            lines = [_to_line(record) for record in found if self._check(record, self.folder) not in self._places]
            if lines:
                append(self.path, "".join(lines).encode(), remedy=MAKE_ROOM)
                self._read_new([self.path])

    def __enter__(self) -> StudyFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets other processes have this share."""
        self._held.close()

    def files(self) -> list[Path]:
        """All record files of the folder."""
        return sorted(path for path in self.folder.glob("records*.jsonl") if RECORD_FILE.fullmatch(path.name))

    @property
    def dropped(self) -> int:
        """Number of damaged lines found in the record files; their runs are repeated."""
        return self._repaired + sum(progress.damaged for progress in self._read.values())

    def _is_of_another_run(self, path: Path, count: int) -> bool:
        """Whether a file has records and is not of a sister share, one out of the same number of shares."""
        sister = path != self.path and path.name.endswith(f"-of-{count}.jsonl")
        return not sister and path.stat().st_size > 0

    def missing(self, pack: Pack) -> list[int]:
        """Indices of the pack's runs that no file has a record of."""
        runs = enumerate(zip(pack.methods, pack.seeds, strict=True))
        return [i for i, (method, seed) in runs if self._number(pack.benchmark, method, seed) not in self._places]

    @property
    def done(self) -> int:
        """Number of runs that some file has a record of."""
        return len(self._places)

    def add(self, pack: Pack, chosen: Iterable[int], results: Sequence[Record]) -> None:
        """Appends the records of a call, synced to disk.

        Args:
          pack: the runs of the call.
          chosen: indices of the pack's runs to record.
          results: JSON-ready results of each chosen run.

        Raises:
          OSError: the disk is full; what was finished before stays whole.
        """
        lines = []
        for i, result in zip(chosen, results, strict=True):
            method, seed = pack.methods[i], pack.seeds[i]
            searcher = self.plan.methods[method]
            record = {
                "cell": self._cell(pack.benchmark, method, seed),
                "method": method,
                "searcher": searcher.name,
                "settings": searcher.settings(),
                "benchmark": pack.benchmark,
                "seed": seed,
                **({"on_test": True} if self.plan.searched(pack.benchmark).split == "test" else {}),
                "results": result,
            }
            lines.append(_to_line(record))
        append(self.path, "".join(lines).encode(), remedy=MAKE_ROOM)
        self._read_new([self.path])

    def add_session(self, session: Record) -> None:
        """Appends what one process did to ``sessions.jsonl``."""
        with lock(self.folder / ".lock"):
            line = (json.dumps(session, allow_nan=False) + "\n").encode()
            append(self.folder / SESSIONS, line, remedy=MAKE_ROOM)

    def finish(self) -> bool:
        """Merges all files in the plan's order if every run is recorded; returns whether that is so."""
        self._read_new()
        if len(self._places) < self.plan.size:
            return False
        with lock(self.folder / ".lock"):
            self._read_new()
            places = [self._places[number] for number in range(self.plan.size)]
            merged = all(a < b for (_, a), (_, b) in itertools.pairwise(places))
            if self.dropped or self.files() != [self.folder / MERGED] or not merged:
                self._merge(places)
        return True

    def _merge(self, places: list[tuple[Path, int]]) -> None:
        """Writes the lines at the given places (file, byte offset) to one file and removes the others."""
        files: dict[Path, BinaryIO] = {}
        try:

            def write(out: Any) -> None:
                for path, offset in places:
                    if path not in files:
                        if len(files) == MOST_OPEN:
                            files.pop(next(iter(files))).close()
                        files[path] = open(path, "rb")  # noqa: SIM115, closed below
                    files[path].seek(offset)
                    out.write(files[path].readline())

            atomic_write(self.folder / MERGED, write, remedy=MAKE_ROOM)
        finally:
            for file in files.values():
                file.close()
        for path in self.files():
            if path.name != MERGED:
                path.unlink()

    def _number(self, benchmark: str, method: str, seed: int) -> int:
        """Index of a run in the plan, which is sorted by method, then benchmark, then seed."""
        grid = self.plan.grid
        if not (type(seed) is int and 0 <= seed - grid.first_seed < grid.seeds):
            raise KeyError(seed)
        return self._first_numbers[method, benchmark] + seed - grid.first_seed

    def _cell(self, benchmark: str, method: str, seed: int) -> str:
        number = self._number(benchmark, method, seed)
        if number not in self._cells:
            self._cells[number] = self.plan.cell(benchmark, method, seed)
        return self._cells[number]

    def _read_new(self, paths: list[Path] | None = None) -> None:
        """Reads what was added since the last call, in some files or in all."""
        while True:
            try:
                for path in self.files() if paths is None else paths:
                    self._read_new_in(path)
                return
            except FileNotFoundError:
                # Another share has just merged all files: start again with the merged one.
                self._places, self._read, paths = {}, {}, None

    def _read_new_in(self, path: Path) -> None:
        inode = path.stat().st_ino
        known = self._read.get(path, _Progress(inode))
        if known.inode != inode:
            known = _Progress(inode)
        reader = journal.read_records(path, start=known.end)
        for line in reader:
            self._places[self._check(line.record, path)] = path, line.start
        self._read[path] = _Progress(inode, reader.end, known.damaged + reader.damaged, reader.tail)

    def _check(self, record: Any, path: Path) -> int:
        """The number of a record's run; DataError if the record is not of this study."""
        expected = f"records of this study in {path}"
        try:
            key = record["benchmark"], record["method"], record["seed"]
            number, cell = self._number(*key), record["cell"]
        except (KeyError, TypeError) as error:
            raise checks.DataError(
                expected=expected, got=f"something else ({type(error).__name__}: {error})", remedy=OTHER_FOLDER
            ) from error
        if cell != self._cell(*key):
            raise checks.DataError(
                expected=expected,
                got=f"a run of another one ({record['method']}, seed {record['seed']})",
                remedy=OTHER_FOLDER,
            )
        return number


def describe_study(plan: Plan, versions: Record) -> Record:
    """The content of ``study.json``."""
    grid = plan.grid
    tables: Record = {}
    for name, table in plan.tables.items():
        spec = table.metric(grid.judge or grid.metric or table.main.name)
        best = float(table.measured(spec.name)[int(table.oriented(spec.name).argmax())])
        tables[name] = {
            "hash": plan.hashes[name],
            "rows": len(table),
            "metric": spec.to_json(),
            "best": float(f"{best:{'.7g' if spec.stored is None else '.17g'}}"),
        }
        if plan.on_curves:
            tables[name]["curves"] = plan.curve_hashes[name]
        if grid.on_test:
            tables[name]["searched"] = plan.searched(name).to_json()
    return {
        "grid": grid.to_json(),
        "versions": {name: versions[name] for name in (*RESULT_PACKAGES, "jax settings") if name in versions},
        "tables": tables,
        "budget": grid.budget,
        "seconds": grid.seconds,
        "repeats": grid.repeats,
        **({} if grid.same_network == ISOMORPHISM else {"same_network": grid.same_network}),
        "methods": {label: {"searcher": m.name, "settings": m.settings()} for label, m in plan.methods.items()},
        "seeds": [grid.first_seed, grid.seeds],
        "cells": plan.size,
    }


def _first_numbers(plan: Plan) -> dict[tuple[str, str], int]:
    """(method, benchmark) → number of its first run."""
    pairs = [(method, benchmark) for method in plan.methods for benchmark in plan.tables]
    return {pair: i * plan.grid.seeds for i, pair in enumerate(pairs)}


def _to_line(record: Record) -> str:
    return json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n"
