"""Extends the forward edges of an order to a topological order with a defined place for every free element."""

from __future__ import annotations

import heapq

import numpy as np

from ncp_jax.types import Float, Int


def topological_order(weights: Float[np.ndarray, "n n"], order: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Returns the topological order of the edges that point forwards in ``order``, lowest index first.

    A solver may put elements anywhere if no kept edge involves them. Here, the element of the lowest index comes first
    among those that may come next. The kept edges stay the same, and so does the weight.

    Args:
      weights: ``[n, n]`` weights; an edge wherever > 0.
      order: a permutation, first element first.

    Returns:
      int32 ``[n]``, first element first.
    """
    n = len(order)
    place = np.empty(n, np.int64)
    place[order] = np.arange(n)
    kept = (weights > 0) & (place[:, None] < place)
    waiting = kept.sum(axis=0)
    free = np.flatnonzero(waiting == 0).tolist()  # ascending: already a heap
    result = np.empty(n, np.int32)
    for position in range(n):
        chosen = heapq.heappop(free)
        result[position] = chosen
        after = np.flatnonzero(kept[chosen])
        waiting[after] -= 1
        for element in after[waiting[after] == 0].tolist():
            heapq.heappush(free, element)
    return result
