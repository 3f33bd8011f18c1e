from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import CensoredData, ecdf

from ncp_jax.analysis import survival
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.analysis.survival import influences, kaplan_meier, time_to_event
from ncp_jax.checks import UsageError

runs = st.lists(st.tuples(st.integers(0, 30), st.booleans()), min_size=1, max_size=40)


def arrays(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([t for t, _ in pairs], float), np.array([f for _, f in pairs], bool)


@given(runs)
def test_kaplan_meier_against_scipy(pairs: list[tuple[int, bool]]) -> None:
    times, found = arrays(pairs)
    distinct, left = kaplan_meier(times, found)
    oracle = ecdf(CensoredData(uncensored=times[found], right=times[~found])).sf
    np.testing.assert_array_equal(distinct, oracle.quantiles)
    np.testing.assert_allclose(left, oracle.probabilities, atol=1e-12)


def test_the_example_of_freireich() -> None:
    """Remission of 21 leukaemia patients under 6-MP, weeks; the product-limit values are in every textbook."""
    times = [6, 6, 6, 6, 7, 9, 10, 10, 11, 13, 16, 17, 19, 20, 22, 23, 25, 32, 32, 34, 35]
    seen = [1, 1, 1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    distinct, left = kaplan_meier(np.array(times, float), np.array(seen, bool))
    known = {6: 0.857, 7: 0.807, 10: 0.753, 13: 0.690, 16: 0.627, 22: 0.538, 23: 0.448}
    for time, share in known.items():
        assert left[distinct == time][0] == pytest.approx(share, abs=5e-4)
    assert time_to_event(np.array(times, float), np.array(seen, bool), 35.0).median == 23


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30))
def test_without_censoring_it_is_the_plain_mean(times: list[int]) -> None:
    found = time_to_event(np.array(times, float), np.ones(len(times), bool), 50)
    assert found.mean == pytest.approx(np.mean(times))
    assert not found.restricted
    assert (found.runs, found.found, found.censored, found.rate) == (len(times), len(times), 0, 1.0)
    assert found.median == sorted(times)[(len(times) - 1) // 2]
    assert found.low <= found.mean + 1e-9
    assert found.mean - 1e-9 <= found.high


def test_censored_at_the_budget_counts_the_budget() -> None:
    times, seen = np.array([10.0, 20, 100, 100]), np.array([True, True, False, False])
    found = time_to_event(times, seen, 100)
    assert found.mean == pytest.approx(57.5)
    assert found.restricted
    assert found.median == 20  # exactly a half has found it by then
    assert (found.found, found.censored, found.rate) == (2, 2, 0.5)
    assert time_to_event(times[1:], seen[1:], 100).median is None


def test_all_censored() -> None:
    found = time_to_event(np.full(5, 40.0), np.zeros(5, bool), 40)
    assert (found.mean, found.low, found.high) == pytest.approx((40, 40, 40))
    assert found.median is None
    assert found.censored == 5
    assert found.rate_low == 0


def test_early_censoring_by_hand() -> None:
    """Found at 1, lost at 2, found at 3, found at 4: survival 3/4 from 1, 3/8 from 3, 0 from 4."""
    times, seen = np.array([1.0, 2, 3, 4]), np.array([True, False, True, True])
    assert time_to_event(times, seen, 10).mean == pytest.approx(1 + 0.75 * 2 + 0.375)
    # A last run lost at 4 keeps 3/8 until the horizon.
    assert time_to_event(times, seen & (times < 4), 10).mean == pytest.approx(1 + 0.75 * 2 + 0.375 * 7)
    assert time_to_event(times, seen, 2.5).mean == pytest.approx(1 + 0.75 * 1.5)


def test_early_censoring_is_not_counted_as_success_or_dropped() -> None:
    """Exponential times, a third lost early at random: the estimate stays near the truth, naive means do not."""
    rng = np.random.default_rng(0)
    true, lost = rng.exponential(10, 4000), rng.exponential(20, 4000)
    times, seen = np.minimum(true, lost), true <= lost
    found = time_to_event(times, seen, 40)
    truth = 10 * (1 - np.exp(-4))
    assert found.mean == pytest.approx(truth, rel=0.04)
    assert found.low < truth < found.high
    assert times[seen].mean() < 0.8 * truth


def test_influences_are_the_slopes_of_the_estimate_by_the_runs_weights() -> None:
    """Checked by repeating every run often, and one of them once more."""
    rng, often = np.random.default_rng(1), 2000
    times, seen = rng.integers(1, 30, 25).astype(float), rng.random(25) < 0.7
    found, plain = influences(times, seen, 24), time_to_event(times, seen, 24).mean
    for run in range(25):
        counts = np.full(25, often)
        counts[run] += 1
        moved = time_to_event(np.repeat(times, counts), np.repeat(seen, counts), 24).mean
        # The weight of the run grows by 1 / (25 often), at the cost of all.
        assert (moved - plain) * often == pytest.approx(found[run], rel=0.01, abs=2e-3)


@given(runs, st.integers(1, 40))
def test_influences_sum_to_zero(pairs: list[tuple[int, bool]], horizon: int) -> None:
    assert influences(*arrays(pairs), horizon).sum() == pytest.approx(0, abs=1e-9 * horizon)


def test_without_early_censoring_the_interval_is_that_of_a_mean() -> None:
    rng = np.random.default_rng(2)
    times, seen = rng.integers(1, 30, 12).astype(float), rng.random(12) < 0.8
    times[~seen] = 25
    found, plain = time_to_event(times, seen, 25), mean_interval(np.minimum(times, 25), least=0, most=25)
    assert (found.mean, found.low, found.high) == pytest.approx((plain["mean"], plain["low"], plain["high"]))


@given(runs, st.integers(1, 40))
def test_a_mean_lies_within_its_bounds(pairs: list[tuple[int, bool]], horizon: int) -> None:
    times, found = arrays(pairs)
    result = time_to_event(times, found, horizon)
    assert -1e-9 <= result.low <= result.high <= horizon + 1e-9
    # Censored runs could only take longer.
    assert result.mean >= np.minimum(times, horizon).mean() - 1e-9


@pytest.mark.parametrize(
    ("times", "found"), [([], []), ([1.0], [True, False]), ([np.nan], [True]), ([-1.0], [True]), ([np.inf], [False])]
)
def test_wrong_runs(times: list[float], found: list[bool]) -> None:
    with pytest.raises(UsageError, match=r"expected one finite time >= 0 for each .*; give a censored run the queries"):
        time_to_event(np.array(times), np.array(found, bool), 10)


def test_the_horizon_is_a_number_above_zero() -> None:
    with pytest.raises(UsageError, match="horizon"):
        survival.time_to_event(np.ones(2), np.ones(2, bool), 0)
