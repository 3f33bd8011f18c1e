"""The costs of both TransNAS spaces against every published figure, and layer by layer where nothing is published."""

from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.spaces import cost_model, cost_tasks
from ncp_jax.spaces.costs.heads import HEADS, decoder_layers
from ncp_jax.spaces.transnas_macro import TRANSNAS_MACRO
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO

SPACES = {"micro": TRANSNAS_MICRO, "macro": TRANSNAS_MACRO}
ROWS = {"micro": 711, "macro": 725}
FEWER = {("macro", "class_scene"): 662, ("macro", "class_object"): 662}


@pytest.mark.parametrize("task", HEADS)
@pytest.mark.parametrize("space", SPACES)
def test_exact_on_every_published_row(published, space, task):
    codes, costs = published(space, task)
    assert len(codes) == FEWER.get((space, task), ROWS[space])
    got = cost_model(SPACES[space], task).exact(codes)
    for cost, wanted in costs.items():
        assert got[cost].dtype == np.int64
        np.testing.assert_array_equal(got[cost], wanted)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_tasks_differ_by_their_heads(space):
    """Parameters of the encoder do not depend on the task: what a code adds to another is the same in all of them."""
    assert cost_tasks(space)[: len(HEADS)] == tuple(HEADS)
    codes = space.all_codes()
    model = {task: cost_model(space, task) for task in HEADS}
    assert [model[task].task for task in HEADS] == list(HEADS)
    params = {task: model[task].exact(codes)["params"] for task in HEADS}
    # Linear heads: outputs x (inputs + 1), with 63, 100 and 9 outputs.
    np.testing.assert_array_equal(
        (params["class_scene"] - params["room_layout"]) * 91, (params["class_object"] - params["room_layout"]) * 54
    )
    np.testing.assert_array_equal(params["normal"], params["autoencoder"])
    flops = {task: model[task].exact(codes)["flops"] for task in HEADS}
    np.testing.assert_array_equal(flops["normal"], flops["autoencoder"])
    # A tile of a jigsaw has a sixteenth of the pixels; the head is what is left over.
    assert (flops["jigsaw"] < flops["class_scene"]).all()


def test_smallest_micro_network_by_hand():
    """No operation at all: stem and classifier. 128 and 64 pixels a side in the stem, 8 in front of the classifier."""
    got = cost_model(TRANSNAS_MICRO, "class_scene").exact([0] * 6)
    params = 27 * 32 + 2 * 32 + 9 * 32 * 64 + 2 * 64 + 512 * 63 + 63
    flops = 128**2 * (27 * 32 + 2 * 32 + 32) + 64**2 * (9 * 32 * 64 + 2 * 64) + 512 * 9**2 + 512 * 63
    assert (got["params"], got["flops"]) == (params, flops)


def test_one_edge_of_micro_by_hand():
    """A skip connection is free but for the first cell of the first, third and fifth module, on edges from node 0."""
    model = cost_model(TRANSNAS_MICRO)
    nothing = model.exact([0] * 6)["params"]
    reductions = ((64, 128), (128, 256), (256, 512))
    pairs = sum(a * b + 2 * b for a, b in reductions)
    for edge, source in enumerate((0, 0, 1, 0, 1, 2)):
        code = np.zeros(6, int)
        code[edge] = 1
        assert model.exact(code)["params"] - nothing == (pairs if source == 0 else 0)


@pytest.mark.parametrize("kind", ["generator", "segmentation"])
def test_decoders_upsample_as_often_as_they_should(kind):
    for upsamplings in range(2, 7):
        layers = decoder_layers(kind, upsamplings)
        assert len(layers) == {"generator": 13, "segmentation": 7}[kind]
        assert sum(transposed for _, transposed in layers) == upsamplings
        assert layers[-1] == ({"generator": 16, "segmentation": 32}[kind], True)
