"""Jigsaws: permutations, tiles, the decoder's widths and costs, training and measurement, and what is refused."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ncp_jax.checks import DataError, UsageError
from ncp_jax.commands.widths_training import read_data
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.counts import count
from ncp_jax.controllable.jigsaw import MOST, cut, permutations
from ncp_jax.controllable.layers import Statistics
from ncp_jax.controllable.losses import task_score
from ncp_jax.controllable.measurement import measure
from ncp_jax.controllable.model import ControllableModel, graph, measured_statistics
from ncp_jax.controllable.program import Settings, TrainConfig
from ncp_jax.controllable.tasks import Target, digits_examples, make_examples
from ncp_jax.controllable.training import train_models
from ncp_jax.networks.counting import count_operations, count_parameters

TARGETS = (Target("bar", "classes", 3), Target("order", "jigsaw", 5))
CONFIG = ModelConfig(6, 1, TARGETS, channels=(4, 8), strides=(1, 2), decoder=8, ratios=(0.5, 1.0))
PLACE = 1  # of the jigsaw


def test_permutations_are_far_from_each_other() -> None:
    every = permutations(2, 24)
    assert {tuple(row) for row in every.tolist()} == set(itertools.permutations(range(4)))
    some = permutations(3, 30)
    np.testing.assert_array_equal(some[:10], permutations(3, 10))
    distances = [(a != b).sum() for a, b in itertools.combinations(some, 2)]
    assert min(distances) >= 7
    drawn = [np.random.default_rng(k).permutation(9) for k in range(30)]
    assert min(distances) > min((a != b).sum() for a, b in itertools.combinations(drawn, 2))
    assert set(MOST) == {2, 3}


@pytest.mark.parametrize("grid", [2, 3])
def test_the_class_is_recovered_from_the_tiles(grid: int) -> None:
    # Each tile is of one colour, its number.
    numbers = np.arange(grid * grid).reshape(grid, grid)
    image = np.kron(numbers, np.ones((3, 3)))[None, :, :, None]
    np.testing.assert_array_equal(cut(image, grid).mean(axis=(2, 3, 4))[0], np.arange(grid * grid))
    targets = (TARGETS[0], Target("order", "jigsaw" if grid == 2 else "jigsaw3", 7))
    config = dataclasses.replace(CONFIG, side=3 * grid, targets=targets)
    model = ControllableModel(config, None)
    classes = np.array([3, 0, 6, -1])
    tiles = model.tiles(PLACE, jnp.asarray(np.repeat(image, 4, axis=0)), jnp.asarray(classes))
    orders = np.asarray(tiles).reshape(4, grid * grid, -1).mean(axis=-1)
    table = permutations(grid, 7)
    assert [int((table == order).all(axis=1).argmax()) for order in orders[:3]] == [3, 0, 6]
    np.testing.assert_array_equal(orders[3], np.arange(grid * grid))


def test_a_jigsaw_is_the_image_in_another_order() -> None:
    """The outputs for images and classes are those for images that have been put in that order before."""
    model = ControllableModel(CONFIG, jax.random.key(0))
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, 6, 6, 1)).astype(np.float32)
    classes = rng.integers(0, 5, 4)
    orders = permutations(2, 5)[classes]
    cuts = np.take_along_axis(cut(images, 2), orders[:, :, None, None, None], axis=1)
    shuffled = np.block([[[cuts[:, 0, ..., 0], cuts[:, 1, ..., 0]], [cuts[:, 2, ..., 0], cuts[:, 3, ..., 0]]]])[
        ..., None
    ]
    code = jnp.array([2, 8, 4, 4])
    _, (_, asked) = jax.jit(lambda x, y: model.run(x, code, Statistics(), (y, y)))(images, classes)
    _, ready = jax.jit(lambda x: model(x, code))(shuffled)
    np.testing.assert_allclose(asked, ready, atol=1e-6)


def test_masked_equals_sliced_at_exact_costs() -> None:
    config = dataclasses.replace(CONFIG, norm="batch")  # whose statistics are those of the tiles
    model = ControllableModel(config, jax.random.key(0))
    images = jnp.asarray(np.random.default_rng(0).standard_normal((3, 6, 6, 1)), jnp.float32)
    code = np.array([2, 8, 8, 4])

    def run(widths: Any, network: ControllableModel = model) -> tuple[jax.Array, ...]:
        return network(images, widths, measured_statistics(network, images, widths))

    part = model.sliced(code)
    masked, sliced = jax.jit(run)(jnp.asarray(code)), jax.jit(lambda: run(None, part))()
    for one, other in zip(masked, sliced, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
    counted = count(config, code.tolist())
    assert count_parameters(part) == counted.params
    assert count_operations(part, 1, 6, 6, 1).multiply_adds == counted.flops


def test_training_and_measurement() -> None:
    """The permutation of four patterns is learned, and measured as the sub-network has it."""
    rng = np.random.default_rng(0)
    n = 300
    patterns = [np.eye(3), np.eye(3)[::-1], np.outer([0, 1, 0], np.ones(3)), np.outer(np.ones(3), [0, 1, 0])]
    image = np.block([patterns[:2], patterns[2:]])
    images = (image + 0.1 * rng.standard_normal((n, 6, 6))).astype(np.float32)
    targets = {"bar": ("classes", rng.integers(0, 3, n)), "order": ("jigsaw", rng.integers(0, 5, n))}
    examples = make_examples(images, targets, split=np.arange(n) % 3)
    model = dataclasses.replace(CONFIG, targets=examples.kinds, channels=(4,), strides=(1,))
    train = TrainConfig(steps=150, batch=32, sampled=2, rate=1e-2, segment=150)
    params = train_models(model, examples, [Settings.make(model, train, seed=0)], train=train).run(0)
    code = np.array([[2, 4, 4]])
    (row,) = measure(model, params, examples, code).of(code)
    assert row[PLACE] > 90
    pictures, truths = examples.part("validation")
    part = nnx.merge(graph(model), params).sliced(code[0])
    _, outputs = jax.jit(lambda x, y: part.run(x, None, Statistics(), y))(pictures, truths)
    for score, target, out, truth in zip(row, model.targets, outputs, truths, strict=True):
        assert score == pytest.approx(float(task_score(target, out, truth)), abs=1e-3)


def test_digits_with_a_jigsaw() -> None:
    four, five = digits_examples(copies=1), read_data("digits+jigsaw")
    assert [target.name for target in five.kinds] == [*(target.name for target in four.kinds), "jigsaw"]
    assert (five.kinds[-1].kind, five.kinds[-1].outputs) == ("jigsaw", 24)
    assert digits_examples(copies=4).digest == dataclasses.replace(five, kinds=five.kinds[:-1]).digest
    assert (np.bincount(five.targets["jigsaw"]) > 100).all()


@pytest.mark.parametrize(
    ("side", "kind", "classes", "message"),
    [
        (6, "jigsaw", 24, "classes below 24 in order.jigsaw, .* got classes up to 24, a side of 6"),
        (5, "jigsaw", 3, "a side that is a multiple of 2 in arrays, got classes up to 3, a side of 5"),
        (8, "jigsaw3", 3, "a multiple of 3"),
        (9, "jigsaw3", 1000, "classes below 1000"),
        (6, "jigsaw4", 3, "a kind of target .classes, labels, pixels, jigsaw, jigsaw3."),
    ],
)
def test_data_that_is_refused(side: int, kind: str, classes: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_examples(np.zeros((9, side, side)), {"order": (kind, np.arange(9) * classes // 8)})


def test_models_that_are_refused() -> None:
    message = r"the coarsest features of the tiles of order to have more than one pixel.*got one pixel of 4 x 4.*layer"
    with pytest.raises(UsageError, match=message):
        dataclasses.replace(CONFIG, side=8, channels=(4, 8, 8), strides=(1, 2, 2))
    with pytest.raises(UsageError, match="a task of another kind beside jigsaws"):
        dataclasses.replace(CONFIG, targets=TARGETS[1:])
    with pytest.raises(
        UsageError, match="at most 24 classes of order, and a side that is a multiple of 2, got 5 classes"
    ):
        dataclasses.replace(CONFIG, side=7)
    with pytest.raises(UsageError, match="got 25 classes"):
        dataclasses.replace(CONFIG, targets=(TARGETS[0], Target("order", "jigsaw", 25)))
    with pytest.raises(UsageError, match=r"images of 8 x 8 pixels or more for the encoder transnas-micro:.*got 4 x 4"):
        ModelConfig(8, 1, TARGETS, encoder="transnas-micro:64-41414-3_30_132")
