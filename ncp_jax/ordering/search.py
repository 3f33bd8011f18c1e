"""The heuristic search: iterated local search in parallel streams, or over windows of a long order."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ncp_jax.ordering.insertion import descend, earned, iterate

LONG = 700
_WINDOW = 512
_MOVES = 10


class Clock:
    """What ends a search early: a deadline, seen by compiled code as ``signal[0]``."""

    def __init__(self, seconds: float) -> None:
        self.signal = np.zeros(1, np.uint8)
        self._timer = threading.Timer(seconds, self._ring)
        self._timer.daemon = True
        self._timer.start()

    def _ring(self) -> None:
        self.signal[0] = 1

    @property
    def rang(self) -> bool:
        """Whether the deadline has come."""
        return bool(self.signal[0])

    def close(self) -> None:
        """Ends the timer."""
        self._timer.cancel()


@dataclasses.dataclass(frozen=True)
class Team:
    """The threads that work and the clock that ends it."""

    pool: ThreadPoolExecutor
    clock: Clock

    def map(self, function: Callable[..., Any], *arguments: Iterable[Any]) -> list[Any]:
        """Results in the order of the arguments, whatever thread made them."""
        return list(self.pool.map(function, *arguments))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Starts one call."""
        return self.pool.submit(function, *arguments)


def threads() -> int:
    """How many threads work: one a core that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def settle(matrix: np.ndarray, order: np.ndarray, limit: int, signal: np.ndarray | None = None) -> int:
    """Moves every element to its best place until none gains, in place; returns the entries read."""
    places = np.empty(len(order), np.int32)
    places[order] = np.arange(len(order), dtype=np.int32)
    signal = np.zeros(1, np.uint8) if signal is None else signal
    return descend(matrix, order, places, np.ones(len(order), np.bool_), limit, signal)[1]


def first_order(matrix: np.ndarray) -> np.ndarray:
    """Elements by what they earn against all others (row sums), equals lowest index first."""
    return np.argsort(-matrix.sum(axis=1, dtype=np.int64), kind="stable").astype(np.int32)


def improve(matrix: np.ndarray, order: np.ndarray, *, work: int, seed: int, team: Team) -> np.ndarray:
    """Returns a better order, or the same: streams where all fit a cache, windows where the order is long.

    Args:
      matrix: ``[n, n]`` int32, antisymmetric.
      order: ``[n]`` int32, a local optimum.
      work: matrix entries to read in all.
      seed: of the draws; the result depends on it and on ``work``, not on the number of threads.
      team: the threads.
    """
    return (_windows if len(order) > LONG else _streams)(matrix, order, work, seed, team)


def _streams(matrix: np.ndarray, order: np.ndarray, work: int, seed: int, team: Team) -> np.ndarray:
    n = len(order)
    # A stream needs some thousand descents before company helps.
    streams = int(np.clip(work // (2000 * n * n), 2, 8))
    rounds = int(np.clip(work // (streams * 1000 * n * n), 1, 12))
    mean = int(np.abs(matrix).mean(dtype=np.float64))
    orders = [order.copy() for _ in range(streams)]
    share = work // (streams * rounds)
    for turn in range(rounds):
        seeds = [np.uint64((seed * 1_000_003 + turn) * 64 + k + 1) for k in range(streams)]
        team.map(
            lambda one, key: iterate(matrix, one, key, share, _MOVES, n, 3 * mean, team.clock.signal),
            orders,
            seeds,
        )
        values = [earned(matrix, one) for one in orders]
        ranked = np.argsort(-np.array(values), kind="stable")
        if turn + 1 < rounds:
            # The worse half goes on from the better half.
            for good, bad in zip(ranked[: streams // 2], ranked[::-1], strict=False):
                orders[bad] = orders[good].copy()
    return orders[int(ranked[0])]


def _windows(matrix: np.ndarray, order: np.ndarray, work: int, seed: int, team: Team) -> np.ndarray:
    n, order = len(order), order.copy()
    mean = int(np.abs(matrix).mean(dtype=np.float64))
    share = 20 * _WINDOW * _WINDOW
    turn = 0
    while work > 0 and not team.clock.rang:
        offset = (turn % 2) * (_WINDOW // 2)
        cuts = [0, *range(offset or _WINDOW, n - _WINDOW // 2, _WINDOW), n]
        spans = list(itertools.pairwise(cuts))

        def polish(span: tuple[int, int], key: np.uint64) -> None:
            inside = order[span[0] : span[1]]
            part = np.ascontiguousarray(matrix[np.ix_(inside, inside)])
            local = np.arange(len(inside), dtype=np.int32)
            iterate(part, local, key, share, _MOVES, 40, mean, team.clock.signal)
            order[span[0] : span[1]] = inside[local]

        team.map(polish, spans, [np.uint64((seed * 1_000_003 + turn) * 4096 + k + 1) for k in range(len(spans))])
        work -= share * len(spans) + settle(matrix, order, work, team.clock.signal)
        turn += 1
    return order
