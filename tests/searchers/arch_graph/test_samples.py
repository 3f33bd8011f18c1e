"""Samples of source tables and their normal scores."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from ncp_jax import checks
from ncp_jax.searchers.arch_graph.samples import measured_scores, sampled_values

MISSING = np.nan


def test_samples() -> None:
    values = np.arange(40, dtype=np.float32).reshape(2, 20)
    values[0, 3], values[1, 7] = MISSING, MISSING
    rows, sampled = sampled_values(values, 6, runs=range(5), seed=4)
    assert (rows.shape, sampled.shape) == ((5, 6), (5, 6, 2))
    np.testing.assert_array_equal(sampled, np.stack([values[0][rows], values[1][rows]], axis=-1))
    assert np.isfinite(sampled).all()
    assert all(len(set(run)) == 6 for run in rows.tolist())
    assert len({tuple(sorted(run)) for run in rows.tolist()}) == 5
    np.testing.assert_array_equal(sampled_values(values, 6, runs=range(3), seed=4)[0], rows[:3])
    assert (sampled_values(values, 6, runs=range(5), seed=5)[0] != rows).any()
    every = sampled_values(values, 18, runs=(0,), seed=0)[0][0]
    assert set(every) == set(range(20)) - {3, 7}


@pytest.mark.parametrize("budget", [0, 1, 19, 21])
def test_samples_out_of_range(budget: int) -> None:
    values = np.ones((2, 20), np.float32)
    values[0, 3], values[1, 7] = MISSING, MISSING
    with pytest.raises(checks.UsageError, match=rf"a source budget from 2 to the 18 architectures .* got {budget};"):
        sampled_values(values, budget, runs=(0,), seed=0)


def test_measured_scores_equal_scipys() -> None:
    values = np.random.default_rng(0).integers(0, 8, (3, 25)).astype(np.float32)
    values[1, ::3] = MISSING
    values[2] = 4
    found = measured_scores(values)
    assert found.shape == (25, 3)
    for line, scores in zip(values, found.T, strict=True):
        known = np.isfinite(line)
        quantile = (stats.rankdata(line[known]) - 0.5) / known.sum()
        np.testing.assert_allclose(scores[known], stats.norm.ppf(quantile), atol=1e-4)
        assert not scores[~known].any()
