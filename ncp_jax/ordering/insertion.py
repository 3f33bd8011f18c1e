"""Insertion local search on the differences of a weight matrix, in compiled code.

A difference matrix ``D = w - w.T`` is int32 and antisymmetric: turning a pair round to ``x`` before ``y`` gains
``D[x, y]`` of weight. Integers make every comparison exact and the sums fast; `ncp_jax.ordering.differences` scales
real weights to them. The kernels release the interpreter's lock; all draws come from a generator of their own, so that
a seed means the same orders under every version of the compiler. Work is counted in matrix entries read.
"""

from __future__ import annotations

import numpy as np
from numba import boolean, int32, int64, njit, uint8, uint64, void
from numba.types import Tuple  # type: ignore[attr-defined]

MATRIX, ORDER, FLAGS, STATE, SIGNAL = int32[:, ::1], int32[::1], boolean[::1], uint64[::1], uint8[::1]


@njit(uint64(STATE), inline="always")
def _draw(state):  # type: ignore[no-untyped-def]
    # xorshift64 (Marsaglia 2003): three shifts, no table.
    x = state[0]
    x ^= x << uint64(13)
    x ^= x >> uint64(7)
    x ^= x << uint64(17)
    state[0] = x
    return x


@njit(int64(STATE, int64), inline="always")
def _below(state, n):  # type: ignore[no-untyped-def]
    return int64(((_draw(state) >> uint64(32)) * uint64(n)) >> uint64(32))


@njit(Tuple((int64, int64))(MATRIX, ORDER, int64), nogil=True, cache=True)
def best_insertion(differences, order, place):  # type: ignore[no-untyped-def]
    """Returns (gain, new place) of the best insertion of the element at ``place``; gain 0 where it stays.

    Both directions are scanned in one loop: their running sums do not wait for each other.
    """
    n = order.size
    row = differences[order[place]]
    best, where = int64(0), int64(place)
    left, right = int64(0), int64(0)
    both = min(place, n - 1 - place)
    for step in range(1, both + 1):
        left += row[order[place - step]]
        right -= row[order[place + step]]
        if left > best:
            best, where = left, place - step
        if right > best:
            best, where = right, place + step
    for k in range(place - both - 1, -1, -1):
        left += row[order[k]]
        if left > best:
            best, where = left, k
    for k in range(place + both + 1, n):
        right -= row[order[k]]
        if right > best:
            best, where = right, k
    return best, where


@njit(void(ORDER, ORDER, int64, int64), nogil=True, cache=True)
def insert(order, places, source, target):  # type: ignore[no-untyped-def]
    """Moves the element at place ``source`` to place ``target``; ``places`` is the inverse of ``order``."""
    x = order[source]
    step = 1 if target > source else -1
    for k in range(source, target, step):
        order[k] = order[k + step]
        places[order[k]] = k
    order[target] = x
    places[x] = target


@njit(void(ORDER, FLAGS, int64, int64), nogil=True, cache=True)
def _wake(order, awake, a, b):  # type: ignore[no-untyped-def]
    for k in range(max(0, min(a, b) - 1), min(order.size, max(a, b) + 2)):
        awake[order[k]] = True


@njit(Tuple((int64, int64))(MATRIX, ORDER, ORDER, FLAGS, int64, SIGNAL), nogil=True, cache=True)
def descend(differences, order, places, awake, limit, stop):  # type: ignore[no-untyped-def]
    """Moves elements to their best places until none that is awake gains; changes ``order`` in place.

    A move wakes what it passed and the two neighbours: for the others most sums stay what they were.

    Args:
      differences: ``[n, n]`` int32, antisymmetric.
      order: ``[n]`` int32, the elements, first to last.
      places: ``[n]`` int32, the inverse of ``order``.
      awake: ``[n]`` whether an element is to be tried.
      limit: matrix entries after which it ends.
      stop: ``[1]``; non-zero ends it.

    Returns:
      (gain, entries read).
    """
    n = order.size
    gain, work = int64(0), int64(0)
    again = True
    while again and work < limit and stop[0] == 0:
        again = False
        for x in range(n):
            if awake[x] and work < limit:
                awake[x] = False
                place = int64(places[x])
                more, target = best_insertion(differences, order, place)
                work += n
                if more > 0:
                    insert(order, places, place, target)
                    _wake(order, awake, place, target)
                    gain += more
                    again = True
    return gain, work


@njit(int64(MATRIX, ORDER), nogil=True, cache=True)
def earned(differences, order):  # type: ignore[no-untyped-def]
    """Returns the sum of ``differences`` over all pairs in their order; it changes by twice the weight gained."""
    total = int64(0)
    for i in range(order.size):
        row = differences[order[i]]
        for j in range(i + 1, order.size):
            total += row[order[j]]
    return total


@njit(int64(MATRIX, ORDER, ORDER, FLAGS, STATE, int64, int64), nogil=True, cache=True)
def _kick(differences, order, places, awake, state, moves, reach):  # type: ignore[no-untyped-def]
    """Inserts random elements at random places within ``reach``; returns the weight gained (mostly below 0)."""
    n = order.size
    gain = int64(0)
    for _ in range(moves):
        source = _below(state, n)
        low, high = max(int64(0), source - reach), min(int64(n - 1), source + reach)
        target = low + _below(state, high - low + 1)
        row = differences[order[source]]
        for k in range(target, source):
            gain += row[order[k]]
        for k in range(source + 1, target + 1):
            gain -= row[order[k]]
        insert(order, places, source, target)
        _wake(order, awake, source, target)
    return gain


@njit(Tuple((int64, int64))(MATRIX, ORDER, uint64, int64, int64, int64, int64, SIGNAL), nogil=True, cache=True)
def iterate(differences, order, seed, limit, moves, reach, tolerance, stop):  # type: ignore[no-untyped-def]
    """Iterated local search: a kick of random insertions, a descent, and on from there unless it lost too much.

    Schiavinotto & Stützle, "The linear ordering problem: instances, search space analysis and algorithms" (2004),
    section 4.3. Deviations: the kick is of insertions rather than interchanges, only elements near it are tried again,
    and a loss up to ``tolerance`` is accepted.

    Args:
      differences: ``[n, n]`` int32, antisymmetric, n >= 1.
      order: ``[n]`` int32; starts the search, and becomes the best order found.
      seed: of the draws.
      limit: matrix entries after which it ends.
      moves: insertions of a kick.
      reach: how far a kick moves an element.
      tolerance: loss of a step that is still accepted.
      stop: ``[1]``; non-zero ends it.

    Returns:
      (weight gained from the first order to the best, entries read).
    """
    n = order.size
    state = np.empty(1, np.uint64)
    state[0] = seed * uint64(0x9E3779B97F4A7C15) + uint64(0x2545F4914F6CDD1D)
    if state[0] == 0:
        state[0] = uint64(1)
    for _ in range(8):
        _draw(state)
    places, awake = np.empty(n, np.int32), np.ones(n, np.bool_)
    for k in range(n):
        places[order[k]] = k
    work_order = order.copy()
    value, work = descend(differences, work_order, places, awake, limit, stop)
    best = value
    order[:] = work_order
    current = work_order.copy()
    while work < limit and stop[0] == 0:
        new = value + _kick(differences, work_order, places, awake, state, moves, reach)
        gain, read = descend(differences, work_order, places, awake, limit, stop)
        new += gain
        work += read + moves
        if new >= value - tolerance:
            value = new
            current[:] = work_order
            if new > best:
                best = new
                order[:] = work_order
        else:
            work_order[:] = current
            for k in range(n):
                places[current[k]] = k
    return best, work
