"""Holds tables on the host, with float64 values as published; checks and joins them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ncp_jax import checks
from ncp_jax.console import short_repr
from ncp_jax.metrics import MetricSpec, find_metric
from ncp_jax.spaces import Space, get_space


@dataclasses.dataclass(frozen=True, eq=False)
class TableArrays:
    """The content of a table as NumPy arrays; ``Table.from_host`` puts it on the device.

    Attributes:
      name: name of the table.
      space: name of the space of the codes.
      codes: ``[n, d]`` architectures, int32, all different (unless several rows of one were asked for).
      values: ``[n, m]`` finite metrics in their own units, float64.
      metrics: specifications of the m columns.
      hashes: (name, SHA-256) of each file that the table was made from.
    """

    name: str
    space: str
    codes: np.ndarray
    values: np.ndarray
    metrics: tuple[MetricSpec, ...]
    hashes: tuple[tuple[str, str], ...] = ()

    __repr__ = short_repr

    def column(self, name: str) -> np.ndarray:
        """Returns one column ``[n]`` in its own unit; UsageError with the nearest names if there is none."""
        return self.values[:, find_metric(self.metrics, name)]


def as_space(space: str | Space) -> Space:
    """Returns a space, given itself or by name; UsageError with the nearest names if it is unknown."""
    return get_space(space) if isinstance(space, str) else space


def check_arrays(
    name: str,
    *,
    space: str | Space,
    codes: np.ndarray,
    values: np.ndarray,
    metrics: Sequence[MetricSpec],
    hashes: Sequence[tuple[str, str]] = (),
    repeats: bool = False,
) -> TableArrays:
    """Checks arrays and returns them as a table; see ``Table.from_arrays`` for arguments and errors."""
    space = as_space(space)
    metrics = tuple(metrics)
    if isinstance(codes, np.ma.MaskedArray):
        codes = np.ma.filled(codes, -1)  # no code has it
    codes = space.check(np.asarray(codes), where=f"code of {name}")
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)  # what is masked is no value: refused below
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(codes), len(metrics)) or not len(codes) or not metrics:
        raise checks.UsageError(
            expected=f"values [{len(codes)}, {len(metrics)}] (rows of codes, metrics), neither zero",
            got=f"{list(values.shape)}",
            remedy="give one value per code and metric",
        )
    names = [metric.name for metric in metrics]
    if len(set(names)) < len(names):
        raise checks.UsageError(expected="metric names that differ", got=repr(names), remedy="rename one")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        raise checks.DataError(
            expected=f"finite values in {name}",
            got=f"{values[row, column]} in row {row}, column {names[column]!r}",
            remedy="leave that row out",
        )
    if not repeats:
        codes, values = _merge_duplicates(name, space, codes, values)
    if space.digest:
        hashes = [*hashes, (f"space {space.name}", space.digest)]
    unique = dict.fromkeys((str(file), str(sha)) for file, sha in hashes)
    return TableArrays(name, space.name, codes, values, metrics, tuple(unique))


def _merge_duplicates(name: str, space: Space, codes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drops repeated codes; DataError if a repeat has other values than the first occurrence."""
    _, first, inverse = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(codes):
        return codes, values
    original = first[inverse.reshape(-1)]
    differ = np.flatnonzero(np.any(values != values[original], axis=1))
    if len(differ):
        row = int(differ[0])
        raise checks.DataError(
            expected=f"one set of values per architecture in {name}",
            got=f"other values in rows {original[row]} and {row} for {space.to_string(codes[row])}",
            remedy="keep one of them",
        )
    kept = np.sort(first)
    return codes[kept], values[kept]


def join_arrays(name: str, tables: Sequence[TableArrays]) -> TableArrays:
    """Joins tables into one with the columns of all, over the codes that all have; see ``table.join``.

    A quality column without a task is renamed to ``TABLE/NAME``.
    """
    if not tables:
        raise checks.UsageError(expected="at least one table to join", got="none", remedy="give tables")
    spaces = sorted({table.space for table in tables})
    if len(spaces) > 1:
        raise checks.UsageError(
            expected="tables of one space", got=", ".join(spaces), remedy="join them space by space"
        )
    positions = [{code.tobytes(): row for row, code in enumerate(table.codes)} for table in tables]
    shared = [key for key in positions[0] if all(key in rows for rows in positions[1:])]
    if not shared:
        names = ", ".join(table.name for table in tables)
        raise checks.DataError(
            expected="architectures that all tables have", got=f"none in {names}", remedy="check them"
        )
    columns: dict[str, tuple[MetricSpec, np.ndarray]] = {}
    costs: dict[str, tuple[MetricSpec, np.ndarray]] = {}
    for table, rows in zip(tables, positions, strict=True):
        values = table.values[[rows[key] for key in shared]]
        for metric, column in zip(table.metrics, values.T, strict=True):
            _add_column(table, metric, column, columns, costs)
    both = {**columns, **costs}
    codes = tables[0].codes[[positions[0][key] for key in shared]]
    hashes = tuple(dict.fromkeys(pair for table in tables for pair in table.hashes))
    stacked = np.stack([column for _, column in both.values()], axis=1)
    return TableArrays(name, spaces[0], codes, stacked, tuple(metric for metric, _ in both.values()), hashes)


def _add_column(
    table: TableArrays,
    metric: MetricSpec,
    column: np.ndarray,
    columns: dict[str, tuple[MetricSpec, np.ndarray]],
    costs: dict[str, tuple[MetricSpec, np.ndarray]],
) -> None:
    """Adds one column: a cost once under its own name, any other column under a name with its task."""
    if metric.kind == "cost":
        known = costs.setdefault(metric.name, (metric, column))
        if known[0] == metric and np.array_equal(known[1], column):
            return
    task = metric.task or table.name  # tables of no task stay apart by their names
    renamed = dataclasses.replace(metric, name=f"{task}/{metric.name}", task=task)
    if renamed.name in columns:
        raise checks.UsageError(
            expected="columns that differ in task or name",
            got=f"two called {renamed.name!r}",
            remedy="rename one table's column",
        )
    columns[renamed.name] = (renamed, column)
