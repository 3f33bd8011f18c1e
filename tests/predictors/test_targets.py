"""Normal, exponential and expected scores against SciPy's ranks and quantiles."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ncp_jax.predictors.targets import expected_scores, exponential_scores, normal_scores


@given(st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=8, max_size=8))
@settings(max_examples=30, deadline=None)
def test_normal_scores_equal_scipys(values: list) -> None:
    known = np.array([v is not None for v in values])
    numbers = np.array([np.nan if v is None else v for v in values], np.float32)
    expected = np.zeros(8)
    if known.any():
        quantile = (stats.rankdata(numbers[known]) - 0.5) / known.sum()
        expected[known] = stats.norm.ppf(quantile)
    np.testing.assert_allclose(normal_scores(numbers, known.astype(np.float32)), expected, atol=1e-4)


def test_normal_scores_see_the_order_alone() -> None:
    values = np.random.default_rng(0).normal(size=(2, 9)).astype(np.float32)
    mask = np.ones((2, 9), np.float32)
    scores = np.asarray(normal_scores(values, mask))
    np.testing.assert_array_equal(scores, normal_scores(np.exp(values), mask))
    np.testing.assert_allclose(scores, -np.asarray(normal_scores(-values, mask)), atol=1e-5)
    np.testing.assert_array_equal(scores[1], normal_scores(values[1], mask[1]))


def test_normal_scores_of_masked_values() -> None:
    values, mask = np.array([1.0, np.nan, 2.0, -9.0, np.inf], np.float32), np.array([1, 0, 1, 1, 0], np.float32)
    scores = np.asarray(normal_scores(values, mask))
    assert scores[[1, 4]].tolist() == [0, 0]
    np.testing.assert_allclose(scores[[3, 0, 2]], stats.norm.ppf([1 / 6, 1 / 2, 5 / 6]), atol=1e-5)
    # Where another value stands behind a mask changes nothing.
    np.testing.assert_array_equal(scores, normal_scores(np.array([1, 5, 2, -9, -5], np.float32), mask))


def test_normal_scores_share_the_middle_and_ignore_empty_slots() -> None:
    values = jnp.array([3.0, 1.0, 1.0, 99.0, -np.inf])
    wanted = np.r_[stats.norm.ppf((stats.rankdata(values[:4]) - 0.5) / 4), 0.0]
    np.testing.assert_allclose(normal_scores(values, jnp.arange(5) < 4), wanted, atol=1e-6)
    np.testing.assert_array_equal(normal_scores(jnp.full(3, 7.0), jnp.ones(3, bool)), np.zeros(3))
    assert np.isfinite(normal_scores(values, jnp.zeros(5, bool))).all()


def test_an_edge_keeps_quantiles_away_from_the_ends() -> None:
    scores = normal_scores(jnp.arange(4.0), jnp.ones(4, bool), edge=0.3)
    wanted = stats.norm.ppf([0.3, 0.375, 0.625, 0.7])
    np.testing.assert_allclose(scores, wanted, atol=1e-6)


@given(st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=8, max_size=8))
@settings(max_examples=30, deadline=None)
def test_exponential_scores_equal_scipys(values: list) -> None:
    known = np.array([v is not None for v in values])
    numbers = np.array([np.nan if v is None else v for v in values], np.float32)
    expected = np.zeros(8)
    if known.any():
        expected[known] = stats.expon.ppf((stats.rankdata(numbers[known]) - 0.5) / known.sum()) - 1
    np.testing.assert_allclose(exponential_scores(numbers, known), expected, atol=1e-4)


def test_exponential_scores_count_from_the_best() -> None:
    scores = np.asarray(exponential_scores(jnp.arange(1000.0), jnp.ones(1000, bool)))
    assert scores.mean() == pytest.approx(0, abs=0.01)
    assert scores.std() == pytest.approx(1, abs=0.01)
    rank = 1000 - np.arange(1000)
    np.testing.assert_allclose(np.exp(scores[-50:-1] - scores[-1]), 0.5 / (rank[-50:-1] - 0.5), rtol=1e-3)


@given(st.lists(st.one_of(st.none(), st.integers(-3, 3)), min_size=8, max_size=8))
@settings(max_examples=30, deadline=None)
def test_expected_scores_have_the_order_of_the_values(values: list) -> None:
    known = np.array([v is not None for v in values])
    numbers = np.array([np.nan if v is None else v for v in values], np.float32)
    expected = np.random.default_rng(0).normal(size=8).astype(np.float32)
    wanted = np.zeros(8)
    if known.any():
        places = stats.rankdata(numbers[known]) - 1
        wanted[known] = np.interp(places, np.arange(known.sum()), np.sort(expected[known]))
    found = jax.jit(expected_scores)(jnp.asarray(numbers), known, jnp.asarray(expected))
    np.testing.assert_allclose(found, wanted, atol=1e-6)
