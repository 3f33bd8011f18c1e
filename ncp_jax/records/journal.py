"""Records of runs: one JSON line each, appended as they finish, read back after any interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ncp_jax import checks
from ncp_jax.files import append, atomic_write, make_folder

MAKE_ROOM = "free some space and run again with --resume"

Record = dict[str, Any]


def cell_hash(cell: Record) -> str:
    """Returns a short hash of a cell's config; equal configs have equal hashes, in any order of keys."""
    return hashlib.sha256(json.dumps(cell, sort_keys=True).encode()).hexdigest()[:16]


def write_json(path: str | Path, content: Any) -> Path:
    """Writes JSON (indented, keys in order given, no NaN) atomically."""
    return atomic_write(path, (json.dumps(content, indent=1, allow_nan=False) + "\n").encode())


class Records:
    """The folder of one experiment: ``config.json``, ``records.jsonl``, later ``summary.json`` and figures.

    A line is written and synced when its run ends, so a killed experiment loses only the run in flight. A line cut
    short by the kill is dropped when the folder is opened again, and its run is repeated.

    Args:
      folder: where to write; made if missing.
      config: JSON-ready settings that determine the results.
      resume: continue the records in the folder. Without it, a folder that has records is refused.

    Raises:
      UsageError: the folder has records and ``resume`` is off, or they are of other settings (the difference is shown).
      OSError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, config: Record, *, resume: bool = False) -> None:
        self.folder = make_folder(folder, remedy="choose another --out")
        self.path = self.folder / "records.jsonl"
        self.dropped = 0
        self._by_cell: dict[str, Record] = {}
        old = self._read_config()
        if self.path.exists():
            if not resume:
                raise checks.UsageError(
                    expected=f"a folder without records for --out {folder}",
                    got="one with records",
                    remedy="add --resume or choose another --out",
                )
            _refuse_other_config(folder, old, config)
            self._recover()
        write_json(self.folder / "config.json", config)

    def _read_config(self) -> Record:
        path = self.folder / "config.json"
        if not path.exists():
            return {}
        try:
            return json.loads(path.read_text())
        except ValueError as error:
            raise checks.DataError(
                expected=f"JSON in {path}", got=f"something else ({error})", remedy="choose another --out"
            ) from error

    def _recover(self) -> None:
        """Keeps the whole lines of the file; a last line cut short is dropped from the file too."""
        content = self.path.read_bytes()
        whole = 0
        for line in content.splitlines(keepends=True):
            try:
                record = json.loads(line)
                self._by_cell[cell_hash(record["cell"])] = record
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            whole += len(line)
        if whole < len(content):
            self.dropped = len(content[whole:].splitlines())
            atomic_write(self.path, content[:whole])
            self._by_cell = {cell_hash(r["cell"]): r for r in map(json.loads, content[:whole].splitlines())}

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

    def __iter__(self) -> Iterator[Record]:
        return iter(self._by_cell.values())

    def __len__(self) -> int:
        return len(self._by_cell)


def _refuse_other_config(folder: str | Path, old: Record, new: Record) -> None:
    new = json.loads(json.dumps(new))
    differences = [
        f"{key}: {old.get(key)!r} there, {new.get(key)!r} now"
        for key in sorted({*old, *new})
        if old.get(key) != new.get(key)
    ]
    if differences:
        raise checks.UsageError(
            expected=f"{folder} to hold this experiment",
            got="other settings (" + "; ".join(differences) + ")",
            remedy="choose another --out",
        )
