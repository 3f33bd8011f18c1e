"""Finds out what a limit is on, a known cost or a predicted metric, and in which unit."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation.found import in_batches
from ncp_jax.propagation.gradients import Invertible, exact_columns
from ncp_jax.propagation.limit import RELATIONS, Limit, LimitStatus, normal_quantile
from ncp_jax.spaces import Bounds, CostModel, Space
from ncp_jax.spaces.costs.model import SCALE
from ncp_jax.types import Bool, Float

# Names of costs in the unit in which results have them, and the costs that they stand for.
UNIT_NAMES = {"gflops": "flops", "params_m": "params"}
HEADS = {"flops": "GFLOPs", "params": "million"}
TYPICAL = 1024  # random codes whose median spread stands for the spread while codes move
LISTED = 2**16  # codes of a space that are all looked at for the range of a cost


@dataclasses.dataclass(frozen=True, eq=False)
class Constraint:
    """A limit, and where its values come from.

    Attributes:
      limit: the limit.
      status: what it means, for results.
      threshold: the limit in the unit of the values.
      cost: name of the known cost; None for a prediction.
      column: column of the predicted metric; None for a cost that is not predicted.
      unit: unit of the values per unit of the metric.
      steer: name of the metric that codes follow and its limit in standard units; None where the predictor lacks it.
      deviation: typical size of differences between values, for comparing limits.
    """

    limit: Limit
    status: LimitStatus
    threshold: float
    cost: str | None
    column: int | None
    unit: float
    steer: tuple[str, float] | None
    deviation: float

    def value(
        self, costs: Mapping[str, np.ndarray], mean: np.ndarray | None, spread: np.ndarray | None
    ) -> Float[np.ndarray, " n"]:
        """Returns what the limit applies to: the cost, or the bound on the prediction that has the confidence.

        Args:
          costs: exact costs by name, ``[n]`` each, in the cost model's units.
          mean: ``[n, m]`` predictions in the metrics' own units; unused for a known cost.
          spread: ``[n, m]`` their spreads.
        """
        if self.cost is not None:
            return costs[self.cost]
        assert mean is not None
        assert spread is not None
        predicted = mean[:, self.column] * self.unit
        if self.limit.confidence is None:
            return predicted
        return predicted + self.unit * self.margin(spread[:, self.column])

    def margin(self, spread: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Returns the distance from the prediction to the bound that has the confidence; negative for a lower bound."""
        assert self.limit.confidence is not None
        if self.limit.error is not None:
            k = self.limit.error.quantile(self.limit.confidence, upper=self.limit.upper)
            return k * self.limit.error.scale(spread)
        k = normal_quantile(self.limit.confidence)
        return (k if self.limit.upper else -k) * spread

    def keeps(self, values: Float[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Returns True for each value within the limit."""
        return RELATIONS[self.limit.relation](values, self.threshold)

    def excess(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Returns how far values are beyond the limit, in typical differences; above 0 for those that are."""
        over = (values - self.threshold) / self.deviation
        over = over if self.limit.upper else -over
        # A strict limit is not satisfied by the limit itself.
        return np.where(self.keeps(values), np.minimum(over, 0.0), np.maximum(over, 1e-9))

    def shown(self, value: float) -> str:
        """Returns a value with its name and unit."""
        unit = f" {self._unit}" if self._unit else ""
        name = self.cost or self.status.metric
        return f"{name}: {value:.4g}{unit}"

    @property
    def _unit(self) -> str:
        if self.cost is not None:
            return HEADS.get(self.cost, self.status.unit)
        return HEADS["flops"] if self.status.metric == "gflops" else self.status.unit

    def beyond(self, end: float, where: str, model: CostModel | None) -> checks.UsageError:
        """Returns the error for a limit beyond the smallest (or largest) value that there is."""
        kind, side = (">=", "smallest") if self.limit.upper else ("<=", "largest")
        named = "a GFLOPs limit" if self.cost == "flops" else f"a limit on {self.status.metric}"
        unit = "" if self.cost == "flops" else f" {self._unit}"
        change = "raise" if self.limit.upper else "lower"
        counted = f" (counted is {model.counted})" if model is not None and model.counted else ""
        return checks.UsageError(
            expected=f"{named} {kind} {end:.4g}{unit}, the {where}'s {side}",
            got=f"{self.threshold:g}",
            remedy=f"{change} the limit{counted}",
        )

    def none_found(self, nearest: float) -> checks.UsageError:
        """Returns the error for a search that found nothing within the limit."""
        unit = f" {self._unit}" if self._unit else ""
        bound, side, change = ("at most", "smallest", "raise") if self.limit.upper else ("at least", "largest", "lower")
        name = "" if self.status.metric == "gflops" else f" in {self.status.metric}"
        sure = self.limit.confidence is not None and self.cost is None
        return checks.UsageError(
            expected=f"architectures of {bound} {self.threshold:g}{unit}{name}",
            got=f"none (the {side} found has {nearest:.4g}{', with the margin of the confidence' if sure else ''})",
            remedy=f"{change} the limit{' or lower the confidence' if sure else ''}",
        )


def resolve(limit: Limit, bounds: Bounds, predictor: Invertible, model: CostModel | None) -> Constraint:
    """Returns the constraint of a limit: exact where a cost model has it, else predicted.

    Raises:
      UsageError: the limit names no metric of the predictor and no known cost, or it is a limit on a cost that is not
        a positive number.
    """
    name = _name(limit, bounds.space, predictor, model)
    cost = UNIT_NAMES.get(name, name)
    columns = {metric.name: i for i, metric in enumerate(predictor.metrics)}
    if model is not None and is_known(name, predictor.metrics, model):
        if cost in HEADS:
            checks.positive(f"the limit on {name}", limit.value)
        in_units = limit.value if name in UNIT_NAMES else _in_units(limit, cost, model, bounds.space)
        status = LimitStatus(
            name if name in UNIT_NAMES else cost, limit.relation, limit.value, "", counted=model.counted or model.name
        )
        if name not in UNIT_NAMES:
            scale = SCALE.get(model.units[cost], 1.0)
            shown = "" if model.units[cost] in SCALE else model.units[cost]
            status = dataclasses.replace(status, value=in_units * scale, unit=shown)
        # The prediction of the same cost steers codes.
        column = columns.get(cost)
        steer = None if column is None else _steer(predictor, column, in_units / _unit_of(predictor.metrics[column]))
        return Constraint(limit, status, in_units, cost, None, 1.0, steer, _deviation(cost, model, bounds.space))
    column = columns[name if name in columns else cost]
    metric = predictor.metrics[column]
    unit = _unit_of(metric) if name not in columns else 1.0
    sure = limit.confidence is not None
    status = LimitStatus(
        name,
        limit.relation,
        limit.value,
        metric.unit if name in columns else "",
        confidence=limit.confidence,
        calibrated=sure and limit.error is not None,
    )
    deviation = float(np.asarray(predictor.scale.y_std)[column]) * unit if metric.stored is None else abs(limit.value)
    found = Constraint(limit, status, limit.value, None, column, unit, None, deviation or 1.0)
    # Codes that move are pushed to where the prediction with its typical margin satisfies the limit.
    margin = 0.0 if not sure else float(found.margin(_typical_spread(bounds, predictor, column))[0])
    return dataclasses.replace(found, steer=_steer(predictor, column, limit.value / unit - margin))


def is_known(name: str, metrics: Sequence[MetricSpec], model: CostModel | None) -> bool:
    """Returns whether a limit of that name is on a known cost, and therefore exact.

    A column of a table that is no cost of the space, although it is called like one, is a metric like any other.
    """
    own = name in [m.name for m in metrics] and name not in exact_columns(metrics, model).values()
    return model is not None and UNIT_NAMES.get(name, name) in model.units and (not own or name in UNIT_NAMES)


def _name(limit: Limit, space: Space, predictor: Invertible, model: CostModel | None) -> str:
    """Returns the name of the metric or cost that a limit is on, as it is spelled there."""
    metrics = [metric.name for metric in predictor.metrics]
    costs = [] if model is None else list(model.units)
    named = [alias for alias, cost in UNIT_NAMES.items() if cost in costs or (alias == "gflops" and cost in metrics)]
    if limit.metric == "gflops" and "gflops" not in (*named, *metrics):
        raise checks.UsageError(
            expected="a space with known FLOPs, or a metric 'flops' in the table",
            got=space.name,
            remedy="leave out the GFLOPs limit",
        )
    return checks.choose("metric or cost to limit", limit.metric, dict.fromkeys([*metrics, *costs, *named]))


def _unit_of(metric: MetricSpec) -> float:
    """Returns the unit of a predicted cost in the unit of cost models: 1e9 multiply-adds, 1e6 parameters."""
    return 1e-3 if metric.name == "flops" and metric.unit == "M" else 1.0


def _steer(predictor: Invertible, column: int, own: float) -> tuple[str, float]:
    """Returns a metric and its limit in standard units, from the limit in its own unit."""
    metric = predictor.metrics[column]
    stored = own if metric.stored is None else float(metric.stored.store(np.float64(own)))
    mean, deviation = predictor.scale.y_mean[column], predictor.scale.y_std[column]
    return metric.name, float((stored - mean) / deviation)


def _typical_spread(bounds: Bounds, predictor: Invertible, column: int) -> Float[np.ndarray, " 1"]:
    codes = np.asarray(bounds.sample(jax.random.key(0), TYPICAL))
    encode = bounds.space.encode
    _, spread = in_batches(lambda some: predictor(encode(jnp.asarray(some))), codes)
    return np.median(spread[:, column], keepdims=True)


def _in_units(limit: Limit, cost: str, model: CostModel, space: Space) -> float:
    """Returns a limit on a cost in the cost model's unit.

    The number is a count. Where as a count no architecture of the space satisfies the limit, or every one, but some do
    and some do not if the number is in the model's unit (1e9 multiply-adds, 1e6 parameters), it is in that unit.

    Raises:
      UsageError: no architecture satisfies the limit.
    """
    low, high = _range(model, space, cost)
    value, scale = float(limit.value), SCALE.get(model.units[cost], 1.0)

    def tells(end: float) -> bool:
        return low <= end < high if limit.upper else low < end <= high

    if tells(value) or not tells(value * scale):
        if value < low if limit.upper else value > high:
            end, kind = (low, ">=") if limit.upper else (high, "<=")
            unit = model.units[cost]
            other = f" ({end / scale:.4g} {HEADS[cost]})" if cost in HEADS else f" {unit}" if unit else ""
            counted = f" (counted is {model.counted})" if model.counted else ""
            raise checks.UsageError(
                expected=f"a limit on {cost} {kind} {end:.4g}{other}",
                got=f"{value:g}",
                remedy=f"{'raise' if limit.upper else 'lower'} the limit{counted}",
            )
        return value / scale
    return value


@functools.lru_cache(maxsize=64)
def _range(model: CostModel, space: Space, cost: str) -> tuple[float, float]:
    """Returns the smallest and the largest count of a cost in a space; of many codes where it is too large to list."""
    if model.increasing:
        codes = np.array([[values[end] for values in space.values] for end in (0, -1)], np.int32)
    elif space.size <= LISTED:
        codes = space.all_codes()
    else:
        codes = np.asarray(space.sample(jax.random.key(0), LISTED))
    counts = model.exact(codes)[cost]
    return float(counts.min()), float(counts.max())


def _deviation(cost: str, model: CostModel, space: Space) -> float:
    low, high = _range(model, space, cost)
    return (high - low) / SCALE.get(model.units[cost], 1.0) or 1.0
