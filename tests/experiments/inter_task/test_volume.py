"""The estimate of hypervolumes: against exact ones in few dimensions, without bias, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from inter_task.volume import Box, dominated, volume_share

from ncp_jax.analysis.hypervolume import dominated_volume
from ncp_jax.checks import UsageError


@pytest.mark.parametrize("metrics", [2, 3, 4])
def test_it_agrees_with_the_exact_volume(metrics: int) -> None:
    rng = np.random.default_rng(metrics)
    box = Box(np.full(metrics, -1.0), np.full(metrics, 2.0))
    points = rng.uniform(-1.5, 2.0, (20, metrics))
    exact = dominated_volume(points, box.low) / 3.0**metrics
    assert volume_share(points, box.points(2**14)) == pytest.approx(exact, abs=4e-3)


def test_it_has_no_bias() -> None:
    rng = np.random.default_rng(0)
    box, points = Box(np.zeros(3), np.ones(3)), rng.random((6, 3))
    exact = dominated_volume(points, box.low)
    shares = [volume_share(points, box.points(64, seed)) for seed in range(400)]
    error = np.std(shares) / np.sqrt(len(shares))
    assert abs(np.mean(shares) - exact) < 4 * error
    assert error < 2e-3


def test_samples_are_those_that_comparisons_find() -> None:
    rng = np.random.default_rng(1)
    points, samples = rng.integers(0, 6, (70, 5)).astype(float), rng.integers(0, 6, (500, 5)).astype(float)
    points[3] = np.nan
    by_hand = (points[None] >= samples[:, None]).all(axis=-1).any(axis=1)
    assert (dominated(points, samples) == by_hand).all()
    assert volume_share(np.repeat(points, 80, axis=0), samples) == by_hand.mean()  # more than one group of points


def test_more_points_never_dominate_less() -> None:
    rng = np.random.default_rng(2)
    samples = Box(np.zeros(4), np.ones(4)).points(1024)
    points = rng.random((30, 4))
    shares = [volume_share(points[:k], samples) for k in range(0, 31, 5)]
    assert shares[0] == 0
    assert shares == sorted(shares)


def test_what_is_above_the_box_counts_as_its_corner() -> None:
    samples = Box(np.zeros(2), np.ones(2)).points(256)
    assert volume_share(np.array([[5.0, 5.0]]), samples) == 1
    assert volume_share(np.array([[5.0, -1.0]]), samples) == 0


def test_an_empty_box_is_refused() -> None:
    with pytest.raises(UsageError, match="high corner is above the reference"):
        Box(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
