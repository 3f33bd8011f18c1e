"""Predictions of final values from partial curves: against scikit-learn's ridge regression, and what they need."""

from __future__ import annotations

import numpy as np
import pytest

from ncp_jax import get_space
from ncp_jax.searchers import partial_curves
from ncp_jax.searchers.partial_curves import CANDIDATES, LEAST, NOISE, Starts, predict_final, similarity


def test_similarity() -> None:
    codes = np.array([[0, 1, 2, 3, 0, 1], [0, 1, 2, 3, 1, 2]])
    np.testing.assert_allclose(similarity("transnas-micro", codes, codes), [[1, np.exp(-2 / 6)], [np.exp(-2 / 6), 1]])
    low, high = (np.array([[f(v) for v in get_space("nas-bench-mr").values]]) for f in (min, max))
    np.testing.assert_allclose(similarity("nas-bench-mr", low, high), np.exp(-1))


def test_the_mean_of_the_process_is_a_kernel_ridge_regression() -> None:
    ridge = pytest.importorskip("sklearn.kernel_ridge")
    rng = np.random.default_rng(0)
    codes, curves = rng.integers(0, 4, (30, 6)), rng.normal(size=(30, 9)).cumsum(axis=1)
    ended, going, epochs = np.arange(12), np.arange(12, 30), 4
    found = predict_final("transnas-micro", codes[going], curves[going, :epochs], codes[ended], curves[ended])
    features = np.stack([curves[:, 3], curves[:, 3] - curves[:, 1]], axis=1)
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    kernel = similarity("transnas-micro", codes, codes) + features @ features.T
    gains = curves[ended, -1] - curves[ended, 3]
    model = ridge.KernelRidge(alpha=NOISE, kernel="precomputed")
    model.fit(kernel[np.ix_(ended, ended)], (gains - gains.mean()) / gains.std())
    gain = gains.mean() + gains.std() * model.predict(kernel[np.ix_(going, ended)])
    np.testing.assert_allclose(found, curves[going, 3] + gain, rtol=1e-6)


def test_few_trainings_and_no_gains() -> None:
    rng = np.random.default_rng(0)
    codes, curves = rng.integers(0, 4, (9, 6)), rng.normal(size=(9, 5))
    few = predict_final("transnas-micro", codes, curves[:, :2], codes[: LEAST - 1], curves[: LEAST - 1])
    np.testing.assert_array_equal(few, curves[:, 1])
    flat = np.repeat(rng.normal(size=(9, 1)), 5, axis=1)
    np.testing.assert_allclose(predict_final("transnas-micro", codes, flat[:, :1], codes, flat), flat[:, 0])


def test_starts() -> None:
    codes = np.repeat(np.arange(4), 200)[:, None] * np.ones((1, 6), int)
    starts, left = Starts("transnas-micro", codes, 3), [*range(800)]
    for row in range(LEAST - 1):
        starts.add(row, np.array([0.0, 1.0, 2.0 + row]))
    starts.add(200, np.array([0.0, np.inf, np.nan]))  # a failed training counts for nothing
    assert starts.choose(left) == 799
    starts.add(400, np.array([0.0, 1.0, 30.0]))
    # The best so far has the code 2: of the last ones, the nearest to the end of those with it.
    assert codes[left[starts.choose(left)], 0] == 2
    assert starts.choose(left) >= len(left) - CANDIDATES


def test_expected_values_of_all() -> None:
    """Those of whole trainings are known; of the others, equal networks share what was seen."""
    codes = np.array([[0] * 6] * 2 + [[1] * 6] * 2 + [[2] * 6] * 4)
    starts = Starts("transnas-micro", codes, 3)
    for row in (0, 2, 4, 5):
        starts.add(row, np.array([0.0, 1.0, 2.0 + codes[row, 0]]))
    assert starts.expected() is None
    starts.add(6, np.array([0.0, 1.0, 4.0]))
    starts.add(7, np.array([0.0]))
    found = starts.expected()
    assert found is not None
    np.testing.assert_array_equal(found[[0, 2, 4, 5, 6]], [2, 3, 4, 4, 4])
    assert found[1] < found[3] < found[7] <= 4.2


def test_the_process_reads_the_longest_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many short ones are left out; the best final value is known still."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (60, 6))
    few, many = Starts("transnas-micro", codes, 3), Starts("transnas-micro", codes, 3)
    for row in range(40):
        many.add(row, rng.random(1))
    for row in range(40, 50):
        curve = rng.random(3)
        few.add(row, curve)
        many.add(row, curve)
    left = list(range(50, 60))
    assert many.expected() is not None
    before = many.expected()
    monkeypatch.setattr(partial_curves, "MOST", 10)
    np.testing.assert_allclose(many.expected(), few.expected())
    assert not np.allclose(many.expected(), before)
    assert many.choose(left) == few.choose(left)
