"""Means, shares and medians with intervals."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence

import numpy as np

from ncp_jax import checks
from ncp_jax.types import Float

Z = 1.959964  # the 97.5 % quantile of the normal distribution
_DRAWN = 2**22  # numbers drawn at once: some tens of MB
_REMEMBERED = 5000  # observations of which samples are kept: 40 MB


def mean_interval(values: Sequence[float] | np.ndarray, *, level: float = 0.95, seed: int = 0) -> dict[str, float]:
    """Returns the mean with its percentile-bootstrap interval: ``{"mean", "low", "high", "n"}``.

    With one value the interval is that value: nothing is known about its spread.

    Raises:
      UsageError: there are no values.
    """
    sample = np.asarray(values, np.float64)
    if not len(sample):
        raise checks.UsageError(expected="at least one value", got="none", remedy="leave the empty group out")
    rng, step = np.random.default_rng(seed), max(1, _DRAWN // len(sample))
    draws = (rng.integers(0, len(sample), (min(step, 10_000 - i), len(sample))) for i in range(0, 10_000, step))
    means = np.concatenate([sample[rows].mean(axis=1) for rows in draws])
    return interval(float(sample.mean()), means, len(sample), level=level)


def interval(
    mean: float, resampled: Float[np.ndarray, " resamples"], n: int, *, level: float = 0.95
) -> dict[str, float]:
    """A mean of n observations with its percentile interval from bootstrap means: ``{"mean", "low", "high", "n"}``."""
    low, high = percentile_interval(resampled, level)
    return {"mean": mean, "low": float(low), "high": float(high), "n": n}


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """The 95 % Wilson score interval of a proportion (Wilson, JASA 1927)."""
    p, z2 = hits / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At the ends the formula is exact but for rounding.
    return centre - half if hits else 0.0, centre + half if hits < n else 1.0


def resampling_weights(
    n: int, *, resamples: int = 2000, seed: int | Sequence[int] = 0, block: int = 2048
) -> Iterator[tuple[slice, Float[np.ndarray, "resamples m"]]]:
    """Draws bootstrap samples of n observations as weights, some observations at a time.

    A sample of n with replacement is a multinomial draw of how often each observation is in it. A mean over resamples
    is then a matrix product, for many quantities at once, and the blocks keep memory flat for any n.

    Args:
      n: observations.
      resamples: bootstrap samples.
      seed: of the draw; equal n, seed and block give equal weights, so that quantities of paired observations are
        resampled together.
      block: observations in a block.

    Yields:
      Which observations, and their weights in each sample, float64 [resamples, m]: all blocks of one sample sum to 1.
    """
    key = seed if isinstance(seed, int) else tuple(seed)
    draw = _remembered if n <= _REMEMBERED else _draw
    for part, counts in draw(n, resamples, key, block):
        yield part, counts / n


def _draw(n: int, resamples: int, seed: int | tuple[int, ...], block: int) -> Iterator[tuple[slice, np.ndarray]]:
    """How often each observation is in each sample, int32, a block of observations after the other."""
    rng = np.random.default_rng(seed)
    left = np.full(resamples, n)
    for start in range(0, n, block):
        stop = min(start + block, n)
        # How many of the sample fall into this block; the last block takes what is left.
        inside = left if stop == n else rng.binomial(left, (stop - start) / (n - start))
        counts = rng.multinomial(inside, np.full(stop - start, 1 / (stop - start)))
        yield slice(start, stop), counts.astype(np.int32)
        left = left - inside


@functools.lru_cache(maxsize=4)
def _remembered(n: int, resamples: int, seed: int | tuple[int, ...], block: int) -> list[tuple[slice, np.ndarray]]:
    """The same, kept: methods that ran the same seeds share their samples, and drawing takes longer than using them."""
    return list(_draw(n, resamples, seed, block))


def bootstrap_means(
    values: Float[np.ndarray, "n k"], *, resamples: int = 2000, seed: int | Sequence[int] = 0
) -> Float[np.ndarray, "resamples k"]:
    """Means of k quantities over bootstrap samples of n observations, each sample common to all quantities.

    A quantity with a NaN has NaN in all samples.
    """
    sample = np.asarray(values, np.float64)
    total = np.zeros((resamples, sample.shape[1]))
    for part, weights in resampling_weights(len(sample), resamples=resamples, seed=seed):
        total += weights @ sample[part]
    return total


def percentile_interval(
    means: Float[np.ndarray, "resamples ..."], level: float = 0.95
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """The lower and upper end of the percentile interval over the first axis."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
