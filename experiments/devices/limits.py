"""Searches for the best accuracy within a latency that is predicted, and looks up what came of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax.types import Bool, Float

QUANTILES = (0.25, 0.5, 0.75)  # limits, as quantiles of the device's latencies


@dataclasses.dataclass(frozen=True)
class Choice:
    """The architecture of the best accuracy among those predicted to be within a limit.

    Attributes:
      quantile: share of the architectures within the limit.
      limit: the limit, milliseconds.
      latency: latency of the chosen one, milliseconds; None where none is predicted to be within the limit.
      loss: best accuracy within the limit minus that of the chosen one, percent points; below 0 where the choice is
        over the limit. None as above.
    """

    quantile: float
    limit: float
    latency: float | None
    loss: float | None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class ChoiceSummary:
    """What came of several choices; the means are None where none was made.

    Attributes:
      choices: number of limits.
      none: number of limits that nothing was predicted to be within.
      kept: share of the choices that are within their limit.
      excess_percent: mean of how far choices are over their limit, 0 for those within, percent of the limit.
      loss: mean of ``Choice.loss``, percent points.
    """

    choices: int
    none: int
    kept: float | None = None
    excess_percent: float | None = None
    loss: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields."""
        return dataclasses.asdict(self)


def choose_within(
    predicted: Float[np.ndarray, " n"],
    milliseconds: Float[np.ndarray, " n"],
    accuracy: Float[np.ndarray, " n"],
    whole: Bool[np.ndarray, " n"],
) -> list[Choice]:
    """Returns the choice of a method for each limit.

    Args:
      predicted: predicted logarithms of latencies.
      milliseconds: the device's latencies.
      accuracy: measured accuracy, higher is better.
      whole: architectures whose reading is whole; others are not chosen.
    """
    found = []
    for quantile in QUANTILES:
        limit = float(np.quantile(milliseconds[whole], quantile))
        within = whole & (np.exp(predicted) <= limit)
        best = accuracy[whole & (milliseconds <= limit)].max()
        if not within.any():
            found.append(Choice(quantile, limit, None, None))
            continue
        place = int(np.argmax(np.where(within, accuracy, -np.inf)))
        found.append(Choice(quantile, limit, float(milliseconds[place]), float(best - accuracy[place])))
    return found


def summarise_choices(choices: Sequence[Choice]) -> ChoiceSummary:
    """Returns how often choices kept their limit, how far they were from it, and what accuracy they lost."""
    made = [(c.latency / c.limit, c.loss) for c in choices if c.latency is not None and c.loss is not None]
    none = len(choices) - len(made)
    if not made:
        return ChoiceSummary(len(choices), none)
    excess = [100 * (ratio - 1) for ratio, _ in made]
    return ChoiceSummary(
        len(choices),
        none,
        kept=float(np.mean([value <= 0 for value in excess])),
        excess_percent=float(np.mean(np.maximum(excess, 0.0))),
        loss=float(np.mean([loss for _, loss in made])),
    )
