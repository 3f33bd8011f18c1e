from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp_jax.analysis import hypervolume as module
from ncp_jax.analysis.hypervolume import dominated_volume, hypervolume, non_dominated, pareto_front
from ncp_jax.checks import UsageError

small = st.lists(st.tuples(st.integers(-3, 6), st.integers(-3, 6)), max_size=12)


def cloud(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs, float).reshape(-1, 2)


@given(small)
def test_the_front_by_brute_force(pairs: list[tuple[int, int]]) -> None:
    points = cloud(pairs)
    beaten = [
        any(q >= p[0] and c <= p[1] and (q > p[0] or c < p[1]) for q, c in points.tolist()) for p in points.tolist()
    ]
    np.testing.assert_array_equal(pareto_front(points), ~np.array(beaten, bool))


@given(small)
def test_the_area_by_counting_unit_squares(pairs: list[tuple[int, int]]) -> None:
    points, reference = cloud(pairs), (0, 5)
    squares = sum(
        any(q >= x + 1 and c <= y for q, c in points.tolist()) for x in range(reference[0], 8) for y in range(-4, 5)
    )
    assert hypervolume(points, np.array(reference, float)) == squares


def test_the_area_by_monte_carlo() -> None:
    rng = np.random.default_rng(0)
    points = np.stack([rng.random(30) ** 2, rng.random(30)], axis=1)
    area = hypervolume(points, np.array([0.0, 1.0]))
    draws = rng.random((100_000, 2))
    below = (points[:, 0] >= draws[:, :1]) & (points[:, 1] <= draws[:, 1:])
    assert area == pytest.approx(below.any(axis=1).mean(), abs=0.005)


def test_a_staircase_by_hand() -> None:
    points = np.array([[1.0, 1.0], [2.0, 3.0], [4.0, 6.0], [1.5, 5.0]])
    assert hypervolume(points, np.array([0.0, 10.0])) == 1 * 9 + 1 * 7 + 2 * 4
    np.testing.assert_array_equal(pareto_front(points), [True, True, True, False])


@given(small, st.tuples(st.integers(-3, 6), st.integers(-3, 6)))
def test_more_points_never_take_area_away_and_the_front_has_it_all(
    pairs: list[tuple[int, int]], new: tuple[int, int]
) -> None:
    reference, points, more = np.array([-4.0, 7.0]), cloud(pairs), cloud([*pairs, new])
    assert hypervolume(more, reference) >= hypervolume(points, reference)
    assert hypervolume(points[pareto_front(points)], reference) == hypervolume(points, reference)


def test_many_sets_at_once_are_each_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    sets = rng.integers(0, 8, (3, 5, 9, 2)).astype(float)
    sets[rng.random((3, 5, 9)) < 0.3] = np.nan
    reference = np.array([1.0, 6.0])
    areas, fronts = hypervolume(sets, reference), pareto_front(sets)
    assert areas.shape == (3, 5)
    assert fronts.shape == (3, 5, 9)
    for at in np.ndindex(3, 5):
        there = ~np.isnan(sets[at]).any(axis=1)
        assert areas[at] == hypervolume(sets[at][there], reference)
        np.testing.assert_array_equal(fronts[at][there], pareto_front(sets[at][there]))
        assert not fronts[at][~there].any()
    monkeypatch.setattr(module, "_AT_ONCE", 20)
    np.testing.assert_array_equal(hypervolume(sets, reference), areas)


@pytest.mark.parametrize("shape", [(0, 2), (4, 0, 2), (0, 3, 2)])
def test_nothing_dominates_nothing(shape: tuple[int, ...]) -> None:
    np.testing.assert_array_equal(hypervolume(np.zeros(shape), np.zeros(2)), np.zeros(shape[:-2]))
    assert pareto_front(np.zeros(shape)).shape == shape[:-1]


@pytest.mark.parametrize("point", [(0.0, 1.0), (5.0, 4.0), (-1.0, 2.0), (3.0, 9.0)])
def test_points_no_better_than_the_reference_add_nothing(point: tuple[float, float]) -> None:
    assert hypervolume(np.array([point]), np.array([0.0, 4.0])) == 0


@pytest.mark.parametrize("points", [np.zeros(2), np.zeros((3, 3)), np.zeros(())])
def test_wrong_points(points: np.ndarray) -> None:
    for call in (pareto_front, lambda p: hypervolume(p, np.zeros(2))):
        with pytest.raises(UsageError, match=r"expected points \[\.\.\., n, 2\] of \(quality, cost\), got shape"):
            call(points)


@pytest.mark.parametrize("reference", [[0.0], [0.0, np.nan], [0.0, np.inf], [[0.0, 1.0]]])
def test_wrong_references(reference: list) -> None:
    with pytest.raises(UsageError, match=r"expected a reference \(quality, cost\) of two finite numbers"):
        hypervolume(np.zeros((3, 2)), np.array(reference))


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=10))
def test_three_metrics_by_counting_unit_cubes(triples: list[tuple[int, int, int]]) -> None:
    points = np.array(triples, float).reshape(-1, 3)
    cubes = sum(bool((points >= np.array(cell) + 1).all(axis=1).any()) for cell in np.ndindex(4, 4, 4))
    assert dominated_volume(points, np.zeros(3)) == cubes
    beaten = [bool(((points >= p).all(axis=1) & (points > p).any(axis=1)).any()) for p in points]
    np.testing.assert_array_equal(non_dominated(points), ~np.array(beaten, bool))


@given(small)
def test_two_metrics_are_quality_and_cost(pairs: list[tuple[int, int]]) -> None:
    points = cloud(pairs)
    flipped = points * [1, -1]
    np.testing.assert_array_equal(non_dominated(flipped), pareto_front(points))
    assert dominated_volume(flipped, np.array([-4.0, -7.0])) == hypervolume(points, np.array([-4.0, 7.0]))
    assert dominated_volume(points[:, :1], np.array([-4.0])) == (points[:, 0].max() + 4 if len(points) else 0)
