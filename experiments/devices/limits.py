"""Searches for the best accuracy within a latency that is predicted, and looks up what came of it."""

from __future__ import annotations

import dataclasses
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


def summarise_choices(choices: list[dict[str, Any]]) -> dict[str, float | int | None]:
    """Returns how often choices kept their limit, how far they were from it, and what accuracy they lost."""
    made = [choice for choice in choices if choice["latency"] is not None]
    if not made:
        return {"choices": len(choices), "none": len(choices), "kept": None, "excess_percent": None, "loss": None}
    excess = [100 * (choice["latency"] / choice["limit"] - 1) for choice in made]
    return {
        "choices": len(choices),
        "none": len(choices) - len(made),
        "kept": float(np.mean([value <= 0 for value in excess])),
        "excess_percent": float(np.mean(np.maximum(excess, 0.0))),
        "loss": float(np.mean([choice["loss"] for choice in made])),
    }
