"""Reads a table from a user's text file, with architectures and columns of metrics."""

from __future__ import annotations

import dataclasses
import math
import os
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.architecture_columns import ArchitectureColumns
from ncp_jax.benchmarks.arrays import TableArrays, as_space, check_arrays
from ncp_jax.benchmarks.sheet import Sheet, make_sheet, read_content
from ncp_jax.benchmarks.sources import sha256
from ncp_jax.console import say
from ncp_jax.files import user_path
from ncp_jax.metrics import MetricSpec
from ncp_jax.spaces import Space
from ncp_jax.text_tables import decimal_sign, note, number, read_text_table

SEEDS = ("refuse", "mean", "each")
PLACES = {"rank": {"rank", "string", "code"}, "query": {"query", "architecture", "value"}}
"""Columns that number the rows and measure nothing, in files of this library that have these columns."""

Notify = Callable[[str], None]


def read_csv(
    path: str | os.PathLike[str],
    *,
    space: str | os.PathLike[str] | Space,
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
    content = read_content(path)
    table = read_text_table(path, content)
    sheet = make_sheet(path, table)
    columns = ArchitectureColumns.find(sheet, space, architecture, notation, {*maximize, *minimize})
    names = _choose_columns(sheet, columns.names, maximize, minimize)
    codes, values, more = _rows(columns, names, seeds, blanks)
    if told := note(path, table.recognised(*sheet.facts, *columns.facts, *more)):
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


def _choose_columns(
    sheet: Sheet, architectures: Sequence[str], maximize: Sequence[str], minimize: Sequence[str]
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


def _predicted(sheet: Sheet, names: Sequence[str]) -> list[str]:
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


def _rows(
    columns: ArchitectureColumns, names: Sequence[str], seeds: str, blanks: bool
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Returns codes, values and what was recognised; lines of one architecture are merged by the rule ``seeds``."""
    sheet = columns.sheet
    metrics = {name: sheet.header.index(name) for name in names}
    seeded = [place for place, name in enumerate(sheet.header) if name.lower() == "seed" and name not in names]
    numbers_at = [*metrics.values(), *columns.numbers_at]
    decimal = decimal_sign(sheet.path, sheet.separator, (row[p] for _, row in sheet.rows for p in numbers_at))
    found: dict[bytes, dict[str, tuple[int, list[float]]]] = {}
    codes = {}
    for line, cells in sheet.rows:
        code = columns.code(line, cells, decimal)
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


def _number(sheet: Sheet, line: int, name: str, text: str, decimal: str) -> float:
    found = number(text, decimal)
    if found is None or not math.isfinite(found):
        sign = " (with decimal commas, as in other rows)" if decimal == "," else ""
        expected = f"a finite number{sign} in line {line}, column {name!r}"
        raise sheet.bad(expected, repr(text), "correct it or drop the row")
    return found
