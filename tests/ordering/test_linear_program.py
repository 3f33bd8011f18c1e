"""Branch and cut from bad starts, against dynamic programming."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ncp_jax.ordering.linear_program import _Search, branch_and_cut
from ncp_jax.ordering.subsets import best_order


def antisymmetric(n: int, seed: int, whole: bool) -> np.ndarray:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(-9, 10, (n, n)) if whole else rng.normal(size=(n, n)), 1).astype(float)
    return upper - upper.T


def loss(matrix: np.ndarray, order: np.ndarray) -> float:
    return float(np.maximum(-np.triu(matrix[np.ix_(order, order)], 1), 0).sum())


def scaled(matrix: np.ndarray) -> np.ndarray:
    return np.round(matrix * 1000).astype(np.int32)


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("n", [3, 6, 9, 12])
def test_the_optimum_is_found_and_proven_from_the_worst_start(n: int, whole: bool) -> None:
    for seed in range(8):
        matrix = antisymmetric(n, seed, whole)
        best = best_order(matrix)
        worst = best[::-1]
        matrix = np.ascontiguousarray(matrix[np.ix_(worst, worst)])
        least = loss(matrix, best_order(matrix))
        order, bound, proven = branch_and_cut(
            matrix, scaled(matrix), whole=whole, effort=1e9, deadline=time.monotonic() + 60
        )
        assert proven
        assert loss(matrix, order) == pytest.approx(least)
        assert bound == pytest.approx(least)


def test_it_branches_where_the_relaxation_is_fractional(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, node = [], _Search.node
    monkeypatch.setattr(_Search, "node", lambda self, *arguments: nodes.append(1) or node(self, *arguments))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        upper = np.triu(rng.choice([-1.0, 1.0], (12, 12)), 1)
        matrix = upper - upper.T
        least = loss(matrix, best_order(matrix))
        order, bound, proven = branch_and_cut(
            matrix, scaled(matrix), whole=False, effort=1e9, deadline=time.monotonic() + 60
        )
        assert proven
        assert loss(matrix, order) == pytest.approx(least)
        assert bound == pytest.approx(least)
    assert len(nodes) > 30, "more nodes than roots"


@pytest.mark.parametrize("effort", [0, 1e4, 1e6])
def test_a_bound_holds_wherever_the_effort_ends(effort: float) -> None:
    for seed in range(5):
        matrix = antisymmetric(12, seed, whole=True)
        order, bound, proven = branch_and_cut(
            matrix, scaled(matrix), whole=True, effort=effort, deadline=time.monotonic() + 60
        )
        least = loss(matrix, best_order(matrix))
        assert 0 <= bound <= least + 1e-9
        assert loss(matrix, order) >= least
        if proven:
            assert loss(matrix, order) == least


def test_a_deadline_in_the_past_ends_it_at_once() -> None:
    matrix = antisymmetric(40, 0, whole=True)
    order, bound, proven = branch_and_cut(matrix, scaled(matrix), whole=True, effort=1e9, deadline=time.monotonic())
    assert not proven
    assert sorted(order.tolist()) == list(range(40))
    assert 0 <= bound <= loss(matrix, order)
