"""Lower bounds on what every order must lose, from cycles of three: compiled code.

An order goes against at least one preference of every cycle. So cycles that share no more of a preference than its
size, each counted with the smallest share, bound the loss from below; the best such packing is the dual of the linear
program with 3-cycle inequalities (Grötschel, Jünger & Reinelt, Operations Research 32, 1984).
"""

from __future__ import annotations

import numpy as np
from numba import float64, int32, int64, njit, uint8, void
from numba.types import Tuple  # type: ignore[attr-defined]

SIGNAL = uint8[::1]
_BAND = 32


@njit(void(float64[::1], float64[::1], float64[::1], float64[::1], float64), nogil=True, cache=True)
def _strip(first, between, last, multipliers, theta):  # type: ignore[no-untyped-def]
    """Improves the multipliers of triples that share no cost, all at once.

    A triple's optimum is an interval from the middle one of its three costs to 0, or to the nearest of the other two
    where 0 is not between them. ``theta`` says where in it: 0 takes no more than it must. A positive multiplier is of
    the cycle i, j, k, a negative one of k, j, i. Comparisons instead of ``min``: those become vector instructions.
    """
    for q in range(multipliers.size):
        old = multipliers[q]
        a, b, c = first[q] + old, between[q] + old, old - last[q]
        less, more = (a, b) if a < b else (b, a)
        low = less if less < c else c
        high = more if more > c else c
        under = more if more < c else c
        middle = less if less > under else under
        end = high if high < 0.0 else 0.0
        end = low if low > end else end
        new = end + theta * (middle - end)
        first[q] = a - new
        between[q] = b - new
        last[q] = new - c
        multipliers[q] = new


@njit(void(float64[:, ::1], float64[::1], float64), nogil=True, cache=True)
def _sweep(diagonals, multipliers, theta):  # type: ignore[no-untyped-def]
    """Improves the multiplier of each triple i, j, j + d; ``diagonals[d, j]`` is the cost of (j, j + d).

    Strips of at most d triples share no cost.
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


@njit(Tuple((float64, int64))(float64[:, ::1], int64, float64, SIGNAL), nogil=True, cache=True)
def dual_ascent(differences, sweeps, theta, stop):  # type: ignore[no-untyped-def]
    """Coordinate ascent on the dual of the 3-cycle linear program.

    Args:
      differences: ``[n, n]`` float64, antisymmetric; only the entries above the diagonal are read.
      sweeps: how often each triple is visited; n³/6 steps each. The last two take no more than they must.
      theta: in [0, 1), how much more than it must the multiplier of a triple takes in the other sweeps. Greedy ones
        (0) are good at once and then stand still; the smaller it is otherwise, the sooner it nears the linear program.
      stop: ``[1]``; non-zero ends it.

    Returns:
      (lower bound on the sum of the preferences that an order goes against, sweeps made).
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
    # The costs anew from the multipliers: the sweeps' rounding errors must not loosen the bound.
    costs[:] = differences
    z, used = 0, 0.0
    for i in range(n - 2):
        for d in range(1, n - 1 - i):
            for j in range(i + 1, n - d):
                new = multipliers[z]
                costs[i, j] -= new
                costs[j, j + d] -= new
                costs[i, j + d] += new
                used += abs(new)
                z += 1
    after = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            after += abs(costs[i, j])
    return max(0.0, 0.5 * (before - after - used) - 1e-12 * before), made


@njit(Tuple((int64, int64))(int32[:, ::1], int32[::1], int32, int64, SIGNAL), nogil=True, cache=True)
def pack_cycles(differences, order, slack, limit, stop):  # type: ignore[no-untyped-def]
    """Packs cycles of three greedily: a preference against ``order`` and two with it between its ends.

    The shortest of the former first (in bands, so that a row is read for several of them), for they have the fewest
    partners.

    Args:
      differences: ``[n, n]`` int32, antisymmetric.
      order: ``[n]`` int32; the better it is, the better the bound.
      slack: taken off every preference: 1 where the entries were rounded, else 0.
      limit: entries read after which it ends; the bound holds whenever it ends.
      stop: ``[1]``; non-zero ends it after n² entries.

    Returns:
      (lower bound on the sum of the preferences that any order goes against, entries read).
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


@njit(int64(float64[:, ::1], float64, int32[:, ::1], float64[::1]), nogil=True, cache=True)
def violated_cycles(relation, tolerance, cycles, amounts):  # type: ignore[no-untyped-def]
    """Finds cycles i, j, k with ``relation[i, j] + relation[j, k] + relation[k, i] > 2 + tolerance``.

    Args:
      relation: ``[n, n]``, how far i is before j, in [0, 1]; ``relation + relation.T`` is 1 off the diagonal.
      tolerance: what counts as violated.
      cycles: ``[m, 3]`` int32; receives the cycles found, at most m.
      amounts: ``[m]``; receives their violations.

    Returns:
      How many were found.
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
