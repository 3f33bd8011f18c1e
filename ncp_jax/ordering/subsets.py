"""Exact orders of a dozen elements: dynamic programming over subsets, in compiled code."""

from __future__ import annotations

import numpy as np
from numba import float64, int32, njit

LARGEST = 12


@njit(int32[::1](float64[:, ::1]), nogil=True, cache=True)
def best_order(differences):  # type: ignore[no-untyped-def]
    """Returns an optimal order ``[n]`` (of equal ones the one with the lowest indices first).

    ``value[S]`` is the best that the elements of S earn in the last ``|S|`` places; 2^n n steps, n² each.

    Args:
      differences: ``[n, n]`` float64, antisymmetric, n <= 12.
    """
    n = differences.shape[0]
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
    order = np.empty(n, np.int32)
    subset = (1 << n) - 1
    for place in range(n):
        order[place] = first[subset]
        subset &= ~(1 << first[subset])
    return order
