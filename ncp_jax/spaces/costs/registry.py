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
from ncp_jax.spaces.registry import get_space

FLOPS_OF = ("table", "task")
"""Whose costs are meant: those that the published table counts, or those of the task's own network."""


@dataclasses.dataclass(frozen=True)
class CostFamily:
    """Networks of one benchmark whose costs are known.

    Attributes:
      tasks: tasks of the benchmark, the default first.
      make: function from one of ``tasks`` to its cost model, as the benchmark's tables count it. A model whose ``task``
        is "" holds for every task, also for unknown ones.
      prefix: text before the tasks' names in ``cost_tasks``, where two benchmarks of a space have tasks of one name.
      metrics: names of quality metrics (behind the last "/") that only tables of this benchmark have. Empty for the
        first benchmark of a space, which takes all other tables.
      own: function from one of ``tasks`` to the cost model of that task's own network, None where it is not known;
        left out where ``make`` returns it already.
    """

    tasks: tuple[str, ...]
    make: Callable[[str], CostModel]
    prefix: str = ""
    metrics: frozenset[str] = frozenset()
    own: Callable[[str], CostModel | None] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the tasks with their prefix."""
        return tuple(self.prefix + task for task in self.tasks)


_FAMILIES: dict[str, list[CostFamily]] = {}


def register_costs(space: Space | str, family: CostFamily) -> None:
    """Adds the costs of one benchmark's networks to a space."""
    _FAMILIES.setdefault(get_space(space).name, []).append(family)


def cost_tasks(space: Space | str) -> tuple[str, ...]:
    """Returns the tasks whose networks have known costs in a space, the default first; () where it has no model."""
    return tuple(name for family in _FAMILIES.get(get_space(space).name, ()) for name in family.names)


def cost_model(space: Space | str, task: str | None = None, *, of: str = "table") -> CostModel | None:
    """Returns the cost model of a space, None where there is none.

    Args:
      space: the space, or its name. The costs of a described one are those that its description names.
      task: one of ``cost_tasks(space)`` (case does not matter): it sets the head, the number of classes and the size
        of the image. Default: the first one, class_scene for TransNAS and cifar10 for NAS-Bench-201.
      of: "table" for the costs that the published tables count, "task" for those of the task's own network. The two
        differ in NAS-Bench-MR alone, whose table counts one network, an image classifier, for all of its tasks.

    Raises:
      UsageError: the space has a model, but no network for the task.
    """
    found = get_space(space)
    if isinstance(found, DescribedSpace):
        return own_costs(found)
    name, tasks, of = found.name, cost_tasks(found), checks.choose("value of --flops-of", of, FLOPS_OF)
    if not tasks:
        return None
    chosen = tasks[0] if task is None else checks.choose(f"task of {name}", task, tasks)
    return _make(name, chosen) if of == "table" else _make_own(name, chosen)


def _family(space: str, name: str) -> CostFamily:
    return next(family for family in _FAMILIES[space] if name in family.names)


@functools.cache
def _make(space: str, name: str) -> CostModel:
    # One model per task: its functions are constants of compiled programs, and equal models must be the same object.
    family = _family(space, name)
    return family.make(name.removeprefix(family.prefix))


@functools.cache
def _make_own(space: str, name: str) -> CostModel:
    family = _family(space, name)
    if family.own is None:
        return _make(space, name)
    model = family.own(name.removeprefix(family.prefix))
    if model is None:
        known = ", ".join(other for other in family.tasks if family.own(other) is not None)
        raise checks.UsageError(
            expected=f"a task of {space} whose own network is known",
            got=repr(name),
            remedy=f"choose from: {known}; or leave out --flops-of task",
        )
    return model


def own_cost_model(space: Space | str, metrics: Sequence[MetricSpec]) -> CostModel:
    """Returns the cost model of the own network of the one task that the quality metrics name.

    Raises:
      UsageError: they name no task of the space or several, or the task's network is not known.
    """
    space = get_space(space)
    named = list(dict.fromkeys(m.task for m in metrics if m.kind == "quality" and m.task))
    usual = cost_model_for(space, [m for m in metrics if m.kind == "quality"])
    model = None if usual is None or len(named) != 1 else cost_model(space, usual.task or named[0], of="task")
    if model is None:
        raise checks.UsageError(
            expected=f"one task of {space.name} whose own network is known, with --flops-of task",
            got=", ".join(named) or "metrics of no task",
            remedy="name one --task, or leave out --flops-of task",
        )
    return model


def cost_model_for(space: Space | str, metrics: Sequence[MetricSpec]) -> CostModel | None:
    """Returns the cost model that belongs to a table's or a predictor's metrics.

    The task is that of the quality metrics. Where they name several tasks or none, the benchmark's first task stands
    for them.

    Args:
      space: the space of the codes, or its name.
      metrics: the columns.

    Returns:
      None where the costs are not known: the space has no model, a task is none of its tasks, or the columns hold a
      cost themselves, in another unit than the model or of a network that no task names, so that the model might
      contradict them. A space whose costs are the same for every task (NAS-Bench-MR) always has its model.
    """
    space = get_space(space)
    model = cost_model(space)
    if model is None or not model.task:
        return model
    if any(m.kind == "cost" and m.unit != model.units.get(m.name, m.unit) for m in metrics):
        return None
    known = {name.lower(): name for name in cost_tasks(space)}
    counted = {m.task.lower() for m in metrics if m.name == "flops"} & set(known)
    if len(counted) == 1:  # the column of FLOPs says whose they are
        return cost_model(space, known[counted.pop()])
    quality = [m for m in metrics if m.kind == "quality"]
    names = {m.name.rpartition("/")[2] for m in quality}
    first, *others = _FAMILIES[space.name]
    family = next((other for other in others if names and names <= other.metrics), first)
    named = {family.prefix + m.task.lower() for m in quality if m.task}
    if not named <= set(known) or (not named and any(m.name == "flops" for m in metrics)):
        return None
    # Metrics without a task may come from any network of the space: its first task stands for them.
    default = family.names[0] if named else None
    return cost_model(space, named.pop() if len(named) == 1 else default)
