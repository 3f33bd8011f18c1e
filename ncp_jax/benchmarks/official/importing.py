"""Imports official files as tables: reads them, adds them to what is known, and keeps them in the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ncp_jax import checks, files
from ncp_jax.benchmarks import imported
from ncp_jax.benchmarks.catalogue import built_in_names
from ncp_jax.benchmarks.imported import Import, ImportedTable
from ncp_jax.benchmarks.official import evoxbench, naslib, nats, transnas
from ncp_jax.benchmarks.official.collected import Collected
from ncp_jax.benchmarks.official.reading import SEEDS, Reading
from ncp_jax.benchmarks.pickles import MEMORY
from ncp_jax.console import say

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of official files.

    Attributes:
      read: reads a path into tables.
      name: returns the name of an import of a path, where none is given.
      endings: what is added to the name of an import in those of its tables, before the "/".
    """

    read: Callable[[Path, Reading], None]
    name: Callable[[Path], str]
    endings: tuple[str, ...] = ("",)


KINDS = {
    "transnas": Kind(transnas.read_transnas, lambda path: "transnas-bench-101", ("-micro", "-macro")),
    "nats": Kind(nats.read_nats, nats.default_name),
    "nas-bench-201": Kind(nats.read_nas_bench_201, lambda path: "nas-bench-201-official"),
    "naslib": Kind(naslib.read_naslib, lambda path: "nas-bench-201-naslib"),
    "evoxbench": Kind(evoxbench.read_evoxbench, lambda path: "evoxbench"),
}


def import_tables(
    kind: str,
    path: str | os.PathLike[str],
    *,
    name: str | None = None,
    seeds: str = "each",
    replace: bool = False,
    memory_gb: float = MEMORY / 1e9,
    notify: Callable[[str], None] = say,
    progress: Callable[[int, int], None] | None = None,
) -> Import:
    """Imports an official file or folder of a benchmark; afterwards ``load_table`` knows its tables.

    A second import under the same name adds what is new: other architectures, data sets or seeds.

    Args:
      kind: what the path holds, a key of ``KINDS``.
      path: the file, or the folder.
      name: name of the import, with which the names of its tables begin; by default that of the benchmark.
      seeds: "each" for a column of each seed of training, "mean" for the mean over the seeds of an architecture.
      replace: drop what was imported under this name before.
      memory_gb: maximum memory of the objects of one file, estimated.
      notify: receives one-line notices: what is not there, what was left out, what failed.
      progress: is told how many files or architectures are read, and how many there are.

    Returns:
      The import, with a description of each table.

    Raises:
      UsageError: an unknown kind or rule for seeds, a name that is none or that a built-in table has, or one under
        which something else was imported.
      FileNotFoundError: there is no such path.
      DataError: the path holds something else, is damaged, needs a name that plain data does not need or too much
        memory, has an architecture that is not in the space, or two values for the same thing.
      OSError: the cache cannot be written.
    """
    kind = checks.choose("kind of official files", kind, KINDS)
    found = KINDS[kind]
    seeds = checks.choose("rule for --seeds", seeds, SEEDS)
    checks.positive("--memory-gb", memory_gb)
    path = files.user_path(path)
    if not path.exists():
        raise checks.MissingError(expected=f"a file or folder at {path}", got="none", remedy="correct the path")
    name = found.name(path) if name is None else name
    _check_name(name, found)
    source = (path.name, _hash_of(path))
    with files.lock(imported.folder_of(name) / ".lock"):
        before = None if replace else _before(name, kind, seeds)
        if before is not None and source in before.sources:
            notify(f"{path.name} was imported before; --replace reads it again")
            return before
        reading = Reading(name, seeds=seeds, memory=memory_gb * 1e9, notify=notify, progress=progress)
        found.read(path, reading)
        tables = [table for table in reading.tables.values() if len(table)]
        if not tables:
            raise checks.DataError(
                expected=f"architectures of {kind} in {path}", got="none", remedy="name the kind that the path is of"
            )
        return _keep(name, kind, source, before, reading, tables)


def _check_name(name: str, kind: Kind) -> None:
    if not _NAME.fullmatch(name):
        raise checks.UsageError(
            expected="a --name of small letters, digits, - and _ (60 at most)",
            got=checks.shorten(repr(name)),
            remedy="for example --name transnas-2024",
        )
    known = {built_in.lower() for built_in in built_in_names()}
    taken = [f"{name}{ending}" for ending in ("", *kind.endings) if f"{name}{ending}" in known]
    if taken:
        raise checks.UsageError(
            expected="a --name that no built-in table has", got=taken[0], remedy=f"for example --name my-{name}"
        )


def _hash_of(path: Path) -> str:
    """Returns the SHA-256 of a file; of a folder, that of the names and hashes of its files."""
    if path.is_file():
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    digest = hashlib.sha256()
    for file_path in sorted(p for p in path.iterdir() if p.is_file()):
        with open(file_path, "rb") as file:
            digest.update(file_path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _before(name: str, kind: str, seeds: str) -> Import | None:
    """Returns what was imported under a name; UsageError where it is of another form."""
    for made in imported.list_imports():
        if made.name == name:
            if (made.kind, made.seeds) != (kind, seeds):
                raise checks.UsageError(
                    expected=f"files of {made.kind} with --seeds {made.seeds} under the name {name}, as before",
                    got=f"{kind} with --seeds {seeds}",
                    remedy="give another --name, or --replace to drop what is there",
                )
            return made
    return None


def _keep(
    name: str, kind: str, source: tuple[str, str], before: Import | None, reading: Reading, tables: list[Collected]
) -> Import:
    """Adds what was imported before, and writes all."""
    known = {table.name: table for table in before.tables} if before else {}
    kept: list[ImportedTable] = []
    for table in tables:
        if table.name in known:
            table.add(imported.read_arrays(name, known[table.name]), f"the import {name}")
        kept.append(imported.write_arrays(name, table.arrays()))
    replaced = {table.name for table in kept}
    others = [written for written in known.values() if written.name not in replaced]
    for written in kept:
        _tell_failed(written, reading)
    made = Import(
        name=name,
        kind=kind,
        seeds=reading.seeds,
        sources=(*(before.sources if before else ()), source),
        tables=tuple(sorted([*others, *kept], key=lambda table: table.name)),
        notices=tuple(reading.notices),
    )
    imported.write_import(made)
    return made


def _tell_failed(table: ImportedTable, reading: Reading) -> None:
    worst = int(np.argmax(table.failed))
    if table.failed[worst]:
        reading.notice(
            f"{table.name}: {table.failed[worst]} of {table.rows} trainings failed ({table.metrics[worst].name} is no "
            "number); they are kept without a value"
        )
