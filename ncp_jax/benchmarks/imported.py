"""Keeps imported tables in the cache, and reads them.

- ``CACHE/imported/NAME/import.json``: where the tables of an import are from, their columns, what failed;
- ``CACHE/imported/NAME/TABLE.npz``: codes, values and failed trainings of a table;
- ``CACHE/imported/NAME/TABLE/COLUMN.npy``: learning curves of a column.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks, files
from ncp_jax.array_files import read_npz
from ncp_jax.benchmarks.arrays import TableArrays
from ncp_jax.metrics import MetricSpec
from ncp_jax.types import Bool, Float, Int

SCHEMA = "import/1"
REMEDY = "import it again: ncp-jax data import"
WRITE_REMEDY = "free some space, or set NCP_JAX_DATA to a folder that can be written"


@dataclasses.dataclass(frozen=True)
class ImportedTable:
    """What is known of one imported table without its values.

    Attributes:
      name: name of the table ("nats-tss/cifar10-200").
      space: name of the space of its codes.
      rows: number of architectures.
      metrics: specifications of its columns.
      absent: for each column, the number of architectures of which the files have no value.
      failed: for each column, the number of architectures whose training failed.
      curves: names of the columns with learning curves.
      sha256: hash of the file of its arrays.
    """

    name: str
    space: str
    rows: int
    metrics: tuple[MetricSpec, ...]
    absent: tuple[int, ...]
    failed: tuple[int, ...]
    curves: tuple[str, ...]
    sha256: str

    def to_json(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        columns = [
            {**metric.to_json(), "absent": absent, "failed": failed, "curve": metric.name in self.curves}
            for metric, absent, failed in zip(self.metrics, self.absent, self.failed, strict=True)
        ]
        return {
            "name": self.name,
            "space": self.space,
            "rows": self.rows,
            "columns": columns,
            "npz_sha256": self.sha256,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ImportedTable:
        """Returns what ``to_json`` wrote."""
        columns = content["columns"]
        extra = ("absent", "failed", "curve")
        return cls(
            name=str(content["name"]),
            space=str(content["space"]),
            rows=int(content["rows"]),
            metrics=tuple(MetricSpec(**{k: v for k, v in column.items() if k not in extra}) for column in columns),
            absent=tuple(int(column["absent"]) for column in columns),
            failed=tuple(int(column["failed"]) for column in columns),
            curves=tuple(column["name"] for column in columns if column["curve"]),
            sha256=str(content["npz_sha256"]),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ImportedArrays:
    """One imported table as arrays.

    Attributes:
      name: name of the table.
      space: name of the space of the codes.
      codes: int32 [n, d], in ascending order.
      values: float64 [n, m]; NaN where the files have no number.
      failed: bool [n, m], True where the files say that a training failed: they have NaN or infinity.
      metrics: specifications of the m columns.
      curves: for some columns, float64 [n, e]: the metric after each epoch, NaN where there is none.
    """

    name: str
    space: str
    codes: Int[np.ndarray, "n d"]
    values: Float[np.ndarray, "n m"]
    failed: Bool[np.ndarray, "n m"]
    metrics: tuple[MetricSpec, ...]
    curves: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Import:
    """The tables of one import.

    Attributes:
      name: name of the import.
      kind: kind of its files ("transnas").
      seeds: "each" or "mean".
      sources: (file, SHA-256) of what it was read from.
      tables: its tables.
      notices: what was left out or not there.
    """

    name: str
    kind: str
    seeds: str
    sources: tuple[tuple[str, str], ...]
    tables: tuple[ImportedTable, ...]
    notices: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Returns JSON-ready values, as import.json has them."""
        return {
            "schema": SCHEMA,
            "name": self.name,
            "kind": self.kind,
            "seeds": self.seeds,
            "sources": [{"file": file, "sha256": digest} for file, digest in self.sources],
            "tables": [table.to_json() for table in self.tables],
            "notices": list(self.notices),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Import:
        """Returns what ``to_json`` wrote."""
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']!r}")
        return cls(
            name=str(content["name"]),
            kind=str(content["kind"]),
            seeds=str(content["seeds"]),
            sources=tuple((str(source["file"]), str(source["sha256"])) for source in content["sources"]),
            tables=tuple(map(ImportedTable.from_json, content["tables"])),
            notices=tuple(map(str, content["notices"])),
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Curves:
    """The learning curves of one column of a table.

    Attributes:
      table: name of the table.
      space: name of the space of the codes.
      metric: specification of the column; its values are those after the last epoch.
      codes: int32 [n, d], the architectures of the table in its order.
      values: float64 [n, e], the metric after epochs 1..e; NaN where there is none or a training failed. Those of
        imported tables are read from the disk when used.
    """

    table: str
    space: str
    metric: MetricSpec
    codes: Int[np.ndarray, "n d"]
    values: Float[np.ndarray, "n e"]


def folder_of(name: str) -> Path:
    """Returns the folder of an import, whether or not it exists."""
    return files.cache_path() / "imported" / name


def list_imports() -> tuple[Import, ...]:
    """Returns all imports in the cache by name. Those that cannot be read are left out."""
    found = []
    for path in sorted((files.cache_path() / "imported").glob("*/import.json")):
        stat = path.stat()
        made = _read_import(path, stat.st_mtime_ns, stat.st_size)
        if made is not None:
            found.append(made)
    return tuple(found)


@functools.lru_cache(64)
def _read_import(path: Path, _time: int, _size: int) -> Import | None:
    try:
        return Import.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


def imported_names() -> dict[str, tuple[Import, tuple[ImportedTable, ...]]]:
    """Returns what can be loaded of all imports: name → import and tables, several where they are loaded as one."""
    found: dict[str, tuple[Import, tuple[ImportedTable, ...]]] = {}
    for made in list_imports():
        families: dict[str, list[ImportedTable]] = {}
        for table in made.tables:
            found[table.name] = (made, (table,))
            families.setdefault(table.name.partition("/")[0], []).append(table)
        for family, tables in families.items():
            found[family] = (made, tuple(tables))
        if len(families) == 1:
            found[made.name] = (made, made.tables)
    return found


def read_imported(name: str) -> TableArrays:
    """Reads an imported table, or the tables of an import together; values are NaN where the files have none.

    Together, columns are called TABLE/COLUMN, and architectures are those of any of the tables.

    Args:
      name: a key of ``imported_names()``.

    Raises:
      DataError: a file of the cache is damaged.
    """
    made, tables = imported_names()[name]
    parts = [_read_values(made.name, table) for table in tables]
    if len(parts) == 1:
        (part,) = parts
        return TableArrays(part.name, part.space, part.codes, part.values, part.metrics, made.sources)
    codes, inverse = np.unique(np.concatenate([part.codes for part in parts]), axis=0, return_inverse=True)
    values = np.full((len(codes), sum(part.values.shape[1] for part in parts)), np.nan)
    metrics: list[MetricSpec] = []
    rows = np.split(inverse.reshape(-1), np.cumsum([len(part.codes) for part in parts])[:-1])
    for part, where in zip(parts, rows, strict=True):
        first = len(metrics)
        values[where, first : first + len(part.metrics)] = part.values
        suffix = part.name.partition("/")[2]
        metrics += [dataclasses.replace(metric, name=f"{suffix}/{metric.name}") for metric in part.metrics]
    return TableArrays(name, parts[0].space, codes, values, tuple(metrics), made.sources)


def read_arrays(name: str, table: ImportedTable) -> ImportedArrays:
    """Reads all that is kept of a table of an import. Its learning curves are read from the disk when used.

    Args:
      name: name of the import.
      table: the table.

    Raises:
      DataError: a file of the cache is damaged.
    """
    curves = {column: _read_curves(name, table, column) for column in table.curves}
    return dataclasses.replace(_read_values(name, table), curves=curves)


def imported_curves(table: str, column: str) -> Curves:
    """Returns the learning curves of a column of an imported table; see ``benchmarks.curves.load_curves``."""
    made, (found,) = imported_names()[table]
    if column not in found.curves:
        known = [metric.name for metric in found.metrics]
        chosen = checks.choose(f"column of {found.name}", column, known)
        if chosen not in found.curves:
            raise checks.UsageError(
                expected=f"a column of {found.name} with learning curves",
                got=chosen,
                remedy=f"choose from: {', '.join(found.curves) or 'none has any'}",
            )
        column = chosen
    values, codes = _read_curves(made.name, found, column), _read_values(made.name, found).codes
    metric = next(metric for metric in found.metrics if metric.name == column)
    return Curves(found.name, found.space, metric, codes, values)


def npz_path(name: str, table: str) -> Path:
    """Returns the path of a table's arrays."""
    return folder_of(name) / f"{table}.npz"


def curve_path(name: str, table: str, column: str) -> Path:
    """Returns the path of a column's learning curves."""
    return folder_of(name) / table / f"{column}.npy"


def write_arrays(name: str, arrays: ImportedArrays) -> ImportedTable:
    """Writes arrays and learning curves of one table of an import; returns what is known of the table.

    Raises:
      OSError: the cache cannot be written.
    """
    for column, curves in arrays.curves.items():
        path = curve_path(name, arrays.name, column)
        files.atomic_write(path, functools.partial(_save, values=curves), remedy=WRITE_REMEDY)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, codes=arrays.codes, values=arrays.values, failed=arrays.failed)
    content = buffer.getvalue()
    files.atomic_write(npz_path(name, arrays.name), content, remedy=WRITE_REMEDY)
    absent = np.isnan(arrays.values) & ~arrays.failed
    return ImportedTable(
        name=arrays.name,
        space=arrays.space,
        rows=len(arrays.codes),
        metrics=arrays.metrics,
        absent=tuple(absent.sum(axis=0).tolist()),
        failed=tuple(arrays.failed.sum(axis=0).tolist()),
        curves=tuple(metric.name for metric in arrays.metrics if metric.name in arrays.curves),
        sha256=hashlib.sha256(content).hexdigest(),
    )


def _save(file: Any, values: np.ndarray) -> None:
    np.save(file, values, allow_pickle=False)


def write_import(made: Import) -> None:
    """Writes what is known of an import, after its arrays: its presence marks them as complete."""
    content = (json.dumps(made.to_json(), indent=1) + "\n").encode()
    files.atomic_write(folder_of(made.name) / "import.json", content, remedy=WRITE_REMEDY)


def _read_values(name: str, table: ImportedTable) -> ImportedArrays:
    """Returns the arrays of a table without its learning curves."""
    path = npz_path(name, table.name)
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != table.sha256:
            raise ValueError("another hash than when it was imported")
        stored = read_npz(content)
        codes, values, failed = stored["codes"], stored["values"], stored["failed"]
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(path, error) from error
    return ImportedArrays(table.name, table.space, codes, values, failed, table.metrics, {})


def _read_curves(name: str, table: ImportedTable, column: str) -> Float[np.ndarray, "n e"]:
    path = curve_path(name, table.name, column)
    try:
        values: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _damaged(path, error) from error
    if values.ndim != 2 or len(values) != table.rows or values.dtype != np.float64:
        raise _damaged(path, f"an array {values.shape} of {values.dtype}")
    return values


def _damaged(path: Path, why: object) -> checks.DataError:
    return checks.DataError(expected=f"the imported table at {path}", got=str(why), remedy=REMEDY)
