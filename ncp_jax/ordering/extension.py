"""From an acyclic subgraph to one order: the topological order that keeps to a preferred sequence where it may."""

from __future__ import annotations

import heapq

import numpy as np

from ncp_jax.types import Float, Int


def topological_order(weights: Float[np.ndarray, "n n"], order: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Topological order of the edges that point forwards in ``order``, lowest index first among the free ones.

    Elements that no kept edge orders stand anywhere in a solver's answer; here they stand as rows of ``weights`` do.
    The kept edges, and with them the weight, stay.

    Args:
      weights: ``[n, n]``, an edge wherever > 0.
      order: a permutation, first element first.

    Returns:
      int32 ``[n]``.
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
