"""What is told about an order: dropped edges and cycles, counted by hand and by enumeration."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

import ncp_jax
from ncp_jax.ordering import order, result
from ncp_jax.ordering.result import count_triangles


def test_a_cycle_of_three_loses_its_lightest_edge() -> None:
    weights = np.zeros((4, 4))
    weights[0, 1], weights[1, 2], weights[2, 0], weights[2, 3] = 5, 4, 1, 2
    found = order(weights)
    assert found.order.tolist() == [0, 1, 2, 3]
    assert (found.weight, found.upper_bound) == (11, 11)
    assert found.dropped.tolist() == [[2, 0]]
    assert found.dropped_weights.tolist() == [1]
    cycles = found.cycles
    assert (cycles.components, cycles.largest_component, cycles.triangles) == (2, 3, 1)
    assert (cycles.reversed_pairs, cycles.reversed_share) == (1, 0.25)
    assert (cycles.dropped_edges, cycles.dropped_share) == (1, pytest.approx(1 / 12))


def test_the_weaker_side_of_a_pair_is_dropped_but_reverses_no_preference() -> None:
    found = order([[0, 0.8], [0.2, 0]])
    assert found.dropped.tolist() == [[1, 0]]
    assert found.cycles.reversed_pairs == 0
    assert found.cycles.dropped_share == pytest.approx(0.2)


@pytest.mark.parametrize("ties", [0.0, 0.5])
def test_triangles_are_counted(ties: float) -> None:
    rng = np.random.default_rng(0)
    upper = np.triu(rng.choice([-1, 1], (25, 25)) * (rng.random((25, 25)) >= ties), 1)
    matrix = (upper - upper.T).astype(np.int32)
    by_hand = sum(
        int(matrix[i, j] > 0 and matrix[j, k] > 0 and matrix[k, i] > 0)
        for i, j, k in itertools.permutations(range(25), 3)
    )
    assert by_hand % 3 == 0
    assert count_triangles(matrix) == by_hand // 3 > 0


def test_json_is_strict_and_whole() -> None:
    found = order(np.random.default_rng(0).random((9, 9)))
    again = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert again["order"] == found.order.tolist()
    assert again["weight"] == found.weight
    assert again["cycles"]["dropped_edges"] == len(found.dropped)
    assert json.dumps(order([[0.0]]).to_json(), allow_nan=False)


def test_large_matrices_are_told_about_without_their_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = np.random.default_rng(0).integers(0, 5, (60, 60)).astype(float)
    found = order(weights, time_limit=0)
    by_weight = np.argsort(-found.dropped_weights, kind="stable")
    for most in (1, 7, 10_000):
        wanted = [(*found.dropped[k].tolist(), found.dropped_weights[k]) for k in by_weight[:most]]
        assert found.heaviest_dropped(most) == wanted
    assert found.dropped_count == len(found.dropped)
    monkeypatch.setattr(result, "COUNTED", 50)
    assert found.cycles.triangles is None
    assert "cycles of three not counted" in str(ncp_jax.order(weights, time_limit=0))
