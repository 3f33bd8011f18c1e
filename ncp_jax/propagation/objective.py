"""What to raise, what to lower, what to hold: an objective on the metrics of a predictor."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec, find_metric
from ncp_jax.types import Array, Float

Weights = Mapping[str, float]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class ObjectiveWeights:
    """An objective as arrays over the m metrics of a predictor; a sweep over them is a vmap.

    Attributes:
      push: ``[m]``, > 0 raises the metric, < 0 lowers it, 0 leaves it free.
      hold: ``[m]``, >= 0, how hard the metric is kept at its starting prediction.
      ceiling: ``[m]`` standard units, the metric is pushed down while above it; +inf where there is none.
    """

    push: Float[Array, " m"]
    hold: Float[Array, " m"]
    ceiling: Float[Array, " m"]


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
                    checks.message(f"{role} as a mapping of metric name to weight", repr(weights), 'try {"mIoU": 1.0}')
                )
            for name, weight in weights.items():
                known = str(name).lower()  # case does not matter in names
                if known in seen:
                    raise checks.UsageError(
                        checks.message(
                            "each metric once", f"{name!r} under {seen[known]} and {role}", "drop one of them"
                        )
                    )
                seen[known] = role
                if not isinstance(weight, (int, float)) or not math.isfinite(weight) or weight <= 0:
                    raise checks.UsageError(
                        checks.message(
                            f"a weight > 0 for {name!r}",
                            repr(weight),
                            f"weights are positive; {role} says the direction",
                        )
                    )
        if not self.maximize and not self.minimize:
            raise checks.UsageError(
                checks.message("something to maximize or minimize", "neither", 'try Objective(maximize={"mIoU": 1.0})')
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
        top = np.full(len(specs), np.inf, np.float32)
        for sign, weights in ((1.0, self.maximize), (-1.0, self.minimize)):
            for name, weight in weights.items():
                push[find_metric(specs, name)] = sign * weight
        for name, weight in self.hold.items():
            hold[find_metric(specs, name)] = weight
        for name, limit in (ceiling or {}).items():
            top[find_metric(specs, name)] = limit
        return ObjectiveWeights(jnp.asarray(push), jnp.asarray(hold), jnp.asarray(top))
