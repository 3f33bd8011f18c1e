"""Queries until the optimum is found, where some runs end without it: such runs are censored, not lost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.intervals import percentile_interval, resampling_weights, wilson_interval
from ncp_jax.types import Bool, Float

_RESAMPLES = 2000


def kaplan_meier(
    times: Float[np.ndarray, " n"], found: Bool[np.ndarray, " n"]
) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """The product-limit estimate of the share of runs still searching (Kaplan & Meier, JASA 1958).

    Args:
      times: queries of each run until it found the optimum, or until it ended without.
      found: which of the two; False is a censored run, known only to need more than that.

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
    """The product-limit estimate from weights [..., t] of the runs that found, and that ended, at each time."""
    # Rounding of the weights may leave 1e-17 at risk where there is none.
    at_risk = np.cumsum(ended[..., ::-1], axis=-1)[..., ::-1]
    some = at_risk > 1e-12
    hazard = np.divide(events, at_risk, out=np.zeros_like(events), where=some)
    return np.cumprod(1.0 - np.clip(hazard, 0.0, 1.0), axis=-1)


def _restricted_mean(distinct: np.ndarray, survival: np.ndarray, horizon: float) -> np.ndarray:
    """The area under survival curves [..., t] from 0 to the horizon."""
    edges = np.concatenate([[0.0], np.minimum(distinct, horizon), [horizon]])
    levels = np.concatenate([np.ones((*survival.shape[:-1], 1)), survival], axis=-1)
    return levels @ np.diff(edges)


def resampled_means(
    times: Float[np.ndarray, " n"],
    found: Bool[np.ndarray, " n"],
    horizon: float,
    *,
    resamples: int = _RESAMPLES,
    seed: int | Sequence[int] = 0,
) -> Float[np.ndarray, " resamples"]:
    """Restricted mean times (see ``time_to_event``) of bootstrap samples of the runs."""
    t, seen = _checked(times, found)
    capped = np.minimum(t, horizon)
    if not (~seen & (t < horizon)).any():
        # Nobody left early: the area under the curve is the mean of what each run took, up to the horizon.
        parts = resampling_weights(len(t), resamples=resamples, seed=seed)
        return np.sum([weights @ capped[part] for part, weights in parts], axis=0)
    distinct, place = np.unique(t, return_inverse=True)
    events, ended = (np.zeros((resamples, len(distinct))) for _ in range(2))
    for part, weights in resampling_weights(len(t), resamples=resamples, seed=seed):
        one_hot = place[part, None] == np.arange(len(distinct))
        ended += weights @ one_hot
        events += weights @ (one_hot & seen[part, None])
    return _restricted_mean(distinct, _survival(events, ended), horizon)


def time_to_event(
    times: Float[np.ndarray, " n"],
    found: Bool[np.ndarray, " n"],
    horizon: float,
    *,
    level: float = 0.95,
    seed: int | Sequence[int] = 0,
    resampled: Float[np.ndarray, " resamples"] | None = None,
) -> dict[str, Any]:
    """How long runs search until they find the optimum, censored ones included.

    The mean is the restricted mean: the area under the Kaplan-Meier curve up to the horizon (Irwin, 1949), the mean of
    what a run takes if it stops there. Where every run found the optimum by the horizon that is the plain mean. If the
    longest run is censored before the horizon, the curve keeps its level from there on (Gill, 1980), which makes the
    mean too large rather than too small.

    A run that ended before the horizon is taken to be like those that were still searching then. That holds where time
    ran out, not where a search got stuck: its kind would never have found the optimum.

    Args:
      times: queries of each run until it found the optimum, or until it ended without.
      found: which of the two.
      horizon: where the mean is cut off, the budget.
      level: of the intervals of the mean (bootstrap over runs).
      seed: of the bootstrap.
      resampled: the ``resampled_means`` of these runs, where they are known already; drawn with ``seed`` if None.

    Returns:
      JSON-ready: "mean", "low", "high"; "restricted" (whether the horizon cut something off, so that the true mean is
      larger); "horizon"; "median" (None where fewer than half are estimated to find it); "runs", "found" and
      "censored" (counts); "rate", "rate_low", "rate_high" (share that found it, Wilson).

    Raises:
      UsageError: no runs, lengths that differ, or times that are not finite numbers >= 0.
    """
    t, seen = _checked(times, found)
    checks.positive("horizon", horizon)
    distinct, survival = kaplan_meier(t, seen)
    means = resampled_means(t, seen, horizon, seed=seed) if resampled is None else resampled
    low, high = percentile_interval(means, level)
    # Rounding: a half of the runs is a half, whatever the product of fractions says.
    half = np.flatnonzero(survival <= 0.5 + 1e-9)
    hits, n = int(seen.sum()), len(t)
    rate_low, rate_high = wilson_interval(hits, n)
    return {
        "mean": float(_restricted_mean(distinct, survival, horizon)),
        "low": float(low),
        "high": float(high),
        "restricted": bool((~seen | (t > horizon)).any()),
        "horizon": float(horizon),
        "median": float(distinct[half[0]]) if len(half) else None,
        "runs": n,
        "found": hits,
        "censored": n - hits,
        "rate": hits / n,
        "rate_low": rate_low,
        "rate_high": rate_high,
    }


def _checked(times: np.ndarray, found: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    t, seen = np.asarray(times, np.float64), np.asarray(found, bool)
    if t.ndim != 1 or t.shape != seen.shape or not len(t) or not (np.isfinite(t) & (t >= 0)).all():
        raise checks.UsageError(
            expected="one finite time >= 0 for each of at least one run",
            got=f"{list(t.shape)} and {list(seen.shape)}",
            remedy="give a censored run the queries it made",
        )
    return t, seen
