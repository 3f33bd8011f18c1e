"""Reads a table from a user's CSV file, with a column of architectures and columns of metrics."""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.arrays import TableArrays, as_space, check_arrays
from ncp_jax.benchmarks.sources import sha256
from ncp_jax.metrics import MetricSpec
from ncp_jax.spaces import Space

_INTEGERS = re.compile(r"[\[(]?\s*(\d+(?:[\s,]+\d+)*)\s*,?\s*[\])]?")


def read_csv(
    path: str | os.PathLike[str],
    *,
    space: str | Space,
    maximize: Sequence[str] = (),
    minimize: Sequence[str] = (),
    architecture: str | None = None,
) -> TableArrays:
    """Reads a CSV file; see ``Table.from_csv`` for arguments, format and errors."""
    path = Path(path)
    space = as_space(space)
    content = _content(path)
    header, rows = _cells(path, content)
    position = 0 if architecture is None else header.index(_column(path, architecture, header))
    _refuse_headless(path, header, position, space)
    names = _choose_columns(path, header, position, maximize, minimize)
    codes, values = [], []
    seen: dict[bytes, tuple[int, list[float]]] = {}
    for line, cells in rows:
        code = _code(path, line, cells[position], space)
        numbers = [_number(path, line, name, cells[header.index(name)]) for name in names]
        first = seen.setdefault(code.tobytes(), (line, numbers))
        if first[1] != numbers:
            got = f"other values in line {line} for the architecture of line {first[0]}"
            raise _bad(path, "one set of values per architecture", got, "keep one of the two, or their mean")
        if first[0] == line:
            codes.append(code)
            values.append(numbers)
    if len(codes) < 2:
        raise _bad(path, "two architectures or more", str(len(codes)), "add rows: there is nothing to compare")
    for name, column in zip(names, np.array(values).T, strict=True):
        if np.all(column == column[0]):
            got = f"{column[0]:g} in every row of column {name!r}"
            raise _bad(path, "a metric that varies", got, "leave the column out: nothing can be learned from it")
    return check_arrays(
        path.stem,
        space=space,
        codes=np.array(codes),
        values=np.array(values),
        metrics=_metrics(path.stem, names, maximize),
        hashes=((path.name, sha256(content)),),
    )


def _metrics(task: str, names: Sequence[str], maximize: Sequence[str]) -> list[MetricSpec]:
    """Returns the specifications of the columns.

    Columns to maximize are quality metrics. Columns to minimize are costs or, with none to maximize, quality metrics
    (losses).
    """
    count = len(maximize)
    found = [MetricSpec(name, task=task, direction="maximize") for name in names[:count]]
    kind = "cost" if count else "quality"
    return found + [MetricSpec(name, task=task, direction="minimize", kind=kind) for name in names[count:]]


def _bad(path: Path, expected: str, got: str, remedy: str) -> checks.DataError:
    return checks.DataError(expected=f"{expected} in {path}", got=got, remedy=remedy)


def _content(path: Path) -> bytes:
    if path.is_dir() or not path.exists():
        raise checks.MissingError(
            expected=f"a CSV file at {path}",
            got="a folder" if path.is_dir() else "no such file",
            remedy="correct the path",
        )
    return path.read_bytes()


def _cells(path: Path, content: bytes) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Returns the header and the rows, each with the line on which it ends. Blank lines are skipped."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        got = f"byte 0x{content[error.start]:02x} at offset {error.start}"
        raise _bad(path, "UTF-8 text", got, "save the file as UTF-8") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                rows.append((reader.line_num, [cell.strip() for cell in cells]))
    except csv.Error as error:
        raise _bad(path, "comma-separated values", f"line {reader.line_num}: {error}", "correct that line") from error
    if not rows:
        raise _bad(path, "a header and rows", "an empty file", "write a header line and one line per architecture")
    header = rows[0][1]
    if len(header) == 1 and re.search("[;\t]", header[0]):
        raise _bad(path, "cells separated by commas", f"the header {header[0]!r}", "save the file with commas")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise _bad(path, "column names that differ", f"{repeated[0]!r} more than once", "rename one of them")
    for line, cells in rows[1:]:
        if len(cells) != len(header):
            got = f"{len(cells)} in line {line}"
            remedy = 'correct that line; architectures with commas need quotes: "1, 2, 3"'
            raise _bad(path, f"{len(header)} cells per line", got, remedy)
    return header, rows[1:]


def _choose_columns(
    path: Path, header: list[str], architectures: int, maximize: Sequence[str], minimize: Sequence[str]
) -> list[str]:
    """Returns the metric columns, those to maximize first; ``architectures`` is the position of the architectures."""
    if isinstance(maximize, str) or isinstance(minimize, str):
        got = repr(maximize if isinstance(maximize, str) else minimize)
        raise checks.UsageError(expected="a list of column names", got=got, remedy=f"write [{got}]")
    metrics = [name for position, name in enumerate(header) if position != architectures]
    if not maximize and not minimize:
        raise checks.UsageError(
            expected="the direction of at least one metric column",
            got=f"none; {path} has {', '.join(metrics) or 'no metric column'}",
            remedy="name each metric with maximize= or minimize= (--maximize, --minimize)",
        )
    names = [_column(path, name, metrics) for name in (*maximize, *minimize)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise checks.UsageError(
            expected="each column named once", got=f"{repeated[0]!r} twice", remedy="keep one direction"
        )
    return names


def _column(path: Path, name: str, options: list[str]) -> str:
    # Exact names first, since the names of two columns may differ only in case.
    return name if name in options else checks.choose(f"column of {path}", name, options)


def _refuse_headless(path: Path, header: list[str], architectures: int, space: Space) -> None:
    """Raises DataError if the first line has an architecture where its column's name should be."""
    first = header[architectures]
    try:
        _parse(first, space)
    except checks.UsageError:
        return  # not an architecture, hence a name
    raise _bad(path, "a header with column names", f"the architecture {first!r}", "add a first line of names")


def _parse(text: str, space: Space) -> np.ndarray:
    """Parses an architecture: a string of the space, or the integers of its code."""
    integers = _INTEGERS.fullmatch(text)
    if integers:
        return space.check([int(number[:9]) for number in re.findall(r"\d+", integers[1])])[0]
    return space.from_string(text)


def _code(path: Path, line: int, text: str, space: Space) -> np.ndarray:
    try:
        return _parse(text, space)
    except checks.UsageError as error:
        raise checks.DataError(f"{path}, line {line}: {error}") from error


def _number(path: Path, line: int, name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _bad(path, f"a finite number in line {line}, column {name!r}", repr(text), "correct it or drop the row")
    return number
