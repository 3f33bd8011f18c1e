"""The local search: moves against enumeration, and what a search may never do."""

from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.ordering.insertion import best_insertion, descend, earned, insert, iterate

QUIET = np.zeros(1, np.uint8)


def antisymmetric(n: int, seed: int = 0) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).integers(-50, 51, (n, n)), 1)
    return (upper - upper.T).astype(np.int32)


def value(matrix: np.ndarray, order: np.ndarray) -> float:
    """The weight of an order, up to a constant: a pair turned round changes the sum of differences twice."""
    return np.triu(matrix[np.ix_(order, order)], 1).sum() / 2


def moved(order: np.ndarray, source: int, target: int) -> np.ndarray:
    rest = order.tolist()
    rest.insert(target, rest.pop(source))
    return np.array(rest, np.int32)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 21])
def test_the_best_insertion_is_the_best_of_all(n: int) -> None:
    matrix = antisymmetric(n)
    order = np.random.default_rng(1).permutation(n).astype(np.int32)
    for place in range(n):
        gains = [value(matrix, moved(order, place, target)) - value(matrix, order) for target in range(n)]
        gain, target = best_insertion(matrix, order, place)
        assert gain == max(gains) == gains[target]


@pytest.mark.parametrize("n", [2, 5, 9, 40])
def test_of_equal_places_the_nearest_is_taken_and_of_two_the_left_one(n: int) -> None:
    matrix = np.sign(antisymmetric(n)).astype(np.int32)
    order = np.random.default_rng(2).permutation(n).astype(np.int32)
    for place in range(n):
        gains = [value(matrix, moved(order, place, target)) - value(matrix, order) for target in range(n)]
        best = max(gains)
        nearest = min((target for target in range(n) if gains[target] == best), key=lambda t: (abs(t - place), t))
        assert best_insertion(matrix, order, place) == (best, nearest)


def test_insert_keeps_the_inverse() -> None:
    for source in range(6):
        for target in range(6):
            order = np.array([3, 1, 5, 0, 4, 2], np.int32)
            expected, places = moved(order, source, target), np.argsort(order).astype(np.int32)
            insert(order, places, source, target)
            assert np.array_equal(order, expected)
            assert np.array_equal(places, np.argsort(order))


def test_a_descent_earns_what_it_says_and_stops_at_its_limits() -> None:
    matrix, start = antisymmetric(40), np.arange(40, dtype=np.int32)
    for limit in (0, 400, 10**9):
        order, places = start.copy(), start.copy()
        gain, work = descend(matrix, order, places, np.ones(40, np.bool_), limit, QUIET)
        assert value(matrix, order) - value(matrix, start) == gain >= 0
        assert earned(matrix, order) == 2 * value(matrix, order)
        assert work <= max(limit, 0) + 40
        assert np.array_equal(places[order], start)
    order = start.copy()
    assert descend(matrix, order, start.copy(), np.ones(40, np.bool_), 10**9, np.ones(1, np.uint8)) == (0, 0)


def test_iterations_return_the_best_order_they_saw() -> None:
    matrix = antisymmetric(60)
    once = np.arange(60, dtype=np.int32)
    iterate(matrix, once, 1, 0, 5, 30, 100, QUIET)
    assert np.array_equal(once, np.arange(60)), "no work, no change"
    values = []
    for limit in (20_000, 200_000, 2_000_000):
        order = np.arange(60, dtype=np.int32)
        gain, work = iterate(matrix, order, 1, limit, 5, 30, 100, QUIET)
        assert sorted(order.tolist()) == list(range(60))
        assert gain == value(matrix, order) - value(matrix, np.arange(60))
        assert work >= limit
        values.append(gain)
    assert values[0] < values[-1]
    again = np.arange(60, dtype=np.int32)
    iterate(matrix, again, 1, 2_000_000, 5, 30, 100, QUIET)
    assert np.array_equal(again, order)
