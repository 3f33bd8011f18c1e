"""Defines objectives: which metrics of a predictor to raise, lower or hold, and with which weights."""

from __future__ import annotations

import dataclasses
import functools
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.console import short_repr
from ncp_jax.metrics import MetricSpec, find_metric
from ncp_jax.propagation.found import in_batches
from ncp_jax.pytrees import register_dataclass
from ncp_jax.types import Array, Float

COST_WEIGHT = 0.5  # weight of FLOPs against the main metric, as in the NCP authors' recipe
LEAST_WEIGHT, MOST_WEIGHT = 1e-12, 1e12  # weights whose products stay finite, and above 0, in float32

Weights = Mapping[str, float]
# A function that serves as an objective: mean [m] and spread [m] over the ensemble, in standard units, to one number;
# higher is better. JAX differentiates it. Where codes follow single members, the spread is 0 in the gradient loop; in
# the ranking it is the ensemble's spread.
Function = Callable[[Float[Array, " m"], Float[Array, " m"]], Float[Array, ""]]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class ObjectiveWeights:
    """An objective as arrays over the m metrics of a predictor. A vmap can sweep them.

    Attributes:
      push: ``[m]`` weights; > 0 raises the metric, < 0 lowers it, 0 leaves it free. ``engine.run`` also takes
        ``[n, m]``, a row for each of n codes.
      hold: ``[m]`` weights >= 0 that keep the metric at the value predicted for the start.
      ceiling: ``[m]`` upper limits in standard units, above which the metric is pushed down; +inf for no limit.
      function: objective added to the weighted metrics (see ``Function``), or None.
      floor: ``[m]`` lower limits in standard units, below which the metric is pushed up; None for none.
      fixed: True promises that there is no hold, limit or function. The slopes of the loss are then the same for
        every code, and networks need not compute their last layer.
    """

    push: Float[Array, " m"]
    hold: Float[Array, " m"]
    ceiling: Float[Array, " m"]
    function: Function | None = dataclasses.field(default=None, metadata={"static": True})
    fixed: bool = dataclasses.field(default=False, metadata={"static": True})
    floor: Float[Array, " m"] | None = None

    __repr__ = short_repr

    def of_rows(self, push: Float[np.ndarray, "n m"]) -> ObjectiveWeights:
        """Returns the same objective with weights of its own for each of n codes."""
        return dataclasses.replace(self, push=jnp.asarray(push, jnp.float32), fixed=False)

    def score(
        self, mean: Float[np.ndarray, "n m"], spread: Float[np.ndarray, "n m"], confidence: float = 0.0
    ) -> Float[np.ndarray, " n"]:
        """Returns the objective of n predictions, on the host; higher is better.

        Args:
          mean: ensemble means in standard units.
          spread: standard deviations over the ensemble in standard units.
          confidence: number of spreads between the mean and the bound on its bad side.

        Raises:
          UsageError: a prediction or the value of ``function`` is not finite.
        """
        push = np.asarray(self.push)
        remedy = "the predictor must be finite for every legal code"
        check_finite("finite predictions", np.concatenate([mean, spread], axis=1), remedy)
        score = mean @ push - confidence * (spread @ np.abs(push))
        if self.function is not None:
            # In batches of one shape: n varies, and JAX would compile for each value of it.
            both = np.concatenate([mean, spread], axis=1)
            (values,) = in_batches(lambda rows: _batched(self.function)(*np.split(rows, 2, axis=1)), both)
            check_finite("the objective to return a finite number", values, "make it finite for every prediction")
            score = score + values
        return score


def check_finite(expected: str, values: Float[np.ndarray, "..."], remedy: str) -> None:
    """Raises a UsageError that counts the rows of ``values`` that are not finite, if there are any."""
    if np.isfinite(values).all():
        return
    rows = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
    first = values[rows[0]].ravel()
    got = f"{first[~np.isfinite(first)][0]} for {len(rows)} of {len(values)} architectures"
    raise checks.UsageError(expected=expected, got=got, remedy=remedy)


@functools.cache
def _batched(function: Function) -> Callable[..., Array]:
    return jax.jit(jax.vmap(function))


def weights_of(
    objective: Objective | Function,
    metrics: Iterable[MetricSpec],
    ceiling: Mapping[str, float] | None = None,
    floor: Mapping[str, float] | None = None,
) -> ObjectiveWeights:
    """Converts an objective, or a function that serves as one, to arrays over ``metrics``.

    Raises:
      UsageError: a metric is unknown, or the function does not map mean and spread to one real number.
    """
    specs = tuple(metrics)
    if isinstance(objective, Objective):
        return objective.weights(specs, ceiling, floor)
    if not callable(objective):
        raise checks.UsageError(
            expected="an Objective or a function", got=repr(objective), remedy='try Objective(maximize={"mIoU": 1.0})'
        )
    row = jax.ShapeDtypeStruct((len(specs),), jnp.float32)
    try:
        result: Any = jax.eval_shape(objective, row, row)
    except TypeError as error:
        raise checks.UsageError(
            expected="an objective that takes mean [m] and spread [m]", got=str(error), remedy="see Objective"
        ) from error
    if getattr(result, "shape", None) != () or not jnp.issubdtype(result.dtype, jnp.floating):
        raise checks.UsageError(
            expected="an objective that returns one real number", got=repr(result), remedy="sum over the metrics"
        )
    zeros = np.zeros(len(specs), np.float32)
    return dataclasses.replace(_make_weights(specs, zeros, zeros, ceiling, floor), function=objective, fixed=False)


def _make_weights(
    specs: tuple[MetricSpec, ...],
    push: np.ndarray,
    hold: np.ndarray,
    ceiling: Mapping[str, float] | None,
    floor: Mapping[str, float] | None,
) -> ObjectiveWeights:
    most, least = (np.full(len(specs), end, np.float32) for end in (np.inf, -np.inf))
    for ends, limits in ((most, ceiling), (least, floor)):
        for name, limit in (limits or {}).items():
            ends[find_metric(specs, name)] = limit
    fixed = not hold.any() and not np.isfinite(most).any() and not np.isfinite(least).any()
    lowest = jnp.asarray(least) if np.isfinite(least).any() else None
    return ObjectiveWeights(jnp.asarray(push), jnp.asarray(hold), jnp.asarray(most), fixed=fixed, floor=lowest)


@dataclasses.dataclass(frozen=True)
class Objective:
    """Weights of metrics to raise, lower or hold. They apply to metrics in standard deviations over the table.

    Of a metric that spans many orders of magnitude, or has an extreme outlier, the standard deviation is that of its
    logarithm (see ``MetricSpec.stored``).

    Attributes:
      maximize: weights > 0 of the metrics to raise, by name.
      minimize: weights > 0 of the metrics to lower, by name.
      hold: weights > 0 of the metrics to keep at the value predicted for the start, by name.
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
                if not isinstance(weight, (int, float)) or not 0 < weight <= sys.float_info.max:
                    raise checks.UsageError(
                        expected=f"a weight > 0 for {name!r}",
                        got=repr(weight),
                        remedy=f"weights are positive; {role} says the direction",
                    )
                if not LEAST_WEIGHT <= weight <= MOST_WEIGHT:
                    raise checks.UsageError(
                        expected=f"a weight in {LEAST_WEIGHT:g}..{MOST_WEIGHT:g} for {name!r}",
                        got=repr(weight),
                        remedy="weights apply to standard deviations: weights around 1 suit any unit",
                    )
        if not self.maximize and not self.minimize:
            raise checks.UsageError(
                expected="something to maximize or minimize",
                got="neither",
                remedy='try Objective(maximize={"mIoU": 1.0})',
            )

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the metrics in the objective: maximized, minimized, held."""
        return (*self.maximize, *self.minimize, *self.hold)

    @property
    def pushed(self) -> tuple[str, ...]:
        """Names of the metrics to raise or lower."""
        return (*self.maximize, *self.minimize)

    def sought(self, metrics: Sequence[MetricSpec]) -> tuple[tuple[str, float], ...]:
        """Returns name, as the metrics spell it, and sign of the metrics to raise (+1) or lower (-1)."""
        specs = tuple(metrics)
        return tuple(
            (specs[find_metric(specs, name)].name, sign)
            for names, sign in ((self.maximize, 1.0), (self.minimize, -1.0))
            for name in names
        )

    def weights(
        self,
        metrics: Iterable[MetricSpec],
        ceiling: Mapping[str, float] | None = None,
        floor: Mapping[str, float] | None = None,
    ) -> ObjectiveWeights:
        """Converts the objective to arrays over ``metrics``.

        Args:
          metrics: the predictor's metrics.
          ceiling: upper limits in standard units, by metric name.
          floor: lower limits, in the same way.

        Raises:
          UsageError: the objective or a limit names an unknown metric.
        """
        specs = tuple(metrics)
        hold = np.zeros(len(specs), np.float32)
        for name, weight in self.hold.items():
            hold[find_metric(specs, name)] = weight
        return _make_weights(specs, self.push(specs), hold, ceiling, floor)

    def push(self, metrics: Iterable[MetricSpec]) -> Float[np.ndarray, " m"]:
        """Returns the weight of each metric: > 0 raises it, < 0 lowers it, 0 leaves it free.

        Raises:
          UsageError: an unknown metric.
        """
        specs = tuple(metrics)
        push = np.zeros(len(specs), np.float32)
        for sign, weights in ((1.0, self.maximize), (-1.0, self.minimize)):
            for name, weight in weights.items():
                push[find_metric(specs, name)] = sign * weight
        return push


def default_objective(metrics: Sequence[MetricSpec], *, limited: bool) -> Objective:
    """Returns the objective used where the user names none: each task's main metric, and fewer FLOPs at half weight.

    Several tasks share a weight of 1 equally; the search is then for one architecture for all of them (the paper's
    inter-task search).

    Args:
      metrics: a predictor's metrics; the first quality metric of a task is its main metric.
      limited: whether FLOPs have a hard limit, which makes their weight unnecessary.

    Raises:
      UsageError: all metrics are costs.
    """
    main: dict[str, MetricSpec] = {}
    for metric in metrics:
        if metric.kind == "quality":
            main.setdefault(metric.task, metric)
    if not main:
        raise checks.UsageError(
            expected="a metric to search for", got="costs alone", remedy="name one with --maximize or --minimize"
        )
    weights: dict[str, dict[str, float]] = {"maximize": {}, "minimize": {}}
    for metric in main.values():
        weights[metric.direction][metric.name] = 1.0 / len(main)
    if not limited and any(m.name == "flops" for m in metrics):
        weights["minimize"]["flops"] = COST_WEIGHT
    return Objective(**weights)
