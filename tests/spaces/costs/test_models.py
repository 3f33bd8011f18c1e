from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest

from ncp_jax import MetricSpec, list_tables, load_table
from ncp_jax.benchmarks.catalogue import LATENCY
from ncp_jax.checks import UsageError
from ncp_jax.spaces import SPACES, Bounds, cost_model, cost_model_for, cost_tasks, get_space
from ncp_jax.spaces.costs import exact_cost, relaxed_cost

MICRO, MR = get_space("transnas-micro"), get_space("nas-bench-mr")
UNITS = {"flops": "GMAC", "params": "M"}


def quality(*tasks):
    return [MetricSpec(f"{task}/top1", task=task) for task in tasks]


def test_every_space_has_models():
    for name, space in SPACES.items():
        tasks = cost_tasks(space)
        assert cost_model(space) is cost_model(space, tasks[0])
        for task in tasks:
            model = cost_model(space, task.upper())
            assert model is cost_model(space, task)
            assert model.name == name
            assert dict(model.units) == UNITS
            assert hash(model) == hash(dataclasses.replace(model))
    assert cost_model(MR).exact is exact_cost
    assert cost_model(MR, "seg").relaxed is relaxed_cost
    assert cost_model(MR, "video") == cost_model(MR)
    assert [cost_model(space).task for space in SPACES.values()] == [
        "",
        "cifar10",
        "class_scene",
        "class_scene",
        "cifar10",
    ]


def test_a_space_is_known_by_its_name():
    for name, space in SPACES.items():
        assert cost_tasks(name) == cost_tasks(space)
        assert cost_model(name) is cost_model(space)
        assert cost_model_for(name, []) is cost_model_for(space, [])
        assert get_space(space) is space
        assert Bounds.of(name, {}) == Bounds(name, space.values) == Bounds.of(space, {})
        assert Bounds.from_json(name, {}) == Bounds.of(space, {})
    with pytest.raises(UsageError, match="expected a known space, got 'nas-bench-m'"):
        cost_tasks("nas-bench-m")


def test_the_tasks_own_networks():
    """All tasks of the other spaces have their own network in the table already."""
    for name in ("nas-bench-201", "transnas-micro", "transnas-macro"):
        for task in cost_tasks(name):
            assert cost_model(name, task, of="task") is cost_model(name, task)
            assert cost_model(name, task).counted.startswith(f"the network of {task}: ")
    code = np.asarray(MR.sample(jax.random.key(3), 1))
    own = {task: cost_model(MR, task, of="task") for task in cost_tasks(MR)[:-1]}
    for task, model in own.items():
        exact, relaxed = model.in_units(code), model.relaxed(MR.encode(code))
        for cost in UNITS:
            np.testing.assert_allclose(relaxed[cost], exact[cost], rtol=1e-5)
        assert model.counted.startswith(f"the network of {task}: ")
    # The classifier of 50 classes and 128 pixels is the table's network.
    assert own["cls-50-100"].exact(code) == cost_model(MR).exact(code)
    assert own["seg"].exact(code)["flops"] > 15 * own["cls-50-100"].exact(code)["flops"]
    with pytest.raises(UsageError, match="expected a known value of --flops-of, got 'mine'"):
        cost_model(MR, of="mine")


def test_a_space_without_a_model():
    other = dataclasses.replace(MICRO, name="other")
    assert cost_model(other) is None
    assert cost_tasks(other) == ()
    assert cost_model_for(other, quality("jigsaw")) is None


def test_a_task_without_a_head():
    text = "expected a known task of transnas-micro, got 'jigsau'; did you mean: jigsaw"
    with pytest.raises(UsageError, match=text):
        cost_model(MICRO, "jigsau")
    with pytest.raises(UsageError, match="expected a known task of nas-bench-201, got 'seg'; choose from: cifar10"):
        cost_model(get_space("nas-bench-201"), "seg")
    with pytest.raises(UsageError, match="expected a known task of nas-bench-mr, got ''"):
        cost_model(MR, "")


def test_every_published_task_has_a_model(mirror):
    for name in list_tables():
        if name == "nas-bench-mr/3ddet" and not (mirror / "ncp/3ddet/trainval.pkl").is_file():
            print(f"{name} was not here")
            continue
        if name.partition("/")[0] in LATENCY:
            continue  # devices have no networks of their own
        table = load_table(name)
        space = get_space(table.space)
        tasks = {m.task for m in table.metrics if m.task}
        if name.startswith("digits"):
            tasks = {f"digits/{task}" for task in tasks}
        assert tasks <= set(cost_tasks(space)), name
        model = cost_model_for(space, table.metrics)
        if name == "nas-bench-201/imagenet16-120-ncp":
            assert model is None  # its own column counts another network, see docs/costs.md
        elif len(tasks) == 1:
            assert model == cost_model(space, tasks.pop())


def test_the_model_of_metrics():
    assert cost_model_for(MICRO, quality("jigsaw")).task == "jigsaw"
    for name in ("accuracy", "jigsaw/accuracy", "test_accuracy"):
        assert cost_model_for(MICRO, [MetricSpec(name, task="jigsaw")]).task == "digits/jigsaw"
    assert cost_model_for(MICRO, [MetricSpec("accuracy", task="mine")]) is None
    assert cost_model_for(MICRO, [MetricSpec("pixel_accuracy", task="segmentsemantic")]).task == "segmentsemantic"
    assert cost_model_for(MICRO, quality("jigsaw", "normal")) is cost_model(MICRO)
    assert cost_model_for(MICRO, quality("")) is cost_model(MICRO)
    assert cost_model_for(MICRO, []) is cost_model(MICRO)
    own = MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost")
    assert cost_model_for(MICRO, [*quality(""), own]) is None
    assert cost_model_for(MICRO, quality("jigsaw", "mine")) is None
    costs = [
        MetricSpec(n, unit=u, direction="minimize", kind="cost") for n, u in (("flops", "GMAC"), ("latency", "ms"))
    ]
    assert cost_model_for(MICRO, [*quality("jigsaw"), *costs]).task == "jigsaw"
    other = MetricSpec("flops", unit="M", direction="minimize", kind="cost")
    assert cost_model_for(MICRO, [*quality("jigsaw"), other]) is None
    assert cost_model_for(MR, [*quality("mine"), other]) is cost_model(MR)
