"""Reads objectives as people write them: metrics with optional weights, NAME or NAME=WEIGHT."""

from __future__ import annotations

from collections.abc import Sequence

from ncp_jax import checks
from ncp_jax.propagation.objective import Objective


def read_weight(text: str) -> tuple[str, float]:
    """Returns the name and the weight of NAME=WEIGHT; the weight is 1 where there is only a name.

    Raises:
      UsageError: the weight is no number.
    """
    name, sign, weight = text.rpartition("=")
    if not sign:
        return text, 1.0
    try:
        return name, float(weight)
    except ValueError as error:
        raise checks.UsageError(
            expected="NAME or NAME=WEIGHT", got=repr(text), remedy="try mIoU or mIoU=0.5"
        ) from error


def read_names(texts: Sequence[str]) -> tuple[str, ...]:
    """Returns the metric names of NAME or NAME=WEIGHT texts.

    Raises:
      UsageError: a weight is no number.
    """
    return tuple(read_weight(text)[0] for text in texts)


def read_objective(maximize: Sequence[str], minimize: Sequence[str], known: Sequence[str]) -> Objective:
    """Returns the objective that lists of NAME or NAME=WEIGHT describe.

    Args:
      maximize: metrics to raise; weights in standard deviations of the metric over the table.
      minimize: metrics to lower.
      known: names of the metrics that there are; case does not matter.

    Raises:
      UsageError: an unknown metric, a metric named twice, a weight that is no positive number.
    """
    sides = []
    for texts in (maximize, minimize):
        weights: dict[str, float] = {}
        for given, weight in map(read_weight, texts):
            name = checks.choose("metric", given, known)
            if name in weights:
                raise checks.UsageError(expected="each metric once", got=f"{name!r} twice", remedy="drop one")
            weights[name] = weight
        sides.append(weights)
    return Objective(maximize=sides[0], minimize=sides[1])
