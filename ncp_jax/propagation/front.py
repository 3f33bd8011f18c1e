"""Holds the Pareto front of what an inversion found, and the weightings of an objective that lead there."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ncp_jax.types import Float

if TYPE_CHECKING:
    from ncp_jax.propagation.found import Found


@dataclasses.dataclass(frozen=True)
class Front:
    """The architectures found that no other one equals or beats in all sought metrics and beats in one.

    All of it is by predicted means; costs that are known are exact.

    Attributes:
      found: the k architectures, from the best to the worst in the first metric.
      metrics: names of the s sought metrics, those to maximize first.
      directions: "maximize" or "minimize" for each.
      values: ``[k, s]`` the metrics, in their own units.
      reference: ``[s]`` the worst point that still counts for the hypervolume, in the metrics' own units.
      reference_is: what the reference point is, in words.
      hypervolume: volume between the front and the reference point, in the product of the metrics' units.
    """

    found: Found
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    values: Float[np.ndarray, "k s"]
    reference: Float[np.ndarray, " s"]
    reference_is: str
    hypervolume: float

    def __len__(self) -> int:
        return len(self.found)

    def to_json(self) -> dict[str, Any]:
        """Returns the front as JSON-ready values; ``architectures`` are ``found.rows()``."""
        return {
            "metrics": dict(zip(self.metrics, self.directions, strict=True)),
            "hypervolume": self.hypervolume,
            "reference": dict(zip(self.metrics, self.reference.tolist(), strict=True)),
            "reference_is": self.reference_is,
            "architectures": self.found.rows(),
        }

    def summary(self) -> str:
        """Returns one line: the size of the front, its hypervolume and the reference point."""
        worst = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.metrics, self.reference, strict=True))
        return (
            f"Pareto front of {len(self)} architectures; hypervolume {self.hypervolume:.6g} "
            f"against {worst} ({self.reference_is})"
        )

    def __str__(self) -> str:
        return f"{self.found}\n{self.summary()}"


def preference_weights(count: int, metrics: int) -> Float[np.ndarray, "p s"]:
    """Returns factors >= 0 on the weights of s metrics, whose mean is 1: the same ones for the same numbers.

    Two metrics get evenly spaced factors, from one metric alone to the other alone, in an order of which any first part
    is spread out as well. More get each metric alone, then random factors, uniform on the simplex.
    """
    if metrics == 2:
        order = np.argsort(np.argsort(np.arange(count) * (5**0.5 - 1) / 2 % 1))  # multiples of the golden ratio
        share = (order / max(count - 1, 1)) if count > 1 else np.full(1, 0.5)
        return 2 * np.stack([share, 1 - share], axis=1)
    random = np.random.default_rng(0).dirichlet(np.ones(metrics), count)
    random[:metrics] = np.eye(metrics)[:count]
    return metrics * random
