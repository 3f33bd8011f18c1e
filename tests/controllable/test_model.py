"""Slimmable layers and the model: masked equals sliced, at exact costs, for every kind of normalisation."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ncp_jax.checks import UsageError
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.counts import count
from ncp_jax.controllable.layers import SlimConvolution
from ncp_jax.controllable.model import ControllableModel, measured_statistics
from ncp_jax.controllable.tasks import Target
from ncp_jax.controllable.widths import exact_costs, extreme, width_costs, width_space
from ncp_jax.networks.counting import count_operations, count_parameters
from ncp_jax.networks.layers import Convolution, Parameters
from ncp_jax.spaces import cost_model

TARGETS = (Target("digit", "classes", 3), Target("edges", "pixels", 1), Target("parts", "labels", 4))
# An odd side, so that enlarged features lose pixels.
CONFIG = ModelConfig(7, 2, TARGETS, channels=(4, 8), strides=(1, 2), decoder=8, ratios=(0.5, 1.0), multiple=2)


@pytest.mark.parametrize("norm", ["group", "layer", "batch"])
def test_masked_equals_sliced(norm: str) -> None:
    config = dataclasses.replace(CONFIG, norm=norm)
    model = ControllableModel(config, jax.random.key(0))
    # Biases and scales as training leaves them: an inactive channel must not come back through them.
    graph, state = nnx.split(model)
    leaves, structure = jax.tree.flatten(state)
    noise = [0.1 * np.random.default_rng(i).standard_normal(leaf.shape) for i, leaf in enumerate(leaves)]
    state = jax.tree.unflatten(structure, [a + b.astype(np.float32) for a, b in zip(leaves, noise, strict=True)])
    model = nnx.merge(graph, state)
    images = jnp.asarray(np.random.default_rng(0).standard_normal((3, 7, 7, 2)), jnp.float32)
    codes = np.array([[2, 8, 4, 8, 4], [4, 4, 8, 4, 4], [4, 8, 8, 8, 8]])

    def run(widths: jax.Array) -> tuple[jax.Array, ...]:
        return model(images, widths, measured_statistics(model, images, widths))

    together = jax.jit(jax.vmap(run))(jnp.asarray(codes))
    for row, code in enumerate(codes):
        part = model.sliced(code)
        alone = jax.jit(lambda x, part=part: part(x, None, measured_statistics(part, x, None)))(images)
        for masked, sliced in zip(together, alone, strict=True):
            np.testing.assert_allclose(masked[row], sliced, atol=1e-5)
        counted = count(config, code.tolist())
        assert count_parameters(part) == counted.params
        assert count_operations(part, 1, 7, 7, 2).multiply_adds == counted.flops
        assert part.widths == tuple(code)
    assert [output.shape[1:] for output in together] == [(3, 3), (3, 7, 7, 1), (3, 7, 7, 4)]


def slope_of(state: Any, images: jax.Array, layer: Convolution) -> jax.Array:
    return jnp.sin(nnx.merge(nnx.graphdef(layer), state)(images)).sum()


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"stride": 2, "transposed": True}])
def test_products_of_patches_are_convolutions(options: dict[str, Any]) -> None:
    for side, kernel, outputs in ((5, 3, 4), (6, 1, 4), (4, 5, 4), (5, 3, 2)):
        layers = [
            kind(3, outputs, kernel, bias=True, parameters=Parameters(jax.random.key(2)), **options)
            for kind in (SlimConvolution, Convolution)
        ]
        images = jnp.asarray(np.random.default_rng(side).standard_normal((2, side, side, 3)), jnp.float32)
        one, other = (layer(images) for layer in layers)
        np.testing.assert_allclose(one, other, atol=1e-5)
        if kernel == 3:
            slopes = [jax.tree.leaves(jax.grad(slope_of, (0, 1))(nnx.state(layer), images, layer)) for layer in layers]
            for one, other in zip(*slopes, strict=True):
                np.testing.assert_allclose(one, other, atol=1e-4)


def test_inactive_inputs_change_nothing() -> None:
    model = ControllableModel(CONFIG, jax.random.key(1))
    images = jnp.ones((2, 7, 7, 2)) * jnp.arange(2.0)
    kernel = model.encoder[1].first.convolution.kernel
    run = jax.jit(lambda state: nnx.merge(graph, state)(images, jnp.array([2, 4, 4, 4, 4])))
    graph, state = nnx.split(model)
    before = run(state)
    kernel[...] = kernel[...].at[:, :, 2:, :4].set(1e6).at[..., 4:].set(1e6)
    for one, other in zip(before, run(nnx.state(model)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_widths_are_a_space_with_exact_costs() -> None:
    space = width_space(CONFIG)
    assert width_space(dataclasses.replace(CONFIG)) is space
    assert space.size == 2**5
    codes = np.asarray(space.all_codes())
    assert space.to_string(codes[0]) == "encoder[1]=2 encoder[2]=4 decoder.digit=4 decoder.edges=4 decoder.parts=4"
    exact = exact_costs(CONFIG, codes)
    for model in (cost_model(space), width_costs(CONFIG)):
        assert model is not None
        for name, values in model.exact(codes).items():
            np.testing.assert_array_equal(values, exact[name])
            assert values.dtype == np.int64
    relaxed = width_costs(CONFIG).relaxed
    for name, values in relaxed(space.encode(codes)).items():
        np.testing.assert_allclose(values, exact[name] / {"flops": 1e9, "params": 1e6}[name], rtol=1e-5)
    middle = np.array([3.0, 6, 6, 6, 6])
    slope = jax.grad(lambda widths: relaxed(widths)["params"])(jnp.asarray(middle, jnp.float32))
    for place, step in enumerate(np.eye(5)):
        ends = [count(CONFIG, list(middle + sign * step)).params for sign in (1, -1)]
        assert slope[place] == pytest.approx((ends[0] - ends[1]) / 2e6, rel=1e-3)
    assert (codes[exact["flops"].argmin()] == extreme(CONFIG, largest=False)).all()
    assert (codes[exact["flops"].argmax()] == extreme(CONFIG, largest=True)).all()


def test_bad_sizes_and_widths() -> None:
    with pytest.raises(UsageError, match="a multiple of 2 and differ at each ratio, got 5 channels"):
        dataclasses.replace(CONFIG, decoder=5)
    with pytest.raises(UsageError, match=r"differ at each ratio, got 4 channels, \(2, 2, 4\)"):
        dataclasses.replace(CONFIG, ratios=(0.25, 0.5, 1.0))
    with pytest.raises(UsageError, match=r"channels.*got -8"):
        dataclasses.replace(CONFIG, channels=(-8, 8))
    with pytest.raises(UsageError, match="rising ratios"):
        dataclasses.replace(CONFIG, ratios=(0.5,))
    with pytest.raises(UsageError, match="as many strides"):
        dataclasses.replace(CONFIG, strides=(1,))
    with pytest.raises(UsageError, match="of different names"):
        dataclasses.replace(CONFIG, targets=TARGETS + TARGETS[:1])
    model = ControllableModel(CONFIG, jax.random.key(0))
    with pytest.raises(UsageError, match=r"encoder\[1\] to be one of the trained widths 2, 4, got 3"):
        model.sliced([3, 4, 4, 4, 4])
    with pytest.raises(UsageError, match="expected 5 widths"):
        model.sliced([4, 4])
