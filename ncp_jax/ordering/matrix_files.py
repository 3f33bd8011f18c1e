"""Reads weight matrices from files: LOLIB text, ``.npy``, CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np

from ncp_jax import checks


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A weight matrix read from a file.

    Attributes:
      weights: ``[n, n]`` weights as stored.
      names: names of the rows, or None if the file has none.
    """

    weights: np.ndarray
    names: tuple[str, ...] | None = None


def read_weights(path: str | Path) -> WeightFile:
    """Reads a weight matrix. The suffix gives the format: ``.npy``, ``.csv``, or else LOLIB text.

    LOLIB text consists of n and n² numbers, row by row, separated by white space. Lines of other text before n are
    skipped, since some collections have a name there. A CSV may have a header and a first column of names.

    Raises:
      DataError: the file is truncated, has text or pickled objects in place of numbers, a wrong number of entries, or a
        matrix that is not square.
      OSError: the file cannot be read.
    """
    path = Path(path)
    content = path.read_bytes()
    if not content:
        raise _bad(path, "a matrix of weights", "an empty file")
    ending = path.suffix.lower()
    found = (
        _npy(path, content) if ending == ".npy" else _csv(path, content) if ending == ".csv" else _lolib(path, content)
    )
    shape = found.weights.shape
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise _bad(path, "a square matrix", "×".join(map(str, shape)) or "a single value")
    return found


def _bad(path: Path, expected: str, got: str, remedy: str = "check the file") -> checks.DataError:
    return checks.DataError(expected=f"{expected} in {path}", got=got, remedy=remedy)


def _npy(path: Path, content: bytes) -> WeightFile:
    try:
        values = np.load(io.BytesIO(content), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        got = "pickled objects" if b"'|O'" in content[:256] else f"no such array ({error})"
        raise _bad(path, "an array of numbers as numpy.save writes it", got, "save it as float64") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "buif":
        raise _bad(path, "an array of real numbers", f"type {getattr(values, 'dtype', 'npz')}", "save it as float64")
    return WeightFile(values)


def _text(path: Path, content: bytes) -> str:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _bad(path, "text", "bytes that are none", "arrays end in .npy") from error
    if "\0" in text:
        raise _bad(path, "text", "bytes that are none", "arrays end in .npy")
    return text


def _numeric(token: str) -> bool:
    try:
        float(token)
    except ValueError:
        return False
    return True


def _lolib(path: Path, content: bytes) -> WeightFile:
    lines = _text(path, content).splitlines()
    while lines and not all(map(_numeric, lines[0].split())):
        lines.pop(0)
    tokens = " ".join(lines).split()
    if not tokens:
        raise _bad(path, "n and n² numbers (LOLIB text)", "no line of numbers", "other formats end in .csv or .npy")
    for place, token in enumerate(tokens):
        if not _numeric(token):
            raise _bad(path, "numbers", f"{token[:40]!r} as number {place + 1}")
    n = float(tokens[0])
    if n != int(n if np.isfinite(n) else -1) or n < 1:
        raise _bad(path, "a size n >= 1 first (LOLIB text)", tokens[0], "other formats end in .csv or .npy")
    if len(tokens) - 1 != int(n) ** 2:
        raise _bad(path, f"{int(n)}² = {int(n) ** 2} numbers after the size {int(n)}", f"{len(tokens) - 1} numbers")
    return WeightFile(np.array(tokens[1:], np.float64).reshape(int(n), int(n)))


def _csv(path: Path, content: bytes) -> WeightFile:
    rows = [row for row in csv.reader(io.StringIO(_text(path, content))) if any(cell.strip() for cell in row)]
    if not rows:
        raise _bad(path, "rows of numbers", "none")
    # A first row with text is a header, except where its first cell alone is text, which may be the row's own name,
    # and there are as many rows as numbers in a row.
    lone = all(_numeric(cell) for cell in rows[0][1:]) and len(rows) == len(rows[0]) - 1
    header = not lone and not all(_numeric(cell) for cell in rows[0])
    body = rows[1:] if header else rows
    named = bool(body) and not all(_numeric(row[0]) for row in body)
    # Names may be numbers: with a header and one column more than rows, the first column has names.
    named = named or (header and bool(body) and len(body[0]) == len(body) + 1)
    first = 1 if named else 0
    width = len(body[0]) if body else 0
    values = np.empty((len(body), max(0, width - first)))
    for i, row in enumerate(body):
        if len(row) != width:
            raise _bad(path, f"{width} cells in every row", f"{len(row)} in row {i + 1 + header}")
        for j, cell in enumerate(row[first:]):
            if not _numeric(cell):
                raise _bad(path, "numbers", f"{cell[:40]!r} in row {i + 1 + header}, column {j + 1 + first}")
            values[i, j] = float(cell)
    names = None
    if named:
        names = tuple(row[0].strip() for row in body)
    elif header and len(rows[0]) == width:
        names = tuple(cell.strip() for cell in rows[0])
    return WeightFile(values, names)
