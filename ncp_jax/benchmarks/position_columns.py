"""Reads architectures of described spaces from tables with one column for each position."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces import DescribedSpace, Space

BLANK = ("", "nan", "na", "n/a", "none", "null")
"""What stands in the cells of dead positions, in lower case; a choice of that name is read as such."""
_WITH_UNIT = re.compile(r"(.*\S)\s*[(\[]\s*(.*?)\s*[)\]]")


def find_position_columns(source: str, header: Sequence[str], space: Space) -> dict[str, str]:
    """Returns the column of each position of a described space, by its name; {} for other spaces.

    A column is called as its position (case does not matter), maybe with the unit behind it: "width (px)". Positions
    without a column are left out.

    Args:
      source: path of the file, for errors.
      header: names of the columns.
      space: the space.

    Raises:
      DataError: a column states another unit than its position, or two columns are of one position.
    """
    found: dict[str, str] = {}
    if not isinstance(space, DescribedSpace):
        return found
    for position in space.positions:
        exact = [column for column in header if column == position.name]
        same = [column for column in header if column.lower() == position.name.lower()]
        with_unit = [
            (column, parts[2])
            for column in header
            if (parts := _WITH_UNIT.fullmatch(column)) and parts[1].lower() == position.name.lower()
        ]
        columns = exact or same or [column for column, _ in with_unit]
        if len(columns) > 1:
            raise checks.DataError(
                expected=f"one column of the position {position.name} in {source}",
                got=" and ".join(map(repr, columns)),
                remedy="rename or drop one",
            )
        if columns:
            found[position.name] = columns[0]
        for column, unit in with_unit:
            if columns == [column] and unit != position.unit:
                raise checks.DataError(
                    expected=f"{position.name} in {position.unit or 'no unit'} in {source}, as in {space.name}",
                    got=f"the column {column!r}",
                    remedy="convert the column and rename it, or change the unit in the description",
                )
    return found


def refuse_missing(source: str, found: Mapping[str, str], header: Sequence[str], space: Space) -> None:
    """Raises DataError if some positions have columns and others none; the text has the columns that are left."""
    missing = [name for name in space.position_names if name not in found]
    if found and missing:
        left = [column for column in header if column not in found.values()]
        raise checks.DataError(
            expected=f"a column for each position of {space.name} in {source}",
            got=f"none for {', '.join(missing)}; other columns: {', '.join(map(repr, left[:20])) or 'none'}",
            remedy="add or rename the columns; cells of positions that do not count may be blank",
        )


def ignored_columns(header: Sequence[str], used: set[str]) -> tuple[str, ...]:
    """Returns what to tell about columns that are neither positions nor metrics; () where there are none."""
    left = [column for column in header if column not in used and column.lower() != "seed"]
    more = f" and {len(left) - 5} more" if len(left) > 5 else ""
    return (f"ignored columns {', '.join(map(repr, left[:5]))}{more}",) if left else ()


@dataclasses.dataclass(frozen=True)
class PositionCells:
    """The columns of a table that hold one position each.

    Attributes:
      source: path of the file, for errors.
      columns: the column of each position, in the order of the code.
      space: the space.
    """

    source: str
    columns: tuple[str, ...]
    space: DescribedSpace

    @classmethod
    def of(cls, source: str, columns: Sequence[str], space: Space) -> PositionCells | None:
        """Returns the columns, or None where the space or the columns are of another kind."""
        if not isinstance(space, DescribedSpace) or len(columns) != space.length:
            return None
        named = find_position_columns(source, columns, space)
        if len(columns) == 1 and not named:
            return None  # architecture strings of a single position
        ordered = [named[name] for name in space.position_names] if len(named) == space.length else columns
        return cls(source, tuple(ordered), space) if [*ordered] == [*columns] else None

    @property
    def ordered(self) -> tuple[str, ...]:
        """The columns that hold numbers."""
        pairs = zip(self.columns, self.space.positions, strict=True)
        return tuple(column for column, position in pairs if position.ordered)

    def code(self, line: int, cells: Sequence[str], decimal: str = ".") -> np.ndarray:
        """Returns the code, int32 [d], of one line of the table, in canonical form.

        Args:
          line: number of the line, for errors.
          cells: the cells of ``columns``. Those of dead positions may be blank.
          decimal: decimal sign of the numbers, "." or ",".

        Raises:
          DataError: a cell that holds no value of its position (the text has line, column, value and the nearest legal
            value), a blank one of a live position, or a combination that the space forbids.
        """
        given = dict(zip(self.space.position_names, zip(self.columns, cells, strict=True), strict=True))
        written = {}
        for position in self.space.positions:
            cell = given[position.name][1]
            if position.ordered and decimal == ",":
                cell = cell.replace(",", ".", 1)
            blank = cell.lower() in BLANK and position.digit_of(cell) is None
            written[position.name] = "" if blank else cell

        def wrong(name: str, why: str) -> Exception:
            column, cell = given[name]
            return checks.DataError(
                expected=f"a value of {name} in {self.source}, line {line}, column {column!r}",
                got=checks.shorten(repr(cell)),
                remedy=why or "fill it in: the position counts here",
            )

        code = self.space.code_of(written, wrong)
        try:
            return self.space.check(code)[0]
        except checks.UsageError as error:
            nearest = self.space.to_string(np.asarray(self.space.project(self.space.encode(jnp.asarray(code)))))
            raise checks.DataError(f"{self.source}, line {line}: {error}; nearest legal: {nearest}") from None
