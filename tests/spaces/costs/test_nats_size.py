"""Costs of the size space, against published entries of NATS-Bench and a count layer by layer."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces import cost_model, get_space

SIZE = get_space("nats-size")
# Published parameters and FLOPs, in millions, on CIFAR-10, CIFAR-100 and ImageNet16-120.
PUBLISHED = {
    "8:8:8:16:32": ((0.049202, 6.84065), (0.052172, 6.84362), (0.052832, 1.71404)),
}


def counted(code: list[int], classes: int, image: int) -> tuple[int, int]:
    """Parameters and FLOPs, layer by layer."""
    totals = [0, 0]

    def conv(kernel: int, inputs: int, outputs: int, side: int, norm: bool = True) -> None:
        totals[0] += kernel**2 * inputs * outputs + 2 * outputs * norm
        totals[1] += kernel**2 * inputs * outputs * side**2

    def cell(inputs: int, outputs: int, side: int) -> None:
        for node in (0, 0, 1, 1, 2):
            conv(3, inputs if node == 0 else outputs, outputs, side)
        if inputs != outputs:
            conv(1, inputs, outputs, side)

    c1, c2, c3, c4, c5 = code
    conv(3, 3, c1, image)
    cell(c1, c1, image)
    for inputs, outputs, side in ((c1, c2, image // 2), (c3, c4, image // 4)):
        conv(3, inputs, outputs, side)
        conv(3, outputs, outputs, side)
        conv(1, inputs, outputs, side, norm=False)
    cell(c2, c3, image // 2)
    cell(c4, c5, image // 4)
    classifier = (c5 + 1) * classes
    return totals[0] + 2 * c5 + classifier, totals[1] + classifier


def test_costs_are_the_published_ones() -> None:
    for text, values in PUBLISHED.items():
        for task, (params, flops) in zip(("cifar10", "cifar100", "imagenet16-120"), values, strict=True):
            exact = cost_model(SIZE, task).exact(SIZE.from_string(text))
            assert (exact["params"], exact["flops"]) == (round(params * 1e6), round(flops * 1e6))


def test_costs_are_those_of_the_layers_and_of_the_relaxed_form() -> None:
    codes = np.random.default_rng(0).choice(SIZE.values[0], (64, 5))
    model = cost_model(SIZE, "cifar100")
    exact = model.exact(codes)
    assert [tuple(pair) for pair in zip(exact["params"], exact["flops"], strict=True)] == [
        counted(code, 100, 32) for code in codes.tolist()
    ]
    relaxed = model.relaxed(jnp.asarray(codes, jnp.float32))
    for cost, values in model.in_units(codes).items():
        np.testing.assert_allclose(relaxed[cost], values, rtol=1e-5)
