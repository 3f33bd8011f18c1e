"""Successive halving and ASHA on trainings that can be continued, and the architecture to return at each moment.

Sources: Jamieson & Talwalkar, AISTATS 2016, arXiv 1502.07943 (successive halving); Li et al., MLSys 2020,
arXiv 1810.05934, algorithm 2 (ASHA, here with one worker).
"""

from __future__ import annotations

import bisect
import heapq
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ncp_jax import checks
from ncp_jax.types import Float, Int

if TYPE_CHECKING:
    from ncp_jax.searchers.partial_curves import Starts

Train = Callable[[int, int], Float[np.ndarray, " p"]]
"""(row, p) → values after epochs 1..p, higher is better, -inf where the training failed."""
Steps = list[tuple[int, int]]
"""Row, and the epochs that it was trained for after the step."""


class Leader(NamedTuple):
    """An architecture that a run would return.

    Attributes:
      spent: epochs paid for, by all trainings together, when the run would first return it.
      row: its row.
      epochs: epochs that it was trained for by then.
    """

    spent: int
    row: int
    epochs: int


def rung_epochs(least: int, factor: int, longest: int) -> tuple[int, ...]:
    """Returns the epochs after which decisions are made: least · factor^k, and the end of the trainings.

    Raises:
      UsageError: ``least`` is beyond the end.
    """
    checks.integer("least", least, least=1, most=longest, remedy=f"the curves have {longest} epochs")
    rungs = [least]
    while rungs[-1] * factor < longest:
        rungs.append(rungs[-1] * factor)
    return (*rungs, longest) if rungs[-1] < longest else tuple(rungs)


def halve(
    train: Train,
    order: Int[np.ndarray, " n"],
    rungs: Sequence[int],
    *,
    budget: int,
    factor: int,
    finish: bool = False,
) -> Steps:
    """Spends epochs on one bracket of successive halving, with as many architectures as fit into the budget.

    Args:
      train: trains an architecture further.
      order: the order in which architectures are begun.
      rungs: epochs after which decisions are made, rising.
      budget: epochs of all trainings together.
      factor: the share 1 / factor of those begun goes on at each rung, rounded down.
      finish: whether one goes on where that share is less than one, so that a bracket ends with a whole training. The
        budget must then suffice for one.
    """
    prices = np.diff(rungs, prepend=0)

    def size(count: int, place: int) -> int:
        return max(count // factor**place, int(finish))

    def cost(count: int) -> int:
        return sum(size(count, place) * int(price) for place, price in enumerate(prices))

    low, high = 1, len(order)
    while low < high:  # the cost rises with the number
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= budget else (low, middle - 1)
    steps: Steps = []
    left = [int(row) for row in order[:low]]
    for place, epochs in enumerate(rungs):
        left = left[: size(low, place)]
        steps += [(row, epochs) for row in left]
        values = {row: float(train(row, epochs)[-1]) for row in left}
        # Failed trainings do not go on; ties keep the order in which architectures were begun.
        left = sorted((row for row in left if math.isfinite(values[row])), key=lambda row: -values[row])
    return steps


class _Rungs:
    """The rungs of ASHA: which architectures reached them, and which were trained further."""

    def __init__(self, count: int, factor: int) -> None:
        self.factor = factor
        # (-value, number, row), best first: all that reached a rung, and those that were not taken from it yet.
        self._known: list[list[tuple[float, int, int]]] = [[] for _ in range(count)]
        self._waiting: list[list[tuple[float, int, int]]] = [[] for _ in range(count)]

    def add(self, rung: int, row: int, value: float) -> None:
        """Enters an architecture that was trained until a rung. After a failure it is never taken."""
        entry = (-value, len(self._known[rung]), row)
        bisect.insort(self._known[rung], entry)
        if math.isfinite(value):
            heapq.heappush(self._waiting[rung], entry)

    def take(self, rung: int) -> int | None:
        """Returns the best architecture of a rung that was not taken yet, if it is among the rung's top share."""
        if not self._waiting[rung]:
            return None
        best, known = self._waiting[rung][0], self._known[rung]
        if bisect.bisect_left(known, best) >= len(known) // self.factor:
            return None
        return heapq.heappop(self._waiting[rung])[2]


def promote(
    train: Train,
    order: Int[np.ndarray, " n"],
    rungs: Sequence[int],
    *,
    budget: int,
    factor: int,
    starts: Starts | None = None,
) -> Steps:
    """Trains the best of a rung further as soon as it is among its top share, and else begins a new architecture: ASHA.

    Args:
      train: trains an architecture further.
      order: the order in which architectures are begun.
      rungs: epochs after which decisions are made, rising.
      budget: epochs of all trainings together. The run ends before the first step that does not fit.
      factor: the share 1 / factor of a rung is trained further.
      starts: chooses the architectures that are begun instead; it learns from every step.
    """
    known = _Rungs(len(rungs), factor)
    steps: Steps = []
    spent, left = 0, [int(row) for row in order[::-1]]  # the next one last
    while True:
        place, row = -1, None
        for rung in reversed(range(len(rungs) - 1)):
            row = known.take(rung)
            if row is not None:
                place = rung
                break
        if row is None:
            if not left:
                return steps
            row = left.pop() if starts is None else left.pop(starts.choose(left))
        price = rungs[place + 1] - (rungs[place] if place >= 0 else 0)
        if spent + price > budget:
            return steps
        spent += price
        steps.append((row, rungs[place + 1]))
        curve = train(row, rungs[place + 1])
        known.add(place + 1, row, float(curve[-1]))
        if starts is not None:
            starts.add(row, curve)


def leaders(steps: Sequence[tuple[int, int]], values: Sequence[float]) -> list[Leader]:
    """Returns the architectures that a run would return, one after the other: of those trained longest, the best.

    Values after different numbers of epochs are not compared.

    Args:
      steps: the steps of a run, at least one.
      values: the value seen at each step, higher is better; not finite where the training failed.
    """
    found: list[Leader] = []
    spent = 0
    reached: dict[int, int] = {}
    best: tuple[bool, int, float] = (False, 0, -math.inf)
    for (row, epochs), value in zip(steps, values, strict=True):
        spent += epochs - reached.get(row, 0)  # a later step of an architecture includes its earlier ones
        reached[row] = epochs
        standing = (math.isfinite(value), epochs, value)
        if not found or standing > best:
            best = standing
            found.append(Leader(spent, row, epochs))
    return found
