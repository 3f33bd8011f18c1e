"""Reads and continues the table in which a user writes what was trained: measured, failed and not measured yet."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.architecture_columns import ArchitectureColumns
from ncp_jax.benchmarks.sheet import make_sheet, read_content
from ncp_jax.files import user_path, write_csv
from ncp_jax.spaces import DescribedSpace, Space
from ncp_jax.text_tables import decimal_sign, number, read_text_table
from ncp_jax.types import Bool, Float, Int

FAILED = ("nan", "none", "null", "failed", "fail", "error", "crashed", "inf", "-inf", "oom")


@dataclasses.dataclass(frozen=True, eq=False)
class TrainingLog:
    """The rows of a table that is still being filled.

    Attributes:
      header: names of the columns.
      columns: columns of the architectures: one, or one for each position.
      codes: int32 [n, d].
      values: float64 [n, m], NaN where nothing is written or a training failed.
      failed: bool [n], True for trainings that failed.
      waiting: bool [n], True for rows in which a metric is blank: they are being trained.
    """

    header: tuple[str, ...]
    columns: tuple[str, ...]
    codes: Int[np.ndarray, "n d"]
    values: Float[np.ndarray, "n m"]
    failed: Bool[np.ndarray, " n"]
    waiting: Bool[np.ndarray, " n"]

    @property
    def measured(self) -> Bool[np.ndarray, " n"]:
        """Bool [n], True for rows with a value of each metric."""
        return ~self.failed & ~self.waiting

    def write(self, path: str | os.PathLike[str], cells: Sequence[Mapping[str, str]]) -> Path:
        """Writes new rows with this table's columns: the cells given, the others blank."""
        return write_csv(path, self.header, [[row.get(name, "") for name in self.header] for row in cells])


def empty_log(space: Space, metrics: Sequence[str]) -> TrainingLog:
    """Returns a table without rows: one column of architectures, or one for each position of a described space."""
    columns = space.position_names if isinstance(space, DescribedSpace) else ("architecture",)
    codes, values, none = np.zeros((0, space.length), np.int32), np.zeros((0, len(metrics))), np.zeros(0, bool)
    return TrainingLog((*columns, *metrics), columns, codes, values, none, none)


def read_training_log(
    path: str | os.PathLike[str],
    *,
    space: Space,
    metrics: Sequence[str],
    architecture: str | Sequence[str] | None = None,
    notation: str | None = None,
) -> TrainingLog:
    """Reads a table of trainings, of which some have no result yet.

    Args:
      path: the file: a header, and a line for each training. A header alone is an empty table.
      space: the space of the architectures.
      metrics: columns to read. A blank cell is a training without a result so far; ``nan``, ``failed`` and the like
        (``FAILED``) are a training that failed.
      architecture: column of the architectures, or those of the positions; see ``Table.from_csv``.
      notation: how architectures are written; see ``Table.from_csv``.

    Raises:
      MissingError: there is no such file.
      DataError: the file is no table, a cell is no number, or an architecture is not in the space; names the line.
      UsageError: a metric or an architecture column that the table lacks.
    """
    path = user_path(path)
    sheet = make_sheet(path, read_text_table(path, read_content(path)))
    columns = ArchitectureColumns.find(sheet, space, architecture, notation, set(metrics))
    names = [sheet.column(name, [name for name in sheet.header if name not in columns.names]) for name in metrics]
    cells = [[row[sheet.header.index(name)].strip() for name in names] for _, row in sheet.rows]
    numbers = [text for row in cells for text in row if text and text.lower() not in FAILED]
    numbers += [row[place] for _, row in sheet.rows for place in columns.numbers_at]
    decimal = decimal_sign(path, sheet.separator, numbers)
    codes, values, failed, waiting = [], [], [], []
    for (line, row), texts in zip(sheet.rows, cells, strict=True):
        codes.append(columns.code(line, row, decimal))
        failed.append(any(text.lower() in FAILED for text in texts))
        waiting.append(not failed[-1] and not all(texts))
        read = []
        for name, text in zip(names, texts, strict=True):
            known = text and text.lower() not in FAILED
            value = number(text, decimal) if known else math.nan
            if value is None or (known and not math.isfinite(value)):
                raise sheet.bad(
                    f"a number in line {line}, column {name!r}", repr(text), "correct it, or leave it blank if unknown"
                )
            read.append(value)
        values.append(read)
    return TrainingLog(
        header=tuple(sheet.header),
        columns=columns.names,
        codes=np.array(codes, np.int32).reshape(-1, space.length),
        values=np.array(values, np.float64).reshape(-1, len(metrics)),
        failed=np.array(failed, bool),
        waiting=np.array(waiting, bool),
    )


def architecture_cells(space: Space, columns: Sequence[str], code: Int[np.ndarray, " d"]) -> dict[str, str]:
    """Returns how a code is written in the columns of architectures."""
    if len(columns) == 1:
        return {columns[0]: space.to_strings(code[None])[0]}
    if len(columns) != space.length:
        raise checks.UsageError(
            expected=f"one column of architectures, or {space.length}", got=str(len(columns)), remedy="rename them"
        )
    return dict(zip(columns, space.position_texts(code), strict=True))
