"""Turns measured values into targets of a Gaussian process, and its predictions back into values."""

from __future__ import annotations

import dataclasses

import numpy as np

from ncp_jax.types import Float

KNEE = 3.0  # units below the median from which values are compressed


@dataclasses.dataclass(frozen=True)
class TargetScale:
    """Maps values, higher is better, to targets of about zero mean and unit variance, and back.

    The unit is the spread of the better half. More than ``KNEE`` units below the median, values are compressed
    logarithmically: architectures that train badly are far from all others, and how far says nothing about the best.

    Attributes:
      median: median of the values.
      unit: root mean square distance of the better half from the median.
      mean, deviation: of the compressed values.
    """

    median: float
    unit: float
    mean: float
    deviation: float

    @classmethod
    def of(cls, values: Float[np.ndarray, " n"]) -> TargetScale:
        """Returns the scale of values, at least one."""
        median = float(np.median(values))
        better = values[values >= median] - median
        unit = float(np.sqrt(np.mean(better**2))) or float(np.std(values)) or 1.0
        compressed = cls(median, unit, 0.0, 1.0).forward(values)
        return cls(median, unit, float(compressed.mean()), float(compressed.std()) or 1.0)

    def forward(self, values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Returns the targets of values."""
        distance = (np.asarray(values, np.float64) - self.median) / self.unit
        below = np.maximum(-distance - KNEE, 0)
        compressed = np.where(distance < -KNEE, -KNEE - np.log1p(below), distance)
        return (compressed - self.mean) / self.deviation

    def back(self, targets: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Returns the values of targets."""
        compressed = np.asarray(targets, np.float64) * self.deviation + self.mean
        below = np.clip(-compressed - KNEE, 0, 50.0)
        distance = np.where(compressed < -KNEE, -KNEE - np.expm1(below), compressed)
        return self.median + self.unit * distance

    def back_spread(
        self, targets: Float[np.ndarray, " n"], deviation: Float[np.ndarray, " n"]
    ) -> Float[np.ndarray, " n"]:
        """Returns half the distance between the values one standard deviation above and below."""
        return (self.back(targets + deviation) - self.back(targets - deviation)) / 2


def limit_targets(values: Float[np.ndarray, " n"], limit: float, *, upper: bool) -> Float[np.ndarray, " n"]:
    """Returns targets of a limited metric: at least 0 where the limit is satisfied, of about unit size; NaN stays."""
    margins = (limit - values) if upper else (values - limit)
    unit = float(np.sqrt(np.nanmean((values - np.nanmedian(values)) ** 2))) or abs(limit) or 1.0
    return np.arcsinh(margins / unit)


def scalarise(values: Float[np.ndarray, "n m"], weights: Float[np.ndarray, " m"]) -> Float[np.ndarray, " n"]:
    """Returns one number for several goals, higher is better: the augmented Tchebycheff function.

    J. Knowles, IEEE Trans. Evolutionary Computation 10 (2006), eq. 2: the goals are scaled to 0..1 over the values.

    Args:
      values: oriented so that higher is better.
      weights: relative importance, with the sum 1.
    """
    low, high = values.min(axis=0), values.max(axis=0)
    shares = weights * (values - high) / np.where(high > low, high - low, 1.0)
    return shares.min(axis=1) + 0.05 * shares.sum(axis=1)
