"""Reads lists of edges, winner, loser, weight, into a weight matrix."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ncp_jax import checks
from ncp_jax.text_tables import TextTable, decimal_sign, number

EDGES_REMEDY = "check the file; give --edges (edges=True) if its columns are winner, loser, weight"
MOST_ELEMENTS = 5000
"""Elements up to which any list of edges is read; their matrix has 8 n² bytes, 200 MB, and the solver copies it."""
MOST_FILL = 1000
"""Maximum number of entries of the matrix per edge in a list of more elements, so that a short file stays cheap."""
_WINNERS = ("winner", "from", "source", "before", "first", "better")
_LOSERS = ("loser", "to", "target", "after", "second", "worse")
_WEIGHTS = ("weight", "count", "wins", "value", "w")


def could_be_edges(cells: Sequence[Sequence[str]], header: Sequence[str], *, labelled: bool) -> bool:
    """Whether the cells of a 3 × 3 matrix could as well be three edges between numbered elements.

    Args:
      cells: cells of the matrix, without names.
      header: the first row, if it has names.
      labelled: whether the rows have names of their own.
    """
    if len(cells) != 3 or labelled:
        return False
    lower = [name.lower() for name in header]
    if any(name in lower for name in _WINNERS) and any(name in lower for name in _LOSERS):
        return True
    numbered = all(cell.isascii() and cell.isdigit() for row in cells for cell in row[:2])
    if not numbered or any(int(row[0]) == int(row[1]) for row in cells):
        return False
    # An edge of weight 0 says nothing, while a diagonal is 0 as a rule.
    return any(number(row[place]) != 0 for place, row in enumerate(cells))


def read_edges(table: TextTable) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...]]:
    """Reads a table of edges.

    With a header that names winner and loser (or from and to, source and target, …), columns are found by name, else
    they are winner, loser and weight in this order. The weights of a repeated edge are added.

    Returns:
      weights ``[n, n]``, the names in the order in which they first occur, and what was recognised.

    Raises:
      DataError: not three columns, a weight that is not a number, an element without a name, or more than
        ``MOST_ELEMENTS`` elements with fewer than n / 1000 edges each.
    """
    rows, lines, facts = table.rows, table.lines, []
    if not rows:
        raise _bad(table, "winner, loser and weight", "no row", "write one line per edge")
    width = len(rows[0])
    for line, row in zip(lines, rows, strict=True):
        if len(row) != width:
            raise _bad(table, f"{width} cells in every row", f"{len(row)} in line {line}", "correct that line")
    places, header = _places(table)
    if header and width > 3 and rows[0][0].lower() in ("", "unnamed: 0"):
        facts.append("index column ignored")
    body = list(zip(lines, rows, strict=True))[header:]
    if not body:
        raise _bad(table, "winner, loser and weight", "a header alone", "write one line per edge")
    decimal = decimal_sign(table.source, table.separator, [row[places[2]] for _, row in body])
    numbers: dict[str, int] = {}
    edges: dict[tuple[int, int], float] = {}
    repeated = 0
    for line, row in body:
        pair = tuple(row[place] for place in places[:2])
        weight = number(row[places[2]], decimal)
        if weight is None or not np.isfinite(weight) or not all(pair):
            got = f"{', '.join(map(repr, row))} in line {line}"
            raise _bad(table, "two names and a finite weight", got, "correct that line")
        winner, loser = (numbers.setdefault(name, len(numbers)) for name in pair)
        repeated += (winner, loser) in edges
        edges[winner, loser] = edges.get((winner, loser), 0.0) + weight
    if len(numbers) > MOST_ELEMENTS and len(numbers) ** 2 > MOST_FILL * len(edges):
        got = f"{len(edges)} between {len(numbers)}, whose matrix takes {8e-9 * len(numbers) ** 2:.1f} GB"
        expected = f"edges between at most {MOST_ELEMENTS} elements, or an edge for every {MOST_FILL} pairs"
        raise _bad(table, expected, got, "order a part of them")
    weights = np.zeros((len(numbers), len(numbers)))
    for (winner, loser), weight in edges.items():
        weights[winner, loser] = weight
    facts += ["decimal commas"] if decimal == "," else []
    named = [rows[0][place] for place in places] if header else ["winner", "loser", "weight"]
    facts.append(f"{len(edges)} edges ({', '.join(named)})")
    facts += [f"{repeated} repeated edges added"] if repeated else []
    return weights, tuple(numbers), table.recognised(*facts)


def _places(table: TextTable) -> tuple[tuple[int, int, int], bool]:
    """Returns the columns of winner, loser and weight, and whether the first row is a header."""
    first = table.rows[0]
    lower = [cell.lower() for cell in first]
    winners, losers, weights = (
        [place for place, name in enumerate(lower) if name in known] for known in (_WINNERS, _LOSERS, _WEIGHTS)
    )
    start = int(len(first) == 4 and lower[0] in ("", "unnamed: 0"))
    if len(winners) == len(losers) == 1:
        rest = [place for place in range(start, len(first)) if place not in (winners[0], losers[0])]
        weights = rest if len(rest) == 1 else weights
        if len(weights) == 1:
            return (winners[0], losers[0], weights[0]), True
    elif len(first) - start == 3:
        header = _no_number(first[-1])
        if not header or not (winners or losers):
            return (start, start + 1, start + 2), header
    raise _bad(
        table,
        "the three columns winner, loser, weight",
        ", ".join(map(repr, first)),
        "remove the others, or name them winner, loser and weight",
    )


def _no_number(cell: str) -> bool:
    return number(cell) is None and number(cell, ",") is None


def _bad(table: TextTable, expected: str, got: str, remedy: str) -> checks.DataError:
    return checks.DataError(expected=f"{expected} in {table.source}", got=got, remedy=remedy)
