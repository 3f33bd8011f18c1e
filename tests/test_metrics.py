from __future__ import annotations

import json

import pytest

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec, find_metric, main_metric

METRICS = (
    MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost"),
    MetricSpec("mIoU", task="seg", split="validation", epoch="final", unit="%"),
    MetricSpec("l2_loss", task="room", direction="minimize"),
)


def test_the_sign_orients() -> None:
    assert [metric.sign for metric in METRICS] == [-1.0, 1.0, -1.0]


@pytest.mark.parametrize("metric", METRICS)
def test_json_round_trip(metric: MetricSpec) -> None:
    assert MetricSpec(**json.loads(json.dumps(metric.to_json()))) == metric


def test_specs_are_hashable_and_frozen() -> None:
    assert len({*METRICS, MetricSpec("l2_loss", task="room", direction="minimize")}) == 3
    with pytest.raises(AttributeError):
        METRICS[0].direction = "maximize"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"direction": "maximise"}, "expected a known direction, got 'maximise'; did you mean: maximize"),
        ({"direction": "up"}, "expected a known direction, got 'up'"),
        ({"kind": "price"}, "expected a known metric kind, got 'price'"),
    ],
)
def test_unknown_directions_and_kinds(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        MetricSpec("x", **fields)


def test_find_metric() -> None:
    assert [find_metric(METRICS, name) for name in ("flops", "miou", "l2_loss")] == [0, 1, 2]
    with pytest.raises(UsageError, match="expected a known metric, got 'mIuO'; did you mean: mIoU"):
        find_metric(METRICS, "mIuO")


def test_main_metric_is_the_first_quality() -> None:
    assert main_metric(METRICS) is METRICS[1]
    with pytest.raises(UsageError, match=r"expected a quality metric, got cost metrics alone; .*--minimize"):
        main_metric(METRICS[:1])
