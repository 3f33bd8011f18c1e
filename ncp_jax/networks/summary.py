"""What a network is made of, as a table: a line a stage."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncp_jax.networks.counting import StageCount, count_stages, published_cost
from ncp_jax.networks.network import Network
from ncp_jax.spaces import get_space


def summarise(network: Network, side: int | None = None) -> dict[str, Any]:
    """Returns the stages of a network with what they return, hold and compute; nothing is run.

    Args:
      network: a network of ``build``, with values or abstract.
      side: pixels a side of the image, tile or frame; the benchmark's without it.

    Returns:
      A dictionary that JSON can hold: ``space``, ``task``, ``code``, ``string``, ``input`` (a shape), ``stages`` (each
      with ``name``, ``outputs`` (shapes, finest first), ``params``, ``multiply_adds``), ``params`` and
      ``multiply_adds`` of all, and ``published``: ``params`` and ``flops`` as the benchmark counts them (see
      ``published_cost``).

    Raises:
      UsageError: the side is too small for the network's strides.
    """
    form = network.form
    shape = form.shape(side=side)
    stages = count_stages(network, shape)
    rows = [_row(stage) for stage in stages]
    return {
        "space": form.space,
        "task": form.task,
        "code": list(form.code),
        "string": get_space(form.space).to_string(np.array(form.code)),
        "input": list(shape),
        "stages": rows,
        "params": sum(row["params"] for row in rows),
        "multiply_adds": sum(row["multiply_adds"] for row in rows),
        "published": published_cost(network, stages),
    }


def _row(stage: StageCount) -> dict[str, Any]:
    return {
        "name": stage.name,
        "outputs": [list(shape) for shape in stage.outputs],
        "params": stage.parameters,
        "multiply_adds": stage.operations.multiply_adds,
    }


def describe(network: Network, side: int | None = None, *, stages: bool = True) -> str:
    """Returns ``summarise`` as a text table; one line without ``stages``."""
    summary = summarise(network, side)
    cost = summary["published"]
    rule = f"as {summary['space']} counts: {cost['params'] / 1e6:.6g} M params, {cost['flops'] / 1e6:.6g} M FLOPs"
    title = f"{summary['space']}, {summary['task']}: {summary['string']}"
    if not stages:
        return f"{title}, input {_shapes([summary['input']])}, {rule}"
    lines = [("stage", "output", "params", "multiply-adds"), ("input", _shapes([summary["input"]]), "", "")]
    for row in [*summary["stages"], {**summary, "name": "all", "outputs": []}]:
        lines.append((row["name"], _shapes(row["outputs"]), f"{row['params']:,}", f"{row['multiply_adds']:,}"))
    widths = [max(len(line[place]) for line in lines) for place in range(4)]
    text = [
        f"{name:<{widths[0]}}  {outputs:<{widths[1]}}  {params:>{widths[2]}}  {adds:>{widths[3]}}".rstrip()
        for name, outputs, params, adds in lines
    ]
    return "\n".join([title, *text, rule])


def _shapes(shapes: list[list[int]]) -> str:
    return ", ".join("×".join(map(str, shape)) for shape in shapes)
