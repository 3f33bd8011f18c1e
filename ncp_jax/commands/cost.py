"""What ``ncp-jax cost`` does: reads codes, counts their parameters and FLOPs, describes the result."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.spaces import cost_model, cost_tasks, get_space, read_code


@dataclasses.dataclass(frozen=True)
class CostResult:
    """Codes with their costs.

    Attributes:
      summary: what ``--json`` prints: the space, the task whose network is counted, and for each code its integers,
        its string, "params" and "flops" as integers.
    """

    summary: dict[str, Any]


def run_cost(codes: Sequence[str], *, space: str, task: str | None = None) -> CostResult:
    """Counts parameters and FLOPs.

    Args:
      codes: each a code's string, or its integers with commas between them.
      space: the space's name.
      task: whose head and image to count; the space's default without it.

    Raises:
      UsageError: no code, a code that is not of the space, an unknown space, a task without a network in it.
    """
    known = get_space(space)
    model = cost_model(known, task)
    if model is None:
        raise checks.UsageError(expected="a space with known costs", got=space, remedy="name another --space")
    if not codes:
        raise checks.UsageError(expected="at least one code", got="none", remedy=f"for example '{known.example}'")
    rows = np.stack([read_code(known, text) for text in codes])
    exact = model.exact(rows)
    listed = [
        {"code": row.tolist(), "string": string, "params": int(params), "flops": int(flops)}
        for row, string, params, flops in zip(
            rows, known.to_strings(rows), exact["params"], exact["flops"], strict=True
        )
    ]
    return CostResult({"space": known.name, "task": model.task, "tasks": list(cost_tasks(known)), "codes": listed})


def describe(result: CostResult) -> str:
    """The result as a person reads it, one line a code."""
    lines = [("params", "flops", "architecture")]
    lines += [(str(row["params"]), str(row["flops"]), row["string"]) for row in result.summary["codes"]]
    widths = [max(len(line[i]) for line in lines) for i in range(2)]
    task = f" ({result.summary['task']})" if result.summary["task"] else ""
    table = ["  ".join([line[0].rjust(widths[0]), line[1].rjust(widths[1]), line[2]]) for line in lines]
    return "\n".join([f"{result.summary['space']}{task}", *table])
