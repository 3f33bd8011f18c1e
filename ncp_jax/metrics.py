"""What a column of numbers means: task, split, epoch, unit and, above all, direction."""

from __future__ import annotations

import dataclasses
from typing import Any

from ncp_jax import checks
from ncp_jax.types import Direction


@dataclasses.dataclass(frozen=True)
class MetricSpec:
    """The meaning of one metric column.

    Attributes:
      name: the column's name, unique in its table ("mIoU", "seg/mIoU").
      task: the task it was measured on ("seg"), or "" where the metric belongs to none (costs).
      split: the data split ("train", "validation", "test"), "" for costs.
      epoch: the training epoch of the value ("final", "best"), "" for costs.
      unit: the unit ("%", "GMAC", "M").
      direction: "maximize" or "minimize". It is part of the data; nothing infers it from a sign or a name.
      kind: "quality" for what is measured by training, "cost" for what the architecture alone determines.
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
        """+1 where higher is better, -1 where lower is better."""
        return 1.0 if self.direction == "maximize" else -1.0

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON-ready dictionary; ``MetricSpec(**fields)`` reads it back."""
        return dataclasses.asdict(self)


def find_metric(metrics: tuple[MetricSpec, ...], name: str) -> int:
    """Returns the position of the metric called ``name``; UsageError with the nearest names otherwise."""
    names = [m.name for m in metrics]
    return names.index(checks.choose("metric", name, names))


def main_metric(metrics: tuple[MetricSpec, ...]) -> MetricSpec:
    """Returns the first quality metric, the one that a task is about."""
    for metric in metrics:
        if metric.kind == "quality":
            return metric
    raise checks.UsageError(
        expected="a quality metric",
        got="cost metrics alone",
        remedy="name the column to raise or lower with --maximize or --minimize",
    )
