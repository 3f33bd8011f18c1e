"""Specifies metrics: task, split, epoch, unit and direction of a column of numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

from ncp_jax import checks
from ncp_jax.types import Direction


@dataclasses.dataclass(frozen=True)
class MetricSpec:
    """The specification of one metric.

    Attributes:
      name: name of the column, unique in its table ("mIoU", "seg/mIoU").
      task: task of the measurement ("seg"), or "" for a metric of no task (costs).
      split: data split ("train", "validation", "test"), or "" for costs.
      epoch: training epoch of the value ("final", "best"), or "" for costs.
      unit: unit of the values ("%", "GMAC", "M").
      direction: "maximize" or "minimize". It is part of the data and never inferred from a sign or a name.
      kind: "quality" for metrics measured by training, "cost" for those that the architecture alone determines.
    """

    name: str
    task: str = ""
    split: str = ""
    epoch: str = ""
    unit: str = ""
    direction: Direction = "maximize"
    kind: str = "quality"

    def __post_init__(self) -> None:
        checks.choose("direction", self.direction, ("maximize", "minimize"))
        checks.choose("metric kind", self.kind, ("quality", "cost"))

    @property
    def sign(self) -> float:
        """+1 if higher is better, -1 if lower is better."""
        return 1.0 if self.direction == "maximize" else -1.0

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary, for ``MetricSpec(**fields)``."""
        return dataclasses.asdict(self)


def find_metric(metrics: tuple[MetricSpec, ...], name: str) -> int:
    """Returns the position of the metric called ``name``; UsageError with the nearest names if there is none."""
    names = [m.name for m in metrics]
    return names.index(checks.choose("metric", name, names))


def main_metric(metrics: tuple[MetricSpec, ...]) -> MetricSpec:
    """Returns the main metric, which is the first quality metric; UsageError if all metrics are costs."""
    for metric in metrics:
        if metric.kind == "quality":
            return metric
    raise checks.UsageError(
        expected="a quality metric",
        got="cost metrics alone",
        remedy="name the column to raise or lower with --maximize or --minimize",
    )
