"""Edits of several positions at once, from the scores of single ones."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ncp_jax import get_space
from ncp_jax.propagation.edits import double_edits, joint_edits

SPACE = get_space("nas-bench-201")
HERE = np.array([[0, 0, 0, 0, 0, 0], [1, 2, 3, 4, 0, 1]], np.int32)
NEAR = np.asarray(SPACE.neighbours(jnp.asarray(HERE))[0])
WORTH = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


def test_the_best_rising_edits_are_made_at_once() -> None:
    values = (NEAR * WORTH).sum(axis=-1)
    joint = joint_edits(HERE, NEAR, values, (HERE * WORTH).sum(axis=-1))
    # Two and four at once: of each position the best value, positions by what that brings.
    np.testing.assert_array_equal(joint[0], [[0, 0, 0, 0, 4, 4], [0, 0, 4, 4, 4, 4]])
    np.testing.assert_array_equal(joint[1], [[1, 2, 3, 4, 4, 4], [4, 4, 3, 4, 4, 4]])


def test_no_rising_edits_no_joint_ones() -> None:
    values = np.full(NEAR.shape[:2], -np.inf)
    values[0, 0] = 1.0  # a single one rises
    joint = joint_edits(HERE, NEAR, values, np.zeros(2))
    np.testing.assert_array_equal(joint, np.repeat(HERE[:, None], joint.shape[1], axis=1))


def test_exchanges_and_the_most_promising_pairs() -> None:
    here, near = HERE[1:], NEAR[1:]
    value = (here * WORTH).sum(axis=-1)
    values = -np.abs((near * WORTH).sum(axis=-1) - value[:, None])

    def two_places(codes: np.ndarray) -> np.ndarray:
        return (codes != here).sum(axis=1) == 2

    edited = double_edits(here, near, values, np.zeros(1), np.ones(1, bool), two_places)[0]
    exchanges = {tuple(c) for c in edited[:15].tolist()}
    for code in exchanges:
        assert sorted(code) == sorted(here[0].tolist())
    pairs = edited[15:]
    assert len(pairs) == near.shape[1] // 2
    # The least change in worth: the lightest two positions by one step each.
    costs = np.abs((pairs - here[0]) * WORTH).sum(axis=1)
    assert costs[0] == 3.0
    assert (np.diff(costs) >= 0).all()


def test_only_eligible_pairs_and_only_where_wanted() -> None:
    values = (NEAR * WORTH).sum(axis=-1)
    even = np.array([False, True])
    edited = double_edits(HERE, NEAR, values, np.zeros(2), even, lambda codes: codes.sum(axis=1) % 2 == 0)
    np.testing.assert_array_equal(edited[0], np.repeat(HERE[:1], edited.shape[1], axis=0))
    assert (edited[1, 15:].sum(axis=1) % 2 == 0).all()


def test_an_edit_without_a_score_counts_as_no_change() -> None:
    values = np.full(NEAR.shape[:2], -5.0)
    values[0, [0, 23]] = -np.inf  # position 0 and the last one
    edited = double_edits(HERE, NEAR, values, np.zeros(2), np.array([True, False]), lambda c: np.ones(len(c), bool))
    np.testing.assert_array_equal(edited[0, 15], [1, 0, 0, 0, 0, 4])
