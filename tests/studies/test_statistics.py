from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.studies.statistics import mean_interval


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
