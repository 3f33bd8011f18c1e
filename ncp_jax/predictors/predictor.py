"""Defines the predictor: a pure function from a relaxed code to metrics, and the parameters of an ensemble of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.console import short_repr
from ncp_jax.metrics import MetricSpec, find_metric, main_metric, to_own_units
from ncp_jax.predictors.folded import FoldedMLP
from ncp_jax.pytrees import register_dataclass
from ncp_jax.spaces import get_space
from ncp_jax.types import Array, Float, Params

# Codes that all members process at once on CPU. The activations of more codes do not fit the caches, which halves the
# rate.
BLOCK = 512

Apply = Callable[[Params, Float[Array, " f"]], Float[Array, " m"]]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Standardisation:
    """Affine maps between raw units and the standard units (mean 0, variance 1) that the networks use.

    Attributes:
      x_mean: ``[f]`` mean of each feature of the relaxed code.
      x_std: ``[f]`` standard deviation of each feature, > 0.
      y_mean: ``[m]`` mean of each metric, in its stored unit: nearly always its own (see ``MetricSpec.stored``).
      y_std: ``[m]`` standard deviation of each metric, > 0, same unit.
    """

    x_mean: Float[Array, " f"]
    x_std: Float[Array, " f"]
    y_mean: Float[Array, " m"]
    y_std: Float[Array, " m"]

    __repr__ = short_repr

    def standard_x(self, relaxed: Float[Array, "*n f"]) -> Float[Array, "*n f"]:
        """Converts relaxed codes from raw to standard units."""
        return (relaxed - self.x_mean) / self.x_std

    def raw_x(self, standard: Float[Array, "*n f"]) -> Float[Array, "*n f"]:
        """Converts relaxed codes from standard to raw units."""
        return standard * self.x_std + self.x_mean

    def standard_y(self, values: Float[Array, "*n m"]) -> Float[Array, "*n m"]:
        """Converts metrics from their stored to standard units."""
        return (values - self.y_mean) / self.y_std

    def raw_y(self, standard: Float[Array, "*n m"]) -> Float[Array, "*n m"]:
        """Converts metrics from standard to their stored units."""
        return standard * self.y_std + self.y_mean


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Predictor:
    """An ensemble of networks that predict metrics from a relaxed code.

    Attributes:
      params: parameters, a pytree whose leaves have the leading axis ``[members]``.
      scale: standardisation, shared by all members.
      apply: pure function ``(params of one member, standard code [f]) -> standard metrics [m]``.
      metrics: specifications of the m outputs.
      space: name of the space of the codes.
    """

    params: Params
    scale: Standardisation
    apply: Apply = dataclasses.field(metadata={"static": True})
    metrics: tuple[MetricSpec, ...] = dataclasses.field(metadata={"static": True})
    space: str = dataclasses.field(metadata={"static": True})

    __repr__ = short_repr

    @property
    def members(self) -> int:
        """Number of networks in the ensemble."""
        return int(jax.tree.leaves(self.params)[0].shape[0])

    @property
    def main(self) -> MetricSpec:
        """The first quality metric."""
        return main_metric(self.metrics)

    def to_json(self) -> dict[str, Any]:
        """Returns a JSON-ready description: space, members, network and metrics, without the parameters."""
        settings = dataclasses.asdict(self.apply) if isinstance(self.apply, FoldedMLP) else {}
        return {
            "space": self.space,
            "members": self.members,
            "apply": {"kind": type(self.apply).__name__, **settings},
            "metrics": [m.to_json() for m in self.metrics],
        }

    def metric(self, name: str) -> MetricSpec:
        """Returns the metric called ``name``; UsageError with the nearest names if there is none."""
        return self.metrics[find_metric(self.metrics, name)]

    def check(self) -> None:
        """Checks the shapes of parameters, standardisation and network against each other and against the space.

        Calls of the predictor and ``propagate`` do it first. It computes nothing.

        Raises:
          UsageError: leaves without a common axis of members, a standardisation of other sizes, or an ``apply`` that
            fails on a standard code ``[f]`` or returns anything but ``[m]``.
        """
        leaves, structure = jax.tree.flatten(self.params)
        shapes = tuple(jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in leaves)
        scale = tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(self.scale))
        _check(self.apply, structure, shapes, scale, len(self.metrics), self.space)

    def member_values(self, relaxed: Float[Array, "*n f"]) -> Float[Array, "k *n m"]:
        """Returns each member's predictions for each relaxed code, in the metrics' stored units."""
        width = self.scale.x_mean.shape[-1]
        shape = jnp.shape(relaxed)
        if not 1 <= len(shape) <= 2 or shape[-1] != width:
            raise checks.UsageError(
                expected=f"relaxed codes [n, {width}] or [{width}] of {self.space}",
                got=f"shape {list(shape)}",
                remedy="encode codes with the space: get_space(name).encode(codes)",
            )
        self.check()
        if len(shape) == 1:
            return self.member_values(jnp.asarray(relaxed)[None])[:, 0]
        return _member_values(self, relaxed)

    def in_stored_units(self, relaxed: Float[Array, "*n f"]) -> tuple[Float[Array, "*n m"], Float[Array, "*n m"]]:
        """Predicts metrics like a call, but in the metrics' stored units. Works inside jit for all metrics."""
        return _mean_and_spread(self.member_values(relaxed))

    def __call__(self, relaxed: Float[Array, "*n f"]) -> tuple[Float[Array, "*n m"], Float[Array, "*n m"]]:
        """Predicts metrics: mean and spread (standard deviation) over the members, in the metrics' own units.

        The results are float32 on the device or, where float32 cannot hold a metric in its own unit, float64 on the
        host.

        Args:
          relaxed: relaxed codes in raw units, ``[n, f]`` or ``[f]``.

        Raises:
          UsageError: relaxed codes of another length, or a metric that float32 cannot hold, inside jit.
        """
        mean, spread = self.in_stored_units(relaxed)
        if not any(metric.stored for metric in self.metrics):
            return mean, spread
        if isinstance(mean, jax.core.Tracer):
            name = next(metric.name for metric in self.metrics if metric.stored)
            raise checks.UsageError(
                expected="metrics that float32 holds in their own units inside jit",
                got=f"{name!r}",
                remedy="call predictor.in_stored_units there, see MetricSpec.stored",
            )
        return to_own_units(self.metrics, np.asarray(mean), np.asarray(spread))  # type: ignore[return-value]

    def select(self, names: tuple[str, ...]) -> Predictor:
        """Returns the predictor restricted to some of its metrics, in the given order.

        An ``apply`` with a method ``select(params, columns)`` drops the parameters that only the other metrics need
        (see FoldedMLP). Any other ``apply`` computes all outputs and drops the others.

        Raises:
          UsageError: a name is not among the metrics.
        """
        columns = tuple(find_metric(self.metrics, n) for n in names)
        # In NumPy: on the device, JAX would compile a small program for every new shape.
        y_mean, y_std = (np.asarray(a)[list(columns)] for a in (self.scale.y_mean, self.scale.y_std))
        scale = dataclasses.replace(self.scale, y_mean=jax.device_put(y_mean), y_std=jax.device_put(y_std))
        metrics = tuple(self.metrics[c] for c in columns)
        if hasattr(self.apply, "select"):
            params = self.apply.select(self.params, columns)
            return dataclasses.replace(self, params=params, scale=scale, metrics=metrics)
        apply = _Restricted(self.apply, columns)
        return dataclasses.replace(self, scale=scale, metrics=metrics, apply=apply)


@functools.lru_cache(maxsize=256)
def _check(
    apply: Apply,
    structure: Any,
    leaves: tuple[jax.ShapeDtypeStruct, ...],
    scale: tuple[tuple[int, ...], ...],
    outputs: int,
    space: str,
) -> None:
    features = get_space(space).features
    if not leaves or len({leaf.shape[:1] for leaf in leaves}) > 1 or leaves[0].shape[:1] in ((), (0,)):
        listed = ", ".join(str(list(leaf.shape)) for leaf in leaves[:6]) or "none"
        raise checks.UsageError(
            expected="params whose leaves all have one leading axis [members]",
            got=f"leaves {listed}",
            remedy="stack the members' params, or for one member: jax.tree.map(lambda leaf: leaf[None], params)",
        )
    wanted = ((features,), (features,), (outputs,), (outputs,))
    if scale != wanted:
        raise checks.UsageError(
            expected=f"scale with x_mean, x_std [{features}] of {space} and y_mean, y_std [{outputs}] of the metrics",
            got=", ".join(str(list(shape)) for shape in scale),
            remedy="give one number per feature of the relaxed code and one per metric",
        )
    one = jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype) for leaf in leaves])
    expected = f"apply(params of one member, standard code [{features}]) -> standard metrics [{outputs}]"
    remedy = "write it for one code and one member: the predictor batches both"
    try:
        found = jax.eval_shape(apply, one, jax.ShapeDtypeStruct((features,), jnp.float32))
    except (TypeError, ValueError, IndexError) as error:
        raise checks.UsageError(
            expected=expected, got=f"{type(error).__name__}: {str(error).splitlines()[0]}", remedy=remedy
        ) from error
    if getattr(found, "shape", None) != (outputs,):
        got = str(list(found.shape)) if hasattr(found, "shape") else type(found).__name__
        raise checks.UsageError(expected=expected, got=f"{got} as its result", remedy=remedy)


@dataclasses.dataclass(frozen=True)
class _Restricted:
    """An ``apply`` restricted to some outputs. As a dataclass, equal restrictions compare equal, so jit caches them."""

    apply: Apply
    columns: tuple[int, ...]

    def __call__(self, params: Params, standard: Float[Array, " f"]) -> Float[Array, " m"]:
        return self.apply(params, standard)[jnp.asarray(self.columns)]


@jax.jit
def _member_values(predictor: Predictor, relaxed: Float[Array, "n f"]) -> Float[Array, "k n m"]:
    def one(x: Float[Array, " f"]) -> Float[Array, "k m"]:
        return jax.vmap(predictor.apply, in_axes=(0, None))(predictor.params, x)

    x = predictor.scale.standard_x(jnp.asarray(relaxed, predictor.scale.x_mean.dtype))
    blocked = jax.default_backend() == "cpu" and len(x) > BLOCK
    z = jax.lax.map(one, x, batch_size=BLOCK) if blocked else jax.vmap(one)(x)
    return predictor.scale.raw_y(z.swapaxes(0, 1))


@jax.jit  # one program, where eager calls compile two
def _mean_and_spread(values: Float[Array, "k *n m"]) -> tuple[Float[Array, "*n m"], Float[Array, "*n m"]]:
    return values.mean(axis=0), values.std(axis=0)


def for_task(predictor: Predictor, task: str) -> Predictor:
    """Restricts a joint predictor to one task's metrics and the costs, and shortens "seg/mIoU" to "mIoU".

    Args:
      predictor: a predictor of one or several tasks. One of a single task is returned unchanged.
      task: the task, or "" for all, which returns the predictor unchanged.
    """
    if not task or len({m.task for m in predictor.metrics if m.kind == "quality"}) == 1:
        return predictor
    names = tuple(m.name for m in predictor.metrics if m.task == task or m.kind == "cost")
    restricted = predictor.select(names)
    metrics = tuple(dataclasses.replace(m, name=m.name.removeprefix(f"{task}/")) for m in restricted.metrics)
    return dataclasses.replace(restricted, metrics=metrics)
