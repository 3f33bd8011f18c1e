"""Weight matrices from files: LOLIB text, ``.npy``, CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from pathlib import Path

import numpy as np

from ncp_jax import checks


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """A matrix read from a file.

    Attributes:
      weights: ``[n, n]``, as stored.
      names: of the rows, where the file has them.
    """

    weights: np.ndarray
    names: tuple[str, ...] | None = None


def read_weights(path: str | Path) -> WeightFile:
    """Reads a weight matrix; the ending says how: ``.npy``, ``.csv``, anything else is LOLIB text.

    LOLIB text is n and then n² numbers, row by row, between any white space; lines of words before n (some collections
    put a name there) are skipped. A CSV may have a header and a first column of names.

    Raises:
      DataError: not such a file: truncated, words for numbers, a wrong count, pickled objects, not a square matrix.
      OSError: it cannot be read.
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


def _numeric(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _lolib(path: Path, content: bytes) -> WeightFile:
    lines = _text(path, content).splitlines()
    while lines and not all(map(_numeric, lines[0].split())):
        lines.pop(0)
    words = " ".join(lines).split()
    if not words:
        raise _bad(path, "n and n² numbers (LOLIB text)", "no line of numbers", "other formats end in .csv or .npy")
    for place, word in enumerate(words):
        if not _numeric(word):
            raise _bad(path, "numbers", f"{word[:40]!r} as number {place + 1}")
    n = float(words[0])
    if n != int(n if np.isfinite(n) else -1) or n < 1:
        raise _bad(path, "a size n >= 1 first (LOLIB text)", words[0], "other formats end in .csv or .npy")
    if len(words) - 1 != int(n) ** 2:
        raise _bad(path, f"{int(n)}² = {int(n) ** 2} numbers after the size {int(n)}", f"{len(words) - 1} numbers")
    return WeightFile(np.array(words[1:], np.float64).reshape(int(n), int(n)))


def _csv(path: Path, content: bytes) -> WeightFile:
    rows = [row for row in csv.reader(io.StringIO(_text(path, content))) if any(cell.strip() for cell in row)]
    if not rows:
        raise _bad(path, "rows of numbers", "none")
    # A first row with words is a header, unless the only word may be its own name and the rows are as many as numbers.
    lone = all(_numeric(cell) for cell in rows[0][1:]) and len(rows) == len(rows[0]) - 1
    header = not lone and not all(_numeric(cell) for cell in rows[0])
    body = rows[1:] if header else rows
    named = bool(body) and not all(_numeric(row[0]) for row in body)
    # Names that are numbers: one column more than rows says that the first one is of names.
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
