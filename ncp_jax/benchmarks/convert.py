"""Converts upstream files to tables on the host. The caller compares their hashes with ``sources.toml`` first."""

from __future__ import annotations

import io
import json
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.arrays import TableArrays, check_arrays
from ncp_jax.benchmarks.catalogue import Recipe
from ncp_jax.benchmarks.pickles import DAMAGED, LARGEST, load_pickle
from ncp_jax.benchmarks.stand_ins import brief
from ncp_jax.spaces.nas_bench_201 import from_naslib, from_ncp_onehot

VERSION = 1  # raise this number when the same source gives other arrays, so that all tables are converted again


def convert(recipe: Recipe, content: bytes, sha256: str) -> TableArrays:
    """Converts an upstream file to a table, with rows in ascending order of their codes.

    Because of this order, the tables of one benchmark share their row numbers.

    Args:
      recipe: description of the table.
      content: bytes of ``recipe.file``, whose hash has been checked.
      sha256: that hash, for the record.

    Raises:
      DataError: the file is truncated or damaged, has anything but simple data, or lacks the expected content (number
        of rows, different legal codes, finite values).
    """
    read = _LAYOUTS[recipe.layout]
    try:
        codes, values = read(recipe, content)
        if recipe.rows and len(codes) != recipe.rows:
            raise _wrong(recipe, f"{recipe.rows} architectures", f"{len(codes)}")
        order = np.lexsort(codes.T[::-1])
        arrays = check_arrays(
            recipe.name,
            space=recipe.space,
            codes=codes[order],
            values=values[order],
            metrics=recipe.metrics,
            hashes=((recipe.file, sha256),),
        )
    except checks.UsageError as error:
        # An illegal code in a file is an error of the data, not of the call.
        raise _wrong(recipe, "legal architectures", str(error)) from error
    if recipe.rows and len(arrays.codes) != recipe.rows:
        raise _wrong(recipe, f"{recipe.rows} different architectures", f"{len(arrays.codes)}")
    return arrays


def _wrong(recipe: Recipe, expected: str, got: str) -> checks.DataError:
    remedy = f"fetch it again: ncp-jax data fetch {recipe.name}"
    return checks.DataError(expected=f"{expected} in {recipe.file}", got=got, remedy=remedy)


def _number(recipe: Recipe, row: dict[str, Any], field: str) -> float:
    value = row.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        raise _wrong(recipe, f"a finite number as {field!r} of every architecture", brief(value))
    return float(value)


def _values(recipe: Recipe, rows: list[Any]) -> np.ndarray:
    """Returns the columns of the table, float64 ``[n, m]``."""
    if not all(isinstance(row, dict) for row in rows):
        raise _wrong(recipe, "a list of dictionaries", "something else")
    columns = recipe.columns
    return np.array([[column.factor * _number(recipe, row, column.field) for column in columns] for row in rows])


def _read_multi_resolution(recipe: Recipe, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = _pickled_rows(recipe, content)
    values = _values(recipe, rows)
    codes = [row.get("embedding") for row in rows]
    if not all(isinstance(code, list) and all(type(v) is int and 0 <= v < 1000 for v in code) for code in codes):
        raise _wrong(recipe, "a list of small integers as 'embedding' of every architecture", "something else")
    if len({len(code) for code in codes}) > 1:
        raise _wrong(recipe, "codes of one length", f"lengths {sorted({len(code) for code in codes})}")
    return np.array(codes), values


def _read_cells(recipe: Recipe, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = _pickled_rows(recipe, content)
    values = _values(recipe, rows)
    onehot = [row.get("embedding") for row in rows]
    if not all(isinstance(code, np.ndarray) and code.shape == onehot[0].shape for code in onehot):
        raise _wrong(recipe, "an array of one shape as 'embedding' of every architecture", "something else")
    return from_ncp_onehot(np.stack([np.asarray(code) for code in onehot])), values


def _pickled_rows(recipe: Recipe, content: bytes) -> list[Any]:
    rows = load_pickle(content, recipe.file)
    if not isinstance(rows, list) or not rows:
        raise _wrong(recipe, "a list of architectures", type(rows).__name__)
    return rows


_TUPLE = re.compile(r"\(\s*\d{1,3}(\s*,\s*\d{1,3})*\s*\)")


def _read_naslib(recipe: Recipe, content: bytes) -> tuple[np.ndarray, np.ndarray]:
    rows = _archived_rows(recipe, content)
    values = _values(recipe, rows)
    codes = []
    for row in rows:
        text = row.get("arch")
        if not isinstance(text, str) or not _TUPLE.fullmatch(text):
            raise _wrong(recipe, "architectures like '(1, 2, 0, 3)'", brief(text))
        codes.append([int(number) for number in re.findall(r"\d+", text)])
    longest = max(map(len, codes))
    if recipe.space == "transnas-macro":
        codes = [code + [0] * (longest - len(code)) for code in codes]
    elif min(map(len, codes)) < longest:
        raise _wrong(recipe, "codes of one length", f"lengths {min(map(len, codes))} and {longest}")
    array = np.array(codes)
    return (from_naslib(array) if recipe.space == "nas-bench-201" else array), values


def _archived_rows(recipe: Recipe, content: bytes) -> list[Any]:
    """Returns the joined lists of all expected members of a zip archive. No other member is read."""
    rows: list[Any] = []
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in recipe.members:
                with archive.open(name) as member:
                    text = member.read(LARGEST + 1)
                if len(text) > LARGEST:
                    raise _wrong(recipe, f"at most {LARGEST} bytes in {name}", "more")
                part = json.loads(text)
                if not isinstance(part, list):
                    raise _wrong(recipe, f"a list in {name}", type(part).__name__)
                rows += part
    except checks.DataError:
        raise
    except (*DAMAGED, zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, RuntimeError) as error:
        raise _wrong(recipe, "a whole zip archive of JSON lists", f"{type(error).__name__}: {error}") from error
    return rows


_LAYOUTS: dict[str, Callable[[Recipe, bytes], tuple[np.ndarray, np.ndarray]]] = {
    "ncp-multi-resolution": _read_multi_resolution,
    "ncp-cells": _read_cells,
    "naslib": _read_naslib,
}
