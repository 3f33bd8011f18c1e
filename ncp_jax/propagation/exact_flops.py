"""Adds the exact relaxed FLOPs to what a predictor predicts, so that a limit steers codes it says nothing about."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation.gradients import Invertible, members_of
from ncp_jax.propagation.objective import Function
from ncp_jax.spaces import Bounds, CostModel
from ncp_jax.types import Array, Float, Params

SAMPLED = 1024  # random codes whose FLOPs set the standard units


@dataclasses.dataclass(frozen=True)
class _WithFlops:
    """An ``apply`` with FLOPs as one more output. As a dataclass, equal ones compare equal, so jit caches them."""

    apply: Callable[..., Any]
    model: CostModel

    def __call__(self, params: Params, standard: Float[Array, " f"]) -> Float[Array, " m"]:
        predicted = self.apply(params["networks"], standard)
        raw = standard * params["x_std"] + params["x_mean"]
        flops = (self.model.relaxed(raw)["flops"] - params["y_mean"]) / params["y_std"]
        return jnp.concatenate([predicted, flops[None]])


@dataclasses.dataclass(frozen=True)
class FirstMetrics:
    """A function that serves as an objective, of the first m metrics alone."""

    function: Function
    metrics: int

    def __call__(self, mean: Float[Array, " n"], spread: Float[Array, " n"]) -> Float[Array, ""]:
        """Returns the value of the function."""
        return self.function(mean[: self.metrics], spread[: self.metrics])


def with_exact_flops(predictor: Any, model: CostModel, bounds: Bounds) -> tuple[Invertible, Float[np.ndarray, " 2"]]:
    """Returns a predictor with a last metric "flops", which all members know exactly.

    Args:
      predictor: ensemble without such a metric, a dataclass like ``predictors.Predictor``.
      model: cost model of its space.
      bounds: bounds of the codes; mean and standard deviation of the FLOPs within them are the metric's standard units.

    Returns:
      The predictor; and that mean and standard deviation, in the model's unit.
    """
    flops = model.in_units(np.asarray(bounds.sample(jax.random.key(0), SAMPLED)))["flops"]
    mean, std = flops.mean(), flops.std() or 1.0
    scale, members = predictor.scale, members_of(predictor)
    tiled = {
        name: jnp.broadcast_to(jnp.asarray(value, jnp.float32), (members, *np.shape(value)))
        for name, value in (("x_mean", scale.x_mean), ("x_std", scale.x_std), ("y_mean", mean), ("y_std", std))
    }
    extended = dataclasses.replace(
        scale,
        y_mean=jnp.append(scale.y_mean, jnp.float32(mean)),
        y_std=jnp.append(scale.y_std, jnp.float32(std)),
    )
    metric = MetricSpec("flops", unit=model.units["flops"], direction="minimize", kind="cost")
    return dataclasses.replace(
        predictor,
        params={"networks": predictor.params, **tiled},
        scale=extended,
        apply=_WithFlops(predictor.apply, model),
        metrics=(*predictor.metrics, metric),
    ), np.array([mean, std])
