"""The topological order of a solver's answer that keeps to the rows' own sequence where no edge speaks."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.ordering.extension import topological_order


def forward(weights: np.ndarray, order: np.ndarray) -> float:
    return float(sum(weights[a, b] for a, b in itertools.combinations(order, 2)))


def test_without_edges_the_rows_keep_their_sequence() -> None:
    assert topological_order(np.zeros((5, 5)), np.array([4, 2, 0, 1, 3])).tolist() == [0, 1, 2, 3, 4]


def test_edges_that_point_forwards_are_kept_and_the_rest_is_free() -> None:
    weights = np.zeros((4, 4))
    weights[3, 0] = 1.0
    assert topological_order(weights, np.array([2, 3, 1, 0])).tolist() == [1, 2, 3, 0]


def test_a_dropped_edge_does_not_count() -> None:
    weights = np.array([[0.0, 0.0], [1.0, 0.0]])
    assert topological_order(weights, np.array([0, 1])).tolist() == [0, 1]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_it_is_the_first_in_the_alphabet_of_all_orders_with_the_same_edges(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.random((n, n)) * (rng.random((n, n)) < 0.5)
    np.fill_diagonal(weights, 0.0)
    order = rng.permutation(n)
    place = np.argsort(order)
    kept = [(a, b) for a in range(n) for b in range(n) if weights[a, b] > 0 and place[a] < place[b]]

    def respects(candidate: tuple[int, ...]) -> bool:
        return all(candidate.index(a) < candidate.index(b) for a, b in kept)

    smallest = next(c for c in itertools.permutations(range(n)) if respects(c))
    found = topological_order(weights, order)
    assert tuple(found) == smallest
    assert forward(weights, found) >= forward(weights, order) - 1e-9
