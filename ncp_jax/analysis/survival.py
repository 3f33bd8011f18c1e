"""Estimates the queries until the optimum is found; runs that end without it are censored, not dropped."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.intervals import RESAMPLES, Interval, bootstrap_means, percentile_interval, wilson_interval
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


def resampled_means(
    times: Float[np.ndarray, " n"],
    found: Bool[np.ndarray, " n"],
    horizon: float,
    *,
    resamples: int = RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> Float[np.ndarray, " resamples"]:
    """Returns the restricted mean times (see ``time_to_event``) of bootstrap samples of the runs."""
    t, seen = _checked(times, found)
    if not (~seen & (t < horizon)).any():
        # No run was censored early: the area under the curve is the mean of the times, cut off at the horizon.
        return bootstrap_means(np.minimum(t, horizon)[:, None], resamples=resamples, seed=seed)[:, 0]
    from scipy.sparse import csr_array

    # One column per distinct time, twice: the runs that ended then, and those of them that found the optimum.
    distinct, place = np.unique(t, return_inverse=True)
    rows, k = np.arange(len(t)), len(distinct)
    columns = np.concatenate([place, place[seen] + k])
    ones = np.ones(len(columns))
    indicators = csr_array((ones, (np.concatenate([rows, rows[seen]]), columns)), shape=(len(t), 2 * k))
    ended, events = np.split(bootstrap_means(indicators, resamples=resamples, seed=seed), 2, axis=1)
    return _restricted_mean(distinct, _survival(events, ended), horizon)


def time_to_event(
    times: Float[np.ndarray, " n"],
    found: Bool[np.ndarray, " n"],
    horizon: float,
    *,
    level: float = 0.95,
    seed: int | Sequence[int] = 0,
    resampled: Float[np.ndarray, " resamples"] | None = None,
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
      level: confidence level of the interval of the mean (bootstrap over runs).
      seed: seed of the bootstrap.
      resampled: the ``resampled_means`` of these runs if they are known already; drawn with ``seed`` if None.

    Raises:
      UsageError: no runs, lengths that differ, or times that are not finite numbers >= 0.
    """
    t, seen = _checked(times, found)
    checks.positive("horizon", horizon)
    distinct, survival = kaplan_meier(t, seen)
    means = resampled_means(t, seen, horizon, seed=seed) if resampled is None else resampled
    low, high = percentile_interval(means, level)
    # The survival estimate is a product of fractions: one half may be off by rounding.
    half = np.flatnonzero(survival <= 0.5 + 1e-9)
    hits, n = int(seen.sum()), len(t)
    rate_low, rate_high = wilson_interval(hits, n)
    return TimeToEvent(
        mean=float(_restricted_mean(distinct, survival, horizon)),
        low=float(low),
        high=float(high),
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
