"""Networks run and learn, on a CPU: whole networks of each space, and each kind of head on features of its own."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from ncp_jax import build
from ncp_jax.networks import FAMILIES

CODES = {
    "nas-bench-mr": [8, 8, *(1, 1, 8), *(1, 1, 1, 8, 8), *(1, *[1] * 3, *[8] * 3), *(1, *[1] * 4, *[8] * 4), 8],
    "nas-bench-201": [2, 0, 3, 4, 1, 0],
    "transnas-micro": [2, 0, 1, 1, 0, 0],
    "transnas-macro": [4, 1, 1, 1, 0, 0],
}
# Compiling is most of the work here: nothing is gained by fast code.
CHEAP = {"xla_backend_optimization_level": 0}


def losses(
    module: nnx.Module, call: Callable[[Any, Any], Any], inputs: Any, targets: jax.Array, rate: float = 0.01
) -> tuple[Any, list]:
    """Some steps of gradient descent on one batch; the last outputs and the losses."""
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def loss(params: Any, rest: Any) -> tuple[jax.Array, Any]:
        copy = nnx.merge(graph, params, rest, copy=True)
        outputs = call(copy, inputs)
        if jnp.issubdtype(targets.dtype, jnp.integer):
            value = optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()
        else:
            value = jnp.mean((outputs - targets) ** 2)
        return value, (outputs, nnx.state(copy, nnx.BatchStat))

    optimizer = optax.sgd(rate)

    @functools.partial(jax.jit, compiler_options=CHEAP)
    def step(params: Any, rest: Any, state: Any) -> Any:
        (value, (outputs, rest)), gradient = jax.value_and_grad(loss, has_aux=True)(params, rest)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), rest, state, outputs, value

    state, before, values = optimizer.init(params), rest, []
    for _ in range(3):
        params, rest, state, outputs, value = step(params, rest, state)
        values.append(float(value))
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, rest)
    assert all(jax.tree.leaves(moved)), "running averages stand still"
    return outputs, values


@pytest.mark.parametrize(
    ("space", "shape"),
    [
        ("nas-bench-mr", (4, 32, 32, 3)),
        ("nas-bench-201", (4, 16, 16, 3)),
        ("transnas-micro", (4, 32, 32, 3)),
        ("transnas-macro", (4, 16, 16, 3)),
    ],
)
def test_training_a_network_lowers_its_loss(space: str, shape: tuple[int, ...]) -> None:
    network = build(space, CODES[space], classes=3, key=jax.random.key(1))
    images = jnp.asarray(np.random.default_rng(2).normal(size=shape), jnp.float32)
    logits, values = losses(network, lambda network, x: network(x), images, jnp.array([0, 1, 2, 0]))
    assert logits.shape == (4, 3)
    assert np.isfinite(logits).all()
    assert np.isfinite(values).all()
    assert values[-1] < values[0]


@pytest.mark.parametrize(
    ("space", "task", "shape"),
    [
        ("nas-bench-mr", "segmentation", (2, 32, 32, 3)),
        ("nas-bench-mr", "video", (2, 3, 32, 32, 3)),
        ("transnas-micro", "jigsaw", (2, 9, 32, 32, 3)),
        ("transnas-macro", "room_layout", (2, 16, 16, 3)),
        ("transnas-macro", "segmentsemantic", (2, 16, 16, 3)),
        ("transnas-macro", "autoencoder", (2, 16, 16, 3)),
    ],
)
def test_training_a_head_lowers_its_loss(space: str, task: str, shape: tuple[int, ...]) -> None:
    kind = FAMILIES[space].tasks[task]
    network = build(space, CODES[space], task, classes=3 if kind.has_classes else None, abstract=True)
    # What the encoder returns, by its shape alone: the encoders are trained above.
    graph, state = nnx.split(network.stages)

    def encode(state: Any, images: Any) -> Any:
        stages = nnx.merge(graph, state)
        return functools.reduce(lambda features, name: stages[name](features), network.names, images)

    pieces = jax.ShapeDtypeStruct((int(np.prod(shape[:-3])), *shape[-3:]), jnp.float32)
    shapes = jax.eval_shape(encode, state, pieces)
    rng = np.random.default_rng(2)
    features = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), shapes)
    head = build(space, CODES[space], task, classes=3 if kind.has_classes else None, key=jax.random.key(1)).head

    expected = (2, *(shape[-3:-1] if kind.head in ("segmentation", "image") else ()), network.form.outputs)
    if kind.has_classes:
        targets = jnp.asarray(rng.integers(0, 3, expected[:-1]))
    else:
        targets = jnp.asarray(rng.uniform(-1, 1, expected), jnp.float32)

    def call(head: Any, features: Any) -> Any:
        return head(features, shape)

    outputs, values = losses(head, call, features, targets)
    assert outputs.shape == expected
    assert np.isfinite(values).all()
    assert values[-1] < values[0]
