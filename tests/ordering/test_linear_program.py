"""Branch and cut from bad starts, against dynamic programming."""

from __future__ import annotations

import time

import numpy as np
import pytest

from ncp_jax.ordering.linear_program import _Program, _Search, branch_and_cut
from ncp_jax.ordering.subsets import best_order


def antisymmetric(n: int, seed: int, largest: int = 9) -> np.ndarray:
    rng = np.random.default_rng(seed)
    upper = np.triu(rng.integers(-largest, largest + 1, (n, n)), 1).astype(float)
    return upper - upper.T


def loss(matrix: np.ndarray, order: np.ndarray) -> float:
    return float(np.maximum(-np.triu(matrix[np.ix_(order, order)], 1), 0).sum())


def scaled(matrix: np.ndarray) -> np.ndarray:
    return np.round(matrix * (2**30 / np.abs(matrix).max())).astype(np.int32)


@pytest.mark.parametrize("largest", [9, 10**10])
@pytest.mark.parametrize("n", [3, 6, 9, 12])
def test_the_optimum_is_found_and_proven_from_the_worst_start(n: int, largest: int) -> None:
    for seed in range(8):
        matrix = antisymmetric(n, seed, largest)
        best = best_order(matrix)
        worst = best[::-1]
        matrix = np.ascontiguousarray(matrix[np.ix_(worst, worst)])
        least = loss(matrix, best_order(matrix))
        order, bound, proven = branch_and_cut(
            matrix, scaled(matrix), step=1, effort=1e9, deadline=time.monotonic() + 60
        )
        assert proven
        assert loss(matrix, order) == bound == least


def test_it_branches_where_the_relaxation_is_fractional(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, node = [], _Search.node
    monkeypatch.setattr(_Search, "node", lambda self, *arguments: nodes.append(1) or node(self, *arguments))
    for seed in range(30):
        rng = np.random.default_rng(seed)
        upper = np.triu(rng.choice([-1.0, 1.0], (12, 12)), 1)
        matrix = upper - upper.T
        least = loss(matrix, best_order(matrix))
        order, bound, proven = branch_and_cut(
            matrix, scaled(matrix), step=1, effort=1e9, deadline=time.monotonic() + 60
        )
        assert proven
        assert loss(matrix, order) == bound == least
    assert len(nodes) > 30, "more nodes than roots"


@pytest.mark.parametrize("effort", [0, 1e4, 1e6])
def test_a_bound_holds_wherever_the_effort_ends(effort: float) -> None:
    for seed in range(5):
        matrix = antisymmetric(12, seed)
        order, bound, proven = branch_and_cut(
            matrix, scaled(matrix), step=1, effort=effort, deadline=time.monotonic() + 60
        )
        least = loss(matrix, best_order(matrix))
        assert 0 <= bound <= least
        assert loss(matrix, order) >= least
        if proven:
            assert loss(matrix, order) == least


def test_a_deadline_in_the_past_ends_it_at_once() -> None:
    matrix = antisymmetric(40, 0)
    order, bound, proven = branch_and_cut(matrix, scaled(matrix), step=1, effort=1e9, deadline=time.monotonic())
    assert not proven
    assert sorted(order.tolist()) == list(range(40))
    assert 0 <= bound <= loss(matrix, order)


@pytest.mark.parametrize("step", [7, 1000])
def test_what_is_not_proven_better_than_a_step_is_left_below_the_bound(step: int) -> None:
    for seed in range(8):
        matrix = antisymmetric(11, seed, 300)
        least = loss(matrix, best_order(matrix))
        order, bound, proven = branch_and_cut(
            matrix, scaled(matrix), step=step, effort=1e9, deadline=time.monotonic() + 60
        )
        assert proven
        assert bound <= least <= loss(matrix, order) < bound + step


def test_multiples_of_a_step_are_solved_exactly() -> None:
    for seed in range(8):
        matrix = 1000 * antisymmetric(11, seed)
        order, bound, proven = branch_and_cut(
            matrix, scaled(matrix), step=1000, effort=1e9, deadline=time.monotonic() + 60
        )
        assert proven
        assert loss(matrix, order) == bound == loss(matrix, best_order(matrix))


def test_dual_values_that_are_nonsense_give_no_wrong_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound is valid for any dual values >= 0, not only for those of HiGHS."""
    rng = np.random.default_rng(0)
    solve = _Program.solve

    def disturbed(self: _Program, effort: float, deadline: float) -> np.ndarray:
        values = solve(self, effort, deadline)
        self.prices = rng.integers(0, 20_000, len(self.prices))
        return values

    monkeypatch.setattr(_Program, "solve", disturbed)
    for seed in range(5):
        matrix = antisymmetric(9, seed)
        order, bound, proven = branch_and_cut(
            matrix, scaled(matrix), step=1, effort=1e8, deadline=time.monotonic() + 60
        )
        least = loss(matrix, best_order(matrix))
        assert bound <= least <= loss(matrix, order)
        assert loss(matrix, order) == least or not proven
