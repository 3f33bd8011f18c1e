"""Estimates the queries until the optimum is found; runs that end without it are censored, not dropped."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.intervals import Interval, interval, wilson_interval
from ncp_jax.types import Bool, Float


@dataclasses.dataclass(frozen=True, kw_only=True)
class TimeToEvent(Interval):
    """Queries that runs need to find the optimum: the restricted mean with its interval, and how many runs found it.

    Attributes:
      restricted: whether the horizon cut something off, so that the unrestricted mean is larger.
      horizon: number of queries at which the mean is cut off; None for a mean over several groups of runs.
      median: queries by which an estimated half of the runs found it; None if fewer than half do.
      runs: number of runs.
      found: number of runs that found it.
      rate_low: lower end of the 95 % Wilson interval of the share of runs that found it.
      rate_high: upper end of that interval.
    """

    restricted: bool
    horizon: float | None = None
    median: float | None
    runs: int
    found: int
    rate_low: float
    rate_high: float

    @property
    def censored(self) -> int:
        """Number of runs that ended without the optimum."""
        return self.runs - self.found

    @property
    def rate(self) -> float:
        """Share of runs that found the optimum."""
        return self.found / self.runs

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary, without ``n`` and ``horizon`` where they are None."""
        fields = super().to_json() | {"censored": self.censored, "rate": self.rate}
        return {name: value for name, value in fields.items() if name != "horizon" or value is not None}


def kaplan_meier(
    times: Float[np.ndarray, " n"], found: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Estimates the share of runs that are still searching (the product-limit estimate, Kaplan & Meier, JASA 1958).

    Args:
      times: queries of each run until it found the optimum, or until it ended without.
      found: whether the run found the optimum. A run that did not is censored: it needs more queries than these.

    Returns:
      The distinct times in rising order, and the estimated share that has not found the optimum after each. A run
      censored at a time was still searching at that time.

    Raises:
      UsageError: no runs, lengths that differ, or times that are not finite numbers >= 0.
    """
    t, seen = _checked(times, found)
    distinct, place = np.unique(t, return_inverse=True)
    events = np.bincount(place[seen], minlength=len(distinct)).astype(float)
    ended = np.bincount(place, minlength=len(distinct)).astype(float)
    return distinct, _survival(events, ended)


def _survival(events: np.ndarray, ended: np.ndarray) -> np.ndarray:
    """Returns the product-limit estimate from weights [..., t] of the runs that found it, and ended, at each time."""
    # Rounding of the weights may leave 1e-17 at risk where no run is left.
    at_risk = np.cumsum(ended[..., ::-1], axis=-1)[..., ::-1]
    some = at_risk > 1e-12
    hazard = np.divide(events, at_risk, out=np.zeros_like(events), where=some)
    return np.cumprod(1.0 - np.clip(hazard, 0.0, 1.0), axis=-1)


def _restricted_mean(distinct: np.ndarray, survival: np.ndarray, horizon: float) -> np.ndarray:
    """Returns the area under survival curves [..., t] from 0 to the horizon."""
    edges = np.concatenate([[0.0], np.minimum(distinct, horizon), [horizon]])
    levels = np.concatenate([np.ones((*survival.shape[:-1], 1)), survival], axis=-1)
    return levels @ np.diff(edges)


def influences(
    times: Float[np.ndarray, " n"], found: Bool[np.ndarray, " n"], horizon: float
) -> Float[np.ndarray, " n"]:
    """Returns what each run contributes to the error of the restricted mean time (see ``time_to_event``).

    This is the derivative of the restricted mean with respect to the run's weight (the infinitesimal jackknife,
    Jaeckel, 1972). If no run was censored early it is ``(min(time, horizon) - mean) / n``. The contributions sum to 0.
    """
    t, seen = _checked(times, found)
    distinct, place = np.unique(t, return_inverse=True)
    events = np.bincount(place[seen], minlength=len(distinct)).astype(float)
    at_risk = np.cumsum(np.bincount(place, minlength=len(distinct))[::-1])[::-1].astype(float)
    survival = _survival(events, np.bincount(place, minlength=len(distinct)).astype(float))
    # The area under the curve from each time to the horizon, as a share of the level there: 0 once the curve is.
    widths = np.diff(np.minimum(np.append(distinct, horizon), horizon))
    ahead = np.cumsum((survival * widths)[::-1])[::-1]
    share = np.divide(ahead, survival, out=np.zeros_like(ahead), where=survival > 0)
    before = np.append(1.0, survival[:-1])
    loss = before * share / at_risk
    return np.cumsum(loss * events / at_risk)[place] - np.where(seen, loss[place], 0.0)


def time_to_event(
    times: Float[np.ndarray, " n"],
    found: Bool[np.ndarray, " n"],
    horizon: float,
    *,
    level: float = 0.95,
) -> TimeToEvent:
    """Estimates how many queries runs need to find the optimum, with censored runs taken into account.

    The mean is the restricted mean: the area under the Kaplan-Meier curve up to the horizon (Irwin, 1949), which is
    the mean number of queries if every run stops at the horizon. If every run found the optimum by the horizon, it is
    the ordinary mean. If the longest run is censored before the horizon, the curve keeps its level from there on
    (Gill, 1980), which makes the mean too large rather than too small.

    A run that ended before the horizon is assumed to be like those that were still searching then. That holds where
    time ran out, but not where a search got stuck and would never have found the optimum.

    Args:
      times: queries of each run until it found the optimum, or until it ended without.
      found: whether the run found the optimum.
      horizon: number of queries at which the mean is cut off, the budget.
      level: confidence level of the interval of the mean (from the runs' ``influences``).

    Raises:
      UsageError: no runs, lengths that differ, or times that are not finite numbers >= 0.
    """
    t, seen = _checked(times, found)
    checks.positive("horizon", horizon)
    distinct, survival = kaplan_meier(t, seen)
    mean = float(_restricted_mean(distinct, survival, horizon))
    ends = interval(mean, influences(t, seen, horizon), level=level, least=0.0, most=horizon)
    # The survival estimate is a product of fractions: one half may be off by rounding.
    half = np.flatnonzero(survival <= 0.5 + 1e-9)
    hits, n = int(seen.sum()), len(t)
    rate_low, rate_high = wilson_interval(hits, n)
    return TimeToEvent(
        mean=mean,
        low=ends.low,
        high=ends.high,
        restricted=bool((~seen | (t > horizon)).any()),
        horizon=float(horizon),
        median=float(distinct[half[0]]) if len(half) else None,
        runs=n,
        found=hits,
        rate_low=rate_low,
        rate_high=rate_high,
    )


def _checked(times: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t, seen = np.asarray(times, np.float64), np.asarray(found, bool)
    if t.ndim != 1 or t.shape != seen.shape or not len(t) or not (np.isfinite(t) & (t >= 0)).all():
        raise checks.UsageError(
            expected="one finite time >= 0 for each of at least one run",
            got=f"{list(t.shape)} and {list(seen.shape)}",
            remedy="give a censored run the queries it made",
        )
    return t, seen
