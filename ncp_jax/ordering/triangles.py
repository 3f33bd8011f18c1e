"""Bounds the loss of every order from below by cycles of three, in compiled code.

The loss of an order is the sum of the preferences that it goes against: at least one of every cycle. Pack cycles so
that they use no more of any preference than its size. The sum of their amounts is then a lower bound on the loss. The
best packing is the dual of the linear program with 3-cycle inequalities (Grötschel, Jünger & Reinelt, Operations
Research 32, 1984).
"""

from __future__ import annotations

import numpy as np
from numba import float64, int32, int64, uint8, void
from numba.types import Tuple  # type: ignore[attr-defined]

from ncp_jax.ordering.compiled import compiled

SIGNAL = uint8[::1]
_BAND = 32  # lengths of preferences packed together, so that a row read from memory serves several of them


@compiled(void(float64[::1], float64[::1], float64[::1], float64[::1], float64))
def _strip(first, between, last, multipliers, theta):  # type: ignore[no-untyped-def]
    """Sets the multipliers of several triples to an optimum of each. The triples share no cost.

    The optima of a triple are an interval, from the middle one of its three costs to 0, or to the closest of the other
    two costs if 0 is not between these. ``theta`` chooses a value in it: 0 takes the end of the smallest multiplier. A
    positive multiplier belongs to the cycle i, j, k, a negative one to k, j, i. Comparisons are used instead of ``min``
    because they compile to vector instructions.
    """
    for q in range(multipliers.size):
        # The three costs without this triple's multiplier.
        old = multipliers[q]
        a, b, c = first[q] + old, between[q] + old, old - last[q]
        # Sort them: low <= middle <= high.
        less, more = (a, b) if a < b else (b, a)
        low = less if less < c else c
        high = more if more > c else c
        under = more if more < c else c
        middle = less if less > under else under
        # The end of the interval next to 0, and the new multiplier between it and the middle cost.
        end = high if high < 0.0 else 0.0
        end = low if low > end else end
        new = end + theta * (middle - end)
        first[q] = a - new
        between[q] = b - new
        last[q] = new - c
        multipliers[q] = new


@compiled(void(float64[:, ::1], float64[::1], float64))
def _sweep(diagonals, multipliers, theta):  # type: ignore[no-untyped-def]
    """Improves the multiplier of each triple i, j, j + d once. ``diagonals[d, j]`` is the cost of (j, j + d).

    The triples of a strip of at most d consecutive j share no cost, so they can be improved together.
    """
    n = diagonals.shape[0]
    row = np.empty(n)
    z = 0
    for i in range(n - 2):
        for j in range(i + 1, n):
            row[j] = diagonals[j - i, i]
        for d in range(1, n - 1 - i):
            for j in range(i + 1, n - d, d):
                end = min(j + d, n - d)
                many = end - j
                _strip(row[j:end], diagonals[d, j:end], row[j + d : end + d], multipliers[z : z + many], theta)
                z += many
        for j in range(i + 1, n):
            diagonals[j - i, i] = row[j]


@compiled(Tuple((float64, int64))(float64[:, ::1], int64, float64, SIGNAL))
def dual_ascent(differences, sweeps, theta, stop):  # type: ignore[no-untyped-def]
    """Returns a lower bound on the loss by coordinate ascent on the dual of the 3-cycle linear program.

    Args:
      differences: ``[n, n]`` float64, antisymmetric integers whose sizes above the diagonal sum to at most ``2**40``;
        only the entries above the diagonal are read.
      sweeps: number of visits of each triple; a sweep takes n³/6 steps. The last two sweeps use a theta of 0.
      theta: choice among the optima of a triple, in [0, 1), see ``_strip``. 0 is good at once and then makes no
        progress; a value above 0 approaches the optimum of the linear program, the faster the smaller it is.
      stop: ``[1]`` flag; a non-zero value ends the ascent.

    Returns:
      (lower bound on the loss of every order, sweeps made).
    """
    n = differences.shape[0]
    multipliers = np.zeros(n * (n - 1) * (n - 2) // 6)
    costs = np.zeros((n, n))
    before = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            costs[j - i, i] = differences[i, j]
            before += abs(differences[i, j])
    made = int64(0)
    while made < sweeps and stop[0] == 0:
        _sweep(costs, multipliers, 0.0 if made >= sweeps - 2 else theta)
        made += 1
    # Any multipliers give a bound. Round them to multiples of 1/1024 and compute the costs anew: all numbers below are
    # then multiples of 1/1024 below 2**43, which float64 adds exactly, so the bound has no rounding error.
    costs[:] = differences
    z, used = 0, 0.0
    for i in range(n - 2):
        for d in range(1, n - 1 - i):
            for j in range(i + 1, n - d):
                new = np.rint(multipliers[z] * 1024.0) / 1024.0
                costs[i, j] -= new
                costs[j, j + d] -= new
                costs[i, j + d] += new
                used += abs(new)
                z += 1
    after = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            after += abs(costs[i, j])
    if not after + used < 2.0**42:
        return 0.0, made
    return max(0.0, 0.5 * (before - after - used)), made


@compiled(Tuple((int64, int64))(int32[:, ::1], int32[::1], int32, int64, SIGNAL))
def pack_cycles(differences, order, slack, limit, stop):  # type: ignore[no-untyped-def]
    """Returns a lower bound on the loss by packing cycles of three greedily.

    Each cycle has one preference against ``order`` and two along it, between the ends of the first. The shortest
    preferences against the order come first (in bands), since they have the fewest partners.

    Args:
      differences: ``[n, n]`` int32, antisymmetric.
      order: ``[n]`` int32; the better it is, the better the bound.
      slack: amount subtracted from every preference: 1 if the entries were rounded, else 0.
      limit: maximum number of entries to read. The bound is valid wherever the packing ends.
      stop: ``[1]`` flag; a non-zero value ends the packing after n² entries.

    Returns:
      (lower bound on the loss of every order, entries read).
    """
    n = order.size
    rest = np.empty((n, n), np.int32)
    for i in range(n):
        row = differences[order[i]]
        for j in range(n):
            entry = row[order[j]]
            rest[i, j] = max(int32(0), entry - slack) if entry > 0 else min(int32(0), entry + slack)
    packed, work = int64(0), int64(0)
    for nearest in range(2, n, _BAND):
        for i in range(n - nearest):
            if work >= limit or (stop[0] != 0 and work >= n * n):
                return packed, work
            first = rest[i]
            for j in range(i + nearest, min(n, i + nearest + _BAND)):
                need = -first[j]
                if need <= 0:
                    continue
                second = rest[j]
                k = i + 1
                while k < j and need > 0:
                    take = min(need, first[k], -second[k])
                    if take > 0:
                        first[k] -= take
                        second[k] += take
                        rest[k, i] += take
                        rest[k, j] -= take
                        need -= take
                        packed += take
                    k += 1
                work += k - i
                first[j] = -need
                second[i] = need
    return packed, work


@compiled(int64(float64[:, ::1], float64, int32[:, ::1], float64[::1]))
def violated_cycles(relation, tolerance, cycles, amounts):  # type: ignore[no-untyped-def]
    """Finds cycles i, j, k with ``relation[i, j] + relation[j, k] + relation[k, i] > 2 + tolerance``.

    Args:
      relation: ``[n, n]`` degree in [0, 1] to which i is before j; ``relation + relation.T`` is 1 off the diagonal.
      tolerance: smallest violation that counts.
      cycles: ``[m, 3]`` int32; receives the cycles found, at most m.
      amounts: ``[m]``; receives their violations.

    Returns:
      Number of cycles found.
    """
    n = relation.shape[0]
    count = 0
    for i in range(n):
        for j in range(i + 1, n):
            ij, ji = relation[i, j], relation[j, i]
            for k in range(j + 1, n):
                ahead = ij + relation[j, k] + relation[k, i] - 2.0
                back = ji + relation[k, j] + relation[i, k] - 2.0
                if (ahead > tolerance or back > tolerance) and count < amounts.size:
                    cycles[count, 0] = i
                    cycles[count, 1] = j if ahead > tolerance else k
                    cycles[count, 2] = k if ahead > tolerance else j
                    amounts[count] = max(ahead, back)
                    count += 1
    return count
