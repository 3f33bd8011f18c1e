"""Networks from codes: shapes of every head, keys, and what is refused."""

from __future__ import annotations

import json
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ncp_jax import UsageError, build, count_parameters, get_space, list_tables
from ncp_jax.benchmarks.catalogue import LATENCY
from ncp_jax.networks import FAMILIES, describe, summarise

SMALL = {
    "nas-bench-mr": [8, 8, *(1, 1, 8), *(1, 1, 1, 8, 8), *(1, *[1] * 3, *[8] * 3), *(1, *[1] * 4, *[8] * 4), 8],
    "nas-bench-201": [2, 0, 3, 4, 1, 2],
    "transnas-micro": [2, 0, 1, 1, 2, 0],
    "transnas-macro": [4, 1, 1, 1, 0, 0],
}
OUTPUTS = {"classification": 2, "video": 2, "jigsaw": 2, "regression": 2, "segmentation": 4, "image": 4, "detection": 4}
EVERY = [(space, task) for space, family in FAMILIES.items() for task in family.tasks]


def shape_of_output(network: nnx.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    graph, state = nnx.split(network)
    return jax.eval_shape(lambda s, x: nnx.merge(graph, s)(x), state, jax.ShapeDtypeStruct(shape, jnp.float32)).shape


@pytest.mark.parametrize(("space", "task"), EVERY)
def test_every_task_of_every_space_has_a_head(space: str, task: str) -> None:
    network = build(space, SMALL[space], task, abstract=True)
    chosen = FAMILIES[space].tasks[task]
    shape = network.form.shape(batch=3)
    expected = (3, chosen.outputs) if OUTPUTS[chosen.head] == 2 else (3, *shape[1:3], chosen.outputs)
    if chosen.head == "detection":  # 2 anchors for each of 3 classes: 3 scores, 7 numbers of a box, 2 directions
        assert shape == (3, 512, 512, 64)
        expected = (3, 128, 128, 2 * 3 * (3 + 7 + 2))
    assert shape_of_output(network, shape) == expected
    assert network.form.task == task
    assert network.form.code == tuple(SMALL[space])


def test_every_table_has_a_network() -> None:
    names = {f"{space}/{task}" for space, task in EVERY}
    names |= {task for _, task in EVERY}  # those of digits belong to the space of TransNAS micro
    tables = {name for name in list_tables() if "/" in name and name.partition("/")[0] not in LATENCY}
    assert tables - names == {"nas-bench-201/imagenet16-120-ncp"}  # imagenet16-120 in another publisher's file
    whole = build("nas-bench-mr", SMALL["nas-bench-mr"], "nas-bench-mr/seg", abstract=True)
    assert whole.form.task == "seg"


@pytest.mark.parametrize(
    ("space", "task"),
    [("nas-bench-mr", "video"), ("transnas-macro", "jigsaw"), ("transnas-micro", "segmentsemantic")],
)
def test_classes_change_the_output_alone(space: str, task: str) -> None:
    usual = build(space, SMALL[space], task, abstract=True)
    other = build(space, SMALL[space], task, classes=np.int64(7), abstract=True)
    assert shape_of_output(other, other.form.shape())[-1] == 7
    assert count_parameters(other.stages) == count_parameters(usual.stages)
    assert count_parameters(other.head) < count_parameters(usual.head)


@pytest.mark.parametrize(("height", "width"), [(32, 32), (33, 45), (70, 127)])
def test_multi_resolution_networks_take_any_sides(height: int, width: int) -> None:
    network = build("nas-bench-mr", SMALL["nas-bench-mr"], "seg", abstract=True)
    assert shape_of_output(network, (1, height, width, 3)) == (1, height, width, 19)


@pytest.mark.parametrize("modules", ["1114", "1344", "13434", "133324", "114311"])
def test_pixel_heads_return_the_size_of_the_image_whatever_the_stride(modules: str) -> None:
    code = get_space("transnas-macro").from_string(f"64-{modules}-basic")
    for task in ("segmentsemantic", "normal"):
        network = build("transnas-macro", code, task, abstract=True)
        shape = network.form.shape(side=128)
        assert shape_of_output(network, shape)[1:3] == shape[1:3]


def test_abstract_and_real_networks_have_one_structure() -> None:
    for space, code in SMALL.items():
        real, shapes = nnx.state(build(space, code)), nnx.state(build(space, code, abstract=True))
        chex.assert_trees_all_equal_shapes_and_dtypes(real, shapes)


def test_the_key_makes_the_weights() -> None:
    def weights(**options) -> np.ndarray:
        return np.asarray(build("transnas-macro", SMALL["transnas-macro"], **options).head.linear.kernel[...])

    np.testing.assert_array_equal(weights(), weights(key=jax.random.key(0)))
    assert not np.array_equal(weights(), weights(key=jax.random.key(1)))


def test_codes_may_be_strings() -> None:
    space = get_space("nas-bench-201")
    text = space.to_string(SMALL["nas-bench-201"])
    assert build(space, text, abstract=True).form == build(space, SMALL[space.name], abstract=True).form


def assert_refused(pattern: str, call) -> None:
    with pytest.raises(UsageError, match=pattern) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    assert re.fullmatch(r".*expected .+, got .+; .+", text)


@pytest.mark.parametrize(
    ("space", "code", "options", "pattern"),
    [
        ("nas-bench", SMALL["nas-bench-201"], {}, "expected a known space"),
        ("transnas-micro", [4, 0, 0, 0, 0, 0], {}, "position 0 .edge 0>1. to be one of 0, 1, 2, 3, got 4"),
        ("transnas-micro", [[0] * 6, [1] * 6], {}, "expected one code, got 2 of them"),
        ("transnas-macro", "64-1111-basic", {}, "expected an architecture string of transnas-macro"),
        ("nas-bench-mr", [8] * 26, {}, "27 integers, or rows of 27, got shape"),
        ("nas-bench-mr", SMALL["nas-bench-mr"], {"task": "2ddet"}, "have a head for, got '2ddet'; choose from: class"),
        ("nas-bench-201", SMALL["nas-bench-201"], {"task": "jigsaw"}, "nas-bench-201 have a head for, got 'jigsaw'"),
        (
            "nas-bench-201",
            SMALL["nas-bench-201"],
            {"classes": 1},
            "classes .* an integer 2 or more, got 1; .* has 10",
        ),
        ("nas-bench-201", SMALL["nas-bench-201"], {"classes": 2.5}, "classes to be an integer 2 or more, got 2.5"),
        ("nas-bench-201", SMALL["nas-bench-201"], {"classes": True}, "classes to be an integer 2 or more, got True"),
        ("transnas-macro", SMALL["transnas-macro"], {"task": "normal", "classes": 5}, "no number of classes .* got 5"),
    ],
)
def test_what_build_refuses(space: str, code: object, options: dict, pattern: str) -> None:
    assert_refused(pattern, lambda: build(space, code, abstract=True, **options))


@pytest.mark.parametrize(
    ("space", "task", "shape", "pattern"),
    [
        ("nas-bench-mr", "seg", (1, 64, 31, 3), "at least 32 x 32 pixels .* got 64 x 31; .* the benchmark uses 512"),
        ("nas-bench-mr", "seg", (1, 3, 64, 64), "images .n, height, width, 3. .* got shape .1, 3, 64, 64."),
        ("nas-bench-mr", "video", (1, 64, 64, 3), "images .n, frames, height, width, 3. .* got shape"),
        ("transnas-micro", "jigsaw", (1, 8, 64, 64, 3), "images .n, 9, height, width, 3. .* got shape"),
        ("transnas-micro", "class_scene", (1, 16, 16, 3), "at least 32 x 32"),
        ("transnas-macro", "normal", (1, 12, 8, 3), "multiples of 8 .* got 12 x 8"),
        ("nas-bench-201", "cifar10", (1, 30, 32, 3), "multiples of 4 .* got 30 x 32"),
        ("nas-bench-201", "cifar10", (0, 32, 32, 3), "images .n, height, width, 3."),
        ("transnas-micro", "digits/class", (1, 8, 8, 3), "images .n, height, width, 1. .* got shape .1, 8, 8, 3."),
        ("transnas-micro", "digits/class", (1, 8, 12, 1), "images of 8 x 8 pixels .* got 8 x 12"),
    ],
)
def test_what_networks_refuse(space: str, task: str, shape: tuple[int, ...], pattern: str) -> None:
    network = build(space, SMALL[space], task, abstract=True)
    assert_refused(pattern, lambda: shape_of_output(network, shape))


def test_networks_refuse_integers_and_run_only_with_values() -> None:
    images = np.zeros((1, 16, 16, 3), np.uint8)
    network = build("transnas-macro", SMALL["transnas-macro"], abstract=True)
    assert_refused("images of floating numbers, got uint8", lambda: network(images))
    assert_refused("a network with values to run, got an abstract one", lambda: network(images / 255))


def test_summary_and_its_text() -> None:
    network = build("transnas-macro", "64-1234-basic", "normal", abstract=True)
    summary = summarise(network, side=64)
    assert summary.input == (1, 64, 64, 3)
    assert [stage.name for stage in summary.stages] == ["stem", *(f"module {i}" for i in range(1, 5)), "head"]
    assert summary.stages[4].outputs == ((1, 4, 4, 256),)
    assert summary.params == count_parameters(network) == summary.published["params"]
    assert summary.published["flops"] != summary.multiply_adds
    text = describe(summary)
    for number in (f"{summary.params:,}", f"{summary.multiply_adds:,}", "1×64×64×3"):
        assert number in text
    assert describe(summary, stages=False).count("\n") == 0
    assert_refused("a side of at least 1 pixel, got 0", lambda: summarise(network, side=0))


def test_summary_as_json() -> None:
    summary = summarise(build("transnas-micro", SMALL["transnas-micro"], "jigsaw", abstract=True))
    found = json.loads(json.dumps(summary.to_json()))
    assert list(found.items())[:3] == [("schema", "build/1"), ("space", "transnas-micro"), ("task", "jigsaw")]
    assert list(found)[3:] == ["code", "string", "input", "stages", "params", "multiply_adds", "counted", "published"]
    assert found["input"] == [1, 9, 64, 64, 3]
    assert found["stages"][-1] == {
        "name": "head",
        "outputs": [[1, 1000]],
        "params": 9 * 512 * 1000 + 1000,
        "multiply_adds": 9 * 512 * 1000,
    }
    assert sum(row["params"] for row in found["stages"]) == found["params"] == found["published"]["params"]
