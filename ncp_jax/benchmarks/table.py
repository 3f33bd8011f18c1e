"""A table on the device: what was measured of which architectures, and what each column means."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.arrays import TableArrays, check_arrays, join_arrays
from ncp_jax.benchmarks.csv_table import read_csv
from ncp_jax.benchmarks.row_index import RowIndex, build_index
from ncp_jax.metrics import MetricSpec, find_metric, main_metric
from ncp_jax.spaces import Space, cost_model_for, get_space
from ncp_jax.types import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Table:
    """Measured metrics of n architectures: a pytree, usable inside jit and vmap.

    Make one with ``load_table``, ``from_csv`` or ``from_arrays``: the constructor checks nothing.

    Attributes:
      codes: int32 [n, d], the architectures, no two rows alike.
      values: float32 [n, m], in the units of ``metrics``; ``load_arrays`` gives upstream's float64.
      index: finds the row of a code in constant time; see ``rows``.
      name: the table's name ("nas-bench-mr/seg"). Static, as are the following.
      space: the name of the space the codes belong to.
      metrics: the meaning of each of the m columns, direction included.
      hashes: the files it was made from, each (name, SHA-256).
    """

    codes: Int[Array, "n d"]
    values: Float[Array, "n m"]
    index: RowIndex
    name: str = dataclasses.field(metadata={"static": True})
    space: str = dataclasses.field(metadata={"static": True})
    metrics: tuple[MetricSpec, ...] = dataclasses.field(metadata={"static": True})
    hashes: tuple[tuple[str, str], ...] = dataclasses.field(default=(), metadata={"static": True})

    @staticmethod
    def from_host(arrays: TableArrays) -> Table:
        """Puts a checked table on the device, its values as float32."""
        codes = np.asarray(arrays.codes, dtype=np.int32)
        return Table(
            # device_put, not jnp.asarray: that one compiles a program for every new shape.
            codes=jax.device_put(codes),
            values=jax.device_put(arrays.values.astype(np.float32)),
            index=build_index(codes),
            name=arrays.name,
            space=arrays.space,
            metrics=arrays.metrics,
            hashes=arrays.hashes,
        )

    @staticmethod
    def from_arrays(
        name: str,
        *,
        space: str | Space,
        codes: Int[np.ndarray, "n d"],
        values: Float[np.ndarray, "n m"],
        metrics: Sequence[MetricSpec],
        hashes: Sequence[tuple[str, str]] = (),
    ) -> Table:
        """Returns a table of these arrays after checking them (host-side).

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
        host = check_arrays(name, space=space, codes=codes, values=values, metrics=metrics, hashes=hashes)
        return Table.from_host(host)

    @staticmethod
    def from_csv(
        path: str | os.PathLike[str],
        *,
        space: str | Space,
        maximize: Sequence[str] = (),
        minimize: Sequence[str] = (),
        architecture: str | None = None,
    ) -> Table:
        """Reads a user's own results.

        The file: UTF-8, comma-separated, a header line, one line an architecture. Architectures are strings of the
        space (``space.to_string``), or the integers of their codes ("1, 2, 3", in quotes because of the commas).
        Columns that no direction is given for are ignored; none is ever guessed. Lines that repeat an architecture
        with the same values are merged. The metrics in ``maximize`` are the table's quality columns, first among them
        the main one, and those in ``minimize`` its costs; with ``minimize`` alone they are its quality columns.

        Args:
          path: the file.
          space: the space of the architectures, or its name.
          maximize: columns where higher is better.
          minimize: columns where lower is better.
          architecture: the column of architectures; the first one if None.

        Raises:
          UsageError: no direction for any column, an unknown column (the text lists the nearest), a column named twice,
            an unknown space.
          DataError: in the file: no header, a line of another length, an architecture that is not legal, a value that
            is not a finite number, a metric that is the same everywhere, an architecture with two sets of values,
            fewer than two architectures, another encoding. The text names the line.
          FileNotFoundError: there is no such file.
        """
        return Table.from_host(
            read_csv(path, space=space, maximize=maximize, minimize=minimize, architecture=architecture)
        )

    def __len__(self) -> int:
        return int(self.codes.shape[0])

    def __repr__(self) -> str:
        names = ", ".join(metric.name for metric in self.metrics)
        shape = getattr(self.codes, "shape", "?")
        return f"Table({self.name!r}, space={self.space!r}, codes={shape}, metrics=({names}))"

    @property
    def main(self) -> MetricSpec:
        """The first quality column: the metric the table is about."""
        return main_metric(self.metrics)

    def metric(self, name: str) -> MetricSpec:
        """Returns the meaning of one column; UsageError with the nearest names if there is none."""
        return self.metrics[find_metric(self.metrics, name)]

    def column(self, name: str) -> Float[Array, " n"]:
        """Returns one column in its own unit; UsageError with the nearest names if there is none."""
        return self.values[..., find_metric(self.metrics, name)]

    def oriented(self, name: str) -> Float[Array, " n"]:
        """Returns one column so that higher is better: negated where the metric's direction is "minimize"."""
        return self.column(name) * np.float32(self.metric(name).sign)

    def rows(self, codes: Int[Array, "... d"]) -> Int[Array, "..."]:
        """Returns the rows of some architectures, in constant time each; works inside jit and vmap.

        Args:
          codes: integers [..., d].

        Returns:
          int32 [...], -1 for a code that the table does not have.

        Raises:
          UsageError: not integers, or of another length.
        """
        wanted = codes if isinstance(codes, jax.Array) else np.asarray(codes)
        length = self.codes.shape[-1]
        if wanted.shape[-1:] != (length,) or not jnp.issubdtype(wanted.dtype, jnp.integer):
            raise checks.UsageError(
                expected=f"integer codes [..., {length}]",
                got=f"{wanted.dtype} {list(wanted.shape)}",
                remedy=f"see the space {self.space}",
            )
        if isinstance(wanted, np.ndarray):
            # JAX would let 64-bit integers wrap round to int32, where they could equal a code of the table.
            wanted = jax.device_put(np.clip(wanted, -1, 2**31 - 1).astype(np.int32))
        return self.index.rows(self.codes, wanted)

    def select(self, rows: Int[np.ndarray, " k"]) -> Table:
        """Returns the table of some rows, in the order given (host-side, not jit-able: the index is built anew).

        Args:
          rows: row numbers 0..n-1, each at most once, or a boolean mask [n].

        Raises:
          UsageError: no row, a row out of range (-1 means "absent" in ``Table.rows``), or one given twice.
        """
        chosen = np.asarray(rows)
        if chosen.dtype == bool and chosen.shape == (len(self),):
            chosen = np.flatnonzero(chosen)
        legal = chosen.ndim == 1 and len(chosen) > 0 and np.issubdtype(chosen.dtype, np.integer)
        if not legal or chosen.min() < 0 or chosen.max() >= len(self) or len(np.unique(chosen)) < len(chosen):
            raise checks.UsageError(
                expected=f"rows 0..{len(self) - 1} of {self.name}, at least one, none twice (or a mask [{len(self)}])",
                got=repr(chosen),
                remedy="leave out rows that are -1 or repeated",
            )
        codes, values = np.asarray(self.codes)[chosen], np.asarray(self.values)[chosen]
        index = build_index(codes)
        return dataclasses.replace(self, codes=jax.device_put(codes), values=jax.device_put(values), index=index)

    def content_hash(self) -> str:
        """Returns the SHA-256 (hexadecimal) of space, columns, codes and float32 values, in row order (host-side).

        It identifies the data of a record whatever the files it came from; name and ``hashes`` do not enter.
        """
        head = {"space": self.space, "metrics": [metric.to_json() for metric in self.metrics], "rows": len(self)}
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        digest.update(np.asarray(self.codes).astype("<i4").tobytes())
        digest.update(np.asarray(self.values).astype("<f4").tobytes())
        return digest.hexdigest()


def join(tables: Sequence[Table], *, name: str | None = None) -> Table:
    """Returns one table with the columns of all, over the architectures that all of them have (host-side).

    Quality columns are renamed to ``TASK/NAME``; a cost column with the same values in all tables that have it is
    kept once under its own name. Rows keep the first table's order.

    Args:
      tables: tables of one space.
      name: the name of the result; the tables' names joined by "+" if None.

    Raises:
      UsageError: no table, tables of different spaces, or two columns that would get one name.
      DataError: no architecture is shared by all.
    """
    hosts = [
        TableArrays(
            table.name, table.space, np.asarray(table.codes), np.asarray(table.values), table.metrics, table.hashes
        )
        for table in tables
    ]
    return Table.from_host(join_arrays(name or "+".join(table.name for table in tables), hosts))


def with_flops(table: Table) -> Table:
    """Adds the exact GFLOPs of a space with a cost model as a column, so that a limit can steer the search."""
    model = cost_model_for(get_space(table.space), table.metrics)
    if model is None or "flops" in [m.name for m in table.metrics]:
        return table
    flops = model.in_units(np.asarray(table.codes))["flops"]
    return Table.from_arrays(
        table.name,
        space=table.space,
        codes=np.asarray(table.codes),
        values=np.column_stack([np.asarray(table.values), flops]),
        metrics=(*table.metrics, MetricSpec("flops", unit=model.units["flops"], direction="minimize", kind="cost")),
        hashes=table.hashes,
    )


def main_metrics(table: Table, tasks: Sequence[str]) -> list[MetricSpec]:
    """The first quality metric of each task."""
    return [next(m for m in table.metrics if m.kind == "quality" and m.task == task) for task in tasks]


def tasks_of(table: Table) -> tuple[str, ...]:
    """The tasks that a table has a quality metric of, in its order."""
    return tuple(dict.fromkeys(m.task for m in table.metrics if m.kind == "quality"))
