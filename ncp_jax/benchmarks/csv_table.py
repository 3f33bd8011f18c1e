"""Reads a table from a user's text file, with architectures and columns of metrics."""

from __future__ import annotations

import collections
import dataclasses
import fnmatch
import math
import os
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.arrays import TableArrays, as_space, check_arrays
from ncp_jax.benchmarks.position_columns import (
    PositionCells,
    find_position_columns,
    ignored_columns,
    refuse_missing,
)
from ncp_jax.benchmarks.sources import sha256
from ncp_jax.console import say
from ncp_jax.files import user_path
from ncp_jax.metrics import MetricSpec
from ncp_jax.spaces import Space
from ncp_jax.spaces.cells import CellSpace
from ncp_jax.spaces.notation import OPS_NOTATION, OWN_NOTATION
from ncp_jax.text_tables import TextTable, decimal_sign, note, number, read_text_table

SEEDS = ("refuse", "mean", "each")
ARCHITECTURES = ("architecture", "arch", "arch_str", "string")
"""Names of the column of architectures, which need not come first."""
UNNAMED = ("", "unnamed: 0")
"""Names of an index column, as pandas writes it and reads it again."""
PLACES = {"rank": {"rank", "string", "code"}, "query": {"query", "architecture", "value"}}
"""Columns that number the rows and measure nothing, in files of this library that have these columns."""

_WHOLE = re.compile(r"([0-9]+)(?:\.0*)?")  # "3.0" is what libraries make of 3 in a column with gaps
_COUNTED = re.compile(r"(.*?)(?<![0-9])([0-9]{1,9})\D?")

Notify = Callable[[str], None]


def read_csv(
    path: str | os.PathLike[str],
    *,
    space: str | Space,
    maximize: Sequence[str] = (),
    minimize: Sequence[str] = (),
    architecture: str | Sequence[str] | None = None,
    seeds: str = "refuse",
    notation: str | None = None,
    notify: Notify = say,
    blanks: bool = False,
) -> TableArrays:
    """Reads a text table; see ``Table.from_csv`` for arguments, format and errors.

    With ``blanks``, empty cells of metrics are NaN: not measured yet.
    """
    path = user_path(path)
    space = as_space(space)
    seeds = checks.choose("rule for seeds", seeds, SEEDS)
    if notation is not None:
        notation = checks.choose(f"notation of {space.name}", notation, space.notations)
    content = _content(path)
    table = read_text_table(path, content)
    sheet = _sheet(path, table)
    columns, facts = _architecture_columns(sheet, space, architecture, notation, {*maximize, *minimize})
    _refuse_headless(sheet, columns, space, notation)
    names = _choose_columns(sheet, columns, maximize, minimize)
    codes, values, more = _rows(sheet, columns, names, space, seeds, notation, blanks)
    if told := note(path, table.recognised(*sheet.facts, *facts, *more)):
        notify(told)
    if len(codes) < 2:
        raise sheet.bad("two architectures or more", str(len(codes)), "add rows: there is nothing to compare")
    for name, column in zip(names, values.T, strict=True):
        if np.all(column == column[0]):
            got = f"{column[0]:g} in every row of column {name!r}"
            raise sheet.bad("a metric that varies", got, "leave the column out: nothing can be learned from it")
    predicted = _predicted(sheet, names)
    if predicted:
        listed = ", ".join(map(repr, predicted))
        notify(f'{path}: predictions of a search, not measurements (split "predicted"): {listed}')
    missing = np.isnan(values)
    arrays = check_arrays(
        path.stem,
        space=space,
        codes=codes,
        values=np.where(missing, 0.0, values),
        metrics=_metrics(names, maximize, predicted),
        hashes=((path.name, sha256(content)),),
        repeats=seeds == "each" or blanks,  # merged above
    )
    return arrays if not blanks else dataclasses.replace(arrays, values=np.where(missing, np.nan, arrays.values))


@dataclasses.dataclass(frozen=True)
class _Sheet:
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
        return checks.DataError(expected=f"{expected} in {self.path}", got=got, remedy=remedy)

    def column(self, name: str, options: Sequence[str]) -> str:
        """Returns the column of that name. Exact names come first, since two names may differ only in case."""
        return name if name in options else checks.choose(f"column of {self.path}", name, options)

    def cells(self, name: str) -> list[str]:
        place = self.header.index(name)
        return [cells[place] for _, cells in self.rows]


def _content(path: Path) -> bytes:
    if path.is_dir() or not path.exists():
        raise checks.MissingError(
            expected=f"a CSV file at {path}",
            got="a folder" if path.is_dir() else "no such file",
            remedy="correct the path",
        )
    return path.read_bytes()


def _sheet(path: Path, table: TextTable) -> _Sheet:
    """Returns the header and the rows, after checking their lengths."""
    if not table.rows:
        got = "an empty file" if not table.comments else 'only lines that begin with "#"'
        raise checks.DataError(
            expected=f"a header and rows in {path}", got=got, remedy="write a header line and one line per architecture"
        )
    header, body = table.rows[0], tuple(zip(table.lines[1:], table.rows[1:], strict=True))
    index = int(bool(body) and header[0].lower() in UNNAMED and all(_WHOLE.fullmatch(row[0]) for _, row in body if row))
    facts = ("index column ignored",) if index else ()
    sheet = _Sheet(path, header, body, table.separator, index, facts)
    repeated = sorted(name for name, count in collections.Counter(header).items() if count > 1)
    if repeated:
        raise sheet.bad("column names that differ", f"{repeated[0]!r} more than once", "rename one of them")
    for line, cells in body:
        if len(cells) != len(header):
            got = f"{len(cells)} in line {line}"
            remedy = 'correct that line; architectures with commas need quotes: "1, 2, 3"'
            raise sheet.bad(f"{len(header)} cells per line", got, remedy)
    return sheet


def _architecture_columns(
    sheet: _Sheet, space: Space, given: str | Sequence[str] | None, notation: str | None, metrics: set[str]
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


def _index_column(sheet: _Sheet, options: Sequence[str], space: Space, metrics: set[str]) -> str:
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


def _matching(sheet: _Sheet, pattern: str) -> list[str]:
    """Returns the columns that a name or a pattern with * and ? means; those of a pattern by their numbers."""
    if pattern not in sheet.header and re.search(r"[*?]", pattern):
        found = fnmatch.filter(sheet.header, pattern)
        if found:
            return sorted(found, key=lambda name: [int(part[:9]) for part in re.findall(r"[0-9]+", name)])
    return [sheet.column(pattern, sheet.header)]


def _operations(space: Space) -> set[str]:
    """Returns the names that may stand in a position of a code in the notation of operations."""
    return {*space.ops} if isinstance(space, CellSpace) else set()


def _position_columns(sheet: _Sheet, options: Sequence[str], space: Space) -> tuple[str, ...]:
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
        if all(not cell or cell in ops or _WHOLE.fullmatch(cell) for name in names for cell in sheet.cells(name)):
            return tuple(names)
    return ()


def _choose_columns(
    sheet: _Sheet, architectures: Sequence[str], maximize: Sequence[str], minimize: Sequence[str]
) -> list[str]:
    """Returns the metric columns, those to maximize first."""
    if isinstance(maximize, str) or isinstance(minimize, str):
        got = repr(maximize if isinstance(maximize, str) else minimize)
        raise checks.UsageError(expected="a list of column names", got=got, remedy=f"write [{got}]")
    metrics = [name for name in sheet.header[sheet.index :] if name not in architectures]
    if not maximize and not minimize:
        raise checks.UsageError(
            expected="the direction of at least one metric column",
            got=f"none; {sheet.path} has {', '.join(metrics) or 'no metric column'}",
            remedy="name each metric with maximize= or minimize= (--maximize, --minimize)",
        )
    names = [sheet.column(name, metrics) for name in (*maximize, *minimize)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise checks.UsageError(
            expected="each column named once", got=f"{repeated[0]!r} twice", remedy="keep one direction"
        )
    for name in names:
        if PLACES.get(name, {""}) <= set(sheet.header) and name in PLACES:
            raise checks.UsageError(
                expected="columns of measurements",
                got=f"{name!r}, which numbers the rows of {sheet.path}",
                remedy="name another column, or rename this one",
            )
    return names


def _predicted(sheet: _Sheet, names: Sequence[str]) -> list[str]:
    """Returns the columns that hold predictions: METRIC beside METRIC_spread, and the score that comes with them."""
    spreads = {name.removesuffix("_spread") for name in sheet.header if name.endswith("_spread")} & {*sheet.header}
    known = spreads | {f"{name}_spread" for name in spreads} | ({"score"} if spreads else set())
    return [name for name in names if name in known]


def _metrics(names: Sequence[str], maximize: Sequence[str], predicted: Iterable[str]) -> list[MetricSpec]:
    """Returns the specifications of the columns. They have no task: the name of a file says nothing about its network.

    Columns to maximize are quality metrics. Columns to minimize are costs or, with none to maximize, quality metrics
    (losses).
    """
    count = len(maximize)
    kinds = ["quality"] * count + ["cost" if count else "quality"] * (len(names) - count)
    return [
        MetricSpec(
            name,
            split="predicted" if name in predicted else "",
            direction="maximize" if place < count else "minimize",
            kind=kind,
        )
        for place, (name, kind) in enumerate(zip(names, kinds, strict=True))
    ]


def _refuse_headless(sheet: _Sheet, columns: Sequence[str], space: Space, notation: str | None) -> None:
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
    found = _WHOLE.fullmatch(text)
    return found[1] if found else text


def _code(sheet: _Sheet, line: int, texts: Sequence[str], space: Space, notation: str | None) -> np.ndarray:
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


def _rows(
    sheet: _Sheet,
    columns: Sequence[str],
    names: Sequence[str],
    space: Space,
    seeds: str,
    notation: str | None,
    blanks: bool,
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns codes, values and what was recognised; lines of one architecture are merged by the rule ``seeds``."""
    places = [sheet.header.index(name) for name in columns]
    metrics = {name: sheet.header.index(name) for name in names}
    seeded = [place for place, name in enumerate(sheet.header) if name.lower() == "seed" and name not in names]
    described = PositionCells.of(str(sheet.path), columns, space)
    numbers_at = [*metrics.values(), *(sheet.header.index(name) for name in (described.ordered if described else ()))]
    decimal = decimal_sign(sheet.path, sheet.separator, (row[p] for _, row in sheet.rows for p in numbers_at))
    found: dict[bytes, dict[str, tuple[int, list[float]]]] = {}
    codes = {}
    for line, cells in sheet.rows:
        texts = [cells[place] for place in places]
        code = described.code(line, texts, decimal) if described else _code(sheet, line, texts, space, notation)
        numbers = [
            math.nan if blanks and not cells[place] else _number(sheet, line, name, cells[place], decimal)
            for name, place in metrics.items()
        ]
        key = code.tobytes()
        codes[key] = code
        lines = found.setdefault(key, {})
        # Without a column of seeds, "refuse" knows one measurement per architecture, and the others one per line.
        seed = cells[seeded[0]] if seeded and seeds != "refuse" else "" if seeds == "refuse" else str(line)
        same = lines.setdefault(seed, (line, numbers))
        if same[1] != numbers:
            got = f"other values in line {line} for the architecture of line {same[0]}"
            remedy = "keep one of the two; or --seeds mean for their mean, --seeds each for both (seeds=)"
            what = "one set of values per architecture" if seeds == "refuse" else "one set of values per seed"
            raise sheet.bad(what, got, remedy)
    facts = ["decimal commas"] if decimal == "," else []
    repeated = sum(len(lines) > 1 for lines in found.values())
    if repeated:
        facts.append(f"{repeated} architecture{'s' * (repeated > 1)} with several seeds ({seeds})")
    return (*_merged(codes, found, seeds), facts)


def _merged(
    codes: Mapping[bytes, np.ndarray], found: Mapping[bytes, Mapping[str, tuple[int, list[float]]]], seeds: str
) -> tuple[np.ndarray, np.ndarray]:
    merged, values = [], []
    for key, lines in found.items():
        sets = [numbers for _, numbers in lines.values()]
        if seeds != "each" and len(sets) > 1:
            sets = [[statistics.mean(column) for column in zip(*sets, strict=True)]]  # exact, also near 1e308
        merged += [codes[key]] * len(sets)
        values += sets
    return np.array(merged), np.array(values, np.float64)


def _number(sheet: _Sheet, line: int, name: str, text: str, decimal: str) -> float:
    found = number(text, decimal)
    if found is None or not math.isfinite(found):
        sign = " (with decimal commas, as in other rows)" if decimal == "," else ""
        expected = f"a finite number{sign} in line {line}, column {name!r}"
        raise sheet.bad(expected, repr(text), "correct it or drop the row")
    return found
