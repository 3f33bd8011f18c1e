"""The training program: what a chunk may not change, what diverges, what is measured."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ncp_jax import checks
from ncp_jax.training.cells.program import TrainConfig, batches, loss, score, train_chunk
from ncp_jax.training.cells.tasks import TASKS, Pool, pools

SHORT = TrainConfig(epochs=2, steps=3, batch=16)
CODES = np.array([[3, 1, 2, 0, 3, 1], [0, 0, 0, 1, 0, 0], [3, 3, 3, 3, 3, 3], [2, 2, 0, 1, 1, 3]], np.int32)
TASK = TASKS["class"]


@pytest.fixture(scope="module")
def small() -> dict[str, Pool]:
    return {name: Pool(pool.images[:100], pool.targets[:100]) for name, pool in pools("class").items()}


def test_an_architecture_does_not_depend_on_its_chunk(small: dict[str, Pool]) -> None:
    whole = train_chunk(CODES, TASK, small, 0, SHORT)
    other = train_chunk(CODES[[2, 0]], TASK, small, 0, SHORT, size=4)
    assert whole.curve.shape == (4, 2)
    assert other.final.shape == (2, 3)
    for ours, theirs in zip(whole, other, strict=True):
        np.testing.assert_allclose(ours[[2, 0]], theirs, atol=2.1)  # of 100 examples two may tip over by rounding
    again = train_chunk(CODES, TASK, small, 1, SHORT)
    assert not np.array_equal(again.curve, whole.curve)
    # The best epoch is the first with the highest validation value, and its scores are of that epoch.
    np.testing.assert_array_equal(whole.epoch, whole.curve.argmax(axis=1) + 1)
    np.testing.assert_allclose(whole.best[:, 1], whole.curve.max(axis=1), atol=1e-4)
    np.testing.assert_allclose(whole.final[:, 1], whole.curve[:, -1], atol=1e-4)


def test_what_diverges_has_no_score(small: dict[str, Pool]) -> None:
    broken = small | {"train": Pool(np.full_like(small["train"].images, np.nan), small["train"].targets)}
    found = train_chunk(CODES, TASK, broken, 0, SHORT)
    assert np.isnan(found.final[:, 1:]).all()
    assert np.isnan(found.best).all()
    assert np.isnan(found.curve).all()
    np.testing.assert_array_equal(found.epoch, 0)


def test_every_example_is_seen_before_one_is_seen_again() -> None:
    config = TrainConfig(epochs=2, steps=4, batch=10)
    order = np.asarray(batches(jax.random.key(0), 40, config))
    assert order.shape == (2, 4, 10)
    for epoch in order:
        np.testing.assert_array_equal(np.sort(epoch.ravel()), np.arange(40))


def test_losses_and_scores_against_closed_forms() -> None:
    outputs = jnp.array([[2.0, 0.0, 1.0], [0.0, 1.0, 5.0]])
    targets = jnp.array([0, 1])
    assert float(loss(outputs, targets)) == pytest.approx(
        float(optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean())
    )
    assert float(score(outputs, targets)) == 50
    assert np.isnan(score(outputs.at[0, 0].set(jnp.nan), targets))
    assert np.isnan(score(outputs.at[0, 0].set(jnp.inf), targets))
    pixels = jnp.array([[1.0, 2.0], [3.0, 6.0]])
    assert float(score(pixels, pixels)) == 100
    assert float(score(jnp.tile(pixels.mean(axis=0), (2, 1)), pixels)) == pytest.approx(0, abs=1e-4)
    assert float(loss(pixels + 2, pixels)) == 4


@pytest.mark.parametrize(
    "change", [{"epochs": 0}, {"steps": 1.5}, {"batch": -1}, {"decay": float("nan")}, {"memory": -0.1}]
)
def test_settings_that_make_no_sense(change: dict) -> None:
    with pytest.raises(checks.UsageError, match="expected"):
        dataclasses.replace(SHORT, **change)
