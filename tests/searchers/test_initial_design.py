"""The initial design, against a greedy maximin design in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.searchers.initial_design import networks_first, spread_out

N = 60


def greedy(features: np.ndarray, rows: list[int], count: int) -> list[int]:
    """Continues a design one by one, in float64."""
    distances = ((features[:, None].astype(float) - features) ** 2).mean(axis=-1)
    for _ in range(count):
        nearest = distances[:, rows].min(axis=1)
        nearest[rows] = -1
        rows = [*rows, int(nearest.argmax())]
    return rows


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_begins_near_the_centre_and_goes_far(features: np.ndarray, seed: int) -> None:
    ties = np.random.default_rng(seed).random(N, np.float32)
    found = np.asarray(spread_out(features, np.empty(0, np.int32), ties, count=8)).tolist()
    central = np.argsort(((features - features.mean(axis=0)) ** 2).sum(axis=1))[: N // 10]
    assert found[0] == central[ties[central].argmax()]
    assert found == greedy(features, found[:1], 7)


def test_goes_on_from_what_is_measured(features: np.ndarray) -> None:
    measured, ties = np.array([4, 17, 30], np.int32), np.zeros(N, np.float32)
    found = np.asarray(spread_out(features, measured, ties, count=5)).tolist()
    assert [*measured, *found] == greedy(features, measured.tolist(), 5)


def test_chance_decides_at_one_distance() -> None:
    """The centre of a square and its corners, each twice: from the centre, all corners are equally far."""
    corners = np.array([[0, 0], [1, 1], [1, -1], [-1, 1], [-1, -1]], np.float32)
    features, ties = np.repeat(corners, 2, axis=0), np.linspace(0, 1, 10, dtype=np.float32)
    forward, back = (np.asarray(spread_out(features, np.zeros(0, np.int32), t, count=5)) for t in (ties, ties[::-1]))
    assert forward.tolist() == [1, 9, 7, 5, 3]
    assert back.tolist() == [0, 2, 4, 6, 8]


def test_gives_every_candidate_once_even_where_none_differs() -> None:
    ties = np.random.default_rng(0).random(7, np.float32)
    for features in (np.zeros((7, 3), np.float32), np.ones((7, 1), np.float32)):
        found = np.asarray(spread_out(features, np.array([3], np.int32), ties, count=6)).tolist()
        assert sorted([3, *found]) == list(range(7))


def test_repeated_networks_come_last_in_their_order() -> None:
    rows, networks = np.array([[2, 0, 3, 1, 4], [4, 3, 2, 1, 0]], np.int32), np.array([7, 7, 5, 5, 2], np.int32)
    assert networks_first(rows, networks).tolist() == [[2, 0, 4, 3, 1], [4, 3, 1, 2, 0]]
