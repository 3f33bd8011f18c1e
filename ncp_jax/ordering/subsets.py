"""Finds exact orders of up to a dozen elements by dynamic programming over subsets, in compiled code."""

from __future__ import annotations

import numpy as np
from numba import float64, int32

from ncp_jax.ordering.compiled import compiled

LARGEST = 12  # largest number of elements


@compiled(int32[::1](float64[:, ::1]))
def best_order(differences):  # type: ignore[no-untyped-def]
    """Returns an optimal order ``[n]``; of several, the one with the lowest indices first.

    The dynamic program of Held and Karp: an optimal order of a subset has some element first, and an optimal order of
    the others after it. It takes 2^n n² / 4 additions.

    Args:
      differences: ``[n, n]`` float64, antisymmetric, n <= 12. Integers with sums below ``2**53`` are added exactly.
    """
    n = differences.shape[0]
    # For each subset, as a bit mask: the largest sum of differences that an order of it has, and its first element.
    value, first = np.zeros(1 << n), np.zeros(1 << n, np.int32)
    for subset in range(1, 1 << n):
        best = -np.inf
        for x in range(n):
            if subset >> x & 1:
                rest = subset & ~(1 << x)
                total = value[rest]
                for y in range(n):
                    if rest >> y & 1:
                        total += differences[x, y]
                if total > best:
                    best, first[subset] = total, x
        value[subset] = best
    # Read the order off the first elements, from the whole set down.
    order = np.empty(n, np.int32)
    subset = (1 << n) - 1
    for place in range(n):
        order[place] = first[subset]
        subset &= ~(1 << first[subset])
    return order
