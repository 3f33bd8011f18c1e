from __future__ import annotations

import dataclasses

import pytest

from ncp_jax import MetricSpec, list_tables, load_table
from ncp_jax.checks import UsageError
from ncp_jax.spaces import SPACES, cost_model, cost_model_for, cost_tasks, get_space
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
    assert [cost_model(space).task for space in SPACES.values()] == ["", "cifar10", "class_scene", "class_scene"]


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
