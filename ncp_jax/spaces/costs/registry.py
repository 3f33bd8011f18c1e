"""Registers cost models by space and task, and finds the one that belongs to a task or to a table's metrics."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.costs.model import CostModel
from ncp_jax.spaces.costs.own import own_costs
from ncp_jax.spaces.described import DescribedSpace


@dataclasses.dataclass(frozen=True)
class CostFamily:
    """Networks of one benchmark whose costs are known.

    Attributes:
      tasks: tasks of the benchmark, the default first.
      make: function from one of ``tasks`` to its cost model. A model whose ``task`` is "" holds for every task, also
        for unknown ones.
      prefix: text before the tasks' names in ``cost_tasks``, where two benchmarks of a space have tasks of one name.
      metrics: names of quality metrics (behind the last "/") that only tables of this benchmark have. Empty for the
        first benchmark of a space, which takes all other tables.
    """

    tasks: tuple[str, ...]
    make: Callable[[str], CostModel]
    prefix: str = ""
    metrics: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks with their prefix."""
        return tuple(self.prefix + task for task in self.tasks)


_FAMILIES: dict[str, list[CostFamily]] = {}


def register_costs(space: Space, family: CostFamily) -> None:
    """Adds the costs of one benchmark's networks to a space."""
    _FAMILIES.setdefault(space.name, []).append(family)


def cost_tasks(space: Space) -> tuple[str, ...]:
    """Returns the tasks whose networks have known costs in a space, the default first; () where it has no model."""
    return tuple(name for family in _FAMILIES.get(space.name, ()) for name in family.names)


def cost_model(space: Space, task: str | None = None) -> CostModel | None:
    """Returns the cost model of a space, None where there is none.

    Args:
      space: the space. The costs of a described one are those that its description names.
      task: one of ``cost_tasks(space)`` (case does not matter): it sets the head, the number of classes and the size
        of the image. Default: the first one, class_scene for TransNAS and cifar10 for NAS-Bench-201. NAS-Bench-MR
        publishes the same costs for all of its tasks.

    Raises:
      UsageError: the space has a model, but no network for the task.
    """
    if isinstance(space, DescribedSpace):
        return own_costs(space)
    tasks = cost_tasks(space)
    if not tasks:
        return None
    return _make(space.name, tasks[0] if task is None else checks.choose(f"task of {space.name}", task, tasks))


@functools.cache
def _make(space: str, name: str) -> CostModel:
    # One model per task: its functions are constants of compiled programs, and equal models must be the same object.
    family = next(family for family in _FAMILIES[space] if name in family.names)
    return family.make(name.removeprefix(family.prefix))


def cost_model_for(space: Space, metrics: Sequence[MetricSpec]) -> CostModel | None:
    """Returns the cost model that belongs to a table's or a predictor's metrics.

    The task is that of the quality metrics. Where they name several tasks or none, the benchmark's first task stands
    for them.

    Args:
      space: the space of the codes.
      metrics: the columns.

    Returns:
      None where the costs are not known: the space has no model, a task is none of its tasks, or the columns hold a
      cost themselves, in another unit than the model or of a network that no task names, so that the model might
      contradict them. A space whose costs are the same for every task (NAS-Bench-MR) always has its model.
    """
    model = cost_model(space)
    if model is None or not model.task:
        return model
    if any(m.kind == "cost" and m.unit != model.units.get(m.name, m.unit) for m in metrics):
        return None
    quality = [m for m in metrics if m.kind == "quality"]
    names = {m.name.rpartition("/")[2] for m in quality}
    first, *others = _FAMILIES[space.name]
    family = next((other for other in others if names and names <= other.metrics), first)
    named = {family.prefix + m.task.lower() for m in quality if m.task}
    known = {name.lower() for name in cost_tasks(space)}
    if not named <= known or (not named and any(m.name == "flops" for m in metrics)):
        return None
    # Metrics without a task may come from any network of the space: its first task stands for them.
    default = family.names[0] if named else None
    return cost_model(space, named.pop() if len(named) == 1 else default)
