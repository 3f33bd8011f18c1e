"""Confidence intervals of means and proportions, and the bootstrap that all of them share."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ncp_jax import checks
from ncp_jax.types import Float

if TYPE_CHECKING:
    from scipy.sparse import csr_array

RESAMPLES = 2000
Z = 1.959964  # the 97.5 % quantile of the normal distribution
_CACHED_BYTES = 2**27  # samples up to this size are kept for the next caller


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    Attributes:
      mean: mean of the observations.
      low: lower end of the interval.
      high: upper end of the interval.
      n: number of observations; None where the mean is not one of a number of observations.
    """

    mean: float
    low: float
    high: float
    n: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary, without ``n`` if it is None."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if name != "n" or value is not None}


def mean_interval(values: Sequence[float] | np.ndarray, *, level: float = 0.95, seed: int = 0) -> dict[str, float]:
    """Returns the mean with its percentile-bootstrap interval, as JSON: ``{"mean", "low", "high", "n"}``.

    The interval of a single value is that value: nothing is known about its spread.

    Raises:
      UsageError: there are no values.
    """
    sample = np.asarray(values, np.float64)
    if not len(sample):
        raise checks.UsageError(expected="at least one value", got="none", remedy="leave the empty group out")
    means = bootstrap_means(sample[:, None], resamples=10_000, seed=seed)[:, 0]
    return interval(float(sample.mean()), means, len(sample), level=level).to_json()


def interval(
    mean: float, resampled: Float[np.ndarray, " resamples"], n: int | None = None, *, level: float = 0.95
) -> Interval:
    """Returns a mean of n observations with the percentile interval of its bootstrap means."""
    low, high = percentile_interval(resampled, level)
    return Interval(mean, float(low), float(high), n)


def wilson_interval(hits: int, n: int) -> tuple[float, float]:
    """Returns the ends of the 95 % Wilson score interval of a proportion (Wilson, JASA 1927)."""
    p, z2 = hits / n, Z * Z
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    # At 0 and 1 the formula is exact except for rounding.
    return centre - half if hits else 0.0, centre + half if hits < n else 1.0


def bootstrap_means(
    values: Float[np.ndarray, "n k"] | csr_array, *, resamples: int = RESAMPLES, seed: int | Sequence[int] = 0
) -> Float[np.ndarray, "resamples k"]:
    """Returns the means of k quantities over bootstrap samples of n observations.

    All quantities share the samples. A quantity with a NaN has NaN in all of them.

    Args:
      values: observations, a dense array or a sparse matrix.
      resamples: number of bootstrap samples.
      seed: seed of the samples; calls with equal n and seed share their samples.
    """
    total = np.zeros((resamples, values.shape[1]))
    for part, weights in resampling_weights(values.shape[0], resamples=resamples, seed=seed):
        total += weights @ values[part]
    return total


def resampling_weights(
    n: int, *, resamples: int = RESAMPLES, seed: int | Sequence[int] = 0, block: int = 2048
) -> Iterator[tuple[slice, Float[np.ndarray, "resamples m"]]]:
    """Draws bootstrap samples of n observations as weights, one block of observations at a time.

    A sample of n with replacement is a multinomial draw of how often each observation occurs. The mean over each
    sample is then a matrix product, for many quantities at once, and the blocks bound the memory for any n.

    Args:
      n: number of observations.
      resamples: number of bootstrap samples.
      seed: seed of the draw. Equal n, seed and block give equal weights, so that quantities of paired observations
        are resampled together; fewer than ``RESAMPLES`` samples are the first ones of these.
      block: number of observations per block.

    Yields:
      The observations of the block, and their weights in each sample, float64 [resamples, m]. The weights of a sample
      sum to 1 over all blocks.
    """
    key = seed if isinstance(seed, int) else tuple(seed)
    drawn = max(resamples, RESAMPLES)
    draw = _cached_counts if n * drawn <= _CACHED_BYTES else _counts
    for part, counts in draw(n, drawn, key, block):
        yield part, counts[:resamples] / float(n)


def _counts(n: int, resamples: int, seed: int | tuple[int, ...], block: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Yields how often each observation occurs in each sample, [resamples, m], block by block."""
    rng = np.random.default_rng(seed)
    left = np.full(resamples, n)
    for start in range(0, n, block):
        stop = min(start + block, n)
        # How many observations of each sample fall into this block; the last block takes the rest.
        inside = left if stop == n else rng.binomial(left, (stop - start) / (n - start))
        counts = rng.multinomial(inside, np.full(stop - start, 1 / (stop - start)))
        # Counts are small numbers: in one byte each, the samples of thousands of runs can be kept.
        yield slice(start, stop), counts.astype(np.min_scalar_type(int(counts.max())))
        left = left - inside


@functools.lru_cache(maxsize=1)
def _cached_counts(n: int, resamples: int, seed: int | tuple[int, ...], block: int) -> list[tuple[slice, np.ndarray]]:
    """Like ``_counts``, kept for the next call: drawing takes longer than all that is computed from the samples."""
    return list(_counts(n, resamples, seed, block))


def percentile_interval(
    means: Float[np.ndarray, "resamples ..."], level: float = 0.95
) -> tuple[Float[np.ndarray, "..."], Float[np.ndarray, "..."]]:
    """Returns the lower and the upper end of the percentile interval over the first axis."""
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high
