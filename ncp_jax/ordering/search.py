"""Searches for good orders: iterated local search in parallel streams, or in windows of a long order."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ncp_jax.ordering.insertion import descend, earned, iterate

LONG = 700  # number of elements above which the search uses windows
_WINDOW = 512  # elements of a window, whose part of the matrix fits the cache
_MOVES = 10  # insertions per kick
_REACH = 0.5  # share of the order by which a kick moves an element at most
_TOLERANCE = 6  # largest loss accepted at first, in means of the absolute differences
_STREAMS = 6  # maximum number of independent searches
_LEAST = 20_000  # work of a search, in reads of the matrix, below which there are no more than two


class Clock:
    """A deadline that compiled code can read, as ``signal[0]``. It may be infinite."""

    def __init__(self, seconds: float) -> None:
        self.signal = np.zeros(1, np.uint8)
        if seconds <= 0:
            self._ring()
        self._timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        self.signal[0] = 1

    @property
    def rang(self) -> bool:
        """True once the deadline has passed."""
        return bool(self.signal[0])

    def close(self) -> None:
        """Cancels the timer."""
        self._timer.cancel()


@dataclasses.dataclass(frozen=True)
class Team:
    """The threads of a search, and the clock that ends it.

    Attributes:
      pool: threads.
      clock: deadline.
    """

    pool: ThreadPoolExecutor
    clock: Clock

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Returns the results in the order of the arguments."""
        return list(self.pool.map(function, *arguments))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Starts one call in a thread."""
        return self.pool.submit(function, *arguments)


def settle(matrix: np.ndarray, order: np.ndarray, limit: int, signal: np.ndarray | None = None) -> int:
    """Moves every element to its best place until none gains, in place. Returns the number of entries read."""
    places = np.empty(len(order), np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    signal = np.zeros(1, np.uint8) if signal is None else signal
    return descend(matrix, order, places, np.ones(len(order), np.bool_), limit, signal)[1]


def first_order(matrix: np.ndarray) -> np.ndarray:
    """Returns the elements by descending row sum of the differences; of equals, the lowest index first."""
    return np.argsort(-matrix.sum(axis=1, dtype=np.int64), kind="stable").astype(np.int32)


def improve(matrix: np.ndarray, order: np.ndarray, *, work: int, seed: int, team: Team) -> np.ndarray:
    """Returns a better order, or the same one. Long orders are searched in windows, others in parallel streams.

    Args:
      matrix: ``[n, n]`` int32, antisymmetric.
      order: ``[n]`` int32, a local optimum.
      work: number of matrix entries to read.
      seed: random seed. The result depends on it and on ``work``, not on the number of threads.
      team: threads and clock.
    """
    return (_windows if len(order) > LONG else _streams)(matrix, order, work, seed, team)


def _streams(matrix: np.ndarray, order: np.ndarray, work: int, seed: int, team: Team) -> np.ndarray:
    """Runs independent searches and returns the best order of all."""
    n = len(order)
    # Long searches are better than short ones, but the best of some is better than one. They wait for each other on few
    # cores, so that a clock that is ahead of the work cuts the last ones short and leaves the first ones whole.
    streams = int(np.clip(work // (_LEAST * n * n), 2, _STREAMS))
    tolerance = int(_TOLERANCE * np.abs(matrix).mean(dtype=np.float64))
    reach = max(1, int(_REACH * n))
    orders = [order.copy() for _ in range(streams)]
    seeds = [np.uint64((seed * 64 + k + 1) % 2**64) for k in range(streams)]
    team.map(
        lambda one, key: iterate(matrix, one, key, work // streams, _MOVES, reach, tolerance, team.clock.signal),
        orders,
        seeds,
    )
    return max(orders, key=lambda one: earned(matrix, one))


def _windows(matrix: np.ndarray, order: np.ndarray, work: int, seed: int, team: Team) -> np.ndarray:
    """Searches windows of consecutive elements, shifted by half a window in every other round, then settles all."""
    n, order = len(order), order.copy()
    mean = int(sum(np.abs(row).sum(dtype=np.int64) for row in matrix) / matrix.size)
    share = 20 * _WINDOW * _WINDOW
    turn = 0
    while work > 0 and not team.clock.rang:
        offset = (turn % 2) * (_WINDOW // 2)
        cuts = [0, *range(offset or _WINDOW, n - _WINDOW // 2, _WINDOW), n]
        spans = list(itertools.pairwise(cuts))

        def search(span: tuple[int, int], key: np.uint64) -> None:
            inside = order[span[0] : span[1]]
            part = np.ascontiguousarray(matrix[np.ix_(inside, inside)])
            local = np.arange(len(inside), dtype=np.int32)
            iterate(part, local, key, share, _MOVES, 40, mean, team.clock.signal)
            order[span[0] : span[1]] = inside[local]

        team.map(
            search, spans, [np.uint64(((seed * 1_000_003 + turn) * 4096 + k + 1) % 2**64) for k in range(len(spans))]
        )
        work -= share * len(spans) + settle(matrix, order, work, team.clock.signal)
        turn += 1
    return order
