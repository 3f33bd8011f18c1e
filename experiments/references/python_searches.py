"""Python loops for the searches that ask for one architecture at a time: one run, dictionaries, no arrays.

They are the reference of the tests (the compiled searchers must agree with them in distribution) and the baseline for
the speed of the compiled searchers. They are written to be readable, but also to be fast: everything that is the same
for all runs is prepared in a ``PythonTable``, and the loops draw with ``random()`` alone.
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
from ncp_jax.spaces.codes import ISOMORPHISM

Code = tuple[int, ...]
Query = Callable[[Code], float]


class PythonTable(NamedTuple):
    """One metric of a table as dictionaries, made once for all runs.

    Attributes:
      codes: the architectures in the table's order.
      values: their values, oriented so that higher is better.
      neighbours: the architectures at one edit of each architecture; where the table holds a part of its space, the
        nearest ones (``Candidates``).
      networks: the first architecture with the same network, for each architecture.
    """

    codes: list[Code]
    values: dict[Code, float]
    neighbours: dict[Code, list[Code]]
    networks: dict[Code, Code]

    @staticmethod
    def of(table: Table, metric: str | None = None, same_network: str = ISOMORPHISM) -> PythonTable:
        """Makes the dictionaries of one column, the main one if None."""
        space, rows = get_space(table.space), np.asarray(table.codes)
        codes = [tuple(row) for row in rows.tolist()]
        column = np.asarray(table.oriented(metric or table.main.name)).tolist()
        values = dict(zip(codes, column, strict=True))
        neighbours = {code: [edit for edit in _edits(code, space.values) if edit in values] for code in codes}
        if not all(neighbours.values()):
            nearest = np.asarray(Candidates.of(table).neighbours).tolist()
            neighbours = {code: [codes[row] for row in near] for code, near in zip(codes, nearest, strict=True)}
        first: dict[Code, Code] = {}
        canonical = map(tuple, np.asarray(space.canonical(table.codes, same_network)).tolist())
        networks = {code: first.setdefault(same, code) for code, same in zip(codes, canonical, strict=True)}
        return PythonTable(codes, values, neighbours, networks)


class PythonRun(NamedTuple):
    """The queries of one run, in the order of asking.

    Attributes:
      codes: the architectures.
      values: their values, oriented so that higher is better.
      asks: number of architectures asked for, free repeats included.
    """

    codes: list[Code]
    values: list[float]
    asks: int


def python_search(
    name: str, table: PythonTable, *, budget: int, seed: int, repeats: str, settings: dict[str, Any]
) -> PythonRun:
    """Runs one search.

    Args:
      name: one of ``PYTHON_SEARCHES``.
      table: the table to search.
      budget: number of queries to pay for.
      seed: random seed.
      repeats: cost of asking for a known architecture, one of ``REPEATS``, see ``QueryView``.
      settings: settings of the searcher of that name; the others have their defaults.

    Returns:
      The run. It is shorter than the budget where it asked only for known architectures for too long (``PATIENCE``).

    Raises:
      UsageError: an unknown name, repeats or setting, or an illegal setting.
    """
    repeats = checks.choose("repeats", repeats, REPEATS)
    searcher, walk = PYTHON_SEARCHES[checks.choose("searcher", name, PYTHON_SEARCHES)]
    options = make(searcher, settings).settings()
    batch = DRAWN if searcher is RandomSearch else 1
    query, run = _account(table, budget, PATIENCE * -(-budget // batch) * batch, repeats)
    try:
        walk(table, query, random.Random(seed).random, **options)
    except _OverError:
        return run()
    raise AssertionError("a search goes on until its budget is spent")


def random_search(table: PythonTable, query: Query, draw: Callable[[], float]) -> None:
    """Random search: independent uniform draws."""
    codes, n = table.codes, len(table.codes)
    while True:
        query(codes[int(draw() * n)])


def evolution(table: PythonTable, query: Query, draw: Callable[[], float], *, population: int, tournament: int) -> None:
    """Regularised evolution: the best of a few random members has a child, which replaces the oldest member."""
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


def local_search(table: PythonTable, query: Query, draw: Callable[[], float], *, move: str) -> None:
    """Hill climbing with restarts: moves to the first better neighbour in random order, or to the best of all."""
    codes, neighbours, n, first = table.codes, table.neighbours, len(table.codes), move == "first"
    while True:
        here = codes[int(draw() * n)]
        value, climbing = query(here), True
        while climbing:
            left, best, climbing = neighbours[here].copy(), value, False
            while left:
                # One step of a Fisher-Yates shuffle: the last unexamined neighbour takes the place of the one drawn.
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


PYTHON_SEARCHES: dict[str, tuple[Any, Callable[..., None]]] = {
    "random": (RandomSearch, random_search),
    "evolution": (Evolution, evolution),
    "local-search": (LocalSearch, local_search),
}


class _OverError(Exception):
    """The run has spent its budget, or asked only for known architectures for too long."""


def _account(table: PythonTable, budget: int, most: int, repeats: str) -> tuple[Query, Callable[[], PythonRun]]:
    """Returns a function that answers queries until the run is over, and one that returns the run."""
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

    def run() -> PythonRun:
        codes, answers = [code for code, _ in paid], [value for _, value in paid]
        return PythonRun(codes, answers, asks or len(paid))

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
