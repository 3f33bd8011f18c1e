"""The searches that ask one architecture at a time, as plain Python: one run, dictionaries, no arrays.

The compiled searchers must find what these find, in distribution, and find it faster: these are the reference of the
tests and the rival that the speed is measured against. So they are written to be read, but not to be slow: everything
that is the same for all runs is prepared in a ``PlainTable``, and loops draw with ``random()`` alone.
"""

from __future__ import annotations

import operator
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.view import REPEATS
from ncp_jax.searchers.base import make
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.evolution import Evolution
from ncp_jax.searchers.local_search import LocalSearch
from ncp_jax.searchers.random_search import DRAWN, RandomSearch
from ncp_jax.searchers.run import PATIENCE
from ncp_jax.spaces import get_space

Code = tuple[int, ...]
Query = Callable[[Code], float]


class PlainTable(NamedTuple):
    """One metric of a table as dictionaries; made once for all runs.

    Attributes:
      codes: the architectures in the table's order.
      values: their values, oriented so that higher is better.
      neighbours: for each the architectures at one edit; where the table holds only a part of its space, the nearest
        (``Candidates``).
      networks: for each the first architecture of the same network.
    """

    codes: list[Code]
    values: dict[Code, float]
    neighbours: dict[Code, list[Code]]
    networks: dict[Code, Code]

    @staticmethod
    def of(table: Table, metric: str | None = None) -> PlainTable:
        """The dictionaries of one column, the main one if None."""
        space, rows = get_space(table.space), np.asarray(table.codes)
        codes = [tuple(row) for row in rows.tolist()]
        column = np.asarray(table.oriented(metric or table.main.name)).tolist()
        values = dict(zip(codes, column, strict=True))
        neighbours = {code: [edit for edit in _edits(code, space.values) if edit in values] for code in codes}
        if not all(neighbours.values()):
            nearest = np.asarray(Candidates.of(table).neighbours).tolist()
            neighbours = {code: [codes[row] for row in near] for code, near in zip(codes, nearest, strict=True)}
        first: dict[Code, Code] = {}
        canonical = map(tuple, np.asarray(space.canonical(table.codes)).tolist())
        networks = {code: first.setdefault(same, code) for code, same in zip(codes, canonical, strict=True)}
        return PlainTable(codes, values, neighbours, networks)


class PlainRun(NamedTuple):
    """What one run paid for, in the order of asking.

    Attributes:
      codes: the architectures.
      values: their values, oriented so that higher is better.
      asks: architectures asked for, free repeats included.
    """

    codes: list[Code]
    values: list[float]
    asks: int


def plain_search(
    name: str, table: PlainTable, *, budget: int, seed: int, repeats: str, settings: dict[str, Any]
) -> PlainRun:
    """One run of a search.

    Args:
      name: one of ``PLAIN``.
      table: what is searched.
      budget: queries to pay for.
      seed: of ``random.Random``.
      repeats: what a known architecture costs, one of ``REPEATS``: as for ``QueryView``.
      settings: those of the searcher of that name; the others are its defaults.

    Returns:
      The run; shorter than the budget where it asked for nothing but known architectures for too long (``PATIENCE``).

    Raises:
      UsageError: an unknown name, repeats or setting, or a setting that is not legal.
    """
    repeats = checks.choose("repeats", repeats, REPEATS)
    searcher, walk = PLAIN[checks.choose("searcher", name, PLAIN)]
    options = make(searcher, settings).settings()
    batch = DRAWN if searcher is RandomSearch else 1
    query, run = _account(table, budget, PATIENCE * -(-budget // batch) * batch, repeats)
    try:
        walk(table, query, random.Random(seed).random, **options)
    except _OverError:
        return run()
    raise AssertionError("a search goes on until its budget is spent")


def random_search(table: PlainTable, query: Query, draw: Callable[[], float]) -> None:
    """Uniform draws, independent of each other, without end."""
    codes, n = table.codes, len(table.codes)
    while True:
        query(codes[int(draw() * n)])


def evolution(table: PlainTable, query: Query, draw: Callable[[], float], *, population: int, tournament: int) -> None:
    """Regularised evolution: the best of a tournament has a child, which takes the oldest member's place."""
    codes, neighbours, n, value_of = table.codes, table.neighbours, len(table.codes), operator.itemgetter(0)
    members = []
    for _ in range(population):
        code = codes[int(draw() * n)]
        members.append((query(code), code))
    slots, oldest = range(tournament), 0
    while True:
        parent = max([members[int(draw() * population)] for _ in slots], key=value_of)
        near = neighbours[parent[1]]
        child = near[int(draw() * len(near))]
        members[oldest] = (query(child), child)
        oldest = (oldest + 1) % population


def local_search(table: PlainTable, query: Query, draw: Callable[[], float], *, move: str) -> None:
    """Hill climbing with restarts: to the first better neighbour in random order, or to the best of all."""
    codes, neighbours, n, first = table.codes, table.neighbours, len(table.codes), move == "first"
    while True:
        here = codes[int(draw() * n)]
        value, climbing = query(here), True
        while climbing:
            left, best, climbing = neighbours[here].copy(), value, False
            while left:
                # A random order, drawn only as far as it is looked at: the last one fills the gap.
                place = int(draw() * len(left))
                near = left[place]
                left[place] = left[-1]
                left.pop()
                found = query(near)
                if found > best:
                    here, best, climbing = near, found, True
                    if first:
                        break
            value = best


PLAIN: dict[str, tuple[Any, Callable[..., None]]] = {
    "random": (RandomSearch, random_search),
    "evolution": (Evolution, evolution),
    "local-search": (LocalSearch, local_search),
}


class _OverError(Exception):
    """The run has spent its budget or its patience."""


def _account(table: PlainTable, budget: int, most: int, repeats: str) -> tuple[Query, Callable[[], PlainRun]]:
    """A function that answers queries until the run is over, and one that returns what was paid for."""
    values, networks, asks = table.values, table.networks, 0
    paid: list[tuple[Code, float]] = []
    known: dict[Code, float] = {}

    def counted(code: Code) -> float:
        value = values[code]
        paid.append((code, value))
        if len(paid) == budget:
            raise _OverError
        return value

    def free(code: Code) -> float:
        nonlocal asks
        asks += 1
        network = networks[code] if merged else code
        value = known.get(network)
        if value is None:
            value = known[network] = values[code]
            paid.append((code, value))
            if len(paid) == budget:
                raise _OverError
        if asks == most:
            raise _OverError
        return value

    def run() -> PlainRun:
        codes, answers = [code for code, _ in paid], [value for _, value in paid]
        return PlainRun(codes, answers, asks or len(paid))

    merged = repeats == "free-isomorphs"
    return (counted if repeats == "counted" else free), run


def _edits(code: Code, values: tuple[tuple[int, ...], ...]) -> list[Code]:
    """All codes with one position changed, by position and value."""
    return [
        (*code[:place], value, *code[place + 1 :])
        for place, options in enumerate(values)
        for value in options
        if value != code[place]
    ]
