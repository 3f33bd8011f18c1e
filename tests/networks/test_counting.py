"""Counts against hand computation, closed forms and published figures. Networks here have no values."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from ncp_jax import cost_model, get_space, load_table
from ncp_jax.networks import Operations, build, count_operations, count_parameters, count_stages, published_cost
from ncp_jax.networks.layers import (
    BatchNorm,
    Convolution,
    Linear,
    Parameters,
    average_pool,
    global_average,
    relu,
    resize,
)


class Little(nnx.Module):
    """A bit of everything, and a layer whose result nobody uses."""

    def __init__(self) -> None:
        shapes = Parameters(None)
        self.first = Convolution(3, 4, 3, stride=2, bias=True, parameters=shapes)
        self.unused = Convolution(4, 5, 1, parameters=shapes)
        self.norm = BatchNorm(4, parameters=shapes)
        self.grow = Convolution(4, 6, 3, stride=2, bias=True, transposed=True, parameters=shapes)
        self.last = Linear(6, 7, parameters=shapes)

    def __call__(self, x):
        x = relu(self.norm(self.first(x)))
        self.unused(x)
        x = resize(self.grow(average_pool(x, window=3, stride=1)), 9, 5)
        return self.last(global_average(x))


def test_a_little_network_by_hand() -> None:
    little = Little()
    assert count_parameters(little) == (9 * 3 * 4 + 4) + 4 * 5 + 2 * 4 + (9 * 4 * 6 + 6) + (6 * 7 + 7)
    # Two images of 8 x 6 become 4 x 3, then 8 x 6 again.
    assert count_operations(little, 2, 8, 6, 3) == Operations(
        convolved=2 * 12 * (9 * 3 * 4) + 2 * 12 * (4 * 5),
        transposed=2 * 12 * (9 * 4 * 6),
        multiplied=2 * 6 * 7,
        biased=2 * 12 * 4,
        linear_biased=2 * 7,
        normalised=2 * 12 * 4,
        activated=2 * 12 * 4,
        pooled=2 * 12 * 4,
    )
    assert count_operations(little, 2, 8, 6, 3).multiply_adds == 24 * (108 + 20 + 216) + 84


def test_counting_leaves_the_module_in_training_mode_and_without_values() -> None:
    little = Little()
    count_operations(little, 1, 8, 6, 3)
    assert not little.norm.use_running_average
    assert isinstance(little.norm.mean.get_value(), jax.ShapeDtypeStruct)


def test_nas_bench_mr_costs_what_the_closed_form_says() -> None:
    space = get_space("nas-bench-mr")
    codes = np.asarray(space.sample(jax.random.key(1), 50))
    exact = cost_model(space).exact(codes)
    counted = [published_cost(build(space, code, "classification", abstract=True)) for code in codes]
    np.testing.assert_array_equal([c["params"] for c in counted], exact["params"])
    np.testing.assert_array_equal([c["flops"] for c in counted], exact["flops"])


@pytest.mark.parametrize("kind", ["micro", "macro"])
def test_transnas_costs_what_is_published(kind: str, mirror: Path) -> None:
    published = json.loads((mirror / "naslib" / f"zc_transbench101_{kind}.json").read_text())
    rng, wrong, seen = np.random.default_rng(0), [], 0
    for task, rows in published.items():
        for text in rng.choice(sorted(rows), 8, replace=False):
            counted = published_cost(build(f"transnas-{kind}", ast.literal_eval(str(text)), task, abstract=True))
            expected = {cost: round(1e6 * rows[text][cost]["score"]) for cost in ("flops", "params")}
            seen += 1
            if counted != expected:
                wrong.append((task, text, counted, expected))
    assert wrong == []
    assert seen == 56


def test_nas_bench_201_costs_what_is_published() -> None:
    # The table's accuracies are of ImageNet16-120, its costs of the CIFAR-100 network, rounded.
    table = load_table("nas-bench-201/imagenet16-120-ncp")
    names = [metric.name for metric in table.metrics]
    rows = np.random.default_rng(0).choice(len(table.codes), 50, replace=False)
    codes, values = np.asarray(table.codes)[rows], np.asarray(table.values)[rows]
    counted = [published_cost(build("nas-bench-201", code, "cifar100", abstract=True)) for code in codes]
    np.testing.assert_allclose([c["flops"] / 1e6 for c in counted], values[:, names.index("flops")], atol=0.00501)
    np.testing.assert_allclose([c["params"] / 1e6 for c in counted], values[:, names.index("params")], atol=0.000501)


def test_the_stages_add_up_and_pieces_multiply() -> None:
    code = get_space("transnas-micro").from_string("64-41414-1_02_333")
    jigsaw = build("transnas-micro", code, "jigsaw", abstract=True)
    stages = count_stages(jigsaw, (2, 9, 64, 64, 3))
    whole = count_operations(jigsaw, 2, 9, 64, 64, 3)
    assert sum(stage.operations.multiply_adds for stage in stages) == whole.multiply_adds
    assert sum(stage.parameters for stage in stages) == count_parameters(jigsaw)
    assert [stage.name for stage in stages] == ["stem", *(f"module {i}" for i in range(1, 6)), "head"]
    assert stages[-2].outputs == ((18, 2, 2, 512),)
    scene = build("transnas-micro", code, "class_scene", abstract=True)
    tile = count_stages(scene, (1, 64, 64, 3))[:-1]
    assert [18 * s.operations.convolved for s in tile] == [s.operations.convolved for s in stages[:-1]]
    video = build("nas-bench-mr", get_space("nas-bench-mr").example, "video", abstract=True)
    image = build("nas-bench-mr", get_space("nas-bench-mr").example, "classification", classes=51, abstract=True)
    assert count_parameters(video) == count_parameters(image)
    frames, single = (count_operations(video, 1, n, 64, 64, 3) for n in (3, 1))
    assert single == count_operations(image, 1, 64, 64, 3)
    classifier = 64 * 51
    assert frames.convolved - classifier == 3 * (single.convolved - classifier)


def test_segmentation_differs_from_classification_in_the_head_only() -> None:
    example = get_space("nas-bench-mr").example
    made = {
        task: count_stages(build("nas-bench-mr", example, task, classes=19, abstract=True), (1, 96, 64, 3))
        for task in ("classification", "segmentation")
    }
    assert made["classification"][:-1] == made["segmentation"][:-1]
    assert made["classification"][-1].parameters == made["segmentation"][-1].parameters
    assert [stages[-1].outputs for stages in made.values()] == [((1, 19),), ((1, 96, 64, 19),)]
    # 1x1 convolutions from 256 channels to 64, then 19, on 24 x 16 pixels.
    assert made["segmentation"][-1].operations.convolved == 24 * 16 * (256 * 64 + 64 * 19)
