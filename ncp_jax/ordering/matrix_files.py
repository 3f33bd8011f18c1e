"""Reads weight matrices from files: LOLIB text, ``.npy``, text tables of a matrix or of edges."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.array_files import read_npy
from ncp_jax.console import short_repr
from ncp_jax.files import user_path
from ncp_jax.ordering.edge_files import EDGES_REMEDY, could_be_edges, read_edges
from ncp_jax.text_tables import TextTable, decimal_sign, decode, line_cells, number, read_text_table

_TABLES = (".csv", ".tsv", ".tab")
_TITLES = 10  # maximum number of lines before the size in LOLIB text
_BLANKS = ("", "-", "--", "–", "—", "na", "n/a", "none", "null")  # what may stand on a diagonal


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A weight matrix read from a file.

    Attributes:
      weights: ``[n, n]`` weights as stored, the columns in the order of the rows.
      names: names of the rows, or None if the file has none.
      recognised: what was recognised in the file, for a note; () for arrays.
    """

    weights: np.ndarray
    names: tuple[str, ...] | None = None
    recognised: tuple[str, ...] = ()

    __repr__ = short_repr


def read_weights(path: str | Path, *, edges: bool = False) -> WeightFile:
    """Reads a weight matrix. The suffix gives the format: ``.npy``, ``.csv`` and ``.tsv``, or else LOLIB text.

    LOLIB text consists of n and n² numbers, row by row, separated by white space. Up to ten lines before n are skipped,
    since some collections have a name there. A text table (``text_tables``) may have a header and a first column of
    names; with both, columns are matched to rows by name. Its diagonal may be blank.

    Args:
      path: the file.
      edges: True for a text table of edges: winner, loser, weight. The weights of a repeated edge are added.

    Raises:
      DataError: the file is truncated, has text or pickled objects in place of numbers, a wrong number of entries, a
        matrix that is not square, names of columns that are not those of the rows, or could be a matrix or a list of
        edges.
      UsageError: edges in an array.
      OSError: the file cannot be read.
    """
    path = user_path(path)
    ending = path.suffix.lower()
    content = path.read_bytes() if ending != ".npy" else _read_once(path)
    if not content:
        raise _bad(path, "a matrix of weights", "an empty file")
    if isinstance(content, bytearray):
        if edges:
            raise checks.UsageError(expected="edges in a text file", got=str(path), remedy="write them as CSV")
        found = _npy(path, content)
    elif edges:
        return WeightFile(*read_edges(read_text_table(path, content)))
    else:
        found = _table(read_text_table(path, content)) if ending in _TABLES else _lolib(path, content)
    shape = found.weights.shape
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise _bad(path, "a square matrix", "×".join(map(str, shape)) or "a single value")
    return found


def is_frame(weights: Any) -> bool:
    """Whether weights are a data frame with names of rows and columns, as of pandas."""
    return all(hasattr(weights, name) for name in ("index", "columns", "to_numpy"))


def from_frame(frame: Any) -> WeightFile:
    """Returns the weights of a data frame (an object with ``index``, ``columns`` and ``to_numpy``, as of pandas).

    Columns are matched to rows by name, unless one of the two only counts from 0. A missing diagonal is 0.

    Raises:
      DataError: cells that are no numbers, or names of columns that are not those of the rows.
    """
    rows, columns = ([str(name) for name in names] for names in (frame.index, frame.columns))
    try:
        values = np.array(frame.to_numpy(), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise _bad("the data frame", "numbers", f"something else ({error})", "convert it") from error
    if values.shape != (len(rows), len(rows)):
        return WeightFile(values)  # the solver tells what is wrong with its shape
    if _counts(rows) and _counts(columns):
        return WeightFile(_without_diagonal(values))
    names, order, _ = _match("the data frame", rows, columns, indexed=True)
    return WeightFile(_without_diagonal(values[:, order]), names)


def _bad(path: str | Path, expected: str, got: str, remedy: str = "check the file") -> checks.DataError:
    return checks.DataError(expected=f"{expected} in {path}", got=got, remedy=remedy)


def _read_once(path: Path) -> bytearray:
    """Returns a file's bytes in memory that an array can use as its own: a large matrix is held once."""
    with path.open("rb") as file:
        content = bytearray(os.fstat(file.fileno()).st_size)
        del content[file.readinto(content) :]
        return content


def _npy(path: Path, content: bytearray) -> WeightFile:
    try:
        return WeightFile(read_npy(content))
    except ValueError as error:
        remedy = "save it as float64, as numpy.save writes it"
        raise _bad(path, "an array of real numbers", str(error), remedy) from error


def _remedy(threes: Iterable[bool]) -> str:
    """Returns what to do about a file that is no matrix, given whether its rows have three cells."""
    return EDGES_REMEDY if all(threes) else "check the file"


def _number(cell: str, decimal: str = ".") -> float | None:
    # The solver refuses what is not finite, and says where it stands.
    return number(cell, decimal, special=True)


def _numeric(cell: str, separator: str = " ") -> bool:
    return _number(cell) is not None or (separator != "," and _number(cell, ",") is not None)


def _floats(rows: Iterable[Sequence[str]], decimal: str = ".") -> np.ndarray | None:
    """Returns rows of cells as numbers, ``[n, m]``, or None where some cell needs a closer look."""
    found = []
    for row in rows:
        # ``float`` reads more than ``text_tables.number``: underscores, and digits of all scripts.
        text = " ".join(row)
        if "_" in text or not text.isascii() or (decimal == "," and "." in text):
            return None
        try:
            found.append([float(cell.replace(",", ".")) for cell in row] if decimal == "," else list(map(float, row)))
        except ValueError:
            return None
    return np.array(found, np.float64)


def _lolib(path: Path, content: bytes) -> WeightFile:
    text, encoding = decode(path, content)
    lines = line_cells(text)
    start = _lolib_start(path, lines)
    titles = " / ".join(" ".join(line) for line in lines[:start])
    facts = (encoding, "LOLIB text", *([f"title {titles[:60]!r}"] if titles else []))
    tokens = list(itertools.chain.from_iterable(lines[start:]))
    if not tokens:
        raise _bad(
            path,
            "n and n² numbers (LOLIB text)",
            "no line of numbers",
            "other formats end in .csv or .npy, or need --edges",
        )
    quick = _floats([tokens])
    if quick is None:
        decimal = decimal_sign(path, " ", tokens)
        facts += ("decimal commas",) if decimal == "," else ()
        found = [_number(token, decimal) for token in tokens]
        if None in found:
            place = found.index(None)
            raise _bad(path, "numbers", f"{tokens[place][:40]!r} as number {place + 1}")
        quick = np.array([found], np.float64)
    values = quick[0]
    n = values[0]
    if not np.isfinite(n) or n != int(n) or n < 1:
        raise _bad(path, "a size n >= 1 first (LOLIB text)", tokens[0], "other formats end in .csv or .npy")
    if len(tokens) - 1 != int(n) ** 2:
        expected = f"{int(n)}² = {int(n) ** 2} numbers after the size {int(n)}"
        raise _bad(path, expected, f"{len(tokens) - 1} numbers", _remedy(len(line) == 3 for line in lines))
    return WeightFile(values[1:].reshape(int(n), int(n)), None, facts)


def _lolib_start(path: Path, lines: Sequence[Sequence[str]]) -> int:
    """Returns the number of title lines: those before a size n that exactly n² numbers follow.

    A title may begin with digits (a year). Then n stands alone on its line, so that the end of a truncated file is not
    taken for a small matrix. Without such a line, lines of words are skipped, and the caller finds what is wrong.
    """
    left, found, digits = sum(map(len, lines)), [], False
    for place, line in enumerate(lines[: _TITLES + 1]):
        size = int(line[0]) if line[0].isascii() and line[0].isdigit() and len(line[0]) < 9 else 0
        if left - 1 == size**2 and (not digits or (len(line) == 1 and size > 1)):
            found.append(place)
        left -= len(line)
        digits = digits or _numeric(line[0])
    found = [p for p in found if all(map(_numeric, itertools.chain.from_iterable(lines[p : p + _TITLES])))]
    if len(found) > 1:
        sizes = " or ".join(f"{lines[place][0]}" for place in found)
        raise _bad(path, "one way to read LOLIB text", f"a size n of {sizes}", "remove the title lines")
    if found:
        return found[0]
    words = (place for place, line in enumerate(lines) if all(map(_numeric, line)))
    return next(words, len(lines))


def _table(table: TextTable) -> WeightFile:
    """Reads a matrix with or without a header and a first column of names."""
    path, rows = table.source, table.rows
    if not rows:
        raise _bad(path, "rows of numbers", "none")
    header, first = _layout(table)
    body = rows[1:] if header else rows
    width = len(body[0]) if body else 0
    for i, row in enumerate(body):
        if len(row) != width:
            raise _bad(path, f"{width} cells in every row", f"{len(row)} in row {i + 1 + header}")
    cells = [row[first:] for row in body]
    values, facts = _values(table, cells, header, first)
    if len(values) == 0 or values.shape[0] != values.shape[1]:
        raise _bad(path, "a square matrix", "×".join(map(str, values.shape)), _remedy([width == 3]))
    named = [row[0] for row in body] if first else None
    if header and len(rows[0]) - len(values) not in (0, first):
        raise _bad(path, f"{width} cells in every row", f"{len(rows[0])} in row 1")
    columns, corner = (None, None) if not header else _columns(rows[0], len(values))
    if columns is None and named is not None:
        # numpy.savetxt writes the header as a comment.
        written = (_split(text, table) for text in table.comments)
        columns = next((found for found in written if sorted(found) == sorted(named)), None)
    labelled = named is not None and (not _counts(named) or (columns is not None and sorted(columns) == sorted(named)))
    if could_be_edges(cells, rows[0] if header else (), labelled=labelled):
        raise _bad(
            path,
            "a matrix or a list of edges",
            "three columns that could be both",
            "give --edges (edges=True) for winner, loser, weight; for a matrix, leave the diagonal blank",
        )
    names = tuple(columns) if columns is not None else None
    if named is not None:
        names = tuple(named)
        if columns is not None:
            indexed = corner is not None and corner.lower() in ("", "unnamed: 0")
            names, order, fact = _match(path, named, columns, indexed=indexed)
            values, facts = values[:, order], facts + fact
    _check_names(path, names or ())
    if np.isnan(values).any():
        facts += ("blank diagonal",) if np.isnan(np.diagonal(values)).any() else ()
        values = _blank_diagonal(path, values, cells, header, first)
    return WeightFile(values, names, table.recognised(*facts))


def _split(text: str, table: TextTable) -> list[str]:
    cells = [cell.strip().strip('"') for cell in text.split(None if table.separator == " " else table.separator)]
    return cells[1:] if cells and not cells[0] else cells


def _columns(header: Sequence[str], n: int) -> tuple[list[str] | None, str | None]:
    """Returns the names of the columns, and what stands over those of the rows; None where there is no such cell."""
    return (list(header[1:]), header[0]) if len(header) == n + 1 else (list(header), None)


def _layout(table: TextTable) -> tuple[bool, int]:
    """Returns whether the first row is a header, and the number of columns before the weights, 0 or 1.

    Text decides: numbers and blanks are weights, other cells are names. Names that are numbers are recognised by a
    corner that has text, or is blank over a diagonal that is not.
    """
    rows = table.rows
    height, width = len(rows), len(rows[-1])

    def text(cell: str) -> bool:
        return cell.lower() not in _BLANKS and not _numeric(cell, table.separator)

    top, left = rows[0][1:], [row[0] for row in rows[1:]]
    named = any(map(text, left))
    if len(rows[0]) == width - 1 and height == width:
        return True, 1  # R writes no name over those of the rows
    if any(map(text, top)):
        return True, int(named or height == width)
    if text(rows[0][0]):
        # Only the first cell has text: the name of the first row, if there are as many rows as numbers in a row.
        lone = height == width - 1
        return not lone, int(lone or named or height == width)
    if named:
        return height == width, 1
    if height == width > 1 and rows[0][0].lower() in _BLANKS:
        return _numbered(table)
    return False, 0


def _numbered(table: TextTable) -> tuple[bool, int]:
    """Decides about a square of numbers with a blank corner: names that are numbers, or a blank diagonal."""
    rows = table.rows
    same = sorted(rows[0][1:]) == sorted(row[0] for row in rows[1:])
    blank = all(row[place].lower() in _BLANKS for place, row in enumerate(rows) if place < len(row))
    if same and blank:
        raise _bad(
            table.source,
            "a matrix that can be read in one way",
            "numbers that are names or weights",
            "write 0 on the diagonal",
        )
    return (False, 0) if blank else (True, 1)


def _values(
    table: TextTable, cells: Sequence[Sequence[str]], header: bool, first: int
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Returns the weights in the order of the file, NaN where blank, and what was recognised."""
    values = _floats(cells)
    if values is not None:
        return values.reshape(len(cells), -1 if cells else 0), ()
    decimal = decimal_sign(table.source, table.separator, itertools.chain.from_iterable(cells))
    facts = ("decimal commas",) if decimal == "," else ()
    values = _floats(cells, decimal) if facts else None
    if values is not None:
        return values, facts
    values = np.full((len(cells), len(cells[0])), np.nan)
    for i, row in enumerate(cells):
        for j, cell in enumerate(row):
            found = _number(cell, decimal)
            if found is None and cell.lower() not in _BLANKS:
                where = f"{cell[:40]!r} in row {i + 1 + header}, column {j + 1 + first}"
                raise _bad(table.source, "numbers", where, _remedy([len(row) + first == 3]))
            values[i, j] = np.nan if found is None else found
    return values, facts


def _blank_diagonal(
    path: str, values: np.ndarray, cells: Sequence[Sequence[str]], header: bool, first: int
) -> np.ndarray:
    """Returns weights with a diagonal of 0 where it is blank; DataError if another cell or a part of it is blank."""
    blank = [(i, j) for i, row in enumerate(cells) for j, cell in enumerate(row) if cell.lower() in _BLANKS]
    holes = int(np.isnan(np.diagonal(values)).sum())
    off = np.isnan(values).sum() - holes
    if blank and (off or holes < len(values)):
        i, j = blank[0]
        where = f"{cells[i][j]!r} in row {i + 1 + header}, column {j + 1 + first}"
        raise _bad(path, "numbers", where, "write 0 for no weight; only a whole diagonal may be blank")
    return _without_diagonal(values)


def _without_diagonal(values: np.ndarray) -> np.ndarray:
    """Returns a copy of weights with 0 where the diagonal is NaN."""
    values = np.array(values)
    diagonal = np.diagonal(values)
    np.fill_diagonal(values, np.where(np.isnan(diagonal), 0.0, diagonal))
    return values


def _counts(names: Sequence[str]) -> bool:
    """Whether names are 0, 1, 2, … or 1, 2, 3, …, as libraries number rows and columns without names."""
    return any(list(names) == [str(place + base) for place in range(len(names))] for base in (0, 1))


def _match(
    path: str, rows: Sequence[str], columns: Sequence[str], *, indexed: bool
) -> tuple[tuple[str, ...], list[int], tuple[str, ...]]:
    """Matches columns to rows by name.

    Args:
      path: the file, for errors.
      rows: names of the rows.
      columns: names of the columns.
      indexed: whether rows that only count are numbers of rows, not names.

    Returns:
      names of the rows, the place of each row's column, and what was recognised.
    """
    in_order = list(range(len(rows)))
    if sorted(rows) != sorted(columns):
        if indexed and _counts(rows) and not any(map(_numeric, columns)):
            return tuple(columns), in_order, ("index column ignored",)
        if _counts(columns) and not any(map(_numeric, rows)):
            return tuple(rows), in_order, ("numbers over the columns ignored",)
        raise _bad(
            path,
            "the same names over the columns as before the rows",
            f"rows {_some(set(rows) - set(columns), rows)} and columns {_some(set(columns) - set(rows), columns)}",
            "correct the names, or remove those of the columns",
        )
    _check_names(path, rows)
    places = {name: place for place, name in enumerate(columns)}
    order = [places[name] for name in rows]
    return tuple(rows), order, () if order == in_order else ("columns put in the order of the rows",)


def _check_names(path: str, names: Sequence[str]) -> None:
    repeated = [name for name, number in collections.Counter(names).items() if number > 1]
    if repeated:
        raise _bad(path, "names that differ", f"{repeated[0]!r} more than once", "rename one of them")


def _some(names: Iterable[str], every: Sequence[str]) -> str:
    """Returns up to three of the names, or of all where none is special."""
    listed = sorted(names) or list(every)
    return ", ".join(map(repr, listed[:3])) + (", …" if len(listed) > 3 else "")
