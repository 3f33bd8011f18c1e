from __future__ import annotations

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ncp_jax.training import ENSEMBLE, NCP, Columns, Recipe
from ncp_jax.training.program import Program, Run, moments, one_cycle


def cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


def test_one_cycle_at_its_marks() -> None:
    # 70 steps, 30 % of them rising: the peak is step 20, the last is step 69.
    rate, momentum = one_cycle(NCP, 70)
    assert rate.shape == momentum.shape == (70,)
    assert rate[[0, 10, 20, 69]] == pytest.approx([1e-3, 5.5e-3, 1e-2, 1e-7], rel=1e-5)
    assert momentum[[0, 10, 20, 69]] == pytest.approx([0.95, 0.90, 0.85, 0.95], rel=1e-5)
    assert int(np.argmax(rate)) == 20
    assert (np.diff(rate[:21]) > 0).all()
    assert (np.diff(rate[20:]) < 0).all()


def test_one_cycle_everywhere() -> None:
    rate, momentum = one_cycle(NCP, 70)
    optax_rate = optax.cosine_onecycle_schedule(69, 1e-2, pct_start=20.5 / 69, div_factor=10, final_div_factor=1e4)
    np.testing.assert_allclose(rate, [float(optax_rate(t)) for t in range(70)], rtol=1e-4, atol=1e-9)
    mirrored = [cosine(0.95, 0.85, t / 20) if t <= 20 else cosine(0.85, 0.95, (t - 20) / 49) for t in range(70)]
    np.testing.assert_allclose(momentum, mirrored, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_one_cycle_of_hardly_any_steps(steps: int) -> None:
    rate, momentum = one_cycle(ENSEMBLE, steps)
    assert np.isfinite(rate).all()
    assert (rate > 0).all()
    assert (rate <= ENSEMBLE.learning_rate * 1.0001).all()
    assert ((momentum >= 0.8499) & (momentum <= 0.9501)).all()


def test_segments_divide_the_epochs() -> None:
    for epochs, segment in ((40, 20), (60, 20), (7, 7), (23, 1), (34, 17)):
        recipe = dataclasses.replace(NCP, epochs=epochs)
        program = Program(recipe, 27, (1, 0, 0), 100)
        assert program.epochs == epochs
        assert program.segment == segment


def test_every_group_weighs_one() -> None:
    np.testing.assert_allclose(Program(NCP, 27, (1, 4, 2), 10).weights(), [1, 0.25, 0.25, 0.25, 0.25, 0.5, 0.5])
    np.testing.assert_allclose(Program(NCP, 27, (2, 0, 1), 10).weights(), [0.5, 0.5, 1])


def test_moments_are_those_of_the_training_rows_alone() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(5, 3, (12, 4)), rng.normal(-2, 7, (12, 3))
    x[:, 2] = 8.0
    train = np.arange(12) % 3 > 0
    run = Run(jax.random.key(0), jnp.asarray(train), jnp.asarray([2, 0]), jnp.zeros(()))
    program = Program(Recipe("x"), 4, (2, 0, 0), 8)

    def of(x: np.ndarray, y: np.ndarray) -> list[np.ndarray]:
        found = moments(program, run, jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32))
        return [np.asarray(getattr(found, n)) for n in ("x_mean", "x_std", "y_mean", "y_std")]

    mean, std, y_mean, y_std = of(x, y)
    np.testing.assert_allclose(mean, x[train].mean(axis=0), rtol=1e-5)
    wanted = x[train].std(axis=0)
    wanted[2] = 1.0  # a feature that never varies is left alone
    np.testing.assert_allclose(std, wanted, rtol=1e-5)
    np.testing.assert_allclose(y_mean, y[train][:, [2, 0]].mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(y_std, y[train][:, [2, 0]].std(axis=0), rtol=1e-5)
    x[~train], y[~train] = 1e6, -1e6
    for got, before in zip(of(x, y), (mean, std, y_mean, y_std), strict=True):
        np.testing.assert_array_equal(got, before)


def test_columns(tiny_table) -> None:
    whole = Columns.whole(tiny_table.metrics, 3)
    # Main metrics of both tasks, the other quality, the cost.
    np.testing.assert_array_equal(whole.indices, [[0, 2, 1, 3]] * 3)
    assert whole.heads == (2, 1, 1)
    by_task = Columns.by_task(tiny_table.metrics, ["a", "b", "a"])
    # Task b has one metric: where task a has another, b repeats its own, never one of a's.
    np.testing.assert_array_equal(by_task.indices, [[0, 1, 3], [2, 2, 3], [0, 1, 3]])
    assert by_task.heads == (1, 1, 1)
