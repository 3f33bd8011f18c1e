"""Encoders of the project's spaces: masked equals sliced, costs equal those of the networks, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ncp_jax as ncp
from ncp_jax.checks import UsageError
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.counts import count
from ncp_jax.controllable.encoders import find_encoder
from ncp_jax.controllable.encoders.transnas import Stem
from ncp_jax.controllable.model import ControllableModel
from ncp_jax.controllable.tasks import Target
from ncp_jax.controllable.widths import exact_costs, width_costs, width_space
from ncp_jax.networks.counting import count_operations, count_parameters, count_stages
from ncp_jax.spaces import SPACES

MICRO, MACRO = "transnas-micro:64-41414-3_30_132", "transnas-macro:64-1243-basic"
# One block and one residual block everywhere, but for a repeated stage.
MR = "nas-bench-mr:8_8-1_1_1_8-2_2_1_1_8_16-1_3_1_1_1_8_16_24-1_4_1_1_1_1_8_16_8_32-64"
# Odd sides, so that enlarged features lose pixels.
SIDES = {MICRO: 9, MACRO: 7, MR: 9}
TARGETS = (Target("digit", "classes", 3), Target("edges", "pixels", 1))


@pytest.fixture(scope="module", autouse=True)
def _forget_spaces() -> Iterator[None]:
    yield
    for name in [name for name in SPACES if name.startswith("widths-")]:
        del SPACES[name]


def config(encoder: str, side: int | None = None, **options: Any) -> ModelConfig:
    channels = () if encoder == MR else (4,)
    sizes: dict[str, Any] = {"channels": channels, "decoder": 4, "ratios": (0.5, 1.0), "multiple": 2}
    return ModelConfig(side or SIDES[encoder], 2, TARGETS, encoder=encoder, **{**sizes, **options})


@pytest.mark.parametrize("encoder", [MICRO, MACRO, MR])
def test_masked_equals_sliced_at_exact_costs(encoder: str) -> None:
    sizes = config(encoder)
    model = ControllableModel(sizes, jax.random.key(0))
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.standard_normal((2, sizes.side, sizes.side, 2)), jnp.float32)
    # Wide stages follow narrow ones, and narrow ones wide ones.
    code = np.array([values[place % 2] for place, values in enumerate(sizes.widths)])
    part = model.sliced(code)
    masked = jax.jit(lambda widths: model(images, widths))(jnp.asarray(code))
    for one, other in zip(masked, jax.jit(part.__call__)(images), strict=True):
        assert float(jnp.abs(other).max()) > 0
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
    counted = count(sizes, code.tolist())
    assert count_parameters(part) == counted.params
    assert count_operations(part, 1, sizes.side, sizes.side, 2).multiply_adds == counted.flops


@pytest.mark.parametrize("encoder", [MICRO, MACRO, MR])
def test_the_widths_are_a_space_with_relaxed_costs(encoder: str) -> None:
    sizes = config(encoder)
    assert ModelConfig.from_json(json.loads(json.dumps(sizes.to_json()))) == sizes
    space = width_space(sizes)
    codes = np.asarray(space.sample(jax.random.key(0), 20))
    exact, relaxed = exact_costs(sizes, codes), width_costs(sizes).relaxed
    for name, values in relaxed(space.encode(codes)).items():
        np.testing.assert_allclose(values, exact[name] / {"flops": 1e9, "params": 1e6}[name], rtol=1e-5)
    middle = codes[0] + 0.5
    slope = jax.grad(lambda widths: relaxed(widths)["params"])(jnp.asarray(middle, jnp.float32))
    for place, step in enumerate(np.eye(len(middle))):
        ends = [count(sizes, list(middle + sign * step)).params for sign in (1, -1)]
        assert slope[place] == pytest.approx((ends[0] - ends[1]) / 2e6, rel=1e-3)


@pytest.mark.parametrize(
    ("encoder", "side"),
    [("transnas-micro:64-41414-1_02_333", 64), ("transnas-macro:64-124311-basic", 64), (MR, 64)],
)
def test_full_encoders_cost_what_the_benchmarks_networks_do(encoder: str, side: int) -> None:
    space, _, code = encoder.partition(":")
    *stages, _ = count_stages(ncp.build(space, code, abstract=True), (1, side, side, 3))
    sizes = ModelConfig(
        *(side, 3, TARGETS), encoder=encoder, channels=() if encoder == MR else (64,), strides=(4,), ratios=(0.5, 1.0)
    )
    found = find_encoder(encoder).count(sizes.plan, 3, list(sizes.channels), side)
    expected = [sum(stage.parameters for stage in stages), sum(s.operations.multiply_adds for s in stages)]
    if encoder != MR:
        # The benchmark's stem has half of the channels in between.
        own, stem = Stem.count(3, 64, 4, (side, side // 4)), stages[0]
        expected[0] += own.params - stem.parameters
        expected[1] += own.flops - stem.operations.multiply_adds
    assert [found.params, found.flops] == expected
    coarsest = [outputs[1] for outputs in stages[-1].outputs]
    assert [sizes.sides[place] for place in sizes.plan.read][-len(coarsest) :] == coarsest


def test_stages_and_what_decoders_read() -> None:
    sizes = config(MICRO)
    assert sizes.channels == (4, 8, 8, 16, 16, 32)
    assert (sizes.strides, sizes.sides, sizes.plan.read) == ((1, 2, 1, 2, 1, 2), (9, 5, 5, 3, 3, 2), (0, 2, 4, 5))
    assert sizes.names[:3] == ("encoder.stem", "encoder.module[1]", "encoder.module[2]")
    sizes = config(MACRO, 20, strides=(2,))
    assert (sizes.channels, sizes.sides, sizes.plan.read) == ((4, 4, 8, 16, 16), (10, 10, 10, 5, 3), (2, 3, 4))
    sizes = config(MR, 40, strides=(4,))
    assert sizes.sides == (20, 10, 10, 10, 5, 10, 5, 3, 10, 5, 3, 2)
    assert [sizes.names[place] for place in sizes.plan.read] == [f"encoder.stage4[{k}]" for k in (1, 2, 3, 4)]


@pytest.mark.parametrize(
    ("encoder", "options", "message"),
    [
        ("resnet", {}, "a known encoder, got 'resnet'"),
        ("residual:18", {}, "the encoder residual without an architecture, got '18'"),
        ("transnas-micro", {}, "an architecture of transnas-micro, got none; try transnas-micro:64-41414-"),
        ("transnas-micro:64-41414-9_02_333", {}, "transnas-micro"),
        ("transnas-macro:64-1111-basic", {}, "1 to 4 of them type 3 or 4"),
        ("transnas-micro:64-41414-1_00_001", {}, "a cell with a path from its input to its output"),
        (MICRO, {"side": 7}, r"images of 8 x 8 pixels or more for the encoder transnas-micro:.*got 7 x 7"),
        (MR, {"side": 8, "strides": (2,)}, "images of 16 x 16 pixels or more"),
        (MICRO, {"side": 8}, "the coarsest features of images to have more than one pixel, .* got one pixel of 8 x 8"),
        (MICRO, {"channels": (4, 8)}, "the channels of the stem alone"),
        (MICRO, {"strides": (3,)}, "a stride of the stem of 1, 2 or 4, got 3"),
        (MR, {"channels": (8,)}, "no channels for the encoder nas-bench-mr"),
        (MR, {"strides": (1, 2)}, "the stride of the stem alone"),
        (MICRO, {"multiple": 8}, "channels that are a multiple of 8 and differ at each ratio, got 4 channels"),
    ],
)
def test_what_is_refused(encoder: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        config(encoder, options.pop("side", SIDES.get(encoder, 9)), **options)
