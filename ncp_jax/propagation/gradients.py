"""Computes the gradient that codes follow: the loss's slopes on the predictions, pulled back through the networks.

There are two ways through a network, with equal results. An ``apply`` with a method ``gradient`` (see
``predictors.FoldedMLP``) handles whole tiles of codes and all members in one product per layer. Any other ``apply`` is
written for one code and differentiated by JAX.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation.config import PropagationConfig
from ncp_jax.propagation.objective import ObjectiveWeights
from ncp_jax.spaces import CostModel
from ncp_jax.types import Array, Float, Params

# JAX's names of the precisions, for networks without a precision setting of their own.
_MATMUL = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}
Gradient = Callable[[Params, Float[Array, "t f"], Float[Array, "t m"]], Float[Array, "t f"]]


class Invertible(Protocol):
    """The part of a predictor that inversion needs (see ``predictors.Predictor``)."""

    @property
    def params(self) -> Params:
        """Parameters, a pytree with a leading axis of members."""

    @property
    def scale(self) -> Any:
        """Standardisation (see ``predictors.Standardisation``)."""

    @property
    def apply(self) -> Callable[..., Any]:
        """Function of (parameters of one member, relaxed code ``[f]``) to metrics ``[m]``, all in standard units."""

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """Specifications of the m outputs."""

    @property
    def space(self) -> str:
        """Name of the space of the codes."""

    def select(self, names: tuple[str, ...]) -> Invertible:
        """Returns the same predictor restricted to some of its metrics."""

    def __call__(self, relaxed: Float[Array, "n f"]) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        """Returns mean and spread over the members, in the metrics' own units."""


def members_of(predictor: Invertible) -> int:
    """Returns the number of networks in a predictor."""
    return int(jax.tree.leaves(predictor.params)[0].shape[0])


def smooth_l1_slope(error: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns the derivative of the smooth L1 loss with threshold 1."""
    return jnp.clip(error, -1.0, 1.0)


def cotangent(
    weights: ObjectiveWeights, config: PropagationConfig, z: Float[Array, " m"], z_start: Float[Array, " m"]
) -> Float[Array, " m"]:
    """Returns the gradient of the loss with respect to the predictions ``z``, for the codes to descend.

    The loss is a sum of smooth L1 losses between ``z`` and moving targets (Ding et al., section 3.3).

    Args:
      weights: the objective.
      config: settings of the loop.
      z: predictions in standard units.
      z_start: predictions where the codes started, in standard units.
    """
    # The target of a metric to push always lies ``delta`` ahead of its prediction, so the error is ``delta`` itself.
    push = -weights.push * smooth_l1_slope(jnp.full_like(z, config.delta))
    # The target of a metric to hold is the prediction at the start.
    hold = weights.hold * smooth_l1_slope(z - z_start)
    # A metric above its ceiling is pushed down until it is below; one below its floor, up.
    over = jnp.where(z > weights.ceiling, config.ceiling_weight * config.delta, 0.0)
    if weights.floor is None:
        return push + hold + over
    under = jnp.where(z < weights.floor, config.ceiling_weight * config.delta, 0.0)
    return push + hold + over - under


def moments(z: Float[Array, "k m"]) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Returns mean and spread over the members. The spread's slope stays finite where all members agree."""
    return z.mean(axis=0), jnp.sqrt(z.var(axis=0) + 1e-12)


def slopes(
    weights: ObjectiveWeights, config: PropagationConfig, z: Float[Array, "k m"], z_start: Float[Array, " m"]
) -> Float[Array, "k m"]:
    """Returns the gradient of the loss with respect to each member's predictions for one code, in standard units."""
    if len(z) == 1 and weights.function is None:
        return cotangent(weights, config, z[0], z_start)[None]
    (mean, spread), pull_back = jax.vjp(moments, z)
    on_mean = cotangent(weights, config, mean, z_start)
    on_spread = jnp.zeros_like(spread)
    rate = smooth_l1_slope(jnp.asarray(config.delta))
    if config.follow == "bound":
        # The bound is mean - confidence x spread of a metric to raise, + of one to lower: the spread always falls.
        on_spread = jnp.abs(weights.push) * config.confidence * rate
    if weights.function is not None:
        # A function of the predictions is raised at the same rate as a metric of weight 1.
        rise_mean, rise_spread = jax.grad(weights.function, argnums=(0, 1))(mean, spread)
        on_mean, on_spread = on_mean - rate * rise_mean, on_spread - rate * rise_spread
    return pull_back((on_mean, on_spread))[0]


def tile_gradient(
    predictor: Invertible, weights: ObjectiveWeights, config: PropagationConfig, model: CostModel | None
) -> Gradient:
    """Returns a function that computes a tile's gradients: ``(params [k, …], x [t, f], z_start [t, m]) -> [t, f]``.

    Its parameters are those of the k networks that the tile follows, one or all. The weights' ``push`` may have a row
    for each of the t codes.
    """
    if model is None and hasattr(predictor.apply, "gradient"):
        return functools.partial(_batched_gradient, predictor.apply, weights, config)
    apply = predictor.apply if model is None else functools.partial(_with_exact_costs, predictor, model)

    def one(
        weights: ObjectiveWeights, params: Params, x: Float[Array, " f"], z_start: Float[Array, " m"]
    ) -> Float[Array, " f"]:
        z, pull_back = jax.vjp(lambda x: jax.vmap(apply, in_axes=(0, None))(params, x), x)
        return pull_back(slopes(weights, config, z, z_start))[0]

    def many(params: Params, x: Array, z_start: Array) -> Array:
        with jax.default_matmul_precision(_MATMUL[config.precision]):
            if weights.push.ndim == 1:
                return jax.vmap(functools.partial(one, weights), in_axes=(None, 0, 0))(params, x, z_start)

            def each(push: Array, x: Array, z_start: Array) -> Array:
                return one(dataclasses.replace(weights, push=push), params, x, z_start)

            return jax.vmap(each)(weights.push, x, z_start)

    return many


def _batched_gradient(
    apply: Any, weights: ObjectiveWeights, config: PropagationConfig, params: Params, x: Array, z_start: Array
) -> Array:
    def pull(z: Float[Array, "k t m"]) -> Float[Array, "k t m"]:
        if weights.push.ndim == 1:
            one = functools.partial(slopes, weights, config)
            return jax.vmap(one, in_axes=(1, 0), out_axes=1)(z, z_start)

        def each(push: Array, z: Array, z_start: Array) -> Array:
            return slopes(dataclasses.replace(weights, push=push), config, z, z_start)

        return jax.vmap(each, in_axes=(0, 1, 0), out_axes=1)(weights.push, z, z_start)

    fixed = fixed_slopes(weights, config, len(jax.tree.leaves(params)[0]))
    return apply.gradient(params, x, pull if fixed is None else fixed, config.precision)


def fixed_slopes(weights: ObjectiveWeights, config: PropagationConfig, members: int) -> Float[Array, "k m"] | None:
    """Returns the slopes on each member's predictions if they are the same for every code, else None."""
    if not weights.fixed or config.follow == "bound":
        return None
    # Without hold, ceiling and function the cotangent does not depend on the predictions: any will do.
    unused = jnp.zeros_like(weights.push)
    return jnp.tile(cotangent(weights, config, unused, unused) / members, (members, 1))


def _with_exact_costs(
    predictor: Invertible, model: CostModel, params: Params, x: Float[Array, " f"]
) -> Float[Array, " m"]:
    """Returns one member's predictions in standard units, with costs replaced by the exact relaxed ones."""
    z = predictor.apply(params, x)
    known = exact_columns(predictor.metrics, model)
    if not known:
        return z
    raw = model.relaxed(predictor.scale.raw_x(x))
    for column, name in known.items():
        unit = predictor.metrics[column].stored
        raw |= {} if unit is None else {name: unit.store(raw[name])}
    mean, std = predictor.scale.y_mean, predictor.scale.y_std
    # A stack of scalars, not an indexed update: XLA's scatter is slow on CPU.
    return jnp.stack([(raw[known[i]] - mean[i]) / std[i] if i in known else z[i] for i in range(len(z))])


def exact_columns(metrics: Sequence[MetricSpec], model: CostModel | None) -> dict[int, str]:
    """Returns the columns that a cost model computes exactly (same name and unit), each with the cost's name."""
    if model is None:
        return {}
    return {i: m.name for i, m in enumerate(metrics) if model.units.get(m.name) == m.unit}
