"""Defines limits on metrics and costs, and how far predictions may be wrong where a limit is on a prediction."""

from __future__ import annotations

import dataclasses
import math
import operator
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.types import Float

CONFIDENCE = 0.9
RELATIONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
}
KEPT = 201  # quantiles of the held-out errors that are kept where there are more rows

_WRITTEN = re.compile(r"\s*([^<>=]+?)\s*(<=|>=|=<|=>|<|>)\s*([^<>=]+?)\s*")


@dataclasses.dataclass(frozen=True)
class HeldOutError:
    """How far an ensemble's predictions of one metric were from measurements that it had not learned from.

    The scale of an error is ``sqrt(base**2 + spread**2)``: the spread over the networks alone understates it, because
    all of them learned from the same rows. ``base`` is chosen so that the mean square of the scale is that of the
    errors. The quantiles of error / scale then bound the errors of further architectures of the same kind (split
    conformal prediction: Papadopoulos et al., ECML 2002, with normalised errors).

    Attributes:
      rmse: root of the mean squared error, in the metric's own unit.
      rows: number of held-out measurements.
      base: part of the scale that all predictions share, same unit.
      ratios: sorted (measured - predicted) / scale of the held-out rows, or ``KEPT`` of their quantiles.
    """

    rmse: float
    rows: int
    base: float
    ratios: tuple[float, ...]

    @classmethod
    def of(
        cls, mean: Float[np.ndarray, " n"], spread: Float[np.ndarray, " n"], measured: Float[np.ndarray, " n"]
    ) -> HeldOutError:
        """Returns the error of n predictions of rows that the ensemble has not learned from.

        Raises:
          UsageError: no rows.
        """
        errors = np.asarray(measured, np.float64) - np.asarray(mean, np.float64)
        if len(errors) == 0:
            raise checks.UsageError(expected="held-out rows", got="none", remedy="give some")
        squared = np.asarray(spread, np.float64) ** 2
        base = math.sqrt(max(float(np.mean(errors**2 - squared)), 0.0))
        scale = np.sqrt(base**2 + squared)
        ratios = np.sort(errors / np.where(scale > 0, scale, 1.0))
        if len(ratios) > KEPT:
            ratios = np.quantile(ratios, np.linspace(0, 1, KEPT), method="inverted_cdf")
        # Six digits are plenty, and keep files short.
        return cls(
            float(np.sqrt(np.mean(errors**2))), len(errors), base, tuple(float(f"{ratio:.6g}") for ratio in ratios)
        )

    def scale(self, spread: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Returns the scale of the errors of predictions with these spreads."""
        return np.sqrt(self.base**2 + np.asarray(spread, np.float64) ** 2)

    def quantile(self, confidence: float, *, upper: bool) -> float:
        """Returns k such that, of architectures like the held-out ones, a share ``confidence`` keeps the bound.

        The bound is measured <= predicted + k x scale (``upper``), or measured >= predicted + k x scale.

        Raises:
          UsageError: there are too few held-out rows for that confidence.
        """
        # Of n + 1 exchangeable values, the ceil((n + 1) c)-th bounds a share c.
        place = math.ceil((self.rows + 1) * confidence - 1e-9)
        if place > self.rows:
            most = self.rows / (self.rows + 1)
            raise checks.UsageError(
                expected=f"a confidence of at most {most:.3g} with {self.rows} held-out rows",
                got=f"{confidence:g}",
                remedy="lower it, or measure more architectures",
            )
        thinned = len(self.ratios) < self.rows
        index = math.ceil(place / self.rows * (len(self.ratios) - 1)) if thinned else place - 1
        return self.ratios[index] if upper else self.ratios[len(self.ratios) - 1 - index]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, for ``HeldOutError.from_json``."""
        return {**dataclasses.asdict(self), "ratios": list(self.ratios)}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> HeldOutError:
        """Reads the fields that ``to_json`` wrote."""
        return cls(**{**fields, "ratios": tuple(fields["ratios"])})


@dataclasses.dataclass(frozen=True)
class Limit:
    """A limit on one metric or cost of the architectures that a search returns.

    It is exact where the cost is known for the space: every architecture returned satisfies it. Elsewhere it is a limit
    on a prediction, which holds with a ``confidence``.

    Attributes:
      metric: a metric of the predictor, or a cost of the space: "flops" and "params" (numbers of multiply-adds and of
        parameters, or the same in 1e9 and 1e6 where no architecture, or every one, has such a number), "gflops",
        "params_m".
      relation: "<=", ">=", "<" or ">".
      value: the limit, in the metric's own unit.
      confidence: probability with which a predicted metric shall satisfy the limit, above 0 and below 1; None for a
        limit on the predicted mean itself. Without effect where the cost is known.
      error: errors of the predictor on held-out rows, on which the confidence rests. None for the quantile of a normal
        distribution with the ensemble's spread, which promises too much.
    """

    metric: str
    relation: str
    value: float
    confidence: float | None = CONFIDENCE
    error: HeldOutError | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "relation", {"=<": "<=", "=>": ">="}.get(self.relation, self.relation))
        checks.choose("relation of a limit", self.relation, RELATIONS)
        finite = isinstance(self.value, int | float | np.number) and math.isfinite(self.value)
        if not finite or isinstance(self.value, bool):
            raise checks.UsageError(
                expected=f"a finite number as the limit on {self.metric}", got=repr(self.value), remedy="give a number"
            )
        if self.confidence is not None and not (isinstance(self.confidence, int | float) and 0 < self.confidence < 1):
            raise checks.UsageError(
                expected="a confidence above 0 and below 1", got=repr(self.confidence), remedy="try 0.9"
            )

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Reads ``METRIC<=NUMBER``, also with >=, < and >.

        Raises:
          UsageError: the text has another form, or the number is none.
        """
        found = _WRITTEN.fullmatch(text)
        if not found:
            raise checks.UsageError(
                expected="a limit as METRIC<=NUMBER or METRIC>=NUMBER", got=repr(text), remedy="try 'params<=3e6'"
            )
        name, relation, number = found.groups()
        try:
            value = float(number)
        except ValueError as error:
            raise checks.UsageError(
                expected="a number behind the relation of a limit", got=repr(text), remedy="try 'params<=3e6'"
            ) from error
        return cls(name, relation, value)

    @property
    def upper(self) -> bool:
        """Whether the limit is from above."""
        return self.relation in ("<=", "<")

    def __str__(self) -> str:
        return f"{self.metric} {self.relation} {self.value:g}"


@dataclasses.dataclass(frozen=True)
class LimitStatus:
    """What a limit of a finished search means.

    Attributes:
      metric: name of the metric or cost.
      relation: "<=", ">=", "<" or ">".
      value: the limit, in ``unit``.
      unit: unit of the value; "" where the table gives none.
      counted: the network whose cost it is, in words; "" for a predicted metric.
      confidence: None where the limit is exact, or on the predicted mean.
      calibrated: whether the confidence rests on held-out rows.
    """

    metric: str
    relation: str
    value: float
    unit: str
    counted: str = ""
    confidence: float | None = None
    calibrated: bool = False

    @property
    def exact(self) -> bool:
        """Whether every architecture returned satisfies the limit for certain."""
        return bool(self.counted)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, and ``exact``."""
        return {**dataclasses.asdict(self), "exact": self.exact}

    def __str__(self) -> str:
        number = f"{self.value:.15g}"
        text = f"{self.metric} {self.relation} {number}{f' {self.unit}' if self.unit else ''}"
        if self.exact:
            return f"{text} (exact; {self.counted})"
        if self.confidence is None:
            return f"{text} (predicted: the mean of the ensemble)"
        basis = "by held-out errors" if self.calibrated else "by the ensemble's spread, not calibrated"
        return f"{text} (predicted: with {100 * self.confidence:g} % confidence {basis})"


def normal_quantile(confidence: float) -> float:
    """Returns the quantile of the standard normal distribution."""
    return statistics.NormalDist().inv_cdf(confidence)


def as_limits(limits: Sequence[Limit | str]) -> tuple[Limit, ...]:
    """Returns limits that are given as objects or as texts.

    Raises:
      UsageError: something else, or a text that is no limit.
    """
    if isinstance(limits, Limit | str):
        limits = [limits]
    read = []
    for limit in limits:
        if not isinstance(limit, Limit | str):
            raise checks.UsageError(
                expected="limits as ncp.Limit or 'METRIC<=NUMBER'", got=repr(limit), remedy="try 'params<=3e6'"
            )
        read.append(Limit.parse(limit) if isinstance(limit, str) else limit)
    return tuple(read)
