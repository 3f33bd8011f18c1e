"""Inversion of a predictor: gradient steps on relaxed codes, written for one code and batched by vmap.

Method: Network Coding Propagation (Ding et al., ICLR 2022, section 3.3) with the authors' released recipe. Each
iteration asks the prediction to move by ``delta`` in the wanted directions and takes one gradient step of a smooth
L1 loss on the code. Within its quadratic zone the gradient of that loss is ``delta`` itself, so the step follows
a fixed cotangent through the predictor: no target, no optimizer state.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation.objective import ObjectiveWeights
from ncp_jax.spaces import CostModel
from ncp_jax.types import Array, Float, Params

Box = tuple[Float[Array, " f"], Float[Array, " f"]]
STRATEGIES = ("continuous", "winner-takes-all")
FOLLOW = ("member", "mean")


class Invertible(Protocol):
    """What inversion needs of a predictor (see ``predictors.Predictor``)."""

    @property
    def params(self) -> Params:
        """Pytree with a leading axis of members."""

    @property
    def scale(self) -> Any:
        """The standardisation, see ``predictors.Standardisation``."""

    @property
    def apply(self) -> Callable[..., Any]:
        """``(params of one member, standard code) -> standard metrics``."""

    @property
    def metrics(self) -> tuple[MetricSpec, ...]:
        """The meaning of the outputs."""

    @property
    def space(self) -> str:
        """Name of the space of the codes."""

    def select(self, names: tuple[str, ...]) -> Invertible:
        """The same restricted to some of its metrics."""

    def __call__(self, relaxed: Float[Array, "n f"]) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        """Mean and spread over the members, own units."""


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PropagationConfig:
    """Settings of the gradient loop. The numbers may be arrays, for a vmap over them.

    ``PropagationConfig.authors()`` has the authors' settings. The default differs in the step size alone, and in
    ``follow`` for ensembles: this project's networks are flatter, and 70 steps of 3 stop half-way (docs/search.md).

    Attributes:
      steps: iterations.
      learning_rate: step size on the code, in standard units.
      delta: how far, in standard units, each iteration asks a metric of weight 1 to move.
      strategy: "continuous" moves all positions, "winner-takes-all" only the one with the largest gradient.
      ceiling_weight: weight of the push down on a metric above its ceiling.
      follow: whose gradient a code follows. "member": code i that of network i modulo the ensemble's size, which costs
        what one network costs and brings variety; "mean": all follow the ensemble's mean. Either way the whole
        ensemble judges what was found.
      exact_costs: follow the exact relaxed costs of the space, where it has a cost model, instead of their prediction.
        Best scores gain about 0.01 standard deviations for a fifth more time and some seconds of compilation
        (docs/search.md). Ranking, limits and reports are exact either way.
    """

    steps: int = dataclasses.field(default=70, metadata={"static": True})
    learning_rate: float = 10.0
    delta: float = 0.1
    strategy: str = dataclasses.field(default="continuous", metadata={"static": True})
    ceiling_weight: float = 1.0
    follow: str = dataclasses.field(default="member", metadata={"static": True})
    exact_costs: bool = dataclasses.field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        checks.choose("strategy", self.strategy, STRATEGIES)
        checks.choose("follow", self.follow, FOLLOW)
        if not isinstance(self.steps, int) or self.steps < 0:
            raise checks.UsageError(checks.message("steps to be an integer >= 0", repr(self.steps), "try steps=70"))
        for name in ("learning_rate", "delta", "ceiling_weight"):
            value = getattr(self, name)
            if isinstance(value, (int, float)):  # inside jit and vmap the numbers are arrays
                checks.positive(name, value, zero=name == "ceiling_weight")

    @classmethod
    def authors(cls, **changes: Any) -> PropagationConfig:
        """The recipe of Ding et al. (ICLR 2022, released code), with some settings changed."""
        return dataclasses.replace(cls(learning_rate=3.0, follow="mean"), **changes)


def smooth_l1_slope(error: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Derivative of the smooth L1 loss with threshold 1."""
    return jnp.clip(error, -1.0, 1.0)


def cotangent(
    weights: ObjectiveWeights, config: PropagationConfig, z: Float[Array, " m"], z_start: Float[Array, " m"]
) -> Float[Array, " m"]:
    """Gradient of the loss with respect to the standard predictions ``z``; descending it does what is wanted."""
    push = -weights.push * smooth_l1_slope(jnp.full_like(z, config.delta))
    hold = weights.hold * smooth_l1_slope(z - z_start)
    over = jnp.where(z > weights.ceiling, config.ceiling_weight * config.delta, 0.0)
    return push + hold + over


def step_one(
    predict: Callable[[Float[Array, " f"]], Float[Array, " m"]],
    weights: ObjectiveWeights,
    x: Float[Array, " f"],
    z_start: Float[Array, " m"],
    box: Box,
    config: PropagationConfig,
) -> Float[Array, " f"]:
    """Returns one relaxed code after one iteration; all in standard units.

    Args:
      predict: standard metrics of a standard relaxed code.
      weights: the objective.
      x: where the code stands.
      z_start: what was predicted where it began, for ``hold``.
      box: lower and upper corner that the code is clipped to.
      config: step size and strategy.
    """
    z, pullback = jax.vjp(predict, x)
    (gradient,) = pullback(cotangent(weights, config, z, z_start))
    if config.strategy == "winner-takes-all":
        gradient = jnp.where(jnp.arange(x.shape[0]) == jnp.argmax(jnp.abs(gradient)), gradient, 0.0)
    return jnp.clip(x - config.learning_rate * gradient, *box)


@functools.partial(jax.jit, static_argnames=("model",))
def invert(
    predictor: Invertible,
    weights: ObjectiveWeights,
    start: Float[Array, "n f"],
    box: Box,
    config: PropagationConfig,
    model: CostModel | None = None,
) -> Float[Array, "n f"]:
    """Inverts n relaxed codes at once; row i depends on row i of ``start`` alone.

    Args:
      predictor: the ensemble.
      weights: the objective.
      start: relaxed codes in raw units; with ``follow="member"`` n is a multiple of the ensemble's size.
      box: lower and upper corner, raw units.
      config: settings of the loop.
      model: exact costs of the space; where given, cost metrics follow it instead of their prediction.

    Returns:
      Relaxed codes in raw units.
    """
    scale = predictor.scale
    standard_box = (scale.standard_x(box[0]), scale.standard_x(box[1]))
    apply = predictor.apply if model is None else functools.partial(_with_exact_costs, predictor, model)
    members = jax.tree.leaves(predictor.params)[0].shape[0]
    x = scale.standard_x(start)

    def mean(params: Params, one: Float[Array, " f"]) -> Float[Array, " m"]:
        return jax.vmap(apply, in_axes=(0, None))(params, one).mean(axis=0)

    # [group, code in the group, f]: a group shares parameters, its own member's or the whole ensemble's.
    if config.follow == "member" and members > 1:
        predict, params, grouped = apply, predictor.params, x.reshape(-1, members, x.shape[-1]).swapaxes(0, 1)
    else:
        predict, params, grouped = mean, jax.tree.map(lambda a: a[None], predictor.params), x[None]

    def move(params: Params, x: Float[Array, "g j f"], z_start: Float[Array, "g j m"]) -> Float[Array, "g j f"]:
        def one(p: Params, x: Array, z: Array) -> Array:
            return step_one(functools.partial(predict, p), weights, x, z, standard_box, config)

        return jax.vmap(jax.vmap(one, in_axes=(None, 0, 0)))(params, x, z_start)

    lanes = _lanes(params, grouped)
    starts = [jax.vmap(jax.vmap(predict, in_axes=(None, 0)))(*lane) for lane in lanes]

    def iteration(xs: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], None]:
        return tuple(move(p, x, z) for (p, _), x, z in zip(lanes, xs, starts, strict=True)), None

    moved = jax.lax.scan(iteration, tuple(x for _, x in lanes), None, length=config.steps)[0]
    joined = jnp.concatenate(moved, axis=0 if grouped.shape[0] > 1 else 1)
    return scale.raw_x(joined.swapaxes(0, 1).reshape(x.shape))


def _lanes(params: Params, grouped: Float[Array, "g j f"]) -> list[tuple[Params, Float[Array, "h i f"]]]:
    """Cuts the work into independent halves on CPU, where XLA runs them side by side.

    One large batched product keeps one core busy much of the time; two chains in the same loop body took 0.6 of its
    time on two cores (measured; more than two brought nothing). Which lane a code is in does not change its result.
    """
    groups, each = grouped.shape[:2]
    if jax.default_backend() != "cpu" or (groups % 2 and (groups > 1 or each % 2)):
        return [(params, grouped)]
    if groups == 1:
        return [(params, half) for half in jnp.split(grouped, 2, axis=1)]
    split = jax.tree.map(lambda a: jnp.split(a, 2), params)
    return [
        (jax.tree.map(lambda pair, i=i: pair[i], split, is_leaf=lambda v: isinstance(v, list)), half)
        for i, half in enumerate(jnp.split(grouped, 2))
    ]


def _with_exact_costs(
    predictor: Invertible, model: CostModel, params: Params, x: Float[Array, " f"]
) -> Float[Array, " m"]:
    """A member's standard predictions, the costs among them replaced by the relaxed exact ones."""
    z = predictor.apply(params, x)
    known = exact_columns(predictor.metrics, model)
    if not known:
        return z
    raw = model.relaxed(predictor.scale.raw_x(x))
    mean, std = predictor.scale.y_mean, predictor.scale.y_std
    # A stack of scalars, not an indexed update: XLA's scatter is slow on CPU.
    return jnp.stack([(raw[known[i]] - mean[i]) / std[i] if i in known else z[i] for i in range(len(z))])


def exact_columns(metrics: Sequence[MetricSpec], model: CostModel | None) -> dict[int, str]:
    """The columns that a cost model knows exactly (same name, same unit), each with the cost's name."""
    if model is None:
        return {}
    return {i: m.name for i, m in enumerate(metrics) if model.units.get(m.name) == m.unit}
