from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.stats import binomtest

from ncp_jax.analysis import intervals
from ncp_jax.analysis.intervals import (
    bootstrap_means,
    mean_interval,
    percentile_interval,
    resampling_weights,
    wilson_interval,
)
from ncp_jax.checks import UsageError


def test_one_value_is_its_own_interval() -> None:
    assert mean_interval([0.7]) == {"mean": 0.7, "low": 0.7, "high": 0.7, "n": 1}


def test_the_interval_of_a_normal_sample_is_close_to_the_textbook() -> None:
    sample = np.random.default_rng(0).normal(3.0, 2.0, 400)
    found = mean_interval(sample.tolist())
    half = 1.96 * sample.std() / np.sqrt(400)
    assert found["mean"] == pytest.approx(sample.mean())
    assert found["low"] == pytest.approx(sample.mean() - half, abs=0.02)
    assert found["high"] == pytest.approx(sample.mean() + half, abs=0.02)
    assert found["n"] == 400
    narrow = mean_interval(sample.tolist(), level=0.5)
    assert found["low"] < narrow["low"] < found["mean"] < narrow["high"] < found["high"]


def test_it_covers_the_mean_as_often_as_it_says() -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(60):
        found = mean_interval(rng.exponential(1.0, 40).tolist(), level=0.8)
        hits += found["low"] <= 1.0 <= found["high"]
    assert 38 <= hits <= 57  # 48 expected, three deviations of a binomial


def test_same_values_same_interval() -> None:
    assert mean_interval([1.0, 2.0, 4.0]) == mean_interval([1.0, 2.0, 4.0])


def test_fewer_samples_are_the_first_ones_of_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the samples are too many to be kept, and for dense and sparse observations alike."""
    sample = np.random.default_rng(2).normal(size=(5000, 3)) * (np.arange(3) > 0)
    whole = bootstrap_means(sample, seed=3)
    np.testing.assert_allclose(bootstrap_means(sample, resamples=100, seed=3), whole[:100], rtol=1e-12)
    np.testing.assert_allclose(bootstrap_means(csr_array(sample), seed=3), whole, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(intervals, "_CACHED_BYTES", 0)
    np.testing.assert_array_equal(bootstrap_means(sample, seed=3), whole)


def test_no_values_have_no_mean() -> None:
    with pytest.raises(UsageError, match="expected at least one value, got none; leave the empty group out"):
        mean_interval([])


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 5), (3, 7), (199, 200), (200, 200), (50_000, 100_000)])
def test_wilson_against_scipy(hits: int, n: int) -> None:
    low, high = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=1e-6)


@given(n=st.integers(1, 60), block=st.integers(1, 25), seed=st.integers(0, 5))
def test_weights_of_a_sample_sum_to_one_and_each_is_a_count(n: int, block: int, seed: int) -> None:
    parts = list(resampling_weights(n, resamples=20, seed=seed, block=block))
    assert [i for part, _ in parts for i in range(part.start, part.stop)] == list(range(n))
    weights = np.concatenate([w for _, w in parts], axis=1)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights * n, np.rint(weights * n), atol=1e-9)
    assert weights.min() >= 0


@pytest.mark.parametrize("block", [4, 7, 50])
def test_weights_have_the_moments_of_sampling_with_replacement(block: int) -> None:
    n, resamples = 10, 40_000
    weights = np.concatenate([w for _, w in resampling_weights(n, resamples=resamples, block=block)], axis=1) * n
    covariance = np.eye(n) - 1 / n  # of a multinomial draw of n with equal chances
    np.testing.assert_allclose(weights.mean(axis=0), 1, atol=0.03)
    np.testing.assert_allclose(np.cov(weights.T), covariance, atol=0.04)


def test_resampled_means_agree_with_the_plain_bootstrap() -> None:
    sample = np.random.default_rng(3).exponential(size=(80, 2)) * [1, 10]
    means = bootstrap_means(sample, resamples=4000)
    assert means.shape == (4000, 2)
    low, high = percentile_interval(means)
    for k in range(2):
        plain = mean_interval(sample[:, k])
        width = plain["high"] - plain["low"]
        assert low[k] == pytest.approx(plain["low"], abs=0.06 * width)
        assert high[k] == pytest.approx(plain["high"], abs=0.06 * width)


def test_equal_seeds_resample_pairs_together() -> None:
    x = np.random.default_rng(4).normal(size=(30, 1))
    np.testing.assert_allclose(bootstrap_means(x + 5, seed=[1, 2]), bootstrap_means(x, seed=[1, 2]) + 5)
    assert not np.allclose(bootstrap_means(x, seed=[1, 3]), bootstrap_means(x, seed=[1, 2]))


def test_not_a_number_stays_in_its_column() -> None:
    means = bootstrap_means(np.array([[1.0, np.nan], [2.0, 3.0]]), resamples=50)
    assert np.isfinite(means[:, 0]).all()
    assert np.isnan(means[:, 1]).all()
