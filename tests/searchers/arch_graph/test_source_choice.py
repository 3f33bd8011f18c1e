"""How much each source counts, against densities of SciPy and closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import multivariate_normal

from ncp_jax.searchers import gaussian_process as gp
from ncp_jax.searchers.arch_graph.source_choice import source_weights, weighted

RANDOM = np.random.default_rng(5)
EVIDENCE = RANDOM.normal(size=(100, 3)).astype(np.float32)
ROWS = RANDOM.permutation(100)[:60]
SCORES = (0.6 * EVIDENCE[ROWS, 1] + 0.3 * RANDOM.normal(size=60)).astype(np.float32)


def weights(evidence: np.ndarray, measured: int, slots: int = 64) -> np.ndarray:
    seen, scores, mask = np.zeros((slots, 3), np.float32), np.zeros(slots, np.float32), np.arange(slots) < measured
    seen[:measured], scores[:measured] = evidence[ROWS[:measured]], SCORES[:measured]
    seen[measured:] = 7.0  # what masked slots hold must not count
    return np.asarray(jax.jit(source_weights)(evidence, seen, scores, mask))


def log_density(source: np.ndarray) -> float:
    """Of the target's measurements, if that source alone explained them."""
    differences, products = np.subtract.outer(source, source), np.multiply.outer(source, source)
    between = 0.3 * np.exp(-0.5 * differences**2) + 0.4 * products + 1.0 + 0.3 * np.eye(len(source))
    return float(multivariate_normal(np.zeros(len(source)), between).logpdf(SCORES[: len(source)]))


@pytest.mark.parametrize("measured", [1, 5, 60])
def test_weights_are_tempered_posterior_probabilities(measured: int) -> None:
    logs = [log_density(EVIDENCE[ROWS[:measured], source].astype(float)) for source in range(3)]
    np.testing.assert_allclose(weights(EVIDENCE, measured), softmax(np.array(logs) / 4), atol=1e-4)


def test_the_source_that_the_target_follows_counts_most() -> None:
    found = [weights(EVIDENCE, measured)[1] for measured in (1, 12, 60)]
    assert found == sorted(found)
    assert found[0] < 0.5
    assert found[2] > 0.9


def test_sources_that_say_nothing_do_not_count() -> None:
    silent = EVIDENCE * np.array([1, 0, 1], np.float32)
    found = weights(silent, 60)
    assert found[1] == 0
    assert found.sum() == pytest.approx(1, abs=1e-5)
    # The others are compared with each other as if it were not there.
    np.testing.assert_allclose(found[[0, 2]], weights(EVIDENCE, 60)[[0, 2]] / (1 - weights(EVIDENCE, 60)[1]), rtol=1e-3)
    assert weights(0 * EVIDENCE, 60).tolist() == [0, 0, 0]


def test_weights_are_those_of_squared_differences() -> None:
    shares = np.array([0.2, 0.5, 0.3], np.float32)
    features = weighted(jnp.asarray(EVIDENCE), jnp.asarray(shares))
    squares = np.asarray(gp.geometry(features, features, (3, 1))[0][0])
    wanted = sum(
        share * np.subtract.outer(column, column) ** 2 for share, column in zip(shares, EVIDENCE.T, strict=True)
    )
    np.testing.assert_allclose(squares, wanted, atol=1e-4)
    mean = EVIDENCE @ shares
    np.testing.assert_allclose(features[:, 3], (mean - mean.mean()) / mean.std(), atol=1e-5)
    assert not np.asarray(weighted(jnp.zeros((100, 3)), jnp.zeros(3))).any()
