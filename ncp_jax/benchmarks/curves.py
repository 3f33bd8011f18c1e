"""Serves the learning curves of tables: those of imported files, and those of the benchmark that ships."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.catalogue import DIGITS, DIGITS_TASKS
from ncp_jax.benchmarks.digits import digits_arrays, digits_curves
from ncp_jax.benchmarks.imported import Curves, imported_curves, imported_names
from ncp_jax.benchmarks.table import Table


def load_curves(table: str, column: str) -> Curves:
    """Returns the learning curves of a column of a table.

    Args:
      table: name of an imported table ("transnas-bench-101-micro/jigsaw") or of one of the shipped benchmark
        ("digits/class").
      column: name of the column ("valid_top1"; of digits the validation metric after the last epoch, "accuracy").

    Raises:
      UsageError: an unknown table or column, or one without curves; the text lists those that have some.
      DataError: a file of the cache is damaged.
    """
    shipped = {f"{DIGITS}/{task}": task for task in DIGITS_TASKS}
    name = checks.choose("table with learning curves", table, tables_with_curves())
    if name not in shipped:
        return imported_curves(name, column)
    arrays = digits_arrays(shipped[name])
    chosen = checks.choose(f"column of {name}", column, [metric.name for metric in arrays.metrics])
    metric = arrays.metrics[0]
    if chosen != metric.name:
        raise checks.UsageError(
            expected=f"a column of {name} with learning curves", got=chosen, remedy=f"choose {metric.name}"
        )
    return Curves(name, arrays.space, metric, arrays.codes, digits_curves(shipped[name], arrays))


def tables_with_curves() -> tuple[str, ...]:
    """Returns the names of the tables whose curves can be loaded: imported ones, and those of the shipped benchmark."""
    imported = [name for name, (_, tables) in imported_names().items() if len(tables) == 1]
    return (*imported, *(f"{DIGITS}/{task}" for task in DIGITS_TASKS))


def curves_of(table: Table, column: str) -> Curves:
    """Returns the learning curves of the architectures of a loaded table, in its order of rows. Runs on the host.

    Args:
      table: an imported table, or one of the shipped benchmark, or some of its rows.
      column: name of the column.

    Returns:
      The curves, in memory. NaN where a training failed, but not after the last epoch.

    Raises:
      UsageError: a table or column without curves; the text lists those that have some.
      DataError: the curve of an architecture is not there or ends earlier; a file of the cache is damaged.
    """
    if table.name not in tables_with_curves():
        raise without_curves(table.name)
    curves = load_curves(table.name, column)
    places = {code.tobytes(): row for row, code in enumerate(np.asarray(curves.codes, np.int32))}
    rows = np.array([places.get(code.tobytes(), -1) for code in np.asarray(table.codes, np.int32)])
    values = np.array(curves.values[np.maximum(rows, 0)], np.float64)
    short = int(((rows < 0) | ~np.isfinite(values[:, -1])).sum())
    if short:
        raise checks.DataError(
            expected=f"curves of {values.shape[1]} epochs in {curves.metric.name} of {table.name}",
            got=f"{short} of {len(rows)} architectures without values after the last epoch",
            remedy="choose another column",
        )
    return dataclasses.replace(curves, codes=np.asarray(table.codes), values=values)


def without_curves(name: str) -> checks.UsageError:
    """Returns the error that refuses a table without learning curves."""
    known = tables_with_curves()
    listed = ", ".join(known[:6]) + (", …" if len(known) > 6 else "")
    return checks.UsageError(
        expected="a table with learning curves",
        got=f"{name}, which has none",
        remedy=f"choose from: {listed}; or import the official files (docs/official-files.md)",
    )


def curves_hash(curves: Curves) -> str:
    """Returns the SHA-256 (hexadecimal) of the values and their shape."""
    digest = hashlib.sha256(repr(curves.values.shape).encode())
    digest.update(np.ascontiguousarray(curves.values, "<f8").tobytes())
    return digest.hexdigest()
