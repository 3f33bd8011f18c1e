"""Tight limits on GFLOPs: what is found against all feasible codes, by predictors that know FLOPs and that do not."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Objective, PropagationConfig, invert, propagate
from ncp_jax.propagation.exact_costs import with_exact_costs
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.limit import Limit
from ncp_jax.spaces import Bounds, cost_model, cost_model_for, get_space

Make = Callable[..., Predictor]
FEW = PropagationConfig(steps=4, learning_rate=20.0)
TASKS = [("transnas-micro", "jigsaw"), ("transnas-macro", "class_object"), ("nas-bench-201", "imagenet16-120")]
GOAL = Objective(maximize={"acc": 1.0})


def within(bounds: Bounds, predictor: Predictor, gflops: float) -> Feasible:
    limits = [Limit("gflops", "<=", gflops, confidence=None)]
    return Feasible.make(bounds, predictor, limits, cost_model_for(bounds.space, predictor.metrics))


def accuracy(task: str) -> tuple[MetricSpec, ...]:
    return (MetricSpec("acc", task=task, unit="%"),)


def scores_of(predictor: Predictor, codes: np.ndarray) -> np.ndarray:
    """Predicted objective of each code, in standard units."""
    mean = np.asarray(predictor(get_space(predictor.space).encode(jnp.asarray(codes)))[0])
    return (mean[:, 0] - np.asarray(predictor.scale.y_mean)[0]) / np.asarray(predictor.scale.y_std)[0]


def search(predictor: Predictor, limit: float | None, config: PropagationConfig = FEW, codes: int = 32) -> Found:
    return propagate(predictor, GOAL, codes=codes, key=jax.random.key(3), config=config, max_gflops=limit)


@pytest.mark.parametrize(("name", "task"), TASKS)
def test_a_tight_limit_costs_next_to_nothing(ensemble: Make, name: str, task: str) -> None:
    """Against exhaustive scoring of all feasible codes, from no more than 32 starts."""
    predictor, space = ensemble(name, metrics=accuracy(task)), get_space(name)
    codes = space.all_codes()
    flops = cost_model(space, task).in_units(codes)["flops"]
    scores = scores_of(predictor, codes)
    for quantile in (0.02, 0.1, 0.5):
        limit = float(np.quantile(flops, quantile, method="higher"))
        found = search(predictor, limit)
        assert (found.costs["flops"] <= limit).all()
        assert scores[flops <= limit].max() - found.score[0] <= 0.1 * scores.std()
        assert len(found) > 10


def test_measured_codes_take_part(ensemble: Make) -> None:
    predictor, space = ensemble("transnas-macro", metrics=accuracy("class_object")), get_space("transnas-macro")
    codes = space.all_codes()
    flops = cost_model(space, "class_object").in_units(codes)["flops"]
    limit = float(np.quantile(flops, 0.02, method="higher"))
    found = search(predictor, limit, dataclasses.replace(FEW, measured=codes), codes=1)
    inside = flops <= limit
    assert {tuple(code) for code in found.codes.tolist()} == {tuple(code) for code in codes[inside].tolist()}
    bounds = {"module 1": (1, 1)}
    found = search(predictor, None, dataclasses.replace(FEW, measured=codes, bounds=bounds), codes=1)
    assert (found.codes[:, 0] == 1).all()
    assert len(found) == (codes[:, 0] == 1).sum()
    with pytest.raises(UsageError, match="measured code"):
        search(predictor, limit, dataclasses.replace(FEW, measured=codes + 7))


@pytest.mark.parametrize("name", ["nas-bench-mr", "transnas-macro"])
def test_a_predictor_without_flops_is_steered_by_the_exact_ones(ensemble: Make, name: str) -> None:
    """Codes end within the limit by themselves: most of them where costs rise with every position."""
    task = {"nas-bench-mr": "seg", "transnas-macro": "class_object"}[name]
    predictor, space = ensemble(name, metrics=accuracy(task)), get_space(name)
    bounds, model = Bounds.of(space, {}), cost_model(space, task)
    followed, scales = with_exact_costs(predictor, model, ["flops"], bounds)
    mean, std = scales["flops"]
    codes = np.asarray(space.sample(jax.random.key(0), 20))
    flops = model.in_units(codes)["flops"]
    predicted, spread = followed(space.encode(jnp.asarray(codes)))
    np.testing.assert_allclose(predicted[:, 1], flops, rtol=1e-4)
    np.testing.assert_allclose(spread[:, 1], 0, atol=1e-5 * flops.max())
    np.testing.assert_allclose(predicted[:, :1], predictor(space.encode(jnp.asarray(codes)))[0], rtol=1e-5)
    low = model.in_units(np.asarray(space.sample(jax.random.key(5), 4000)))["flops"]
    assert abs(low.mean() - mean) < 4 * std / np.sqrt(1000)
    # The networks ask for next to nothing: only the ceiling moves the codes.
    *hidden, last = predictor.params["w"]
    blind = dataclasses.replace(predictor, params=predictor.params | {"w": (*hidden, last * 1e-6)})
    limit = float(np.median(flops))
    start = codes[flops > limit]
    followed, _ = with_exact_costs(blind, model, ["flops"], bounds)
    weights = GOAL.weights(followed.metrics, {"flops": (limit - mean) / std})
    box = (jnp.asarray(space.lower), jnp.asarray(space.upper))
    config = PropagationConfig(steps=100, learning_rate=10.0)
    ends = space.project(invert(followed, weights, space.encode(jnp.asarray(start)), box, config))
    assert (model.in_units(np.asarray(ends))["flops"] <= limit * 1.05).mean() > (0.7 if model.increasing else 0.2)
    found = propagate(blind, GOAL, start=start, config=config, max_gflops=limit)
    assert (found.costs["flops"] <= limit).all()
    assert "flops" not in [m.name for m in found.metrics]


def test_a_function_as_objective_sees_its_own_metrics_only(ensemble: Make) -> None:
    predictor = ensemble("transnas-micro", metrics=accuracy("class_object"))
    shapes = set()

    def goal(mean: jax.Array, spread: jax.Array) -> jax.Array:
        shapes.add((mean.shape, spread.shape))
        return mean[-1]

    found = propagate(predictor, goal, codes=8, key=jax.random.key(0), config=FEW, max_gflops=1.0)
    assert (found.costs["flops"] <= 1.0).all()
    assert shapes == {((1,), (1,))}


@pytest.mark.parametrize("name", ["nas-bench-mr", "transnas-macro", "nas-bench-201"])
def test_lowered_codes_fit_differ_and_change_no_more_than_needed(ensemble: Make, name: str) -> None:
    space = get_space(name)
    task = {"nas-bench-201": "cifar10", "transnas-macro": "class_object", "nas-bench-mr": "seg"}[name]
    model = cost_model(space, task)
    codes = np.asarray(space.sample(jax.random.key(0), 200))
    flops = model.in_units(codes)["flops"]
    most = float(np.quantile(flops, 0.1))
    limit = within(Bounds.of(space, {}), ensemble(name, metrics=accuracy(task)), most)
    lowered = limit.lower(codes, jax.random.key(1), 0)
    np.testing.assert_array_equal(space.check(lowered), lowered)
    assert (model.in_units(lowered)["flops"] <= most).all()
    np.testing.assert_array_equal(lowered[flops <= most], codes[flops <= most])
    changed = lowered != codes
    np.testing.assert_array_equal(lowered[changed], np.broadcast_to(limit.anchor_code, codes.shape)[changed])
    assert len(np.unique(lowered, axis=0)) > 30
    # A code's own draw does not depend on the others.
    np.testing.assert_array_equal(limit.lower(codes[50:60], jax.random.key(1), 50), lowered[50:60])


def test_shapes_do_not_depend_on_the_limit(ensemble: Make, caplog: pytest.LogCaptureFixture) -> None:
    predictor = ensemble("transnas-macro", metrics=accuracy("class_object"))
    flops = cost_model(get_space("transnas-macro"), "class_object").in_units(get_space("transnas-macro").all_codes())
    limits = [float(np.quantile(flops["flops"], q)) for q in (0.1, 0.03, 0.2, 0.4)]
    for limit in limits[:2]:
        search(predictor, limit)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for limit in limits[2:]:
            search(predictor, limit)
    assert not [text for text in caplog.messages if "Finished XLA compilation" in text]


def test_exact_costs_that_nothing_needs_are_refused(ensemble: Make) -> None:
    config = dataclasses.replace(FEW, exact_costs=True)
    predictor = ensemble("transnas-micro", metrics=accuracy("class_object"))
    with pytest.raises(UsageError, match=r"expected a cost in the objective \(flops .*got acc \[%\]; leave exact"):
        search(predictor, None, config)
    assert (search(predictor, 1.0, config).costs["flops"] <= 1.0).all()
    unknown = ensemble("transnas-micro", metrics=accuracy("mine"))
    with pytest.raises(UsageError, match="expected a space whose costs are known with exact_costs, got transnas-micro"):
        search(unknown, None, config)


def test_predicted_flops_are_kept_to_from_the_start(ensemble: Make) -> None:
    """Without a cost model, starts and edits are within the limit by prediction."""
    metrics = (MetricSpec("acc", task="mine"), MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost"))
    predictor = ensemble("transnas-macro", metrics=metrics)
    codes = get_space("transnas-macro").all_codes()
    mean = np.asarray(predictor(get_space("transnas-macro").encode(jnp.asarray(codes)))[0])
    limit = float(np.quantile(mean[:, 1], 0.05))
    found = search(predictor, limit)
    assert (found.mean[:, 1] <= limit * (1 + 1e-6)).all()
    scores = (mean[:, 0] - np.asarray(predictor.scale.y_mean)[0]) / np.asarray(predictor.scale.y_std)[0]
    assert scores[mean[:, 1] <= limit].max() - found.score[0] <= 0.1 * scores.std()
