"""Summarises a network stage by stage, as numbers and as a text table."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax.console import format_table
from ncp_jax.networks.counting import StageCount, count_stages
from ncp_jax.networks.families import FAMILIES, published_cost
from ncp_jax.networks.network import Network
from ncp_jax.spaces import get_space
from ncp_jax.spaces.costs.model import network_words


@dataclasses.dataclass(frozen=True)
class NetworkSummary:
    """What a network consists of; nothing of it was run.

    Attributes:
      space: name of the code's space.
      task: task that the head is for.
      code: the code, d integers.
      string: its architecture string.
      input: shape of the input of one example, [1, height, width, 3] with tiles or frames as a second axis.
      stages: counts of each stage, the head last.
      counted: the network whose costs these are, in the words of ``CostModel.counted``.
      published: "params" (numbers) and "flops" (of one image) as the benchmark counts them; see ``published_cost``.
    """

    space: str
    task: str
    code: tuple[int, ...]
    string: str
    input: tuple[int, ...]
    stages: tuple[StageCount, ...]
    counted: str
    published: dict[str, int]

    @property
    def benchmark(self) -> str:
        """Name of the benchmark by whose rules ``published`` is counted: the space, or "digits"."""
        return self.task.rpartition("/")[0] or self.space

    @property
    def params(self) -> int:
        """Trainable numbers of all stages."""
        return sum(stage.parameters for stage in self.stages)

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of all stages in one forward pass of ``input``."""
        return sum(stage.operations.multiply_adds for stage in self.stages)

    def to_json(self) -> dict[str, Any]:
        """Returns the summary as JSON values, the content of ``ncp-jax build --json``."""
        return {
            "schema": "build/1",
            "space": self.space,
            "task": self.task,
            "code": list(self.code),
            "string": self.string,
            "input": list(self.input),
            "stages": [
                {
                    "name": stage.name,
                    "outputs": [list(shape) for shape in stage.outputs],
                    "params": stage.parameters,
                    "multiply_adds": stage.operations.multiply_adds,
                }
                for stage in self.stages
            ],
            "params": self.params,
            "multiply_adds": self.multiply_adds,
            "counted": self.counted,
            "published": self.published,
        }


def summarise(network: Network, side: int | None = None) -> NetworkSummary:
    """Returns the stages of a network with their outputs, parameters and operations; nothing is run.

    Args:
      network: a network of ``build``, with values or abstract.
      side: side of the image, tile or frame in pixels; by default the benchmark's.

    Raises:
      UsageError: the side is too small for the network's strides.
    """
    form = network.form
    shape = form.shape(side=side)
    stages = count_stages(network, shape)
    string = get_space(form.space).to_string(np.array(form.code))
    cost = published_cost(network, stages)
    task = FAMILIES[form.space].tasks[form.task]
    classes = form.outputs if task.has_classes else 0
    pieces = "pseudo-images" if task.head == "detection" else form.pieces
    counted = network_words(form.task, side=shape[-2], classes=classes, pieces=pieces)
    return NetworkSummary(form.space, form.task, form.code, string, shape, tuple(stages), counted, cost)


def describe(summary: NetworkSummary, *, stages: bool = True) -> str:
    """Returns a summary as a text table with one row per stage, or as one line without ``stages``."""
    cost = summary.published
    counts = f"{cost['params'] / 1e6:.6g} M params, {cost['flops'] / 1e9:.6g} GFLOPs"
    rule = f"{summary.counted}, as {summary.benchmark} counts: {counts}"
    title = f"{summary.space}, {summary.task}: {summary.string}"
    if not stages:
        return f"{title}, input {_shapes([summary.input])}, {rule}"
    rows = [("stage", "output", "params", "multiply-adds"), ("input", _shapes([summary.input]), "", "")]
    rows += [
        (stage.name, _shapes(stage.outputs), f"{stage.parameters:,}", f"{stage.operations.multiply_adds:,}")
        for stage in summary.stages
    ]
    rows.append(("all", "", f"{summary.params:,}", f"{summary.multiply_adds:,}"))
    table = [line.rstrip() for line in format_table(rows, "<<>>").splitlines()]
    return "\n".join([title, *table, rule])


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)
