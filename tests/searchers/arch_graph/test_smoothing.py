"""What a Gaussian process learns from whole source tables and from samples of them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import get_space
from ncp_jax.searchers import Candidates
from ncp_jax.searchers.arch_graph import SourceTasks, smoothing
from ncp_jax.searchers.arch_graph.smoothing import smoothed_sources

SPACE = get_space("transnas-micro")
CODES = np.asarray(SPACE.all_codes())[::24]
N = len(CODES)


@pytest.fixture(scope="module")
def candidates() -> Candidates:
    return Candidates.of_space("transnas-micro", CODES)


@pytest.fixture(scope="module")
def truth() -> np.ndarray:
    """Two smooth functions of the networks, float32 [2, n]."""
    attributes = np.asarray(SPACE.graphs(jnp.asarray(CODES)).attributes, np.float32)
    standard = (attributes - attributes.mean(axis=0)) / np.maximum(attributes.std(axis=0), 1e-6)
    functions = standard @ np.random.default_rng(0).normal(size=(attributes.shape[1], 2))
    return ((functions - functions.mean(axis=0)) / functions.std(axis=0)).T.astype(np.float32)


@pytest.fixture(scope="module")
def noisy(truth: np.ndarray) -> np.ndarray:
    return truth + np.random.default_rng(1).normal(size=truth.shape).astype(np.float32)


def agreement(found: np.ndarray, truth: np.ndarray) -> list[float]:
    return [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(found.T, truth, strict=True)]


def smooth(
    candidates: Candidates, values: np.ndarray, budget: int | None = None, runs: tuple[int, ...] = (0,)
) -> np.ndarray:
    return smoothed_sources(candidates, values, budget=budget, runs=runs, seed=0)


@pytest.fixture(scope="module")
def found(candidates: Candidates, noisy: np.ndarray) -> np.ndarray:
    return smooth(candidates, noisy)


def test_the_noise_of_single_trainings_is_taken_out(found: np.ndarray, truth: np.ndarray) -> None:
    assert found.shape == (1, N, 2)
    np.testing.assert_allclose(found[0].mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(found[0].std(axis=0), 1, rtol=1e-3)
    # Measured values themselves agree by 0.71.
    assert min(agreement(found[0], truth)) > 0.9


def test_only_the_order_counts_and_codes_of_a_network_are_alike(
    candidates: Candidates, noisy: np.ndarray, found: np.ndarray
) -> None:
    np.testing.assert_allclose(smooth(candidates, np.exp(noisy)), found, atol=1e-3)
    networks = np.asarray(candidates.classes)
    for network in np.flatnonzero(np.bincount(networks) > 1)[:20]:
        assert np.ptp(found[0, networks == network], axis=0).max() < 1e-3


def test_samples_are_learned_run_by_run(candidates: Candidates, truth: np.ndarray, noisy: np.ndarray) -> None:
    found = smooth(candidates, noisy, 60, (3, 1))
    assert found.shape == (2, N, 2)
    np.testing.assert_allclose(smooth(candidates, noisy, 60, (1,))[0], found[1], atol=1e-3)
    assert np.abs(found[0] - found[1]).max() > 0.1
    assert min(*agreement(found[0], truth), *agreement(found[1], truth)) > 0.6


def test_each_source_has_its_own_architectures(candidates: Candidates, truth: np.ndarray, noisy: np.ndarray) -> None:
    """Two that share none, one with a single value, and one without any."""
    values = np.full((4, N), np.nan, np.float32)
    values[0, :80], values[1, 80:], values[2, 7] = noisy[0, :80], noisy[1, 80:], 1.0
    found = smooth(candidates, values)[0]
    assert min(agreement(found[:, :2], truth)) > 0.7
    assert not found[:, 2:].any()
    np.testing.assert_allclose(found[:, :1], smooth(candidates, values[:1])[0], atol=1e-3)


def test_a_source_that_is_the_same_everywhere(candidates: Candidates) -> None:
    assert np.isfinite(smooth(candidates, np.full((1, N), 3.0, np.float32))).all()


def test_sources_of_noise_are_left_out_and_change_nothing(candidates: Candidates, noisy: np.ndarray) -> None:
    noise = np.random.default_rng(2).normal(size=(2, N)).astype(np.float32)
    mixed, twice = np.stack([noise[0], noisy[0]]), np.stack([noisy[0], noisy[0]])
    found = smooth(candidates, mixed)
    assert not found[..., 0].any()
    np.testing.assert_allclose(found[..., 1], smooth(candidates, twice)[..., 1], atol=1e-3)
    assert SourceTasks(noise).smooth(candidates, (0,)) is None
    pairs = [smooth(candidates, mixed, 60, (run, run + 1)).any(axis=1) for run in range(0, 20, 2)]
    left_out, kept = 1 - np.concatenate(pairs).mean(axis=0)
    assert left_out > 0.9
    assert kept < 0.3


def test_large_tables_are_sampled(
    candidates: Candidates, noisy: np.ndarray, found: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = found[0]
    monkeypatch.setattr(smoothing, "MOST", 100)
    part = smooth(candidates, noisy)[0]
    assert 0.8 < min(agreement(part, whole.T)) < 0.9999
    assert min(agreement(smooth(candidates, noisy, N)[0], whole.T)) < 0.9999


def test_it_is_made_once_for_the_same_runs(candidates: Candidates, noisy: np.ndarray) -> None:
    tasks = SourceTasks(noisy, 60)
    first = tasks.smooth(candidates, (3, 1))
    assert tasks.smooth(candidates, (3, 1)) is first
    assert tasks.smooth(candidates, (1,)) is not first
    whole = SourceTasks(noisy)
    assert whole.smooth(candidates, (3,)) is whole.smooth(candidates, (4, 5))
    assert SourceTasks(noisy[:0]).smooth(candidates, (0,)) is None
