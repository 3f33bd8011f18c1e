"""The predictor: a pure function from a relaxed code to metrics, with an ensemble axis on its parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.metrics import MetricSpec, find_metric, main_metric
from ncp_jax.types import Array, Float, Params

# Codes that all members see at once on CPU, where the activations of more leave the caches: half the rate.
BLOCK = 512

Apply = Callable[[Params, Float[Array, " f"]], Float[Array, " m"]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Standardisation:
    """Affine maps between the units of the user and the unit variance that the networks see.

    Attributes:
      x_mean: ``[f]`` mean of each feature of the relaxed code.
      x_std: ``[f]`` its standard deviation, > 0.
      y_mean: ``[m]`` mean of each metric, in its own unit.
      y_std: ``[m]`` its standard deviation, > 0.
    """

    x_mean: Float[Array, " f"]
    x_std: Float[Array, " f"]
    y_mean: Float[Array, " m"]
    y_std: Float[Array, " m"]

    def standard_x(self, relaxed: Float[Array, "*n f"]) -> Float[Array, "*n f"]:
        """Relaxed codes in raw units → standard units."""
        return (relaxed - self.x_mean) / self.x_std

    def raw_x(self, standard: Float[Array, "*n f"]) -> Float[Array, "*n f"]:
        """Relaxed codes in standard units → raw units."""
        return standard * self.x_std + self.x_mean

    def standard_y(self, values: Float[Array, "*n m"]) -> Float[Array, "*n m"]:
        """Metrics in their own units → standard units."""
        return (values - self.y_mean) / self.y_std

    def raw_y(self, standard: Float[Array, "*n m"]) -> Float[Array, "*n m"]:
        """Metrics in standard units → their own units."""
        return standard * self.y_std + self.y_mean


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Predictor:
    """An ensemble of networks that predict metrics from a relaxed code.

    Attributes:
      params: pytree whose leaves have the leading axis ``[members]``.
      scale: the standardisation shared by all members.
      apply: pure ``(params of one member, standard code [f]) -> standard metrics [m]``.
      metrics: what each of the m outputs means.
      space: name of the space that the codes come from.
    """

    params: Params
    scale: Standardisation
    apply: Apply = dataclasses.field(metadata={"static": True})
    metrics: tuple[MetricSpec, ...] = dataclasses.field(metadata={"static": True})
    space: str = dataclasses.field(metadata={"static": True})

    @property
    def members(self) -> int:
        """Number of networks in the ensemble."""
        return int(jax.tree.leaves(self.params)[0].shape[0])

    @property
    def main(self) -> MetricSpec:
        """The first quality metric."""
        return main_metric(self.metrics)

    def metric(self, name: str) -> MetricSpec:
        """The metric called ``name``; UsageError with the nearest names otherwise."""
        return self.metrics[find_metric(self.metrics, name)]

    def member_values(self, relaxed: Float[Array, "n f"]) -> Float[Array, "k n m"]:
        """Returns what each of the k members predicts for each relaxed code, in the metrics' own units."""
        return _member_values(self, relaxed)

    def __call__(self, relaxed: Float[Array, "n f"]) -> tuple[Float[Array, "n m"], Float[Array, "n m"]]:
        """Returns mean and spread (standard deviation over members) of the predictions, in the metrics' own units.

        Args:
          relaxed: relaxed codes in raw units, ``[n, f]``.
        """
        values = self.member_values(relaxed)
        return values.mean(axis=0), values.std(axis=0)

    def select(self, names: tuple[str, ...]) -> Predictor:
        """Returns the predictor restricted to some of its metrics, in the order given.

        An ``apply`` with a method ``select(params, columns)`` drops what the others alone needed from the
        parameters (see FoldedMLP); any other computes all outputs and keeps these.

        Raises:
          UsageError: a name is not among the metrics.
        """
        columns = tuple(find_metric(self.metrics, n) for n in names)
        # NumPy, not device arrays: every new shape indexed on the device is a small program to compile.
        y_mean, y_std = (np.asarray(a)[list(columns)] for a in (self.scale.y_mean, self.scale.y_std))
        scale = dataclasses.replace(self.scale, y_mean=jax.device_put(y_mean), y_std=jax.device_put(y_std))
        metrics = tuple(self.metrics[c] for c in columns)
        if hasattr(self.apply, "select"):
            params = self.apply.select(self.params, columns)
            return dataclasses.replace(self, params=params, scale=scale, metrics=metrics)
        apply = _Restricted(self.apply, columns)
        return dataclasses.replace(self, scale=scale, metrics=metrics, apply=apply)


@dataclasses.dataclass(frozen=True)
class _Restricted:
    """``apply`` of which only some outputs are wanted; equal restrictions are equal, so jit caches them."""

    apply: Apply
    columns: tuple[int, ...]

    def __call__(self, params: Params, standard: Float[Array, " f"]) -> Float[Array, " m"]:
        return self.apply(params, standard)[jnp.asarray(self.columns)]


@jax.jit
def _member_values(predictor: Predictor, relaxed: Float[Array, "n f"]) -> Float[Array, "k n m"]:
    def one(x: Float[Array, " f"]) -> Float[Array, "k m"]:
        return jax.vmap(predictor.apply, in_axes=(0, None))(predictor.params, x)

    x = predictor.scale.standard_x(relaxed)
    blocked = jax.default_backend() == "cpu" and len(x) > BLOCK
    z = jax.lax.map(one, x, batch_size=BLOCK) if blocked else jax.vmap(one)(x)
    return predictor.scale.raw_y(z.swapaxes(0, 1))


def for_task(predictor: Predictor, task: str) -> Predictor:
    """Returns a joint predictor restricted to one task's metrics and the costs; "seg/mIoU" becomes "mIoU".

    A predictor of one task alone, or no task named (""), stays as it is.
    """
    if not task or len({m.task for m in predictor.metrics if m.kind == "quality"}) == 1:
        return predictor
    wanted = tuple(m.name for m in predictor.metrics if m.task == task or m.kind == "cost")
    chosen = predictor.select(wanted)
    metrics = tuple(dataclasses.replace(m, name=m.name.removeprefix(f"{task}/")) for m in chosen.metrics)
    return dataclasses.replace(chosen, metrics=metrics)
