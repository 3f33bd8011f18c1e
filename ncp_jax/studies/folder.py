"""The folder of a study: what was asked for, one line a run, and one record file in the end."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from ncp_jax import checks
from ncp_jax.files import append, atomic_write, lock, make_folder
from ncp_jax.records.journal import MAKE_ROOM, Record, write_json
from ncp_jax.studies.plan import Pack, Plan

WHOLE = "records.jsonl"
NAME = re.compile(r"records(-\d+-of-\d+)?\.jsonl")  # no other file is read, or put together and removed
MOST_OPEN = 256  # files at once; many systems allow a process 1024
VERSIONS = ("ncp-jax", "jax", "jaxlib", "numpy")  # what the results of a run may depend on


class StudyFolder:
    """The records of one share of a study; a context manager that holds the share meanwhile.

    ``study.json`` says what the study is. A share appends to ``records-I-of-N.jsonl``, all runs of a call at once and
    synced, so a killed process loses at most the calls in flight; a line cut short by the kill is dropped. When every
    run of the plan is there, all shares' files become one ``records.jsonl`` in the plan's order: the same bytes,
    however often the study was interrupted and however it was shared out.

    Hundreds of shares may begin at the same time: what takes long, reading the records, is done without the lock of
    the folder.

    Args:
      folder: made if missing.
      plan: all runs of the study.
      versions: of the software, from the run card.
      shard: (share, number of shares).
      resume: continue this share's records. Without it a folder is refused that has any, but for those of other shares
        of as many.

    Raises:
      UsageError: there are records and ``resume`` is off; or the folder is of another grid, data or version (the
        difference is shown); or another process runs this share.
      DataError: a record that is no record of this study.
      OSError: the folder cannot be written.
    """

    def __init__(
        self, folder: str | Path, plan: Plan, versions: Record, *, shard: tuple[int, int] = (0, 1), resume: bool = False
    ) -> None:
        self.folder = make_folder(folder, remedy="choose another --out")
        self.plan = plan
        self.path = self.folder / f"records-{shard[0] % shard[1]}-of-{shard[1]}.jsonl"
        self.dropped = 0
        self._numbers = _numbers(plan)
        self._cells: dict[int, str] = {}
        self._places: dict[int, tuple[Path, int]] = {}
        self._read: dict[Path, tuple[int, int]] = {}
        self._held = contextlib.ExitStack()
        try:
            self._open(folder, versions, shard, resume)
        except BaseException:
            self.close()
            raise

    def _open(self, folder: str | Path, versions: Record, shard: tuple[int, int], resume: bool) -> None:
        try:
            self._held.enter_context(lock(self.folder / f".share-{self.path.stem}.lock", wait=False))
        except BlockingIOError as error:
            raise checks.UsageError(
                expected="no other process on this share",
                got=f"one that is at work on share {shard[0]}/{shard[1]} in {folder}",
                remedy="wait for it, or let another number of shares do what is left",
            ) from error
        with lock(self.folder / ".lock"):
            if not resume and any(self._of_another_run(path, shard[1]) for path in self.files()):
                raise checks.UsageError(
                    expected=f"a folder without records for --out {folder}",
                    got="one with records",
                    remedy="add --resume or choose another --out",
                )
            study = describe_study(self.plan, versions)
            if not _is_this_study(folder, study):
                self._look()  # before the folder is ours: records without a study may be somebody else's
                write_json(self.folder / "study.json", study)
            if self.path.exists():
                self._drop_cut_line()
        self._look()

    def __enter__(self) -> StudyFolder:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets others have this share."""
        self._held.close()

    def files(self) -> list[Path]:
        """All record files of the folder."""
        return sorted(path for path in self.folder.glob("records*.jsonl") if NAME.fullmatch(path.name))

    def _of_another_run(self, path: Path, count: int) -> bool:
        """Whether a file has records that are not from a sister share of a study just begun."""
        sister = path != self.path and path.name.endswith(f"-of-{count}.jsonl")
        return not sister and path.stat().st_size > 0

    def missing(self, pack: Pack) -> list[int]:
        """Places in the pack of runs that no file has."""
        runs = zip(pack.methods, pack.seeds, strict=True)
        return [i for i, (m, s) in enumerate(runs) if self._number(pack.benchmark, m, s) not in self._places]

    @property
    def done(self) -> int:
        """Runs that some file has."""
        return len(self._places)

    def add(self, pack: Pack, places: Iterable[int], results: list[Record]) -> None:
        """Appends the records of a call, synced to disk.

        Raises:
          OSError: the disk is full; what was finished before stays whole.
        """
        lines = []
        for place, result in zip(places, results, strict=True):
            method, seed = pack.methods[place], pack.seeds[place]
            searcher = self.plan.methods[method]
            record = {
                "cell": self._cell(pack.benchmark, method, seed),
                "method": method,
                "searcher": searcher.name,
                "settings": searcher.settings(),
                "benchmark": pack.benchmark,
                "seed": seed,
                "results": result,
            }
            lines.append(json.dumps(record, allow_nan=False, separators=(",", ":")) + "\n")
        append(self.path, "".join(lines).encode(), remedy=MAKE_ROOM)
        self._look([self.path])

    def add_session(self, session: Record) -> None:
        """Appends what one process did to ``sessions.jsonl``."""
        with lock(self.folder / ".lock"):
            line = (json.dumps(session, allow_nan=False) + "\n").encode()
            append(self.folder / "sessions.jsonl", line, remedy=MAKE_ROOM)

    def finish(self) -> bool:
        """Where every run is recorded, puts all files together in the plan's order; says whether it is so."""
        self._look()
        if len(self._places) < self.plan.size:
            return False
        with lock(self.folder / ".lock"):
            self._look()
            if self.files() != [self.folder / WHOLE]:
                self._merge([self._places[number] for number in range(self.plan.size)])
        return True

    def _merge(self, places: list[tuple[Path, int]]) -> None:
        files: dict[Path, BinaryIO] = {}
        try:

            def write(out: Any) -> None:
                for path, offset in places:
                    if path not in files:
                        if len(files) == MOST_OPEN:
                            files.pop(next(iter(files))).close()
                        files[path] = open(path, "rb")  # noqa: SIM115, closed below, all at once
                    files[path].seek(offset)
                    out.write(files[path].readline())

            atomic_write(self.folder / WHOLE, write, remedy=MAKE_ROOM)
        finally:
            for file in files.values():
                file.close()
        for path in self.files():
            if path.name != WHOLE:
                path.unlink()

    def _number(self, benchmark: str, method: str, seed: int) -> int:
        """The place of a run in the plan: by method, then benchmark, then seed."""
        grid = self.plan.grid
        if not (type(seed) is int and 0 <= seed - grid.first_seed < grid.seeds):
            raise KeyError(seed)
        return self._numbers[method, benchmark] + seed - grid.first_seed

    def _cell(self, benchmark: str, method: str, seed: int) -> str:
        number = self._number(benchmark, method, seed)
        if number not in self._cells:
            self._cells[number] = self.plan.cell(benchmark, method, seed)
        return self._cells[number]

    def _look(self, paths: list[Path] | None = None) -> None:
        """Notes where the records are that have come since the last look, in all files or in some."""
        while True:
            try:
                for path in self.files() if paths is None else paths:
                    self._look_into(path)
                return
            except FileNotFoundError:
                # Another share has just put all files together: begin anew with the one that it made.
                self._places, self._read, paths = {}, {}, None

    def _look_into(self, path: Path) -> None:
        """Reads what has come to a file.

        Another share may be writing its last line at this moment, or was killed while it wrote (a power cut can leave
        zeros behind that end like a whole line): what does not end, or is nothing with no record after it, is passed
        over.
        """
        with open(path, "rb") as file:
            identity = os.fstat(file.fileno()).st_ino
            known, offset = self._read.get(path, (identity, 0))
            if known != identity:
                offset = 0
            file.seek(offset)
            end, bad = offset, None
            for line in file:
                if not line.endswith(b"\n"):
                    break
                record = _parse(line)
                if record is None:
                    bad = end if bad is None else bad
                elif bad is not None:
                    raise checks.DataError(
                        expected=f"records of this study in {path}",
                        got=f"something else at byte {bad}",
                        remedy="remove that line or choose another --out",
                    )
                else:
                    self._places[self._check(record, path)] = path, end
                    offset = end + len(line)
                end += len(line)
            self._read[path] = identity, offset

    def _check(self, record: Any, path: Path) -> int:
        """The number of a record; DataError where it is none of this study."""
        expected, remedy = f"records of this study in {path}", "choose another --out"
        try:
            key = record["benchmark"], record["method"], record["seed"]
            number, cell = self._number(*key), record["cell"]
        except (KeyError, TypeError) as error:
            raise checks.DataError(
                expected=expected, got=f"something else ({type(error).__name__}: {error})", remedy=remedy
            ) from error
        if cell != self._cell(*key):
            raise checks.DataError(
                expected=expected,
                got=f"a run of another one ({record['method']}, seed {record['seed']})",
                remedy=remedy,
            )
        return number

    def _drop_cut_line(self) -> None:
        """Cuts off what follows the last whole record: the tail of a killed write."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        while whole:
            # A power cut can leave a last line of zeros behind that ends like a whole one.
            start = content.rfind(b"\n", 0, whole - 1) + 1
            if _parse(content[start:whole]) is not None:
                break
            whole = start
        if whole < len(content):
            self.dropped = max(1, content[whole:].strip(b"\n").count(b"\n") + 1)
            atomic_write(self.path, content[:whole])


def _parse(line: bytes) -> Any:
    """The JSON of a line; None where it is none."""
    try:
        return json.loads(line)
    except ValueError:
        return None


def describe_study(plan: Plan, versions: Record) -> Record:
    """What ``study.json`` says."""
    grid = plan.grid
    tables = {}
    for name, table in plan.tables.items():
        spec = table.metric(grid.judge or grid.metric or table.main.name)
        best = float(table.column(spec.name)[int(table.oriented(spec.name).argmax())])
        tables[name] = {
            "hash": plan.hashes[name],
            "rows": len(table),
            "metric": spec.to_json(),
            "best": float(f"{best:.7g}"),
        }
    return {
        "grid": grid.to_json(),
        "versions": {name: versions.get(name) for name in VERSIONS},
        "tables": tables,
        "budget": grid.budget,
        "seconds": grid.seconds,
        "repeats": grid.repeats,
        "methods": {label: {"searcher": m.name, "settings": m.settings()} for label, m in plan.methods.items()},
        "seeds": [grid.first_seed, grid.seeds],
        "cells": plan.size,
    }


def _numbers(plan: Plan) -> dict[tuple[str, str], int]:
    """The number of the first run of each method and benchmark."""
    pairs = [(method, benchmark) for method in plan.methods for benchmark in plan.tables]
    return {pair: i * plan.grid.seeds for i, pair in enumerate(pairs)}


def _is_this_study(folder: str | Path, new: Record) -> bool:
    """Whether the folder is of this study already; False where it is of none.

    Raises:
      UsageError: it is of another one.
      DataError: ``study.json`` is damaged.
    """
    path = Path(folder) / "study.json"
    if not path.exists():
        return False
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise checks.DataError(
            expected=f"JSON in {path}", got=f"something else ({error})", remedy="choose another --out"
        ) from error
    differences = list(_differences(_without_paths(old), _without_paths(new)))
    if differences:
        shown = "; ".join(differences[:6]) + ("; …" if len(differences) > 6 else "")
        raise checks.UsageError(
            expected=f"{folder} to hold this study", got=f"another study ({shown})", remedy="choose another --out"
        )
    return True


def _without_paths(study: Any) -> Any:
    """A copy without the paths of the user's own tables: their content counts, wherever the job was started."""
    study = json.loads(json.dumps(study))
    grid = study.get("grid") if isinstance(study, dict) else None
    tables = grid.get("tables") if isinstance(grid, dict) else None
    for table in tables.values() if isinstance(tables, dict) else ():
        table.pop("path", None)
    return study


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Where two JSON values differ, as "path: there, now"."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(k for k in old if k not in new)]:
            if key not in old or key not in new:
                there, now = (repr(d[key]) if key in d else "nothing" for d in (old, new))
                yield f"{where}{key}: {_short(there)} there, {_short(now)} now"
            else:
                yield from _differences(old[key], new[key], f"{where}{key}.")
    elif old != new:
        yield f"{where.rstrip('.')}: {_short(repr(old))} there, {_short(repr(new))} now"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"
