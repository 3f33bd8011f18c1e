from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

from ncp_jax.checks import DataError, UsageError
from ncp_jax.embeddings import choose_anchors, fingerprint
from ncp_jax.spaces import get_space

NAN = np.nan


def test_ranks_centred_and_of_norm_one() -> None:
    found = fingerprint(np.array([[10.0, 30.0, 20.0], [-1.0, -3.0, -3.0]]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], np.array([-1, 1, 0]) / 2**0.5, atol=1e-7)
    np.testing.assert_allclose(found[1], np.array([1, -0.5, -0.5]) / 1.5**0.5, atol=1e-7)
    np.testing.assert_array_equal(fingerprint([10, 30, 20]), found[0])


def test_what_was_not_measured_is_neutral() -> None:
    found = fingerprint(np.array([5.0, NAN, 1.0, 3.0, NAN]))
    np.testing.assert_allclose(found, np.array([1, 0, -1, 0, 0]) / 2**0.5, atol=1e-7)


@pytest.mark.parametrize("values", [[2.0, 2.0, 2.0], [NAN, NAN, NAN], [NAN, 4.0, NAN], [NAN, 1.0, 1.0]])
def test_no_order_is_all_zeros(values: list[float]) -> None:
    np.testing.assert_array_equal(fingerprint(values), np.zeros(3))
    np.testing.assert_array_equal(fingerprint([values, [1.0, 2.0, 3.0]])[0], np.zeros(3))


@settings(max_examples=50, deadline=None)
@given(hnp.arrays(np.int64, (2, 6), elements=st.integers(-3, 3)))
def test_inner_products_are_spearman_correlations(values: np.ndarray) -> None:
    first, second = fingerprint(values)
    if min(len(set(line)) for line in values.tolist()) > 1:
        assert first @ second == pytest.approx(spearmanr(*values).statistic, abs=1e-6)
    np.testing.assert_array_equal(fingerprint(values**3), fingerprint(values))


@pytest.mark.parametrize(
    ("values", "error", "text"),
    [
        ([1.0], UsageError, r"expected numbers \[\.\.\., k\] of k >= 2 architectures, got float64 \[1\]; give each"),
        (3.0, UsageError, r"got float64 \[\]"),
        (["a", "b"], UsageError, r"got <U1 \[2\]"),
        ([1.0, np.inf], DataError, "expected finite values or NaN, got an infinite one; use NaN for 'not measured'"),
    ],
)
def test_wrong_values(values: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        fingerprint(values)


def distances(codes: np.ndarray) -> np.ndarray:
    return (codes[:, None] != codes[None]).sum(axis=-1)


CODES = np.asarray(get_space("transnas-micro").sample(jax.random.key(0), 60))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_each_anchor_is_a_farthest_point(seed: int) -> None:
    between, rows = distances(CODES), choose_anchors(CODES, 10, key=jax.random.key(seed))
    for count in range(1, 10):
        nearest = between[:, rows[:count]].min(axis=1)
        assert nearest[rows[count]] == nearest.max()


def test_the_choice_follows_the_key_and_begins_alike_for_any_k() -> None:
    rows = choose_anchors(CODES, 20, key=jax.random.key(3))
    assert rows.dtype == np.int32
    np.testing.assert_array_equal(choose_anchors(CODES, 8, key=jax.random.key(3)), rows[:8])
    starts = {int(choose_anchors(CODES, 1, key=jax.random.key(seed))[0]) for seed in range(20)}
    assert len(starts) > 10


def test_all_of_them_and_repeated_codes_are_chosen_once() -> None:
    codes = np.array([[0, 0], [0, 0], [1, 1], [1, 1], [0, 1]])
    rows = choose_anchors(codes, 5, key=jax.random.key(0))
    assert sorted(rows.tolist()) == [0, 1, 2, 3, 4]
    assert len(np.unique(codes[rows[:3]], axis=0)) == 3


@pytest.mark.parametrize(
    ("codes", "k", "text"),
    [
        ([1, 2], 1, r"expected integer codes \[n, d\], got int64 \[2\]; give the codes of a table"),
        ([[0.5]], 1, r"got float64 \[1, 1\]"),
        (CODES, 0, r"expected k to be an integer in 1\.\.60, got 0; a fingerprint needs at least two"),
        (CODES, 61, r"in 1\.\.60, got 61"),
        (CODES, 2.0, r"in 1\.\.60, got 2\.0"),
    ],
)
def test_wrong_choices(codes: Any, k: Any, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        choose_anchors(codes, k, key=jax.random.key(0))
