"""Counts against hand computation, closed forms and published figures. Networks here have no values."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import jax
import numpy as np
import pytest
from flax import nnx

from ncp_jax import cost_model, cost_tasks, get_space
from ncp_jax.networks import (
    FAMILIES,
    Operations,
    build,
    count_operations,
    count_parameters,
    count_stages,
    published_cost,
)
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
    codes = np.array(space.sample(jax.random.key(1), 52))
    # To trace a network takes longer the deeper it is: most of these have counts of 1 and 2 instead of 1 to 4.
    counts = np.array([name.rstrip("[0123]").endswith(("num_blocks", "num_convs")) for name in space.position_names])
    codes[12:, counts] = (codes[12:, counts] + 1) // 2
    assert set(codes[:12, counts].ravel()) == {1, 2, 3, 4}
    exact = cost_model(space).exact(codes)
    counted = [published_cost(build(space, code, "classification", abstract=True)) for code in codes]
    np.testing.assert_array_equal([c["params"] for c in counted], exact["params"])
    np.testing.assert_array_equal([c["flops"] for c in counted], exact["flops"])
    # The tasks' own networks: other images and heads.
    for task in ("seg", "seg-4x", "cls-10c", "video", "3ddet"):
        own = cost_model(space, task, of="task").exact(codes[12])
        assert published_cost(build(space, codes[12], task, abstract=True)) == {c: int(n) for c, n in own.items()}


@pytest.mark.parametrize(("name", "each"), [("nas-bench-201", 17), ("transnas-micro", 8), ("transnas-macro", 8)])
def test_cells_and_modules_cost_what_the_closed_forms_say(name: str, each: int) -> None:
    space = get_space(name)
    tasks = cost_tasks(space)
    assert set(tasks) == set(FAMILIES[name].tasks)
    codes = np.asarray(space.sample(jax.random.key(1), each * len(tasks))).reshape(len(tasks), each, -1)
    assert codes.shape[0] * codes.shape[1] >= 50
    for task, some in zip(tasks, codes, strict=True):
        exact = cost_model(space, task).exact(some)
        counted = [published_cost(build(space, code, task, abstract=True)) for code in some]
        for cost in ("params", "flops"):
            np.testing.assert_array_equal([c[cost] for c in counted], exact[cost], err_msg=f"{cost} of {task}")


@pytest.mark.parametrize("kind", ["micro", "macro"])
def test_transnas_costs_what_is_published(kind: str, mirror: Path) -> None:
    published = json.loads((mirror / "naslib" / f"zc_transbench101_{kind}.json").read_text())
    assert set(published) == {task for task in FAMILIES[f"transnas-{kind}"].tasks if "/" not in task}
    for task, rows in published.items():
        text = sorted(rows)[len(rows) // 2]
        counted = published_cost(build(f"transnas-{kind}", ast.literal_eval(text), task, abstract=True))
        assert counted == {cost: round(1e6 * rows[text][cost]["score"]) for cost in ("flops", "params")}


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
