"""Bounds from 3-cycles against the linear program that they approach, solved by SciPy, and against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.optimize

from ncp_jax.ordering.subsets import best_order
from ncp_jax.ordering.triangles import dual_ascent, pack_cycles, violated_cycles

QUIET = np.zeros(1, np.uint8)


def antisymmetric(n: int, seed: int) -> np.ndarray:
    upper = np.triu(np.random.default_rng(seed).integers(-20, 21, (n, n)).astype(float), 1)
    return upper - upper.T


def least_loss(matrix: np.ndarray) -> float:
    order = best_order(matrix)
    return float(np.maximum(-np.triu(matrix[np.ix_(order, order)], 1), 0).sum())


def linear_program(matrix: np.ndarray) -> float:
    """The least loss under all 3-cycle inequalities, fractional orders allowed."""
    n = len(matrix)
    pairs = list(itertools.combinations(range(n), 2))
    index = {pair: k for k, pair in enumerate(pairs)}
    rows, limits = [], []
    for i, j, k in itertools.combinations(range(n), 3):
        for sign in (1, -1):
            row = np.zeros(len(pairs))
            row[[index[i, j], index[j, k], index[i, k]]] = sign, sign, -sign
            rows.append(row)
            limits.append(1 if sign > 0 else 0)
    costs = np.array([matrix[pair] for pair in pairs])
    solved = scipy.optimize.linprog(-costs, np.array(rows), limits, bounds=(0, 1))
    return float(np.maximum(costs, 0).sum() + solved.fun)


@pytest.mark.parametrize("seed", range(4))
def test_dual_ascent_stays_below_the_linear_program_and_nears_it(seed: int) -> None:
    matrix = antisymmetric(12, seed)
    best = linear_program(matrix)
    assert best <= least_loss(matrix) + 1e-9
    bounds = []
    for sweeps in (0, 2, 30, 1000):
        bound, made = dual_ascent(matrix, sweeps, 0.03, QUIET)
        assert made == sweeps
        assert 0 <= bound <= best + 1e-9
        bounds.append(bound)
    assert bounds[0] == 0
    assert bounds[-1] >= 0.95 * best
    assert bounds[-1] >= bounds[1]


def test_an_acyclic_matrix_has_nothing_to_lose() -> None:
    matrix = np.triu(np.ones((9, 9)), 1)
    matrix -= matrix.T
    assert dual_ascent(matrix, 5, 0.1, QUIET)[0] == 0
    assert pack_cycles(matrix.astype(np.int32), np.arange(9, dtype=np.int32), 0, 10**6, QUIET)[0] == 0


@pytest.mark.parametrize("slack", [0, 1])
def test_packings_stay_below_the_least_loss(slack: int) -> None:
    packed = []
    for seed in range(30):
        matrix = antisymmetric(9, seed)
        order = best_order(matrix)
        bound, _ = pack_cycles(matrix.astype(np.int32), order, slack, 10**6, QUIET)
        assert 0 <= bound <= least_loss(matrix)
        packed.append(bound / least_loss(matrix))
        # Any order gives a bound.
        assert pack_cycles(matrix.astype(np.int32), order[::-1].copy(), slack, 10**6, QUIET)[0] <= least_loss(matrix)
    assert np.mean(packed) > 0.7


def test_a_packing_ends_at_its_limit_and_holds_there() -> None:
    matrix = antisymmetric(80, 0).astype(np.int32)
    order = np.arange(80, dtype=np.int32)
    little, some = (pack_cycles(matrix, order, 0, limit, QUIET) for limit in (100, 10**9))
    assert little[0] < some[0]
    assert little[1] < some[1]
    # The clock lets n² entries pass.
    assert little[0] <= pack_cycles(matrix, order, 0, 10**9, np.ones(1, np.uint8))[0] <= some[0]


def test_violated_cycles_are_those_of_enumeration() -> None:
    n = 9
    upper = np.triu(np.random.default_rng(0).random((n, n)), 1)
    relation = upper + np.tril(1 - upper.T, -1)
    cycles, amounts = np.empty((500, 3), np.int32), np.empty(500)
    count = violated_cycles(relation, 0.1, cycles, amounts)
    expected = {
        (i, j, k)
        for i, j, k in itertools.permutations(range(n), 3)
        if i < min(j, k) and relation[i, j] + relation[j, k] + relation[k, i] > 2.1
    }
    assert {tuple(row) for row in cycles[:count].tolist()} == expected
    assert count == len(expected) > 0
    assert violated_cycles(relation, 0.1, cycles[:1], amounts[:1]) == 1
