"""Reads the header and the rows of a user's text table."""

from __future__ import annotations

import collections
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from ncp_jax import checks
from ncp_jax.text_tables import TextTable

UNNAMED = ("", "unnamed: 0")
"""Names of an index column, as pandas writes it and reads it again."""
WHOLE = re.compile(r"([0-9]+)(?:\.0*)?")  # "3.0" is what libraries make of 3 in a column with gaps


@dataclasses.dataclass(frozen=True)
class Sheet:
    """A text table with a header.

    Attributes:
      path: the file, for errors.
      header: names of the columns.
      rows: the line on which each row ends, and its cells.
      separator: the character between cells.
      index: number of index columns at the left, 0 or 1.
      facts: what was recognised here.
    """

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, tuple[str, ...]], ...]
    separator: str
    index: int
    facts: tuple[str, ...]

    def bad(self, expected: str, got: str, remedy: str) -> checks.DataError:
        """Returns the error for a part of the table."""
        return checks.DataError(expected=f"{expected} in {self.path}", got=got, remedy=remedy)

    def column(self, name: str, options: Sequence[str]) -> str:
        """Returns the column of that name. Exact names come first, since two names may differ only in case."""
        return name if name in options else checks.choose(f"column of {self.path}", name, options)

    def cells(self, name: str) -> list[str]:
        """Returns the cells of a column."""
        place = self.header.index(name)
        return [cells[place] for _, cells in self.rows]


def read_content(path: Path) -> bytes:
    """Returns the bytes of a file; MissingError if there is none."""
    if path.is_dir() or not path.exists():
        raise checks.MissingError(
            expected=f"a CSV file at {path}",
            got="a folder" if path.is_dir() else "no such file",
            remedy="correct the path",
        )
    return path.read_bytes()


def make_sheet(path: Path, table: TextTable) -> Sheet:
    """Returns the header and the rows, after checking their lengths."""
    if not table.rows:
        got = "an empty file" if not table.comments else 'only lines that begin with "#"'
        raise checks.DataError(
            expected=f"a header and rows in {path}", got=got, remedy="write a header line and one line per architecture"
        )
    header, body = table.rows[0], tuple(zip(table.lines[1:], table.rows[1:], strict=True))
    index = int(bool(body) and header[0].lower() in UNNAMED and all(WHOLE.fullmatch(row[0]) for _, row in body if row))
    facts = ("index column ignored",) if index else ()
    sheet = Sheet(path, header, body, table.separator, index, facts)
    repeated = sorted(name for name, count in collections.Counter(header).items() if count > 1)
    if repeated:
        raise sheet.bad("column names that differ", f"{repeated[0]!r} more than once", "rename one of them")
    for line, cells in body:
        if len(cells) != len(header):
            got = f"{len(cells)} in line {line}"
            remedy = 'correct that line; architectures with commas need quotes: "1, 2, 3"'
            raise sheet.bad(f"{len(header)} cells per line", got, remedy)
    return sheet
