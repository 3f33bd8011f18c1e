"""Adds exact relaxed costs to what a predictor predicts, so that codes follow costs that it says nothing about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation.gradients import Invertible, members_of
from ncp_jax.propagation.objective import Function
from ncp_jax.spaces import Bounds, CostModel
from ncp_jax.types import Array, Float, Params

SAMPLED = 1024  # random codes whose costs set the standard units


@dataclasses.dataclass(frozen=True)
class _WithCosts:
    """An ``apply`` with costs as further outputs. As a dataclass, equal ones compare equal, so jit caches them."""

    apply: Callable[..., Any]
    model: CostModel
    costs: tuple[str, ...]

    def __call__(self, params: Params, standard: Float[Array, " f"]) -> Float[Array, " m"]:
        predicted = self.apply(params["networks"], standard)
        raw = standard * params["x_std"] + params["x_mean"]
        relaxed = self.model.relaxed(raw)
        costs = (jnp.stack([relaxed[cost] for cost in self.costs]) - params["y_mean"]) / params["y_std"]
        return jnp.concatenate([predicted, costs])


@dataclasses.dataclass(frozen=True)
class FirstMetrics:
    """A function that serves as an objective, of the first m metrics alone."""

    function: Function
    metrics: int

    def __call__(self, mean: Float[Array, " n"], spread: Float[Array, " n"]) -> Float[Array, ""]:
        """Returns the value of the function."""
        return self.function(mean[: self.metrics], spread[: self.metrics])


def cost_scales(model: CostModel, costs: Sequence[str], bounds: Bounds) -> dict[str, tuple[float, float]]:
    """Returns mean and standard deviation of exact costs within bounds, in the model's unit: their standard units."""
    sampled = model.in_units(np.asarray(bounds.sample(jax.random.key(0), SAMPLED)))
    return {cost: (float(sampled[cost].mean()), float(sampled[cost].std() or 1.0)) for cost in costs}


def with_exact_costs(
    predictor: Any, model: CostModel, costs: Sequence[str], bounds: Bounds
) -> tuple[Invertible, dict[str, tuple[float, float]]]:
    """Returns a predictor with costs as its last metrics, which all members know exactly.

    Args:
      predictor: ensemble without such metrics, a dataclass like ``predictors.Predictor``.
      model: cost model of its space.
      costs: names of the costs, at least one.
      bounds: bounds of the codes; mean and standard deviation of the costs within them are the metrics' standard units.

    Returns:
      The predictor; and that mean and standard deviation of each cost, in the model's unit.
    """
    scales = cost_scales(model, costs, bounds)
    mean, std = (np.array(side) for side in zip(*scales.values(), strict=True))
    scale, members = predictor.scale, members_of(predictor)
    tiled = {
        name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), (members, *np.shape(value)))
        for name, value in (("x_mean", scale.x_mean), ("x_std", scale.x_std), ("y_mean", mean), ("y_std", std))
    }
    extended = dataclasses.replace(
        scale,
        y_mean=jnp.append(scale.y_mean, jnp.asarray(mean, jnp.float32)),
        y_std=jnp.append(scale.y_std, jnp.asarray(std, jnp.float32)),
    )
    metrics = [MetricSpec(cost, unit=model.units[cost], direction="minimize", kind="cost") for cost in costs]
    return dataclasses.replace(
        predictor,
        params={"networks": predictor.params, **tiled},
        scale=extended,
        apply=_WithCosts(predictor.apply, model, tuple(costs)),
        metrics=(*predictor.metrics, *metrics),
    ), scales
