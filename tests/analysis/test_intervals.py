from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp

from ncp_jax.analysis.intervals import interval, mean_interval, wilson_interval
from ncp_jax.checks import UsageError


def ends(found: dict[str, float]) -> tuple[float, float]:
    return found["low"], found["high"]


def test_one_value_is_its_own_interval() -> None:
    assert mean_interval([0.7]) == {"mean": 0.7, "low": 0.7, "high": 0.7, "n": 1}


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("values", [[1.0, 3.0], [-2.0, 0.0, 2.0], [1.0, 2.0, 4.0, 5.0]])
def test_a_symmetric_sample_has_students_interval(values: list[float], level: float) -> None:
    plain = ttest_1samp(values, 0).confidence_interval(level)
    assert ends(mean_interval(values, level=level)) == pytest.approx((plain.low, plain.high), rel=1e-4)


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=20))
def test_the_interval_is_never_narrower_than_students(values: list[float]) -> None:
    found, plain = mean_interval(values), ttest_1samp(values, 0).confidence_interval()
    slack = 1e-6 * (1 + np.ptp(values)) + 1e-9 * max(map(abs, values))
    assert found["low"] <= (plain.low if np.isfinite(plain.low) else found["mean"]) + slack
    assert found["high"] >= (plain.high if np.isfinite(plain.high) else found["mean"]) - slack


def test_the_longer_tail_has_the_longer_side() -> None:
    found = mean_interval([1.0, 1.1, 1.2, 5.0])
    assert found["high"] - found["mean"] > 1.2 * (found["mean"] - found["low"])
    mirrored = mean_interval([-1.0, -1.1, -1.2, -5.0])
    assert ends(mirrored) == pytest.approx((-found["high"], -found["low"]))


@pytest.mark.parametrize("factor", [1e-300, 1e-30, 1.0, 1e61, 1e300])
def test_the_unit_does_not_matter(factor: float) -> None:
    sample = np.array([1.0, 2.5, 2.0, 7.0])
    plain, found = mean_interval(sample), mean_interval(sample * factor)
    assert ends(found) == pytest.approx((plain["low"] * factor, plain["high"] * factor), rel=1e-12, abs=0)


def test_bounds_of_the_quantity_bound_the_interval() -> None:
    found = mean_interval([0.1, 0.2, 60.0], least=0.0, most=100.0)
    assert ends(found) == (0.0, 100.0)
    assert ends(mean_interval([0.0, 0.0, 0.0], least=0.0)) == (0.0, 0.0)


@pytest.mark.parametrize("value", [0.1, 71.123, 1e61, -3e-30])
def test_equal_values_have_no_width(value: float) -> None:
    found = mean_interval([value] * 7)
    assert found["low"] == found["mean"] == found["high"]


def test_values_of_one_seed_count_together() -> None:
    values = np.random.default_rng(3).normal(size=(5, 4))
    seeds = np.arange(5).repeat(4)
    found = mean_interval(values.ravel(), seeds=seeds)
    assert ends(found) == pytest.approx(ends(mean_interval(values.mean(axis=1))))
    assert found["n"] == 20
    # Repeating every value tells nothing new.
    again = mean_interval(values.ravel().repeat(3), seeds=seeds.repeat(3))
    assert ends(again) == pytest.approx(ends(found))
    assert ends(mean_interval([1.0, 2.0, 3.0], seeds=[7, 7, 7])) == (2.0, 2.0)


def test_a_difference_of_means_is_paired_by_seed() -> None:
    rng = np.random.default_rng(4)
    luck, gain = rng.normal(size=9), rng.normal(0.3, 0.1, 9)
    a, b = luck + gain, luck
    parts = np.concatenate([(a - a.mean()) / 9, -(b - b.mean()) / 9])
    found = interval(float(a.mean() - b.mean()), parts, seeds=np.tile(np.arange(9), 2))
    assert (found.low, found.high) == pytest.approx(ends(mean_interval(gain)))
    assert found.n is None


def test_no_values_have_no_mean() -> None:
    with pytest.raises(UsageError, match="expected at least one value, got none; leave the empty group out"):
        mean_interval([])


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (0, 5), (3, 7), (199, 200), (200, 200), (50_000, 100_000)])
def test_wilson_against_scipy(hits: int, n: int) -> None:
    low, high = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits, n) == pytest.approx((low, high), abs=1e-6)
