"""Costs that the code alone determines: parameters and FLOPs, exact at codes and relaxed between them.

Each space has the convention of its published figures (see the modules and docs/costs.md): what is counted differs, so
costs of different spaces are not to be compared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.cells import NAS_BENCH_201, TRANSNAS_MICRO
from ncp_jax.spaces.costs.cells import nas_bench_201_model, transnas_micro_model
from ncp_jax.spaces.costs.digits import HEADS as DIGITS_HEADS
from ncp_jax.spaces.costs.digits import METRICS as DIGITS_METRICS
from ncp_jax.spaces.costs.digits import digits_model
from ncp_jax.spaces.costs.heads import HEADS
from ncp_jax.spaces.costs.macro import transnas_macro_model
from ncp_jax.spaces.costs.model import CostModel
from ncp_jax.spaces.costs.multi_resolution import TASKS, exact_cost, nas_bench_mr_model, relaxed_cost
from ncp_jax.spaces.costs.nas_bench_201 import DATASETS
from ncp_jax.spaces.macro import TRANSNAS_MACRO
from ncp_jax.spaces.multi_resolution import NAS_BENCH_MR


def _micro_model(task: str) -> CostModel:
    return digits_model(task.removeprefix(_DIGITS)) if task.startswith(_DIGITS) else transnas_micro_model(task)


_DIGITS = "digits/"  # before the tasks of the benchmark that ships, whose names TransNAS has too
# For each space the tasks it has a network for, the default first, and what makes the model of one.
_MODELS: dict[str, tuple[tuple[str, ...], Callable[[str], CostModel]]] = {
    NAS_BENCH_MR.name: (TASKS, nas_bench_mr_model),
    NAS_BENCH_201.name: (tuple(DATASETS), nas_bench_201_model),
    TRANSNAS_MICRO.name: ((*HEADS, *(_DIGITS + task for task in DIGITS_HEADS)), _micro_model),
    TRANSNAS_MACRO.name: (tuple(HEADS), transnas_macro_model),
}


def cost_tasks(space: Space) -> tuple[str, ...]:
    """The tasks whose networks have known costs in a space, the default first; none where the space has no model."""
    return _MODELS[space.name][0] if space.name in _MODELS else ()


def cost_model(space: Space, task: str | None = None) -> CostModel | None:
    """The cost model of a space, None where there is none.

    Args:
      space: the space.
      task: one of ``cost_tasks(space)`` (case does not matter): it picks the head, the number of classes and the size
        of the image. Without it the first one: class_scene for TransNAS, cifar10 for NAS-Bench-201. NAS-Bench-MR
        publishes the same costs for all of its tasks.

    Raises:
      UsageError: the space has a model, but no network for the task.
    """
    if space.name not in _MODELS:
        return None
    tasks = cost_tasks(space)
    return _made(space.name, tasks[0] if task is None else checks.choose(f"task of {space.name}", task, tasks))


@functools.cache
def _made(space: str, task: str) -> CostModel:
    # One model a task: its functions are constants of compiled programs, and equal models must be the same.
    return _MODELS[space][1](task)


def cost_model_for(space: Space, metrics: Sequence[MetricSpec]) -> CostModel | None:
    """The cost model that belongs to a table's or a predictor's metrics.

    The task is that of the quality metrics; where they name several, or none, the space's default stands for them.

    Args:
      space: the space of the codes.
      metrics: the columns.

    Returns:
      None where the costs are not known: the space has no model, a task is none of its tasks, or the columns count a
      cost themselves, in another unit than the model or of a network that no task names, so that the model might
      contradict them. NAS-Bench-MR, whose
      costs are the same for every task, always has its model.
    """
    model = cost_model(space)
    if model is None or space.name == NAS_BENCH_MR.name:
        return model
    if any(m.kind == "cost" and m.unit != model.units.get(m.name, m.unit) for m in metrics):
        return None
    known = {task.lower() for task in cost_tasks(space)}
    quality = [m for m in metrics if m.kind == "quality"]
    ours = [m.name.rpartition("/")[2] in DIGITS_METRICS for m in quality]
    prefix = _DIGITS if quality and all(ours) and space.name == TRANSNAS_MICRO.name else ""
    named = {prefix + m.task.lower() for m in quality if m.task}
    if not named <= known or (not named and any(m.name == "flops" for m in metrics)):
        return None
    if len(named) == 1:
        return cost_model(space, named.pop())
    return cost_model(space, _DIGITS + next(iter(DIGITS_HEADS))) if named and prefix else model


__all__ = ["CostModel", "cost_model", "cost_model_for", "cost_tasks", "exact_cost", "relaxed_cost"]
