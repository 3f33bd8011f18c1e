from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import PermutationMethod, friedmanchisquare, mannwhitneyu, studentized_range, wilcoxon

from ncp_jax.analysis import comparison
from ncp_jax.analysis.comparison import (
    a12,
    block_ranks,
    compare,
    critical_difference,
    friedman,
    holm,
    nemenyi_p,
    signed_rank,
)
from ncp_jax.checks import UsageError

# Demšar (JMLR 2006), table 6: ranks of C4.5, C4.5+m, C4.5+cf and C4.5+m+cf on 14 data sets.
DEMSAR = np.array(
    [
        *([4, 3, 2, 1], [1, 2, 3, 4], [4, 1, 2, 3], [4, 1, 3, 2], [4, 2, 3, 1], [1, 2.5, 4, 2.5], [3, 2, 4, 1]),
        *([2.5, 2.5, 4, 1], [4, 3, 2, 1], [2.5] * 4, [4, 2.5, 1, 2.5], [3, 2, 4, 1], [4, 1, 2, 3], [3, 1, 4, 2]),
    ]
)
NAMES = ("C4.5", "C4.5+m", "C4.5+cf", "C4.5+m+cf")
tables = hnp.arrays(np.int64, st.tuples(st.integers(1, 8), st.integers(1, 5)), elements=st.integers(0, 4))


def test_the_textbook_example() -> None:
    found = compare(DEMSAR, NAMES)
    # The paper sums the ranks of columns three and four to 2.893 and 1.964.
    assert list(found.average_rank.values()) == pytest.approx([3.143, 2.000, 2.893, 1.964], abs=5e-4)
    assert found.critical_difference == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, alpha=0.10) == pytest.approx(1.12, abs=0.005)
    assert found.blocks == 14
    # Without the correction for ties, as in the paper, chi-squared is 9.28 and F is 3.69.
    tied = 3 * (2**3 - 2) + (4**3 - 4)  # three pairs and one four
    corrected = 1 - tied / (14 * (4**3 - 4))
    assert found.friedman.statistic * corrected == pytest.approx(9.28, abs=0.01)
    chi = found.friedman.statistic * corrected
    assert 13 * chi / (14 * 3 - chi) == pytest.approx(3.69, abs=0.01)
    # "C4.5 is significantly worse than C4.5+m+cf and C4.5+m is not": only at 0.10 it is.
    assert found.groups == [["C4.5+m+cf", "C4.5+m", "C4.5+cf", "C4.5"]]
    at_ten = compare(DEMSAR, NAMES, alpha=0.10).groups
    assert at_ten == [["C4.5+m+cf", "C4.5+m", "C4.5+cf"], ["C4.5+cf", "C4.5"]]


@pytest.mark.parametrize(("methods", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (7, 2.949), (10, 3.164)])
def test_the_critical_values_of_the_textbook(methods: int, q: float) -> None:
    found = critical_difference(methods, 30) / math.sqrt(methods * (methods + 1) / (6 * 30))
    assert found == pytest.approx(q, abs=1e-3)


def test_nemenyi_meets_alpha_at_the_critical_difference() -> None:
    assert nemenyi_p(critical_difference(5, 12), 5, 12) == pytest.approx(0.05, abs=1e-6)
    assert nemenyi_p(0.0, 5, 12) == pytest.approx(1)
    assert nemenyi_p(-1.0, 5, 12) == nemenyi_p(1.0, 5, 12)
    # A large number of degrees of freedom stands for infinitely many.
    wide = studentized_range.sf(1.0 / math.sqrt(5 * 6 / (12 * 12)), 5, 1e6)
    assert nemenyi_p(1.0, 5, 12) == pytest.approx(wide, abs=1e-4)


@given(tables)
def test_ranks_of_a_block_sum_to_the_same(scores: np.ndarray) -> None:
    ranks = block_ranks(scores)
    k = scores.shape[1]
    np.testing.assert_allclose(ranks.sum(axis=1), k * (k + 1) / 2)
    for row, rank in zip(scores, ranks, strict=True):
        brute = [(row < value).sum() + ((row == value).sum() + 1) / 2 for value in row]
        np.testing.assert_allclose(rank, brute)


@given(tables)
def test_friedman_against_scipy(scores: np.ndarray) -> None:
    found = friedman(scores)
    if scores.shape[0] < 2 or scores.shape[1] < 3:
        assert found is None
        return
    assert found is not None
    if (scores == scores[:, :1]).all():
        assert (found.statistic, found.p) == (0, 1)
        return
    oracle = friedmanchisquare(*scores.T)
    assert (found.statistic, found.p) == pytest.approx((oracle.statistic, oracle.pvalue))
    assert found.df == scores.shape[1] - 1
    assert found.f is None or math.isfinite(found.f)


def test_friedman_with_one_order_throughout() -> None:
    found = friedman(np.tile([1.0, 2.0, 3.0], (5, 1)))
    assert found is not None
    assert found.statistic == pytest.approx(10)
    assert (found.f, found.f_p) == (None, None)


def test_holm_by_hand_and_by_its_bounds() -> None:
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1.0, 1.0])
    assert holm([]).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni(p: list[float]) -> None:
    adjusted = holm(p)
    assert (adjusted >= np.array(p) - 1e-15).all()
    assert (adjusted <= np.minimum(1, len(p) * np.array(p)) + 1e-15).all()
    order = np.argsort(p, kind="stable")
    assert (np.diff(adjusted[order]) >= 0).all()
    # The definition: hypotheses are rejected in order until the first that is not.
    for alpha in (0.01, 0.05, 0.2):
        below = [p[i] * (len(p) - step) < alpha for step, i in enumerate(order)]
        count = below.index(False) if False in below else len(p)
        assert set(np.flatnonzero(adjusted < alpha)) == set(order[:count].tolist())


@given(st.integers(1, 40), st.integers(0, 10))
def test_signed_ranks_without_ties_against_scipy(n: int, seed: int) -> None:
    a, b = np.random.default_rng(seed).normal(size=(2, n))
    oracle = wilcoxon(a, b, method="exact")
    assert signed_rank(a, b) == pytest.approx((oracle.statistic, oracle.pvalue))


@pytest.mark.parametrize("seed", range(6))
def test_signed_ranks_with_ties_against_all_permutations(seed: int) -> None:
    a, b = np.random.default_rng(seed).integers(0, 5, (2, 9)).astype(float)
    some = a != b
    oracle = wilcoxon(a[some], b[some], method=PermutationMethod(n_resamples=np.inf))
    statistic, p = signed_rank(a, b)
    assert p == pytest.approx(oracle.pvalue)
    assert statistic == oracle.statistic


def test_signed_ranks_of_many_pairs_are_scipys_and_go_on_from_the_exact_ones() -> None:
    a, b = np.random.default_rng(0).integers(0, 9, (2, 400)).astype(float)
    oracle = wilcoxon(a[a != b], b[a != b], method="approx")
    assert signed_rank(a, b) == (oracle.statistic, oracle.pvalue)
    x, y = np.random.default_rng(1).normal(size=(2, comparison.EXACT))
    assert signed_rank(x, y)[1] == pytest.approx(wilcoxon(x, y, method="approx").pvalue, abs=0.01)


def test_signed_ranks_of_equal_scores() -> None:
    assert signed_rank(np.ones(4), np.ones(4)) == (0.0, 1.0)
    # 0.1 + 0.2 is 0.3 but for rounding.
    assert signed_rank(np.array([0.1 + 0.2]), np.array([0.3]))[1] == 1.0


def test_few_pairs_are_never_significant() -> None:
    for n in range(1, 6):
        assert signed_rank(np.zeros(n), np.arange(1.0, n + 1))[1] >= 0.05


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
    st.lists(st.integers(0, 5), min_size=1, max_size=12),
)
def test_a12_by_brute_force_and_against_mann_whitney(a: list[int], b: list[int]) -> None:
    brute = np.mean([(x < y) + 0.5 * (x == y) for x in a for y in b])
    assert a12(np.array(a), np.array(b)) == pytest.approx(brute)
    assert mannwhitneyu(b, a).statistic / (len(a) * len(b)) == pytest.approx(brute)


def test_pairs_count_wins_and_correct_for_their_number() -> None:
    rng = np.random.default_rng(2)
    scores = rng.normal([0.0, 0.2, 3.0], size=(30, 3))
    found = compare(scores, ["a", "b", "c"])
    assert [(p.a, p.b) for p in found.pairs] == [("a", "b"), ("a", "c"), ("b", "c")]
    for pair in found.pairs:
        assert pair.wins + pair.ties + pair.losses == 30
        assert pair.p_holm >= pair.p
    np.testing.assert_allclose([p.p_holm for p in found.pairs], holm([p.p for p in found.pairs]))
    assert found.pairs[1].wins == (scores[:, 0] < scores[:, 2]).sum()
    assert found.pairs[1].a12 > 0.9
    assert found.pairs[1].rank_difference < -1


def test_effect_sizes_are_within_strata() -> None:
    """Scores of the second stratum are all above those of the first: only within a stratum do they compare."""
    scores = np.array([[1.0, 2.0], [1.0, 2.0], [101.0, 102.0], [101.0, 102.0]])
    assert compare(scores, ["a", "b"], strata=[0, 0, 1, 1]).pairs[0].a12 == 1.0
    assert compare(scores, ["a", "b"]).pairs[0].a12 == 0.75


def test_two_methods_are_grouped_by_the_signed_ranks() -> None:
    same = np.array([[1.0, 2.0], [2.0, 1.0], [1.0, 2.0]])
    found = compare(same, ["a", "b"])
    assert (found.friedman, found.critical_difference) == (None, None)
    assert found.groups == [["a", "b"]]
    apart = np.stack([np.arange(10.0), np.arange(10.0) + 1 + np.arange(10) / 100], axis=1)
    assert compare(apart, ["a", "b"]).groups == []


@pytest.mark.parametrize(("blocks", "methods"), [(1, 1), (1, 3), (5, 1), (1, 2)])
def test_too_little_for_a_test(blocks: int, methods: int) -> None:
    found = compare(np.arange(blocks * methods, dtype=float).reshape(blocks, methods), [str(i) for i in range(methods)])
    assert found.friedman is None
    assert found.critical_difference is None
    assert len(found.pairs) == methods * (methods - 1) // 2
    assert all(pair.p == 1.0 for pair in found.pairs)


def test_all_methods_alike() -> None:
    found = compare(np.ones((6, 4)), list("abcd"))
    assert found.friedman.p == 1
    assert found.groups == [list("abcd")]
    assert {pair.a12 for pair in found.pairs} == {0.5}
    assert {pair.p_holm for pair in found.pairs} == {1.0}


def test_many_methods_are_compared_with_the_best(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "ALL_PAIRS", 3)
    scores = np.random.default_rng(3).normal([0, 0, 0, -9, 0], size=(12, 5))
    found = compare(scores, list("abcde"))
    assert found.pairs_of == "with the best"
    assert [pair.a for pair in found.pairs] == ["d"] * 4
    assert sorted(pair.b for pair in found.pairs) == list("abce")


@given(tables, st.floats(0.1, 5))
def test_groups_are_the_largest_within_reach(scores: np.ndarray, reach: float) -> None:
    ranks = block_ranks(scores).mean(axis=0)
    order = np.argsort(ranks, kind="stable")
    groups = comparison._groups(order, ranks, reach)
    sets = [set(group) for group in groups]
    for group in groups:
        assert ranks[group[-1]] - ranks[group[0]] <= reach
        assert len(group) > 1
    assert not any(a < b for a in sets for b in sets)
    for i in range(len(ranks)):
        for j in range(i):
            together = any({i, j} <= group for group in sets)
            assert together == (abs(ranks[i] - ranks[j]) <= reach)


@pytest.mark.parametrize("scores", [np.zeros(3), np.zeros((0, 2)), np.array([[1.0, np.nan]])])
def test_wrong_scores(scores: np.ndarray) -> None:
    for call in (block_ranks, friedman, lambda s: compare(s, ["a", "b"])):
        with pytest.raises(UsageError, match=r"expected scores \[blocks, methods\] without NaN, at least one"):
            call(scores)


def test_wrong_names_and_numbers() -> None:
    with pytest.raises(UsageError, match="expected 2 names, got 1"):
        compare(np.zeros((2, 2)), ["a"])
    for methods, blocks, alpha in ((1, 5, 0.05), (3, 0, 0.05), (3, 5, 0.0), (3, 5, 1.0)):
        with pytest.raises(UsageError, match=r"expected two methods, a block and an alpha in 0\.\.1"):
            critical_difference(methods, blocks, alpha=alpha)
