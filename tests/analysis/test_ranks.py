"""The judge of budgeted searches against brute force and closed forms."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp_jax import checks
from ncp_jax.analysis import ranks as trace

VALUES = np.array([3.0, 9.0, 9.0, -1.0, 4.0])


@given(st.integers(1, 12), st.integers(0, 10**6))
def test_best_ranks_and_regret_equal_brute_force(n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 6, n).astype(float)  # ties are common
    asked = np.stack([rng.permutation(n)[: rng.integers(1, n + 1)] for _ in range(1)])
    best = [max(values[asked[0, : j + 1]]) for j in range(asked.shape[1])]
    assert trace.best_ranks(asked, values)[0].tolist() == [1 + sum(v > b for v in values) for b in best]
    assert trace.regret(asked, values)[0].tolist() == [max(values) - b for b in best]


def test_runs_are_judged_apart() -> None:
    asked = np.array([[3, 0, 4], [4, 2, 3]], np.int32)
    assert trace.best_ranks(asked, VALUES).tolist() == [[5, 4, 3], [3, 1, 1]]
    assert trace.regret(asked, VALUES).tolist() == [[10, 6, 5], [5, 0, 0]]
    assert trace.percentiles(trace.best_ranks(asked, VALUES), 5).tolist() == [[100, 80, 60], [60, 20, 20]]


def test_kendall_tau_equals_the_count_of_pairs() -> None:
    rng = np.random.default_rng(0)
    scores, values = rng.normal(size=(3, 30)), rng.normal(size=30)
    pairs = list(itertools.combinations(range(30), 2))
    expected = [np.mean([np.sign((s[i] - s[j]) * (values[i] - values[j])) for i, j in pairs]) for s in scores]
    np.testing.assert_allclose(trace.kendall_tau(scores, values), expected, atol=1e-12)
    assert trace.kendall_tau(np.stack([values, -values]), values).tolist() == pytest.approx([1, -1])


def test_a_belief_without_order_has_no_tau() -> None:
    assert np.isnan(trace.kendall_tau(np.zeros((1, 5)), VALUES)).all()


@pytest.mark.parametrize(("n", "k"), [(1, 1), (5, 1), (6, 3), (7, 7)])
def test_expected_random_rank_is_the_mean_over_all_subsets(n: int, k: int) -> None:
    mean = np.mean([min(subset) for subset in itertools.combinations(range(1, n + 1), k)])
    assert trace.expected_random_rank(n, k) == pytest.approx(mean)


def test_ties_of_a_table_share_the_better_rank() -> None:
    assert trace.table_ranks(np.array([2.0, 7.0, 7.0, -1.0])).tolist() == [3, 1, 1, 4]
    for values in (np.array([1.0, np.nan]), np.zeros(0), np.zeros((2, 2))):
        with pytest.raises(checks.UsageError, match=r"expected finite values \[n\]"):
            trace.table_ranks(values)


@pytest.mark.parametrize("function", [trace.best_ranks, trace.regret])
@pytest.mark.parametrize("asked", [[[0, -1]], [[5]], [0, 1], [[0.0]]])
def test_rows_outside_the_table_are_refused(function, asked) -> None:
    with pytest.raises(checks.UsageError, match=r"expected integer rows \[runs, k\] in 0..4.*spend the whole budget"):
        function(np.array(asked), VALUES)


def test_other_errors() -> None:
    with pytest.raises(checks.UsageError, match=r"expected finite values \[n\]"):
        trace.regret(np.zeros((1, 1), int), [np.nan])
    with pytest.raises(checks.UsageError, match=r"expected ranks in 1..5, got 1..6"):
        trace.percentiles(np.array([1, 6]), 5)
    with pytest.raises(checks.UsageError, match=r"expected ranks in 1..5, got 0..0"):
        trace.percentiles(np.array([0]), 5)
    with pytest.raises(checks.UsageError, match=r"expected scores \[runs, 5\] without NaN"):
        trace.kendall_tau(np.full((2, 5), np.nan), VALUES)
    with pytest.raises(checks.UsageError, match=r"expected scores \[runs, 5\] without NaN"):
        trace.kendall_tau(np.zeros(5), VALUES)
    with pytest.raises(checks.UsageError, match=r"expected k in 1..5 draws, got 6"):
        trace.expected_random_rank(5, 6)
