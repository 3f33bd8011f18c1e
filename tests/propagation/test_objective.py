from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation import Objective

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
