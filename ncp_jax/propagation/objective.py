"""What to raise, what to lower, what to hold: an objective on the metrics of a predictor."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec, find_metric
from ncp_jax.propagation.found import in_calls
from ncp_jax.types import Array, Float

COST_WEIGHT = 0.5  # of the flops term against the main metric, as in the NCP authors' recipe

Weights = Mapping[str, float]
# What a function that serves as an objective gets and gives: mean [m] and spread [m] over the ensemble, in standard
# units, to one number, higher better. JAX differentiates it. Where codes follow single members the spread is 0 while
# they move; in the ranking it is the ensemble's.
Function = Callable[[Float[Array, " m"], Float[Array, " m"]], Float[Array, ""]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ObjectiveWeights:
    """An objective as arrays over the m metrics of a predictor; a sweep over them is a vmap.

    Attributes:
      push: ``[m]``, > 0 raises the metric, < 0 lowers it, 0 leaves it free.
      hold: ``[m]``, >= 0, how hard the metric is kept at its starting prediction.
      ceiling: ``[m]`` standard units, the metric is pushed down while above it; +inf where there is none.
      function: added to what is pushed, see ``Function``.
      fixed: promises that there is neither hold, nor ceiling, nor function: the slopes of the loss are then the same
        for every code, and networks need not compute their last layer.
    """

    push: Float[Array, " m"]
    hold: Float[Array, " m"]
    ceiling: Float[Array, " m"]
    function: Function | None = dataclasses.field(default=None, metadata={"static": True})
    fixed: bool = dataclasses.field(default=False, metadata={"static": True})

    def score(
        self, mean: Float[np.ndarray, "n m"], spread: Float[np.ndarray, "n m"], confidence: float = 0.0
    ) -> Float[np.ndarray, " n"]:
        """The objective of n predictions in standard units, on the host; higher is better.

        Args:
          mean: ensemble means.
          spread: standard deviations over the ensemble.
          confidence: how many spreads the bound lies on the bad side of the mean.
        """
        push = np.asarray(self.push)
        score = mean @ push - confidence * (spread @ np.abs(push))
        if self.function is not None:
            # In calls of one shape: how many are scored differs, and JAX would compile for each number.
            both = np.concatenate([mean, spread], axis=1)
            (values,) = in_calls(lambda rows: _batched(self.function)(*np.split(rows, 2, axis=1)), both)
            score = score + values
        return score


@functools.cache
def _batched(function: Function) -> Callable[..., Array]:
    return jax.jit(jax.vmap(function))


def weights_of(
    objective: Objective | Function, metrics: Iterable[MetricSpec], ceiling: Mapping[str, float] | None = None
) -> ObjectiveWeights:
    """Returns an objective, or a function that serves as one, as arrays over ``metrics``.

    Raises:
      UsageError: a metric that is not there; a function that does not make one real number of mean and spread.
    """
    specs = tuple(metrics)
    if isinstance(objective, Objective):
        return objective.weights(specs, ceiling)
    if not callable(objective):
        raise checks.UsageError(
            expected="an Objective or a function", got=repr(objective), remedy='try Objective(maximize={"mIoU": 1.0})'
        )
    row = jax.ShapeDtypeStruct((len(specs),), jnp.float32)
    try:
        made: Any = jax.eval_shape(objective, row, row)
    except TypeError as error:
        raise checks.UsageError(
            expected="an objective that takes mean [m] and spread [m]", got=str(error), remedy="see Objective"
        ) from error
    if getattr(made, "shape", None) != () or not jnp.issubdtype(made.dtype, jnp.floating):
        raise checks.UsageError(
            expected="an objective that returns one real number", got=repr(made), remedy="sum over the metrics"
        )
    nothing = np.zeros(len(specs), np.float32)
    return dataclasses.replace(_arrays(nothing, nothing, _ceilings(specs, ceiling)), function=objective, fixed=False)


def _ceilings(specs: tuple[MetricSpec, ...], ceiling: Mapping[str, float] | None) -> np.ndarray:
    top = np.full(len(specs), np.inf, np.float32)
    for name, limit in (ceiling or {}).items():
        top[find_metric(specs, name)] = limit
    return top


def _arrays(push: np.ndarray, hold: np.ndarray, top: np.ndarray) -> ObjectiveWeights:
    fixed = not hold.any() and not np.isfinite(top).any()
    return ObjectiveWeights(jnp.asarray(push), jnp.asarray(hold), jnp.asarray(top), fixed=fixed)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Weights by metric name. The unit of a weight is one standard deviation of the metric over the table.

    Attributes:
      maximize: metrics to raise, each with its weight > 0.
      minimize: metrics to lower, each with its weight > 0.
      hold: metrics to keep at the value predicted for the start, each with its weight > 0.
    """

    maximize: Weights = dataclasses.field(default_factory=dict)
    minimize: Weights = dataclasses.field(default_factory=dict)
    hold: Weights = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for role in ("maximize", "minimize", "hold"):
            weights = getattr(self, role)
            if not isinstance(weights, Mapping):
                raise checks.UsageError(
                    expected=f"{role} as a mapping of metric name to weight",
                    got=repr(weights),
                    remedy='try {"mIoU": 1.0}',
                )
            for name, weight in weights.items():
                known = str(name).lower()  # case does not matter in names
                if known in seen:
                    raise checks.UsageError(
                        expected="each metric once",
                        got=f"{name!r} under {seen[known]} and {role}",
                        remedy="drop one of them",
                    )
                seen[known] = role
                if not isinstance(weight, (int, float)) or not math.isfinite(weight) or weight <= 0:
                    raise checks.UsageError(
                        expected=f"a weight > 0 for {name!r}",
                        got=repr(weight),
                        remedy=f"weights are positive; {role} says the direction",
                    )
        if not self.maximize and not self.minimize:
            raise checks.UsageError(
                expected="something to maximize or minimize",
                got="neither",
                remedy='try Objective(maximize={"mIoU": 1.0})',
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The metrics that the objective speaks of: maximized, minimized, held."""
        return (*self.maximize, *self.minimize, *self.hold)

    def weights(self, metrics: Iterable[MetricSpec], ceiling: Mapping[str, float] | None = None) -> ObjectiveWeights:
        """Returns the objective as arrays over ``metrics``.

        Args:
          metrics: the predictor's metrics.
          ceiling: upper limits by metric name, in standard units.

        Raises:
          UsageError: the objective names a metric that is not there.
        """
        specs = tuple(metrics)
        push, hold = np.zeros(len(specs), np.float32), np.zeros(len(specs), np.float32)
        for sign, weights in ((1.0, self.maximize), (-1.0, self.minimize)):
            for name, weight in weights.items():
                push[find_metric(specs, name)] = sign * weight
        for name, weight in self.hold.items():
            hold[find_metric(specs, name)] = weight
        return _arrays(push, hold, _ceilings(specs, ceiling))


def default_objective(metrics: Sequence[MetricSpec], *, limited: bool) -> Objective:
    """Each task's main metric in its good direction; FLOPs down at half the weight, unless they are limited anyway.

    Several tasks share the weight 1: one architecture for all of them (the paper's inter-task search).
    """
    first: dict[str, MetricSpec] = {}
    for metric in metrics:
        if metric.kind == "quality":
            first.setdefault(metric.task, metric)
    if not first:
        raise checks.UsageError(
            expected="a metric to search for", got="costs alone", remedy="name one with --maximize or --minimize"
        )
    weight = 1.0 / len(first)
    sides: dict[str, dict[str, float]] = {"maximize": {}, "minimize": {}}
    for metric in first.values():
        sides[metric.direction][metric.name] = weight
    if not limited and any(m.name == "flops" for m in metrics):
        sides["minimize"]["flops"] = COST_WEIGHT
    return Objective(maximize=sides["maximize"], minimize=sides["minimize"])
