"""The gated network against the same network written with convolutions, and its parameters against its costs."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from digits_benchmark.one_at_a_time import apply_ungated

from ncp_jax import build, checks
from ncp_jax.networks import gated
from ncp_jax.networks.gated import Shape
from ncp_jax.spaces import cost_model, get_space
from ncp_jax.spaces.costs.digits import HEADS

MICRO = get_space("transnas-micro")
SHAPES = (Shape(10), Shape(64, bottleneck=16, pooled=False))
# All edges of each operation, every operation at once, and cells in which a node or all of it is out of reach.
CODES = ((3, 3, 3, 3, 3, 3), (1, 2, 3, 0, 2, 1), (2, 0, 3, 1, 0, 3), (0, 3, 1, 0, 2, 0), (0, 0, 0, 0, 0, 0))


@functools.partial(jax.jit, static_argnames=("shape", "train"))
def gated_apply(weights, statistics, gates, images, *, shape, train):
    return gated.apply(weights, statistics, gates, images, shape=shape, train=train)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_is_the_network_written_with_convolutions(shape: Shape) -> None:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.normal(size=(16, 64)), jnp.float32)
    for number, code in enumerate(CODES):
        gates = gated.gates_of(jnp.asarray(code))
        weights, statistics = gated.init(jax.random.key(number), gates, shape)
        weights["head"] = jnp.asarray(rng.normal(size=weights["head"].shape), jnp.float32)  # it begins as zero
        statistics = jax.tree.map(lambda s: s + jnp.asarray(rng.uniform(0, 0.3, s.shape), s.dtype), statistics)
        for train in (True, False):
            ours, new = gated_apply(weights, statistics, gates, images, shape=shape, train=train)
            plain, kept = apply_ungated(weights, statistics, code, images, shape=shape, train=train)
            np.testing.assert_allclose(ours, plain, rtol=2e-4, atol=2e-4)
            dead = not np.asarray(MICRO.canonical(jnp.asarray(code))).any()
            assert dead or float(np.ptp(plain, axis=0).max()) > 1e-3
            for name in ("stem", "down"):
                for one, other in zip(new[name], kept[name], strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("task", ["class", "autoencoder"])
def test_it_is_the_module_that_build_makes(task: str) -> None:
    code = (3, 1, 2, 0, 2, 3)
    network, rng = build(MICRO, code, f"digits/{task}", abstract=True), np.random.default_rng(0)
    shape = Shape(HEADS[task].outputs, bottleneck=HEADS[task].bottleneck, pooled=HEADS[task].pooled)
    weights, statistics = gated.init(jax.random.key(0), gated.gates_of(jnp.asarray(code)), shape)
    weights["head"] = jnp.asarray(rng.normal(size=weights["head"].shape), jnp.float32)  # it begins as zero
    statistics = jax.tree.map(lambda s: s + jnp.asarray(rng.uniform(0, 0.3, s.shape), s.dtype), statistics)

    def put(layer: Any, name: str, edge: int, side: int) -> None:
        kernel = weights[name][edge] if side > 1 or name == "down" else weights[name][edge, 4:5]
        layer.convolution.kernel.set_value(kernel.reshape(side, side, *kernel.shape[1:]))
        for variable, values in zip((layer.norm.mean, layer.norm.var), statistics[name], strict=True):
            variable.set_value(values[edge])

    put(network.stages["stem"], "stem", 0, 2)
    put(network.stages["reduction"].layer, "down", 0, 1)
    for place in (0, 1):
        for edge, module in enumerate(network.stages[f"cell {place + 1}"].edges):
            if code[edge] in (2, 3):
                put(module, f"cell{place}", edge, 2 * code[edge] - 3)
    for layer, name in zip(network.head.layers, ("bottleneck", "head")[-len(network.head.layers) :], strict=True):
        layer.kernel.set_value(weights[name])
        layer.bias.set_value(weights[f"{name}_bias"])
    network.eval()
    images = jnp.asarray(rng.normal(size=(16, 64)), jnp.float32)
    gates = gated.gates_of(jnp.asarray(code))
    ours, _ = gated_apply(weights, statistics, gates, images, shape=shape, train=False)
    outputs = network(images.reshape(16, 8, 8, 1))
    assert float(np.ptp(outputs, axis=0).max()) > 1e-3
    np.testing.assert_allclose(ours, outputs, rtol=2e-4, atol=2e-4)


def test_gates_are_one_hot() -> None:
    np.testing.assert_array_equal(gated.gates_of(jnp.array([3, 0]))[:, 0:4], [[0, 0, 0, 1], [1, 0, 0, 0]])


@pytest.mark.parametrize("task", HEADS)
def test_parameters_are_those_of_the_cost_model(task: str) -> None:
    """Weights that the operations of a code use, counted in the arrays themselves."""
    head = HEADS[task]
    shape = Shape(head.outputs, bottleneck=head.bottleneck, pooled=head.pooled)
    model = cost_model(MICRO, f"digits/{task}")
    assert model is not None
    for code in CODES:
        weights, _ = gated.init(jax.random.key(0), gated.gates_of(jnp.asarray(code)), shape)
        taps = np.array([{2: 1, 3: 9}.get(op, 0) for op in code])
        cells = sum(int((taps * weights[name][0, 0].size).sum()) for name in ("cell0", "cell1"))
        others = sum(w.size for name, w in weights.items() if not name.startswith("cell"))
        assert cells + others == int(model.exact(code)["params"])


@pytest.mark.parametrize("task", ["class", "autoencoder"])
def test_multiply_adds_are_those_of_the_cost_model(task: str) -> None:
    """Counted by hand, from the sides and channels of each layer."""
    model = cost_model(MICRO, f"digits/{task}")
    assert model is not None
    first = 16 * 4 * 6 + 4 * 6 * 12  # stem and the 1x1 convolution between the cells
    edges = 16 * 36 * (1 + 9) + 4 * 144 * (1 + 9)  # a 1x1 and a 3x3 convolution in both cells
    last = {"class": 12 * 10, "autoencoder": 48 * 16 + 16 * 64}[task]
    assert int(model.exact((2, 3, 1, 0, 1, 1))["flops"]) == first + edges + last


def test_shapes_that_make_no_sense() -> None:
    for change in ({"outputs": 0}, {"channels": (4,)}, {"bottleneck": -1}):
        with pytest.raises(checks.UsageError, match="expected outputs >= 1"):
            dataclasses.replace(Shape(10), **change)
