"""What searchers know for free, against brute force over the codes."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np
import pytest
from scipy.spatial.distance import cdist

from ncp_jax import MetricSpec, Table, checks, get_space, load_table
from ncp_jax.searchers import Candidates

NAMES = ("nas-bench-201", "transnas-micro", "transnas-macro")


def table_of(space: str, codes: np.ndarray, seed: int = 0) -> Table:
    values = np.random.default_rng(seed).normal(size=(len(codes), 1))
    return Table.from_arrays("t", space=space, codes=codes, values=values, metrics=[MetricSpec("acc")])


def own(found: Candidates, row: int) -> list[int]:
    return np.asarray(found.neighbours)[row, : int(found.degree[row])].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_in_a_complete_space_they_are_all_codes_at_one_edit(name: str) -> None:
    codes = get_space(name).all_codes()
    found = Candidates.of(table_of(name, codes))
    np.testing.assert_array_equal(found.codes, codes)
    for row in np.random.default_rng(1).integers(len(codes), size=50):
        expected = np.flatnonzero((codes != codes[row]).sum(axis=1) == 1)
        assert sorted(own(found, row)) == expected.tolist()
        edited, legal = get_space(name).neighbours(codes[row])
        np.testing.assert_array_equal(codes[own(found, row)], np.asarray(edited)[np.asarray(legal)])  # in its order


@pytest.mark.parametrize("name", NAMES)
def test_in_a_part_of_a_space_they_are_those_of_the_part(name: str) -> None:
    space, rng = get_space(name), np.random.default_rng(2)
    codes = space.all_codes()
    codes = codes[rng.permutation(len(codes))[: len(codes) // 2]]
    found = Candidates.of(table_of(name, codes))
    assert int(found.degree.min()) >= 1
    for row in range(60):
        assert sorted(own(found, row)) == np.flatnonzero((codes != codes[row]).sum(axis=1) == 1).tolist()
    assert len(np.unique(np.asarray(found.degree))) > 3


def test_being_a_neighbour_is_mutual(candidates: Candidates) -> None:
    n = len(candidates)
    linked = np.zeros((n, n), bool)
    for row in range(n):
        linked[row, own(candidates, row)] = True
    assert (linked == linked.T).all()
    assert not linked.diagonal().any()
    assert (linked.sum(axis=1) == np.asarray(candidates.degree)).all()


def nearest(found: Candidates, k: int) -> np.ndarray:
    """Distances to the k nearest others, float64 [n, k], by brute force."""
    relaxed = np.asarray(found.relaxed, np.float64)
    spread = relaxed.std(axis=0)
    distances = cdist(relaxed / np.where(spread > 0, spread, 1), relaxed / np.where(spread > 0, spread, 1))
    np.fill_diagonal(distances, np.inf)
    ranked = np.sort(distances, axis=1)[:, :k]
    chosen = np.take_along_axis(distances, np.asarray(found.neighbours), axis=1)
    # Equally far rows may stand for each other: it is their distances that must agree.
    np.testing.assert_allclose(np.sort(chosen, axis=1), ranked, rtol=1e-3, atol=1e-3)
    return chosen


def test_in_a_sparse_table_they_are_the_sixteen_nearest(mirror: Path) -> None:
    table = load_table("nas-bench-mr/cls-50-1000")
    found = Candidates.of(table)
    assert found.neighbours.shape == (len(table), 16)
    assert (np.asarray(found.degree) == 16).all()
    chosen = nearest(found, 16)
    assert (np.diff(chosen, axis=1) > -1e-2).all()  # nearest first
    rows = np.arange(len(table))[:, None]
    assert (np.asarray(found.neighbours) != rows).all()
    assert all(len(set(line)) == 16 for line in np.asarray(found.neighbours).tolist())


def test_one_code_without_neighbours_makes_a_table_sparse() -> None:
    codes = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 2], [1, 1, 1, 1, 1, 3], [3, 3, 3, 3, 3, 3]], np.int32)
    found = Candidates.of(table_of("transnas-micro", codes))
    assert found.neighbours.shape == (4, 3)
    nearest(found, 3)
    assert Candidates.of(table_of("transnas-micro", codes[:3])).degree.tolist() == [2, 2, 2]


@pytest.mark.parametrize("name", NAMES)
def test_classes_are_those_of_the_canonical_codes(name: str) -> None:
    codes = get_space(name).all_codes()[::7]
    canonical = np.asarray(get_space(name).canonical(codes))
    classes = np.asarray(Candidates.of_space(name, codes).classes)
    same = {}
    for code, number in zip(map(tuple, canonical.tolist()), classes.tolist(), strict=True):
        assert same.setdefault(code, number) == number
    assert len(same) == len(set(classes.tolist())) == classes.max() + 1


def test_relaxed_codes_and_attributes(candidates: Candidates, small: Table) -> None:
    np.testing.assert_array_equal(candidates.relaxed, get_space(small.space).encode(small.codes))
    attributes = np.asarray(candidates.attributes)
    assert attributes.shape[0] == len(small)
    np.testing.assert_allclose(attributes.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(attributes.std(axis=0), 1, atol=1e-4)


def test_no_measured_value_is_inside(small: Table) -> None:
    found = Candidates.of(small)
    other = Candidates.of(table_of(small.space, np.asarray(small.codes), seed=5))
    assert jax.tree.structure(found) == jax.tree.structure(other)
    jax.tree.map(np.testing.assert_array_equal, found, other)
    values = np.asarray(small.column("acc"))
    for leaf in jax.tree.leaves(found):
        assert not np.isin(values, np.asarray(leaf, np.float32)).any()


def test_tables_of_the_same_architectures_share_them(small: Table) -> None:
    assert Candidates.of(small) is Candidates.of(table_of(small.space, np.asarray(small.codes), seed=6))


def test_candidates_of_a_space() -> None:
    jax.tree.map(
        np.testing.assert_array_equal,
        Candidates.of_space("macro"),
        Candidates.of(table_of("transnas-macro", get_space("macro").all_codes())),
    )


@pytest.mark.parametrize(
    ("codes", "text"),
    [
        ([[1, 1, 1, 1, 1, 1]], "expected at least two architectures to search, got 1; take a larger table"),
        ([[1, 1, 1, 1, 1, 1]] * 2, "expected different architectures, got some twice; drop the repeats"),
        ([[1, 1, 1, 1, 1, 9], [1] * 6], r"position 5 .* got 9"),
    ],
)
def test_wrong_candidates(codes: list[list[int]], text: str) -> None:
    with pytest.raises(checks.UsageError, match=text):
        Candidates.of_space("transnas-micro", np.array(codes))


def test_a_space_too_large_to_list() -> None:
    with pytest.raises(checks.UsageError, match="expected a space of at most"):
        Candidates.of_space("nas-bench-mr")
