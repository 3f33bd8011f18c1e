"""Networks run and learn, on a CPU: a forward pass and some steps of Adam, for each kind of head."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ncp_jax import build
from ncp_jax.networks import TASKS, Network

MR = [8, 8, *(1, 1, 8), *(1, 1, 1, 8, 8), *(1, *[1] * 3, *[8] * 3), *(1, *[1] * 4, *[8] * 4), 8]
CASES = [
    ("nas-bench-mr", MR, "classification", (4, 32, 32, 3)),
    ("nas-bench-mr", MR, "segmentation", (2, 32, 32, 3)),
    ("nas-bench-mr", MR, "video", (2, 2, 32, 32, 3)),
    ("nas-bench-201", [2, 0, 3, 4, 1, 0], "cifar10", (4, 16, 16, 3)),
    ("transnas-micro", [2, 0, 1, 1, 0, 0], "jigsaw", (2, 9, 32, 32, 3)),
    ("transnas-macro", [4, 1, 1, 1, 0, 0], "class_scene", (4, 16, 16, 3)),
    ("transnas-macro", [4, 1, 1, 1, 0, 0], "normal", (1, 8, 8, 3)),
    ("transnas-macro", [4, 1, 1, 1, 0, 0], "segmentsemantic", (1, 8, 8, 3)),
]


@nnx.jit
def step(network: Network, optimizer: nnx.Optimizer, images: jax.Array, targets: jax.Array) -> jax.Array:
    def loss(network: Network) -> jax.Array:
        outputs = network(images)
        if jnp.issubdtype(targets.dtype, jnp.integer):
            return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()
        return jnp.mean((outputs - targets) ** 2)

    value, gradient = nnx.value_and_grad(loss)(network)
    optimizer.update(network, gradient)
    return value


@pytest.mark.parametrize(("space", "code", "task", "shape"), CASES)
def test_training_lowers_the_loss(space: str, code: list[int], task: str, shape: tuple[int, ...]) -> None:
    kind = TASKS[space][task]
    network = build(space, code, task, classes=3 if kind.has_classes else None, key=jax.random.key(1))
    images = jax.random.normal(jax.random.key(2), shape)
    pixels = shape[:1] + (shape[-3:-1] if kind.head in ("segmentation", "image") else ())
    if kind.has_classes:
        targets = jax.random.randint(jax.random.key(3), pixels, 0, 3)
    else:
        targets = jax.random.uniform(jax.random.key(3), (*pixels, kind.outputs), minval=-1)
    optimizer = nnx.Optimizer(network, optax.adam(1e-3), wrt=nnx.Param)
    losses = [float(step(network, optimizer, images, targets)) for _ in range(6)]
    assert np.isfinite(losses).all()
    assert losses[-1] < losses[0]
    network.eval()
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(network, nnx.BatchStat)))
    outputs = jax.jit(lambda images: network(images))(images)
    assert outputs.shape == (*pixels, network.form.outputs)
    assert np.isfinite(outputs).all()
    after = nnx.to_pure_dict(nnx.state(network, nnx.BatchStat))
    jax.tree.map(np.testing.assert_array_equal, before, after)
