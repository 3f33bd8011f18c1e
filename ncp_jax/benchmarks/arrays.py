"""A table on the host: float64 values as upstream gives them, checked, joined on the code."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec, find_metric
from ncp_jax.spaces import Space, get_space


@dataclasses.dataclass(frozen=True, eq=False)
class TableArrays:
    """The content of a table as NumPy arrays; ``Table.from_host`` puts it on the device.

    Attributes:
      name: the table's name.
      space: the name of the space the codes belong to.
      codes: int32 [n, d], no two rows alike.
      values: float64 [n, m], finite, in the units of ``metrics``.
      metrics: the meaning of each of the m columns.
      hashes: the files it was made from, each (name, SHA-256).
    """

    name: str
    space: str
    codes: np.ndarray
    values: np.ndarray
    metrics: tuple[MetricSpec, ...]
    hashes: tuple[tuple[str, str], ...] = ()

    def column(self, name: str) -> np.ndarray:
        """Returns one column, float64 [n], in its own unit; UsageError with the nearest names if there is none."""
        return self.values[:, find_metric(self.metrics, name)]


def as_space(space: str | Space) -> Space:
    """Returns the space itself, or the one of that name (UsageError with the nearest names)."""
    return get_space(space) if isinstance(space, str) else space


def check_arrays(
    name: str,
    *,
    space: str | Space,
    codes: np.ndarray,
    values: np.ndarray,
    metrics: Sequence[MetricSpec],
    hashes: Sequence[tuple[str, str]] = (),
) -> TableArrays:
    """Returns a table of these arrays after checking them.

    Rows that repeat an architecture with the same values are dropped; the order of the others is kept.

    Args:
      name: the table's name.
      space: the space of the codes, or its name.
      codes: integers [n, d], legal in the space.
      values: numbers [n, m], finite.
      metrics: the meaning of each of the m columns, names all different.
      hashes: the files it was made from, each (name, SHA-256).

    Raises:
      UsageError: the shapes do not fit, a code is not legal, two columns have one name.
      DataError: a value is not finite; an architecture has two rows with different values.
    """
    space = as_space(space)
    metrics = tuple(metrics)
    codes = space.check(np.asarray(codes), where=f"code of {name}")
    values = np.asarray(values, dtype=np.float64)
    if values.shape != (len(codes), len(metrics)) or not len(codes) or not metrics:
        raise checks.UsageError(
            expected=f"values [{len(codes)}, {len(metrics)}] (rows of codes, metrics), neither zero",
            got=f"{list(values.shape)}",
            remedy="give one value a code and metric",
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
    codes, values = _merge_duplicates(name, space, codes, values)
    return TableArrays(name, space.name, codes, values, metrics, tuple((str(f), str(h)) for f, h in hashes))


def _merge_duplicates(name: str, space: Space, codes: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Drops the repeats of a code; DataError if a repeat has other values than the first."""
    _, first, owner = np.unique(codes, axis=0, return_index=True, return_inverse=True)
    if len(first) == len(codes):
        return codes, values
    original = first[owner.reshape(-1)]
    differ = np.flatnonzero(np.any(values != values[original], axis=1))
    if len(differ):
        row = int(differ[0])
        raise checks.DataError(
            expected=f"one set of values an architecture in {name}",
            got=f"other values in rows {original[row]} and {row} for {space.to_string(codes[row])}",
            remedy="keep one of them",
        )
    kept = np.sort(first)
    return codes[kept], values[kept]


def join_arrays(name: str, tables: Sequence[TableArrays]) -> TableArrays:
    """Returns one table with the columns of all, over the codes that all of them have.

    Quality columns are renamed to ``TASK/NAME`` (``TABLE/NAME`` where the metric has no task); a cost column that
    has the same values in all the tables that have it is kept once under its own name. Rows keep the first table's
    order.

    Args:
      name: the name of the joint table.
      tables: the tables, all of one space.

    Raises:
      UsageError: no table, tables of different spaces, or two columns that would get one name.
      DataError: no code is shared by all.
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
    """Puts one column where it belongs: a cost known already is not repeated, all else gets its task's name."""
    if metric.kind == "cost":
        known = costs.setdefault(metric.name, (metric, column))
        if known[0] == metric and np.array_equal(known[1], column):
            return
    renamed = dataclasses.replace(metric, name=f"{metric.task or table.name}/{metric.name}")
    if renamed.name in columns:
        raise checks.UsageError(
            expected="columns that differ in task or name",
            got=f"two called {renamed.name!r}",
            remedy="rename one table's column",
        )
    columns[renamed.name] = (renamed, column)
