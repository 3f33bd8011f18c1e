"""Finds files on this machine, and reads and writes converted tables in the cache.

- ``CACHE/raw/KEY``: upstream files, unchanged;
- ``CACHE/tables/BENCHMARK/TASK.npz`` and ``.json``: tables converted from them;
- ``MIRROR/KEY``: copies of the upstream files in another folder.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from ncp_jax import checks, files
from ncp_jax.array_files import read_npz
from ncp_jax.benchmarks import convert
from ncp_jax.benchmarks.arrays import TableArrays
from ncp_jax.benchmarks.catalogue import RECIPES, SHIPPED, Recipe
from ncp_jax.benchmarks.digits import FILE, digits_path
from ncp_jax.benchmarks.imported import WRITE_REMEDY, list_imports, npz_path
from ncp_jax.benchmarks.sources import (
    Source,
    all_sources,
    check_hash,
    hashes_of,
    may_lack,
    select_sources,
    sha256,
)
from ncp_jax.files import cache_path

FORMAT = "ncp-jax table 1"


def mirror_path(mirror: str | os.PathLike[str] | None = None) -> Path | None:
    """Returns the folder with copies of the upstream files: the argument, ``NCP_JAX_MIRROR``, or None.

    Raises:
      FileNotFoundError: the folder does not exist.
    """
    chosen = os.fspath(mirror) if mirror is not None else os.environ.get("NCP_JAX_MIRROR", "")
    if not chosen:
        return None
    path = Path(os.path.abspath(files.user_path(chosen)))
    if not path.is_dir():
        origin = "--mirror" if mirror is not None else "NCP_JAX_MIRROR"
        raise checks.MissingError(
            expected=f"a folder of upstream files at {origin}={chosen}",
            got="none",
            remedy=f"correct {origin} or leave it out",
        )
    return path


def raw_path(source: Source) -> Path:
    """Returns the path of an upstream file in the cache, whether or not it exists."""
    return cache_path() / "raw" / source.key


def find_source(source: Source) -> Path | None:
    """Returns the path of an upstream file in the mirror or else in the cache, or None. Does not check its hash."""
    mirror = mirror_path()
    if mirror is not None and (mirror / source.key).is_file():
        return mirror / source.key
    return raw_path(source) if raw_path(source).is_file() else None


def read_source(source: Source, table: str) -> bytes:
    """Reads an upstream file and checks its hash.

    Args:
      source: the file.
      table: name of the table that needs it, for the error text.

    Raises:
      FileNotFoundError: it is neither in the mirror nor in the cache; the text names the command that fetches it.
      DataError: it has another hash than the one in ``sources.toml``.
    """
    path = find_source(source)
    remedy = f"run: ncp-jax data fetch {table}"
    if path is None:
        places = str(raw_path(source))
        mirror = mirror_path()
        if mirror is not None:
            places += f" or {mirror / source.key}"
        raise checks.MissingError(expected=f"the data of {table} at {places}", got="no such file", remedy=remedy)
    content = path.read_bytes()
    if path != raw_path(source):
        remedy = "correct the file in the mirror, or leave out NCP_JAX_MIRROR"
    check_hash(source, content, str(path), remedy)
    return content


@dataclasses.dataclass(frozen=True)
class FileCheck:
    """The result of ``verify_files`` for one upstream file.

    Attributes:
      file: key of the file.
      state: "ok", "missing", or "altered" (another hash than the one in ``sources.toml``).
      path: its path, or its path in the cache if it is missing.
    """

    file: str
    state: Literal["ok", "missing", "altered"]
    path: Path


def is_spared(check: FileCheck, names: Sequence[str]) -> bool:
    """Returns whether a file is missing that nobody asked for by name, and that a mirror may lack."""
    return check.state == "missing" and may_lack(all_sources()[check.file], names)


def verify_files(names: Sequence[str] = ("all",)) -> tuple[FileCheck, ...]:
    """Checks the hashes of upstream files on this machine, of those that loading would use.

    Args:
      names: tables, families, files or "all", as in ``fetch_tables``.

    Raises:
      UsageError: an unknown name.
    """
    found = []
    for source in select_sources(names):
        path = find_source(source)
        if path is None:
            found.append(FileCheck(source.key, "missing", raw_path(source)))
        else:
            good = source.digest_of(path.read_bytes()) == source.digest
            found.append(FileCheck(source.key, "ok" if good else "altered", path))
    return tuple(found)


@dataclasses.dataclass(frozen=True)
class DataRow:
    """One line of ``ncp-jax data list``.

    Attributes:
      name: name of a table, or key of a file that no table is made from.
      what: one-line description.
      files: keys of the files that the table is made from.
      bytes: total size of these files.
      licence: licence of these files.
      state: "absent", "downloaded" (in the cache or a mirror; the hash is not checked), "converted", "shipped" with
        the package, or "imported" from the user's own files.
    """

    name: str
    what: str
    files: tuple[str, ...]
    bytes: int
    licence: str
    state: Literal["absent", "downloaded", "converted", "shipped", "imported"]


def list_files() -> tuple[DataRow, ...]:
    """Returns all tables, shipped ones first, then the files that no table is made from, then imported tables."""
    rows = []
    what = "4096 cells of TransNAS micro, small networks trained on handwritten digits by ncp-jax"
    size = digits_path().stat().st_size
    rows += [DataRow(name, what, (FILE,), size, "Apache-2.0", "shipped") for name in SHIPPED]
    for name, source in [(recipe.name, all_sources()[recipe.file]) for recipe in RECIPES.values()] + [
        (source.key, source) for source in all_sources().values() if not source.tables
    ]:
        state: Literal["absent", "downloaded", "converted"] = "absent" if find_source(source) is None else "downloaded"
        if name in RECIPES and is_converted(RECIPES[name]):
            state = "converted"
        rows.append(DataRow(name, source.what, (source.key,), source.bytes, source.licence, state))
    for made in list_imports():
        for table in made.tables:
            described = f"{table.rows} architectures of {table.space}, {len(table.metrics)} columns, from {made.kind}"
            size = npz_path(made.name, table.name).stat().st_size if npz_path(made.name, table.name).is_file() else 0
            rows.append(DataRow(table.name, described, tuple(file for file, _ in made.sources), size, "", "imported"))
    return tuple(rows)


def converted_paths(recipe: Recipe) -> tuple[Path, Path]:
    """Returns the paths of a converted table: arrays (.npz) and schema (.json)."""
    base = cache_path() / "tables" / recipe.name
    return base.with_name(base.name + ".npz"), base.with_name(base.name + ".json")


def is_converted(recipe: Recipe) -> bool:
    """Returns whether the cache has a converted table of the present source. Does not read the arrays."""
    return _converted_hash(recipe) is not None


def write_converted(recipe: Recipe, arrays: TableArrays) -> None:
    """Writes a converted table, the schema last, since its presence marks the arrays as complete.

    Raises:
      OSError: the cache cannot be written.
    """
    buffer = io.BytesIO()
    np.savez(buffer, codes=arrays.codes, values=arrays.values)
    content = buffer.getvalue()
    source = all_sources()[recipe.file]
    schema = {
        "format": FORMAT,
        "converter": convert.VERSION,
        "name": arrays.name,
        "space": arrays.space,
        "arrays": {
            "codes": {"shape": list(arrays.codes.shape), "dtype": str(arrays.codes.dtype)},
            "values": {"shape": list(arrays.values.shape), "dtype": str(arrays.values.dtype)},
        },
        "columns": [metric.to_json() for metric in arrays.metrics],
        "sources": [{"file": file, "sha256": found} for file, found in hashes_of(recipe)],
        "npz_sha256": sha256(content),
        "licence": source.licence,
        "citations": list(source.citations),
    }
    npz, side = converted_paths(recipe)
    files.atomic_write(npz, content, remedy=WRITE_REMEDY)
    files.atomic_write(side, (json.dumps(schema, indent=1) + "\n").encode(), remedy=WRITE_REMEDY)


def _converted_hash(recipe: Recipe) -> str | None:
    """Returns the hash of a converted table's arrays.

    None if there is no such table, its schema cannot be read, or it has another format, converter, source or columns.
    """
    npz, side = converted_paths(recipe)
    try:
        schema = json.loads(side.read_bytes()) if npz.is_file() else None
    except (OSError, ValueError, RecursionError):
        return None  # the caller converts the table again
    if not isinstance(schema, dict):
        return None
    fits = (
        schema.get("format") == FORMAT
        and schema.get("converter") == convert.VERSION
        and schema.get("name") == recipe.name
        and schema.get("space") == recipe.space
        and schema.get("columns") == [metric.to_json() for metric in recipe.metrics]
        and schema.get("sources") == [{"file": file, "sha256": found} for file, found in hashes_of(recipe)]
    )
    return str(schema.get("npz_sha256")) if fits else None


def read_converted(recipe: Recipe) -> TableArrays | None:
    """Reads a converted table. Returns None if it is absent, damaged, or of another source or version.

    The caller then converts it again from its source, so a damaged file needs no error.
    """
    expected = _converted_hash(recipe)
    if expected is None:
        return None
    try:
        content = converted_paths(recipe)[0].read_bytes()
        if sha256(content) != expected:
            return None
        stored = read_npz(content)
        codes, values = stored["codes"], stored["values"]
    except (OSError, ValueError, KeyError):
        return None
    rows = len(codes) if recipe.order else recipe.rows or len(codes)  # broken readings are left out of latencies
    if len(codes) != rows or values.shape != (rows, len(recipe.metrics)):
        return None
    return TableArrays(recipe.name, recipe.space, codes, values, recipe.metrics, hashes_of(recipe))
