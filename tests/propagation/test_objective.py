from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation import Objective
from ncp_jax.propagation.objective import weights_of
from ncp_jax.types import Array

METRICS = (MetricSpec("mIoU"), MetricSpec("mAcc"), MetricSpec("flops", direction="minimize", kind="cost"))


def test_weights_are_arrays_over_the_metrics() -> None:
    goal = Objective(minimize={"FLOPS": 0.5}, maximize={"mIoU": 2}, hold={"mAcc": 3.0})
    assert goal.names == ("mIoU", "FLOPS", "mAcc")
    weights = goal.weights(METRICS, {"flops": -1.5})
    np.testing.assert_array_equal(weights.push, [2, 0, -0.5])
    np.testing.assert_array_equal(weights.hold, [0, 3, 0])
    np.testing.assert_array_equal(weights.ceiling, [np.inf, np.inf, -1.5])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, r"expected something to maximize or minimize, got neither; try Objective\(maximize="),
        ({"hold": {"mIoU": 1.0}}, "expected something to maximize or minimize, got neither"),
        (
            {"maximize": {"mIoU": 1.0}, "minimize": {"mIoU": 1.0}},
            "expected each metric once, got 'mIoU' under maximize and minimize; drop one",
        ),
        ({"maximize": {"mIoU": 1.0}, "minimize": {"miou": 1.0}}, "expected each metric once, got 'miou' under"),
        ({"maximize": {"mIoU": 1.0}, "hold": {"mIoU": 1.0}}, "'mIoU' under maximize and hold"),
        ({"maximize": {"mIoU": float("nan")}}, "expected a weight > 0 for 'mIoU', got nan"),
        ({"maximize": {"mIoU": float("inf")}}, "expected a weight > 0 for 'mIoU', got inf"),
        ({"minimize": {"flops": -0.5}}, "a weight > 0 for 'flops', got -0.5; .*minimize says the direction"),
        ({"minimize": {"flops": 0}}, "expected a weight > 0 for 'flops', got 0"),
        ({"maximize": {"mIoU": "1"}}, "expected a weight > 0 for 'mIoU', got '1'"),
        ({"maximize": ["mIoU"]}, "expected maximize as a mapping of metric name to weight, got "),
        ({"maximize": "mIoU"}, "expected maximize as a mapping of metric name to weight, got 'mIoU'"),
    ],
)
def test_wrong_objectives(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Objective(**fields)


@pytest.mark.parametrize("role", ["maximize", "minimize", "hold"])
def test_unknown_metrics_get_the_nearest_names(role: str) -> None:
    goal = Objective(**{"maximize": {"flops": 1.0}, role: {"mIuO": 1.0}})
    with pytest.raises(UsageError, match="expected a known metric, got 'mIuO'; did you mean: mIoU"):
        goal.weights(METRICS)


def test_only_pushes_are_fixed() -> None:
    assert Objective(maximize={"mIoU": 1.0}, minimize={"flops": 1.0}).weights(METRICS).fixed
    assert not Objective(maximize={"mIoU": 1.0}, hold={"mAcc": 1.0}).weights(METRICS).fixed
    assert not Objective(maximize={"mIoU": 1.0}).weights(METRICS, {"flops": 0.0}).fixed


MEAN, SPREAD = np.random.default_rng(0).normal(size=(2, 7, 3)).astype(np.float32)
SPREAD = np.abs(SPREAD)


def test_the_score_is_the_weighted_sum_and_its_bound_is_on_the_bad_side() -> None:
    weights = Objective(maximize={"mIoU": 2.0}, minimize={"flops": 0.5}, hold={"mAcc": 9.0}).weights(METRICS)
    np.testing.assert_allclose(weights.score(MEAN, SPREAD), 2 * MEAN[:, 0] - 0.5 * MEAN[:, 2], rtol=1e-5)
    low, high = MEAN[:, 0] - 1.5 * SPREAD[:, 0], MEAN[:, 2] + 1.5 * SPREAD[:, 2]
    np.testing.assert_allclose(weights.score(MEAN, SPREAD, 1.5), 2 * low - 0.5 * high, rtol=1e-5, atol=1e-6)


def careful(mean: Array, spread: Array) -> Array:
    return mean[0] * mean[2] - jnp.sum(spread)


def test_a_function_scores_each_row() -> None:
    weights = weights_of(careful, METRICS, {"flops": -1.5})
    np.testing.assert_array_equal(weights.push, 0)
    np.testing.assert_array_equal(weights.hold, 0)
    np.testing.assert_array_equal(weights.ceiling, [np.inf, np.inf, -1.5])
    assert weights.function is careful
    assert not weights.fixed
    wanted = MEAN[:, 0] * MEAN[:, 2] - SPREAD.sum(axis=1)
    np.testing.assert_allclose(weights.score(MEAN, SPREAD), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        ("mIoU", r"expected an Objective or a function, got 'mIoU'; try Objective\(maximize="),
        (None, "expected an Objective or a function, got None"),
        (
            lambda mean: mean[0],
            r"expected an objective that takes mean \[m\] and spread \[m\], got .*takes 1 positional",
        ),
        (lambda mean, spread: mean, r"expected an objective that returns one real number, got .*shape=\(3,\)"),
        (lambda mean, spread: (mean[0], spread[0]), "expected an objective that returns one real number, got "),
        (lambda mean, spread: jnp.argmax(mean), "returns one real number, got .*int32"),
    ],
)
def test_what_is_no_objective(objective: object, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        weights_of(objective, METRICS)
