"""The GFLOPs limit in spaces of choices: the cheapest code is no corner of the box, and the task sets the costs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Objective, PropagationConfig, propagate
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.limit import Limit
from ncp_jax.spaces import Bounds, cost_model, cost_model_for, get_space

Make = Callable[..., Predictor]
FEW = PropagationConfig(steps=4, learning_rate=20.0)
TASKS = [("transnas-micro", "jigsaw"), ("transnas-macro", "normal"), ("nas-bench-201", "imagenet16-120")]


def within(bounds: Bounds, predictor: Predictor, gflops: float) -> Feasible:
    limits = [Limit("gflops", "<=", gflops, confidence=None)]
    return Feasible.make(bounds, predictor, limits, cost_model_for(bounds.space, predictor.metrics))


def metrics(task: str) -> tuple[MetricSpec, ...]:
    return (
        MetricSpec("acc", task=task, unit="%"),
        MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost"),
    )


def search(ensemble: Make, name: str, task: str, limit: float | None, config: PropagationConfig = FEW) -> Found:
    predictor = ensemble(name, metrics=metrics(task))
    goal = Objective(maximize={"acc": 1.0})
    return propagate(predictor, goal, codes=32, key=jax.random.key(3), config=config, max_gflops=limit)


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_every_architecture_found_keeps_the_limit_of_its_task(ensemble: Make, name: str, task: str) -> None:
    space, model = get_space(name), cost_model(get_space(name), task)
    counts = model.exact(space.all_codes())["flops"]
    for quantile in (0.0, 0.05, 0.4):
        most = int(np.quantile(counts, quantile, method="lower"))
        found = search(ensemble, name, task, most / 1e9)
        exact = model.exact(found.codes)["flops"]
        np.testing.assert_array_equal(found.costs["flops"], exact / 1e9)
        assert (exact <= most).all()
        assert (np.diff(found.score) <= 0).all()
        if quantile:
            assert len(found) > 5
            assert exact.max() > 0.8 * most, "the limit is not made use of"
    with pytest.raises(UsageError, match=r"expected a GFLOPs limit >= .*, the space's smallest, got .*; raise"):
        search(ensemble, name, task, counts.min() * 0.999 / 1e9)


def test_bounds_and_a_limit_hold_together(ensemble: Make) -> None:
    """The cheapest code within bounds need not be the cheapest of the space, and has to be found."""
    space = get_space("transnas-macro")
    limits = {"module 1": (1, 2), "module 6": (1, None)}
    bounds, model = Bounds.of(space, limits), cost_model(space, "jigsaw")
    inside = space.all_codes()
    inside = inside[(inside[:, 0] <= 2) & (inside[:, 5] >= 1)]
    least = int(model.exact(inside)["flops"].min())
    limit = within(bounds, ensemble("transnas-macro", metrics=metrics("jigsaw")), least / 1e9)
    assert model.exact(np.asarray(space.project(limit.anchor)))["flops"] == least
    found = search(ensemble, "transnas-macro", "jigsaw", 2 * least / 1e9, dataclasses.replace(FEW, bounds=limits))
    assert np.asarray(bounds.contains(found.codes)).all()
    assert (model.exact(found.codes)["flops"] <= 2 * least).all()


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_codes_within_the_limit_stay_where_they_are(ensemble: Make, name: str, task: str) -> None:
    space, model = get_space(name), cost_model(get_space(name), task)
    flops = model.in_units(space.all_codes())["flops"]
    most = float(np.median(flops))
    limit = within(Bounds.of(space, {}), ensemble(name, metrics=metrics(task)), most)
    points = np.random.default_rng(0).uniform(size=(40, space.features)).astype(np.float32)
    before = model.in_units(np.asarray(space.project(points)))["flops"]
    pulled = limit.pull_back(points)
    over = before > most
    assert 5 < over.sum() < 40
    np.testing.assert_array_equal(pulled[~over], points[~over])
    after = model.in_units(np.asarray(space.project(pulled)))["flops"]
    assert (after <= most).all()
    if name != "transnas-macro":  # where costs do not fall all along the way
        assert after[over].mean() > (flops.min() + most) / 2, "codes are pulled farther than they need to be"


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_exact_costs_are_lowered_where_their_prediction_says_nothing(ensemble: Make, name: str, task: str) -> None:
    predictor = ensemble(name, metrics=metrics(task))
    *hidden, last = predictor.params["w"]
    blind = dataclasses.replace(predictor, params=predictor.params | {"w": (*hidden, last * 0)})
    space, model = get_space(name), cost_model(get_space(name), task)
    flops = model.in_units(space.all_codes())["flops"]
    scale = dataclasses.replace(predictor.scale, y_std=jnp.asarray([1.0, flops.std()], jnp.float32))
    start = np.asarray(space.sample(jax.random.key(1), 8))
    config = PropagationConfig(steps=70, learning_rate=10.0, exact_costs=True)
    goal = Objective(minimize={"flops": 1.0})
    found = propagate(dataclasses.replace(blind, scale=scale), goal, start=start, config=config)
    ends = model.in_units(found.codes)["flops"]
    begun = model.in_units(start)["flops"]
    assert ends.min() < begun.min()
    assert ends.max() < 0.5 * begun.max()


def test_costs_of_a_task_that_is_not_the_spaces_are_not_guessed(ensemble: Make) -> None:
    assert search(ensemble, "transnas-micro", "mine", None).costs == {}
