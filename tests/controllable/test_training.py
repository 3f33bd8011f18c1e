"""The training: draws of widths, interruptions, steps that are not finite, several runs in one program, losses."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import DataError, UsageError
from ncp_jax.commands.widths_config import WidthsConfig
from ncp_jax.commands.widths_training import read_data
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.controllable import pack_params
from ncp_jax.controllable.losses import feature_loss, imitation_loss, task_loss, task_score
from ncp_jax.controllable.program import Settings, TrainConfig, advance, draw_widths
from ncp_jax.controllable.tasks import Examples, Target
from ncp_jax.controllable.training import train_models
from ncp_jax.controllable.widths import width_table


@pytest.fixture(scope="module")
def examples(config: WidthsConfig) -> Examples:
    return read_data(config.data)


def sizes(config: WidthsConfig, examples: Examples, seeds: int = 1) -> tuple[ModelConfig, TrainConfig, list[Settings]]:
    model, train = config.model(examples), config.train()
    return model, train, [Settings.make(model, train, seed=seed) for seed in range(seeds)]


def test_an_interrupted_training_ends_as_another(
    config: WidthsConfig, examples: Examples, folder: Path, tmp_path: Path
) -> None:
    model, train, settings = sizes(config, examples)

    def interrupt(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_models(model, examples, settings, train=train, folder=tmp_path, progress=interrupt)
    seen: list[int] = []
    found = train_models(
        model, examples, settings, train=train, folder=tmp_path, progress=lambda done, _: seen.append(done)
    )
    assert seen == [10, 20]
    with np.load(folder / "weights.npz") as stored:
        for name, array in pack_params(found.run(0)).items():
            np.testing.assert_array_equal(array, stored[name])
    other = dataclasses.replace(train, rate=1e-3)
    with pytest.raises(UsageError, match=r"checkpoints of this training.*0.005.* there, .*0.001.* now"):
        train_models(model, examples, settings, train=other, folder=tmp_path)


def test_steps_that_are_not_finite(config: WidthsConfig, examples: Examples, tmp_path: Path) -> None:
    model, train, settings = sizes(config, examples)
    train_rows = np.flatnonzero(examples.split == 0)
    images = examples.images.copy()
    images[train_rows[0]] = np.nan
    some = train_models(model, dataclasses.replace(examples, images=images), settings, train=train)
    assert 0 < some.skipped[0] < train.steps
    assert all(np.isfinite(array).all() for array in pack_params(some.run(0)).values())
    images[train_rows] = np.inf
    with pytest.raises(DataError, match=r"got 20 steps in a row.*extreme values in the data$"):
        train_models(model, dataclasses.replace(examples, images=images), settings, train=train, folder=tmp_path)
    assert not list(tmp_path.glob("chunk-*/[0-9]*"))


def test_the_last_good_checkpoint_stays(
    config: WidthsConfig, examples: Examples, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, program, settings = sizes(config, examples)
    train, calls = dataclasses.replace(program, patience=10), []

    def spoiled(state: Any, runs: Any, data: Any, **given: Any) -> Any:
        calls.append(0)
        images = data[0] * (jnp.nan if len(calls) == 2 else 1)
        # The program does not read the patience: this one is compiled already.
        return advance(state, runs, (images, data[1]), **(given | {"train": program}))

    monkeypatch.setattr("ncp_jax.controllable.training.advance", spoiled)
    with pytest.raises(DataError, match=r"got 10 steps in a row.*; the last good state is in"):
        train_models(model, examples, settings, train=train, folder=tmp_path)
    assert [path.name for path in tmp_path.glob("chunk-*/[0-9]*")] == ["10"]
    found = train_models(model, examples, settings, train=train, folder=tmp_path)
    assert (len(calls), found.skipped.tolist()) == (3, [0])
    with np.load(folder / "weights.npz") as stored:
        for name, array in pack_params(found.run(0)).items():
            np.testing.assert_array_equal(array, stored[name])


def test_several_runs_in_one_program(config: WidthsConfig, examples: Examples, folder: Path) -> None:
    model, train, settings = sizes(config, examples, seeds=2)
    found = train_models(model, examples, settings, train=train, together=2)
    with np.load(folder / "weights.npz") as stored:
        alone = dict(stored)
    one, other = (pack_params(found.run(run)) for run in (0, 1))

    def distance(run: dict[str, np.ndarray]) -> float:
        return max(float(np.abs(run[name] - alone[name]).max()) for name in alone)

    # Adam turns roundings of small gradients into steps of the same size as others.
    assert distance(one) < 0.02
    assert distance(other) > 0.5


def test_the_widths_of_a_step(config: WidthsConfig, examples: Examples) -> None:
    model, train, (free,) = sizes(config, examples)
    table, key = width_table(model), jax.random.key(0)
    codes = np.asarray(draw_widths(key, free, table, 200))
    np.testing.assert_array_equal(codes[0], table[:, -1])
    np.testing.assert_array_equal(codes[1], table[:, 0])
    assert len(np.unique(codes, axis=0)) == 2 ** len(table)
    tied = np.asarray(draw_widths(key, Settings.make(model, train, seed=0, tied=True), table, 200))
    assert {tuple(row) for row in tied.tolist()} == {tuple(column) for column in table.T.tolist()}
    fixed = Settings.make(model, train, seed=0, low=[0, 0, 1, 1, 1])
    codes = np.asarray(draw_widths(key, fixed, table, 50))
    assert (codes[:, 2:] == table[2:, -1]).all()


def test_losses() -> None:
    labels, logits = jnp.array([[[0, -1], [1, 1]]]), jnp.zeros((1, 2, 2, 2)).at[..., 1].set(1.0)
    target = Target("parts", "labels", 2)
    # Three pixels count: one of class 0 and two of class 1, with logits 0 and 1.
    expected = (np.log1p(np.e) + 2 * (np.log1p(np.e) - 1)) / 3
    assert float(task_loss(target, logits, labels)) == pytest.approx(expected)
    assert float(task_score(target, logits, labels)) == pytest.approx(200 / 3)
    assert np.isnan(task_score(target, logits * jnp.nan, labels))
    numbers, truth = Target("t", "pixels", 1), jnp.array([1.0, jnp.nan, 5.0]).reshape(3, 1, 1, 1)
    guess = jnp.array([2.0, 7.0, 5.0]).reshape(3, 1, 1, 1)
    # Two numbers count, 1 and 5 with the mean 3: a square error of 1, of a spread of 8.
    assert float(task_loss(numbers, guess, truth)) == pytest.approx(1 / 2)
    assert float(task_score(numbers, guess, truth)) == pytest.approx(100 * 7 / 8)
    np.testing.assert_allclose(jax.grad(lambda out: task_loss(numbers, out, truth))(guess).ravel(), [1, 0, 0])
    for kind, teacher in (("classes", jnp.array([[1.0, 2.0]])), ("pixels", jnp.ones((1, 2, 2, 1)))):
        other = Target("t", kind, 2)
        assert float(imitation_loss(other, teacher, teacher)) == pytest.approx(0, abs=1e-6)
        assert float(imitation_loss(other, teacher * 2, teacher)) > 0
        slope = jax.grad(lambda t, other=other, teacher=teacher: imitation_loss(other, teacher * 2, t))(teacher)
        np.testing.assert_array_equal(slope, 0)
    full = jnp.array([False])
    features = [jnp.array([[[[3.0, 4.0]]]])]
    assert float(feature_loss(features, [features[0] * 7], [jnp.eye(2)], full)) == pytest.approx(0, abs=1e-5)
    swapped = [features[0][..., ::-1]]
    # Unit vectors (.6, .8) and (.8, .6), whose squared distance is 0.08; the projection swaps them back.
    assert float(feature_loss(swapped, features, [jnp.eye(2)], full)) == pytest.approx(0.08, abs=1e-4)
    assert float(feature_loss(swapped, features, [jnp.eye(2)[::-1]], full)) == pytest.approx(0, abs=1e-5)
    assert float(feature_loss(swapped, features, [jnp.eye(2)[::-1]], ~full)) == pytest.approx(0.08, abs=1e-4)


@pytest.mark.parametrize("settings", [{"balance": "none"}, {"in_place": 1.5}, {"steps": 0}, {"rate": 0}, {"ci_kd": -1}])
def test_bad_settings(settings: dict) -> None:
    with pytest.raises(UsageError):
        TrainConfig(**settings)
