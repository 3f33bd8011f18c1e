"""Defines the table: architectures and their measured metrics, on the device."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.arrays import TableArrays, check_arrays, join_arrays
from ncp_jax.benchmarks.csv_table import read_csv
from ncp_jax.benchmarks.row_index import RowIndex, build_index
from ncp_jax.benchmarks.stored_units import choose_stored_unit, fill_blanks
from ncp_jax.console import say
from ncp_jax.files import write_csv
from ncp_jax.jax_settings import package_settings
from ncp_jax.metrics import MetricSpec, StoredUnit, find_metric, main_metric
from ncp_jax.pytrees import register_dataclass
from ncp_jax.spaces import CostModel, Space, check_digest, cost_model_for, get_space
from ncp_jax.types import Array, Float, Int


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Table:
    """The measured metrics of n architectures, a pytree for use inside jit and vmap.

    Create it with ``load_table``, ``from_csv`` or ``from_arrays``; the constructor checks nothing.

    Attributes:
      codes: ``[n, d]`` architectures, int32, all different.
      values: ``[n, m]`` metrics, float32, in their stored units: nearly always their own (see ``MetricSpec.stored``).
        ``measured`` returns a column in its own unit (and ``load_arrays`` the published float64).
      index: hash index from a code to its row, see ``rows``.
      name: name of the table ("nas-bench-mr/seg"). Static, like all that follows.
      space: name of the space of the codes.
      metrics: specifications of the m columns, with their directions.
      hashes: (name, SHA-256) of each file that the table was made from, and of a described space, "space NAME".
    """

    codes: Int[Array, "n d"]
    values: Float[Array, "n m"]
    index: RowIndex
    name: str = dataclasses.field(metadata={"static": True})
    space: str = dataclasses.field(metadata={"static": True})
    metrics: tuple[MetricSpec, ...] = dataclasses.field(metadata={"static": True})
    hashes: tuple[tuple[str, str], ...] = dataclasses.field(default=(), metadata={"static": True})

    @staticmethod
    @package_settings
    def from_host(arrays: TableArrays) -> Table:
        """Puts a checked table on the device, with values as float32 in units that keep them apart; NaN stays NaN.

        Raises:
          DataError: a column that varies by nothing but rounding, or has values beyond 1e300.
        """
        codes = np.asarray(arrays.codes, dtype=np.int32)
        columns = np.asarray(arrays.values, np.float64).T
        known = [fill_blanks(column) for column in columns]
        units = [choose_stored_unit(m.name, column) for m, column in zip(arrays.metrics, known, strict=True)]
        stored = [column if unit is None else unit.store(column) for unit, column in zip(units, columns, strict=True)]
        return Table(
            # device_put instead of jnp.asarray, which would compile a program for every new shape.
            codes=jax.device_put(codes),
            values=jax.device_put(np.stack(stored, axis=1).astype(np.float32)),
            index=build_index(codes),
            name=arrays.name,
            space=arrays.space,
            metrics=tuple(_stored_in(m, unit) for m, unit in zip(arrays.metrics, units, strict=True)),
            hashes=arrays.hashes,
        )

    def to_host(self) -> TableArrays:
        """Returns the table as float64 arrays in the metrics' own units."""
        values = np.stack([self.measured(m.name) for m in self.metrics], axis=1)
        metrics = tuple(_stored_in(m, None) for m in self.metrics)
        return TableArrays(self.name, self.space, np.asarray(self.codes), values, metrics, self.hashes)

    @staticmethod
    def from_arrays(
        name: str,
        *,
        space: str | os.PathLike[str] | Space,
        codes: Int[np.ndarray, "n d"],
        values: Float[np.ndarray, "n m"],
        metrics: Sequence[MetricSpec],
        hashes: Sequence[tuple[str, str]] = (),
        repeats: bool = False,
    ) -> Table:
        """Checks arrays and returns them as a table. Runs on the host.

        Rows that repeat an architecture with the same values are dropped; the others keep their order.

        Args:
          name: name of the table.
          space: the space of the codes, its name, or the path of its description.
          codes: ``[n, d]`` integers, legal in the space.
          values: ``[n, m]`` finite numbers.
          metrics: specifications of the m columns, with different names.
          hashes: (name, SHA-256) of each file that the table was made from.
          repeats: keep all rows of an architecture, as ``from_csv`` does with ``seeds="each"``.

        Raises:
          UsageError: shapes that do not fit, an illegal code, or two columns of one name.
          DataError: a value that is not finite or beyond 1e300, a column that varies by nothing but rounding, or two
            rows of one architecture with different values.
        """
        host = check_arrays(
            name, space=space, codes=codes, values=values, metrics=metrics, hashes=hashes, repeats=repeats
        )
        return Table.from_host(host)

    def to_csv(self, path: str | os.PathLike[str]) -> Path:
        """Writes the table as a CSV file that ``from_csv`` reads back: architectures as strings, then one column each.

        Values are in the metrics' own units, with as many digits as they hold; a value that is not known is blank.

        Args:
          path: the file to write, atomically.

        Returns:
          The path.

        Raises:
          OSError: the file cannot be written.
        """
        columns = [self._numbers(metric) for metric in self.metrics]
        names = get_space(self.space).to_strings(np.asarray(self.codes))
        header = ("architecture", *(metric.name for metric in self.metrics))
        return write_csv(path, header, zip(names, *columns, strict=True))

    def _numbers(self, metric: MetricSpec) -> list[str]:
        """Returns a column as text: the shortest that is read as the same number."""
        values = self.measured(metric.name)
        exact = values.astype(np.float32) if metric.stored is None else values
        return ["" if value != value else str(value) for value in exact]

    @staticmethod
    def from_csv(
        path: str | os.PathLike[str],
        *,
        space: str | os.PathLike[str] | Space,
        maximize: Sequence[str] = (),
        minimize: Sequence[str] = (),
        architecture: str | Sequence[str] | None = None,
        seeds: str = "refuse",
        notation: str | None = None,
        notify: Callable[[str], None] = say,
    ) -> Table:
        """Reads a table from a text file with a header and one line per architecture.

        Encoding, separator and decimal sign are recognised (``docs/data.md`` has the rules); blank lines and lines that
        begin with "#" are skipped. Architectures are strings of the space (``space.to_string``) or lists in a
        ``notation`` ("1, 2, 3", in quotes because of the commas), in one cell or in one column per position. Columns
        without a given direction are ignored; a direction is never guessed. Lines that repeat an architecture with the
        same values are merged. The columns in ``maximize`` are quality metrics, the first of them the main metric, and
        those in ``minimize`` are costs. With ``minimize`` alone, its columns are the quality metrics.

        A column X beside X_spread holds predictions, as in the files of ``ncp-jax search``. Its split is "predicted".

        Args:
          path: the file.
          space: the space of the architectures, its name, or the path of its description.
          maximize: columns where higher is better.
          minimize: columns where lower is better.
          architecture: column of the architectures, or the columns of the code's positions, in order; * and ? are
            wildcards. If None, the column called architecture, arch, arch_str or string, else the first one that is no
            index, else columns called as the positions or numbered like them (x0, x1, …).
          seeds: what to do with lines of one architecture that differ: "refuse" them, take their "mean", or keep
            "each" as a row of its own. In a column called seed, a seed may occur once per architecture.
          notation: how architectures are written that are no strings: "ncp-jax" (this library's codes), "naslib"
            (NASLib's tuples of NAS-Bench-201), "nats-index" (one number, NATS-Bench's index) or "ops" (names of
            operations, in cells). If None, integers are read as this library's where all publishers agree; elsewhere
            they are refused, with all readings, and so are names, unless the columns have the names of the positions.
          notify: receives one-line notices: what was recognised in a file that is not UTF-8 with commas, and which
            columns hold predictions.

        Raises:
          UsageError: no direction for any column, an unknown column (the text lists the nearest names), a column named
            twice or that only numbers the rows, an unknown space or rule for seeds.
          DataError: no text, no header, a line of another length, an illegal architecture, a value that is not a finite
            number, a constant metric, an architecture with two sets of values, or fewer than two architectures. The
            text names the line.
          FileNotFoundError: the file does not exist.
        """
        return Table.from_host(
            read_csv(
                path,
                space=space,
                maximize=maximize,
                minimize=minimize,
                architecture=architecture,
                seeds=seeds,
                notation=notation,
                notify=notify,
            )
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores a pickled table; DataError if its space is described in another way in this process."""
        self.__dict__.update(state)
        for name, digest in self.hashes:
            if name == f"space {self.space}":
                check_digest(self.space, digest, f"the pickled table {self.name}")

    def __len__(self) -> int:
        return int(self.codes.shape[0])

    def __repr__(self) -> str:
        names = ", ".join(metric.name for metric in self.metrics)
        shape = getattr(self.codes, "shape", "?")
        return f"Table({self.name!r}, space={self.space!r}, codes={shape}, metrics=({names}))"

    @property
    def main(self) -> MetricSpec:
        """The main metric, which is the first quality metric."""
        return main_metric(self.metrics)

    def only_main(self) -> MetricSpec:
        """Returns the main metric, where nobody named one; UsageError where the table has one for each seed."""
        main = self.main
        if main.seed in ("", "mean"):
            return main
        alike = [m.name for m in self.metrics if (m.split, m.epoch, m.unit) == (main.split, main.epoch, main.unit)]
        raise checks.UsageError(
            expected=f"the name of a column of {self.name}, which has one for each seed",
            got="none",
            remedy=f"name it ({', '.join(alike[:6])}), or import the files with --seeds mean",
        )

    def metric(self, name: str) -> MetricSpec:
        """Returns the specification of one column; UsageError with the nearest names if there is none."""
        return self.metrics[find_metric(self.metrics, name)]

    def column(self, name: str) -> Float[Array, " n"]:
        """Returns one column in its stored unit; UsageError with the nearest names if there is none."""
        return self.values[..., find_metric(self.metrics, name)]

    def measured(self, name: str) -> Float[np.ndarray, " n"]:
        """Returns one column in its own unit, float64 on the host, as precisely as float32 stores it.

        Raises:
          UsageError: there is no such column; the text lists the nearest names.
        """
        # Sliced on the host: JAX would compile a program for it.
        column = np.asarray(self.values)[..., find_metric(self.metrics, name)].astype(np.float64)
        unit = self.metric(name).stored
        return column if unit is None else unit.restore(column)

    def oriented(self, name: str) -> Float[Array, " n"]:
        """Returns one column, in its stored unit, oriented so that higher is better: negated to minimize."""
        return self.column(name) * np.float32(self.metric(name).sign)

    def rows(self, codes: Int[Array, "... d"]) -> Int[Array, "..."]:
        """Returns the row of each architecture, in constant time. Works inside jit and vmap.

        Args:
          codes: ``[..., d]`` integers.

        Returns:
          int32 ``[...]``, -1 for a code that is not in the table.

        Raises:
          UsageError: the codes are not integers or have another length.
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
            # In JAX, 64-bit integers would wrap around to int32, where they could equal a code of the table.
            wanted = jax.device_put(np.clip(wanted, -1, 2**31 - 1).astype(np.int32))
        return self.index.rows(self.codes, wanted)

    @package_settings
    def select(self, rows: Int[np.ndarray, " k"]) -> Table:
        """Returns the table of some rows, in the given order. Runs on the host and builds a new index.

        Args:
          rows: row numbers 0..n-1, each at most once, or a boolean mask ``[n]``.

        Raises:
          UsageError: no row, a row out of range (``Table.rows`` returns -1 for absent codes), or a repeated row.
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

    def with_columns(self, names: Sequence[str]) -> Table:
        """Returns the table with some columns alone, in the given order; UsageError for an unknown one."""
        places = [find_metric(self.metrics, name) for name in dict.fromkeys(names)]
        metrics = tuple(self.metrics[place] for place in places)
        return dataclasses.replace(self, values=jnp.take(self.values, np.array(places), axis=1), metrics=metrics)

    def known(self, names: Sequence[str]) -> Table:
        """Returns the table of the architectures that have a value in each of some columns; itself where all have.

        In imported tables, trainings that failed have none. DataError where no architecture has.
        """
        there = np.isfinite(np.asarray(self.values)[:, [find_metric(self.metrics, name) for name in names]]).all(axis=1)
        if not there.any():
            raise checks.DataError(
                expected=f"architectures of {self.name} with values of {', '.join(names)}",
                got="none",
                remedy="choose other columns",
            )
        return self if there.all() else self.select(there)

    def content_hash(self) -> str:
        """Returns the SHA-256 (hexadecimal) of space, columns, codes and float32 values. Runs on the host.

        It identifies the data of a record independently of their files: the name and ``hashes`` do not count.
        """
        head = {"space": self.space, "metrics": [metric.to_json() for metric in self.metrics], "rows": len(self)}
        digest = hashlib.sha256(json.dumps(head, sort_keys=True).encode())
        digest.update(np.asarray(self.codes).astype("<i4").tobytes())
        digest.update(np.asarray(self.values).astype("<f4").tobytes())
        return digest.hexdigest()


def _stored_in(metric: MetricSpec, unit: StoredUnit | None) -> MetricSpec:
    return metric if metric.stored == unit else dataclasses.replace(metric, stored=unit)


def join(tables: Sequence[Table], *, name: str | None = None) -> Table:
    """Joins tables into one with the columns of all, over the architectures that all have. Runs on the host.

    Quality columns are renamed to ``TASK/NAME``. A cost column with the same values in all tables that have it is kept
    once, under its own name. Rows keep the first table's order.

    Args:
      tables: tables of one space.
      name: name of the result; the tables' names joined by "+" if None.

    Raises:
      UsageError: no table, tables of different spaces, or two columns that would get one name.
      DataError: the tables share no architecture.
    """
    hosts = [table.to_host() for table in tables]
    return Table.from_host(join_arrays(name or "+".join(table.name for table in tables), hosts))


def with_flops(table: Table, model: CostModel | None = None) -> Table:
    """Adds a column of exact FLOPs, so that a predictor learns them and a limit can steer the search.

    The column's task is the one whose network is counted. The table is returned unchanged if it has such a column or
    its space has no cost model.

    Args:
      table: the table.
      model: cost model of the network; by default the one that belongs to the table's metrics.
    """
    model = model or cost_model_for(get_space(table.space), table.metrics)
    if model is None or not model.has_flops or "flops" in [m.name for m in table.metrics]:
        return table
    flops = model.in_units(np.asarray(table.codes))["flops"]
    host = table.to_host()
    return Table.from_arrays(
        table.name,
        space=table.space,
        codes=host.codes,
        values=np.column_stack([host.values, flops]),
        metrics=(
            *host.metrics,
            MetricSpec("flops", task=model.task, unit=model.units["flops"], direction="minimize", kind="cost"),
        ),
        hashes=table.hashes,
        repeats=True,  # those that the table has
    )


def main_metrics(table: Table, tasks: Sequence[str]) -> list[MetricSpec]:
    """Returns the main metric of each task, which is its first quality metric."""
    return [next(m for m in table.metrics if m.kind == "quality" and m.task == task) for task in tasks]


def tasks_of(table: Table) -> tuple[str, ...]:
    """Returns the tasks of a table's quality metrics, in the order of its columns."""
    return tuple(dict.fromkeys(m.task for m in table.metrics if m.kind == "quality"))
