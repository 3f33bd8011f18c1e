"""The journal of a folder's finished runs: one JSON line per run, appended and synced when the run ends.

One rule covers damaged lines, for every kind of run. A line that has no end, or that is not a JSON record, is dropped,
and its run is repeated; all other lines are kept. A killed process leaves at most one such line, the last one. A power
cut can leave several at the end of the file, and a failing disk some in the middle.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from ncp_jax import checks
from ncp_jax.console import warn
from ncp_jax.files import append, atomic_write, lock, make_folder
from ncp_jax.records.run_card import result_versions

MAKE_ROOM = "free some space and run again with --resume"
OTHER_FOLDER = "choose another --out"

Record = dict[str, Any]

_decode = json.JSONDecoder().decode  # without the search for an encoding that json.loads begins with


class Line(NamedTuple):
    """One readable line of a journal.

    Attributes:
      number: line number, from 1 at the first line read.
      start: byte offset of the line in the file.
      text: the line as it stands in the file, its end included.
      record: the JSON content.
    """

    number: int
    start: int
    text: bytes
    record: Any


class RecordReader:
    """Iterates over the readable lines of a journal and counts the damaged ones; see the module for the rule.

    The counts are complete when the iteration is.

    Attributes:
      damaged: number of damaged lines that are followed by a readable one.
      tail: number of damaged lines at the end of the file. Another process may be writing the last one.
      end: byte offset of the end of the last readable line.
    """

    def __init__(self, path: str | Path, *, start: int = 0, keys: Sequence[str] = ()) -> None:
        self._path, self._start, self._keys = path, start, keys
        self.damaged, self.tail, self.end = 0, 0, start

    @property
    def dropped(self) -> int:
        """Number of damaged lines."""
        return self.damaged + self.tail

    def __iter__(self) -> Iterator[Line]:
        self.damaged, self.tail, self.end = 0, 0, self._start
        start = self._start
        with open(self._path, "rb") as file:
            file.seek(start)
            for number, text in enumerate(file, 1):
                record = _parse(text, self._keys)
                if record is None:
                    self.tail += 1
                else:
                    self.damaged, self.tail, self.end = self.damaged + self.tail, 0, start + len(text)
                    yield Line(number, start, text, record)
                start += len(text)


def read_records(path: str | Path, *, start: int = 0, keys: Sequence[str] = ()) -> RecordReader:
    """Reads a journal line by line.

    Args:
      path: the file.
      start: byte offset of the line to begin with.
      keys: keys that a record must have; a line without them counts as damaged.

    Returns:
      An iterable of ``Line``; after the iteration, ``dropped`` is the number of damaged lines.

    Raises:
      FileNotFoundError: there is no such file (raised by the iteration).
    """
    return RecordReader(path, start=start, keys=keys)


def _parse(text: bytes, keys: Sequence[str]) -> Any:
    """The JSON content of a line, None where the line is damaged."""
    if not text.endswith(b"\n"):
        return None
    try:
        record = _decode(text.decode())
    except (ValueError, RecursionError):  # nested too deeply
        return None
    return None if keys and not (isinstance(record, dict) and all(key in record for key in keys)) else record


def repair(path: Path, *, keys: Sequence[str] = ()) -> int:
    """Removes the damaged lines of a journal that no other process writes; returns their number."""
    reader = read_records(path, keys=keys)
    lines = [line.text for line in reader]
    if reader.dropped:
        atomic_write(path, b"".join(lines), remedy=MAKE_ROOM)
    return reader.dropped


def describe_dropped(count: int) -> str:
    """One line that tells the user about damaged lines."""
    return f"dropped {count} damaged record(s); their runs are repeated"


def cell_hash(cell: Record) -> str:
    """Returns a short hash of a cell's config; equal configs have equal hashes, in any order of keys."""
    return hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: str | Path, content: Any) -> Path:
    """Writes JSON (indented, keys in order given, no NaN) atomically."""
    return atomic_write(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Reads a JSON file of a folder of runs.

    Raises:
      DataError: the file is damaged.
    """
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise checks.DataError(
            expected=f"JSON in {path}", got=f"something else ({error})", remedy=OTHER_FOLDER
        ) from error


def hold(held: contextlib.ExitStack, path: Path, *, what: str, who: str, remedy: str) -> None:
    """Takes the lock of a journal until ``held`` is closed: a journal has one writer at a time.

    Raises:
      UsageError: another process holds it.
    """
    try:
        held.enter_context(lock(path, wait=False))
    except BlockingIOError as error:
        raise checks.UsageError(
            expected=f"no other process on this {what}", got=f"one that is at work on {who}", remedy=remedy
        ) from error


def refuse_existing(folder: str | Path) -> checks.UsageError:
    """The error for a folder that has records although ``resume`` is off."""
    return checks.UsageError(
        expected=f"a folder without records for --out {folder}",
        got="one with records",
        remedy="add --resume or choose another --out",
    )


def refuse_other(folder: str | Path, old: Any, new: Any, *, what: str, got: str, remedy: str = OTHER_FOLDER) -> None:
    """Refuses a folder whose description differs from the one wanted now.

    Args:
      folder: the folder, for the error text.
      old: the description that the folder holds, from JSON.
      new: the description wanted now, from JSON.
      what: what the folder is expected to hold ("study").
      got: what it holds instead ("another study").
      remedy: what the user can do.

    Raises:
      UsageError: they differ; the text shows up to six differences.
    """
    differences = list(_differences(old, new))
    if differences:
        shown = "; ".join(differences[:6]) + ("; …" if len(differences) > 6 else "")
        raise checks.UsageError(expected=f"{folder} to hold this {what}", got=f"{got} ({shown})", remedy=remedy)


def _differences(old: Any, new: Any, where: str = "") -> Iterator[str]:
    """Where two JSON values differ, as "path: VALUE there, VALUE now"."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*new, *(k for k in old if k not in new)]:
            if key not in old or key not in new:
                there, now = (repr(d[key]) if key in d else "nothing" for d in (old, new))
                yield f"{where}{key}: {_shorten(there)} there, {_shorten(now)} now"
            else:
                yield from _differences(old[key], new[key], f"{where}{key}.")
    elif old != new:
        yield f"{where.rstrip('.')}: {_shorten(repr(old))} there, {_shorten(repr(new))} now"


def _shorten(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "…"


class Records:
    """The folder of one experiment: ``config.json``, ``records.jsonl``, later ``summary.json`` and figures.

    A line is written and synced when its run ends, so a killed experiment loses only the run in flight. Damaged lines
    are dropped when the folder is opened again, a message on standard error says so, and their runs are repeated.

    With ``resume`` the records go on: settings, versions and data must be those of before, except for the settings that
    only select cells. With more seeds, for example, the cells of before stay and the new ones are missing.

    One process at a time may have a folder open, until ``close`` or the end of the process. A process may open its own
    folder again; the earlier object must not be written to afterwards.

    Args:
      folder: where to write; made if missing.
      config: JSON-ready settings that determine the results. ``config.json`` holds them and the versions of the
        software that results may depend on. Hashes of the data belong to the settings.
      resume: continue the records in the folder. Without it, a folder that has records is refused.
      selects: keys of ``config`` that select cells and change none ("seeds"); they may differ from before.

    Raises:
      UsageError: the folder has records and ``resume`` is off; or they are of other settings or versions (the
        difference is shown); or another process has the folder open.
      DataError: ``config.json`` is damaged.
      OSError: the folder cannot be written.
    """

    _open: ClassVar[weakref.WeakValueDictionary[Path, Records]] = weakref.WeakValueDictionary()

    def __init__(
        self, folder: str | Path, config: Record, *, resume: bool = False, selects: Sequence[str] = ()
    ) -> None:
        self.folder = make_folder(folder, remedy=OTHER_FOLDER)
        self.path = self.folder / "records.jsonl"
        self.dropped = 0
        self._by_cell: dict[str, Record] = {}
        self._held = contextlib.ExitStack()
        name = self.path.resolve()
        if name in self._open:
            self._open[name].close()
        hold(
            self._held,
            self.folder / ".records.lock",
            what="folder",
            who=str(folder),
            remedy="wait for it, or choose another --out",
        )
        self._open[name] = self
        try:
            self._read(folder, config | {"versions": result_versions()}, resume, selects)
        except BaseException:
            self.close()
            raise

    def _read(self, folder: str | Path, config: Record, resume: bool, selects: Sequence[str]) -> None:
        path, keys = self.folder / "config.json", ("cell", "results")
        old = read_json(path) if path.exists() else {}
        if self.path.exists() and not resume:
            raise refuse_existing(folder)
        if resume and (path.exists() or self.path.exists()):
            new = json.loads(json.dumps(config))
            if isinstance(old, dict):
                new |= {key: old[key] for key in selects if key in new and key in old}
            refuse_other(folder, old, new, what="experiment", got="other settings")
        if self.path.exists():
            self.dropped = repair(self.path, keys=keys)
            self._by_cell = {cell_hash(record["cell"]): record for *_, record in read_records(self.path, keys=keys)}
            if self.dropped:
                warn(describe_dropped(self.dropped))
        write_json(path, config)

    def close(self) -> None:
        """Lets other processes open the folder."""
        self._held.close()

    def get(self, cell: Record) -> Record | None:
        """The finished record of a cell, or None."""
        return self._by_cell.get(cell_hash(cell))

    def add(self, cell: Record, results: Record) -> Record:
        """Appends the record of a finished cell, synced to disk.

        Raises:
          OSError: the disk is full; what was finished before stays whole.
        """
        record = {"cell": cell, "results": results}
        line = (json.dumps(record, sort_keys=True, allow_nan=False) + "\n").encode()
        append(self.path, line, remedy=MAKE_ROOM)
        self._by_cell[cell_hash(cell)] = record
        return record

    def of(self, cells: Iterable[Record]) -> list[Record]:
        """The records of the finished ones among some cells, in the order of the cells."""
        return [record for cell in cells if (record := self.get(cell)) is not None]

    def __iter__(self) -> Iterator[Record]:
        return iter(self._by_cell.values())

    def __len__(self) -> int:
        return len(self._by_cell)
