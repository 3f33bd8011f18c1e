"""Finds the columns of a text table that hold architectures, and reads codes from them."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import re
from collections.abc import Sequence

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.position_columns import (
    PositionCells,
    find_position_columns,
    ignored_columns,
    refuse_missing,
)
from ncp_jax.benchmarks.sheet import WHOLE, Sheet
from ncp_jax.spaces import Space
from ncp_jax.spaces.cells import CellSpace
from ncp_jax.spaces.notation import OPS_NOTATION, OWN_NOTATION

ARCHITECTURES = ("architecture", "arch", "arch_str", "string")
"""Names of the column of architectures, which need not come first."""

_COUNTED = re.compile(r"(.*?)(?<![0-9])([0-9]{1,9})\D?")


@dataclasses.dataclass(frozen=True)
class ArchitectureColumns:
    """The columns of a table that hold architectures: one, or one for each position of the code.

    Attributes:
      sheet: the table.
      names: the columns.
      space: space of the architectures.
      notation: how they are written; None for the space's own forms.
      described: reader of the positions of a described space; None where the columns are of another kind.
      facts: what was recognised, for the notice of the file.
    """

    sheet: Sheet
    names: tuple[str, ...]
    space: Space
    notation: str | None
    described: PositionCells | None
    facts: tuple[str, ...]

    @classmethod
    def find(
        cls, sheet: Sheet, space: Space, given: str | Sequence[str] | None, notation: str | None, metrics: set[str]
    ) -> ArchitectureColumns:
        """Returns the columns that were given by name, or those that hold architectures.

        Raises:
          UsageError: the names given are no columns, or too many or too few.
          DataError: no column holds architectures, or the table has no header.
        """
        names, facts = _find(sheet, space, given, notation, metrics)
        _refuse_headless(sheet, names, space, notation)
        return cls(sheet, names, space, notation, PositionCells.of(str(sheet.path), names, space), facts)

    @functools.cached_property
    def places(self) -> tuple[int, ...]:
        """Places of the columns."""
        return tuple(self.sheet.header.index(name) for name in self.names)

    @property
    def numbers_at(self) -> tuple[int, ...]:
        """Places of the columns whose cells are numbers, which may have a decimal sign."""
        return tuple(self.sheet.header.index(name) for name in self.described.ordered) if self.described else ()

    def code(self, line: int, row: Sequence[str], decimal: str = ".") -> np.ndarray:
        """Returns the code of a row, int32 [d].

        Args:
          line: number of the line, for errors.
          row: all cells of the row.
          decimal: decimal sign of numbers.

        Raises:
          DataError: the cells denote no architecture of the space.
        """
        texts = [row[place] for place in self.places]
        if self.described:
            return self.described.code(line, texts, decimal)
        return _code(self.sheet, line, texts, self.space, self.notation)


def _find(
    sheet: Sheet, space: Space, given: str | Sequence[str] | None, notation: str | None, metrics: set[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the column of the architectures, or one for each position of the code, and what was recognised.

    Without names, it is the column with one of the names ``ARCHITECTURES``; else the first column, if it holds an
    architecture; else columns that are called as the space's positions, or by one word and the numbers of the
    positions (x0, x1, …). In the notation "nats-index" it is the one column that holds nothing else.
    """
    if given:
        names = [given] if isinstance(given, str) else list(given)
        chosen = tuple(dict.fromkeys(name for pattern in names for name in _matching(sheet, pattern)))
        if len(chosen) not in (1, *space.written_lengths):
            raise checks.UsageError(
                expected=f"one column of architectures, or {space.length} of the positions of {space.name}",
                got=f"{len(chosen)}: {', '.join(chosen)}",
                remedy="name each position's column, in their order",
            )
        return chosen, ()
    options = sheet.header[sheet.index :]
    lower = [name.lower() for name in options]
    found = find_position_columns(str(sheet.path), options, space)
    if len(found) == space.length:
        return tuple(found.values()), ignored_columns(options, {*found.values(), *metrics})
    known = next((options[lower.index(name)] for name in ARCHITECTURES if name in lower), None)
    if known is not None:
        return (known,), ()
    if notation == "nats-index":
        return (_index_column(sheet, options, space, metrics),), ()
    first = options[0] if options else sheet.header[0]
    if not (sheet.rows and _is_architecture(sheet.cells(first)[0], space, notation)):
        refuse_missing(str(sheet.path), found, options, space)
        positions = _position_columns(sheet, options, space)
        if positions:
            return positions, (f"code in the columns {positions[0]} … {positions[-1]}",)
        cells = sheet.rows[0][1][sheet.index :] if sheet.rows else ()
        pairs = zip(options, cells, strict=False)
        other = next((name for name, cell in pairs if _is_architecture(cell, space, notation)), "")
        if other:
            got = f"{sheet.cells(first)[0]!r} in line {sheet.rows[0][0]}"
            remedy = f"give --architecture {other} (architecture={other!r})"
            raise sheet.bad(f"architectures in the column {first!r}", got, remedy)
    return (first,), ()


def _index_column(sheet: Sheet, options: Sequence[str], space: Space, metrics: set[str]) -> str:
    """Returns the one column that can hold indices of architectures; other columns of integers look alike."""
    found = [
        name
        for place, name in enumerate(options, sheet.index)
        if name.lower() != "seed"
        and name not in metrics
        and all(_is_architecture(cells[place], space, "nats-index") for _, cells in sheet.rows)
    ]
    if len(found) != 1:
        listed = ", ".join(map(repr, found)) or "none with a name"
        raise sheet.bad("one column of indices of NATS-Bench", listed, "give --architecture NAME (architecture=)")
    return found[0]


def _matching(sheet: Sheet, pattern: str) -> list[str]:
    """Returns the columns that a name or a pattern with * and ? means; those of a pattern by their numbers."""
    if pattern not in sheet.header and re.search(r"[*?]", pattern):
        found = fnmatch.filter(sheet.header, pattern)
        if found:
            return sorted(found, key=lambda name: [int(part[:9]) for part in re.findall(r"[0-9]+", name)])
    return [sheet.column(pattern, sheet.header)]


def _operations(space: Space) -> set[str]:
    """Returns the names that may stand in a position of a code in the notation of operations."""
    return {*space.ops} if isinstance(space, CellSpace) else set()


def _position_columns(sheet: Sheet, options: Sequence[str], space: Space) -> tuple[str, ...]:
    """Returns the columns that hold one position of the code each, in the order of the positions; () if none do."""
    groups: dict[str, dict[int, str]] = {}
    ops = _operations(space)
    for name in options:
        if counted := _COUNTED.fullmatch(name):
            groups.setdefault(counted[1], {})[int(counted[2])] = name
    ordered = [
        [group[place] for place in sorted(group)]
        for group in groups.values()
        if len(group) in space.written_lengths and sorted(group) in ([*range(len(group))], [*range(1, len(group) + 1)])
    ]
    if set(space.position_names) <= set(options):
        ordered.insert(0, list(space.position_names))
    for names in ordered:
        if all(not cell or cell in ops or WHOLE.fullmatch(cell) for name in names for cell in sheet.cells(name)):
            return tuple(names)
    return ()


def _refuse_headless(sheet: Sheet, columns: Sequence[str], space: Space, notation: str | None) -> None:
    """Raises DataError if the first line has an architecture where its column's name should be."""
    if len(columns) == 1 and _is_architecture(columns[0], space, notation):
        got = f"the architecture {columns[0]!r}"
        raise sheet.bad(
            "a header with column names", got, 'add a first line of names, without "#", which begins comments'
        )


def _is_architecture(text: str, space: Space, notation: str | None) -> bool:
    try:
        space.read(_whole(text), notation or OWN_NOTATION)
    except checks.UsageError:
        return False
    return True


def _whole(text: str) -> str:
    """Returns an integer without a decimal fraction of zeros; another text as it is."""
    found = WHOLE.fullmatch(text)
    return found[1] if found else text


def _code(sheet: Sheet, line: int, texts: Sequence[str], space: Space, notation: str | None) -> np.ndarray:
    """Returns the code in one cell, or in one cell per position (blank at the end where a module is absent)."""
    try:
        parts = [_whole(text) for text in texts]
        if len(parts) == 1:
            return space.read(parts[0], notation)
        while parts and not parts[-1]:
            parts.pop()
        named = bool(parts) and set(parts) <= _operations(space)
        if not named and (wrong := [part for part in parts if not part.isdecimal()]):
            kind = "an integer or an operation" if _operations(space) else "an integer"
            raise checks.UsageError(expected=f"{kind} in each position", got=repr(wrong[0]), remedy="correct it")
        if notation is None and set(sheet.header) >= set(space.position_names):
            # Columns with the names of this library's positions.
            notation = OPS_NOTATION if named else OWN_NOTATION
        return space.read(", ".join(parts), notation)
    except checks.UsageError as error:
        raise checks.DataError(f"{sheet.path}, line {line}: {error}") from error
