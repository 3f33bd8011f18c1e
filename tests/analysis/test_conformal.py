"""Cross-conformal intervals against their definition, and the share of new values that they contain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp_jax.analysis.conformal import CrossConformal, needed_scores, quantile_ends

FOLDS = 5


def linear_models(x: np.ndarray, y: np.ndarray, fold: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Predictions of straight lines that are fitted without each fold, [K, k]."""
    lines = [np.polyfit(x[fold != k], y[fold != k], 1) for k in range(FOLDS)]
    return np.stack([np.polyval(line, where) for line in lines])


def draw(rng: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    """A line with errors that are skewed, and ten times as large at one end as at the other."""
    x = rng.uniform(size=n)
    return x, 3 * x + (0.1 + 0.9 * x) * (rng.exponential(size=n) - 1)


def calibrated(rng: np.random.Generator, n: int, level: float = 0.9) -> tuple[CrossConformal, np.ndarray, np.ndarray]:
    x, y = draw(rng, n)
    fold = rng.permutation(n) % FOLDS
    mean = linear_models(x, y, fold, x)[fold, np.arange(n)]
    return CrossConformal(fold, mean, np.ones(n), y, level), x, y


@pytest.mark.parametrize(("level", "scores"), [(0.9, 19), (0.8, 9), (0.95, 39), (0.5, 3), (0.99, 199)])
def test_how_many_scores_a_level_needs(level: float, scores: int) -> None:
    assert needed_scores(level) == scores
    enough, fewer = np.arange(float(scores))[None], np.arange(float(scores - 1))[None]
    assert np.isfinite(quantile_ends(enough, np.array([scores]), level)).all()
    assert quantile_ends(fewer, np.array([scores - 1]), level) == (-np.inf, np.inf)


@given(m=st.integers(1, 60), level=st.sampled_from([0.5, 0.8, 0.9, 0.95]))
def test_of_equally_likely_places_the_interval_holds_enough(m: int, level: float) -> None:
    # A further exchangeable value is equally likely in each of the m + 1 gaps between the others.
    low, high = quantile_ends(np.arange(1.0, m + 1)[None], np.array([m]), level)
    gaps = np.arange(m + 1) + 0.5
    assert np.mean((gaps > low) & (gaps < high)) >= level - 1e-9


def test_an_interval_is_what_its_definition_says() -> None:
    rng = np.random.default_rng(0)
    scores, x, y = calibrated(rng, 200)
    new = rng.uniform(size=7)
    mean = linear_models(x, y, scores.fold, new)
    scale = rng.uniform(0.5, 2, size=mean.shape)
    low, high = scores.interval(mean, scale)
    for place in range(len(new)):
        values = []
        for i in range(200):
            k = scores.fold[i]
            own, there = (np.searchsorted(scores.edges, v, side="right") for v in (scores.mean[i], mean[k, place]))
            if own == there:
                values.append(mean[k, place] + scale[k, place] * (y[i] - scores.mean[i]))
        values.sort()
        rank = int(0.05 * (len(values) + 1) + 1e-9)
        assert low[place] == pytest.approx(values[rank - 1])
        assert high[place] == pytest.approx(values[len(values) - rank])


def test_new_values_are_covered_also_where_predictions_are_highest() -> None:
    rng = np.random.default_rng(1)
    covered, top, one_bin = [], [], []
    for _ in range(40):
        scores, x, y = calibrated(rng, 400)
        new, values = draw(rng, 200)
        mean = linear_models(x, y, scores.fold, new)
        low, high = scores.interval(mean, np.ones_like(mean))
        inside, best = (low <= values) & (values <= high), mean.mean(axis=0) >= np.quantile(mean.mean(axis=0), 0.9)
        covered.append(inside.mean())
        top.append(inside[best].mean())
        errors = y - scores.mean
        ends = [mean.mean(axis=0) + np.quantile(errors, q) for q in (0.05, 0.95)]
        one_bin.append(((ends[0] <= values) & (values <= ends[1]))[best].mean())
        assert abs(scores.covered().mean() - 0.9) < 0.05
    assert np.mean(covered) == pytest.approx(0.9, abs=0.015)
    assert np.mean(top) == pytest.approx(0.9, abs=0.025)
    assert np.mean(one_bin) < 0.85  # what the bins are for


def test_held_out_rows_are_covered_by_the_scores_of_other_folds_in_their_bin() -> None:
    scores = calibrated(np.random.default_rng(4), 150)[0]
    bins, each = np.searchsorted(scores.edges, scores.mean, side="right"), scores.scores
    for row, inside in enumerate(scores.covered()):
        alike = np.sort(each[(scores.fold != scores.fold[row]) & (bins == bins[row])])
        rank = int(0.05 * (len(alike) + 1) + 1e-9)
        assert inside == (alike[rank - 1] <= each[row] <= alike[-rank])


def test_few_rows_have_fewer_bins_and_too_few_none_that_are_bounded() -> None:
    rng = np.random.default_rng(2)
    assert [calibrated(rng, n)[0].bins for n in (38, 80, 2507)] == [1, 2, 10]
    few = calibrated(rng, 15)[0]
    ends = few.interval(np.zeros((FOLDS, 2)), np.ones((FOLDS, 2)))
    assert np.isinf(ends).all()


def test_a_code_is_the_same_alone_and_among_others() -> None:
    rng = np.random.default_rng(3)
    scores, x, y = calibrated(rng, 120)
    mean = linear_models(x, y, scores.fold, rng.uniform(size=5))
    whole = scores.interval(mean, np.ones_like(mean))
    alone = [scores.interval(mean[:, [i]], np.ones((FOLDS, 1))) for i in range(5)]
    np.testing.assert_array_equal(np.array(whole), np.concatenate(alone, axis=1))
