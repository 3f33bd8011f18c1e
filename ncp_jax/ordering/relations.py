"""Turns predicted utilities into relations between pairs, and measures how reliable their probabilities are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from ncp_jax import checks
from ncp_jax.console import short_repr
from ncp_jax.types import Array, Float, Int


@dataclass(frozen=True, eq=False)
class Reliability:
    """A reliability diagram: predicted probabilities against the frequencies of outcomes.

    Attributes:
      confidence: ``[bins]`` mean predicted probability of each bin, float64; NaN for an empty bin.
      frequency: ``[bins]`` mean outcome of each bin, float64; NaN for an empty bin.
      counts: ``[bins]`` number of predictions in each bin, int64.
      error: expected calibration error, the mean of |confidence - frequency| over predictions; 0 is best.
      brier: Brier score, the mean squared difference of probability and outcome; 0 is best, a constant 0.5 gets 0.25.
    """

    confidence: Float[np.ndarray, " bins"]
    frequency: Float[np.ndarray, " bins"]
    counts: Int[np.ndarray, " bins"]
    error: float
    brier: float

    __repr__ = short_repr

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary, with None for NaN."""
        means = {"confidence": self.confidence, "frequency": self.frequency}
        return {
            **{name: [None if np.isnan(x) else float(x) for x in values] for name, values in means.items()},
            "counts": self.counts.tolist(),
            "error": self.error,
            "brier": self.brier,
        }

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Reliability:
        """Reads the fields that ``to_json`` wrote."""
        means = {name: np.array(content[name], float) for name in ("confidence", "frequency")}
        return cls(**means, counts=np.array(content["counts"]), error=content["error"], brier=content["brier"])


@jax.jit
def _block(rows: Array, columns: Array) -> Array:
    """Returns the mean over members of sigmoid(rows[m, a] - columns[m, b]), [a, b].

    It adds one member at a time, so that the block stays in the cache.
    """

    def add(total: Array, pair: tuple[Array, Array]) -> tuple[Array, None]:
        return total + jax.nn.sigmoid(pair[0][:, None] - pair[1]), None

    start = jnp.zeros((rows.shape[1], columns.shape[1]), jnp.float32)
    return jax.lax.scan(add, start, (rows, columns))[0] / rows.shape[0]


def relation_matrix(utilities: Float[ArrayLike, "m n"], *, tile: int = 512) -> Float[np.ndarray, "n n"]:
    """Returns the probability that one is better than the other, for all pairs.

    By the Bradley-Terry model, ``P[a, b]`` is the mean over members of ``sigmoid(utilities[m, a] - utilities[m, b])``.
    In float32, ``P + P.T`` is exactly 1 and the diagonal exactly 0.5.

    Args:
      utilities: ``[m, n]`` log odds, higher is better, one row per member of an ensemble. They are clipped to 1e38 from
        the middle of the member's range.
      tile: number of rows and columns computed at a time. Besides the result, this needs memory for a few
        ``tile * tile`` float32. The result depends on it by rounding only.

    Returns:
      float32 ``[n, n]`` on the host; [[0.5]] for one architecture.

    Raises:
      UsageError: utilities that are not real numbers [m, n] with m, n >= 1, or a tile that is not a positive integer.
      DataError: a utility is NaN or infinite.
    """
    centred = _centred(utilities)
    tile = checks.integer("tile", tile, least=1, remedy="512 suits most machines")
    n = centred.shape[1]
    tile = min(tile, 1 << (n - 1).bit_length())  # powers of two: few programs to compile, little padding for small n
    starts = range(0, n, tile)
    padded = np.pad(centred, ((0, 0), (0, -n % tile)))
    parts = [jnp.asarray(padded[:, start : start + tile]) for start in starts]
    result = np.empty((n, n), np.float32)
    # Compute the tiles on and above the diagonal; the others follow from P + P.T = 1.
    for i, top in enumerate(starts):
        for j, left in enumerate(starts[i:], start=i):
            block = np.asarray(_block(parts[i], parts[j]))[: n - top, : n - left]
            if i == j:
                block = np.triu(block, 1)
                block += np.tril(1 - block.T, -1)
                np.fill_diagonal(block, 0.5)
            result[top : top + tile, left : left + tile] = block
            if i != j:
                result[left : left + tile, top : top + tile] = 1 - block.T
    return result


def trusted_weights(probability: Float[ArrayLike, "n n"], threshold: float = 0.6) -> Float[np.ndarray, "n n"]:
    """Returns weights of the confident preferences: ``2 P - 1`` where ``P >= threshold`` and ``P > 0.5``, else 0.

    Args:
      probability: ``[n, n]`` probability P[a, b] that a is better than b. The diagonal does not count.
      threshold: smallest probability of a preference to keep, in [0.5, 1).

    Returns:
      float32 ``[n, n]`` in [0, 1], 0 on the diagonal, for ``ncp_jax.ordering.order``.

    Raises:
      UsageError: a matrix that is not square or is empty, or a threshold outside [0.5, 1).
      DataError: an entry is NaN or outside [0, 1].
    """
    matrix = _square(probability)
    if isinstance(threshold, bool) or not isinstance(threshold, int | float | np.number) or not 0.5 <= threshold < 1:
        raise checks.UsageError(
            expected="threshold to be a number in [0.5, 1)", got=repr(threshold), remedy="0.6 keeps all but close calls"
        )
    weights = np.where(matrix >= np.float32(threshold), np.maximum(2 * matrix - 1, 0), np.float32(0))
    np.fill_diagonal(weights, 0)
    return weights


def borda(probability: Float[ArrayLike, "n n"]) -> Float[np.ndarray, " n"]:
    """Returns each architecture's mean probability to be better than another one (Borda score); higher is better.

    Args:
      probability: ``[n, n]`` probability P[a, b] that a is better than b. The diagonal does not count.

    Returns:
      float32 ``[n]`` in [0, 1], means of the rows without the diagonal; 0.5 for n = 1.

    Raises:
      UsageError: a matrix that is not square or is empty.
      DataError: an entry is NaN or outside [0, 1].
    """
    matrix = _square(probability)
    n = len(matrix)
    if n == 1:
        return np.array([0.5], np.float32)
    return ((matrix.sum(axis=1, dtype=np.float64) - matrix.diagonal()) / (n - 1)).astype(np.float32)


def reliability(probability: Float[ArrayLike, " k"], outcome: Float[ArrayLike, " k"], *, bins: int = 10) -> Reliability:
    """Compares predicted probabilities with outcomes, in bins of equal width.

    Bin i holds the probabilities in [i / bins, (i + 1) / bins), and the last bin also 1. The calibration error is that
    of Naeini, Cooper & Hauskrecht (AAAI 2015), for the probability of "better" instead of the top class's.

    Args:
      probability: ``[k]`` predicted probability that the first of a pair is better, k >= 1.
      outcome: ``[k]`` 1 if it was better, 0 if it was worse, 0.5 for a tie.
      bins: number of bins.

    Raises:
      UsageError: not two vectors of one length k >= 1, or ``bins`` is not a positive integer.
      DataError: a probability is NaN or outside [0, 1], or an outcome is not 0, 0.5 or 1.
    """
    predicted, observed = _numbers("probability", probability), _numbers("outcome", outcome)
    if predicted.ndim != 1 or predicted.shape != observed.shape or not len(predicted):
        raise checks.UsageError(
            expected="probability and outcome of k >= 1 pairs, [k] both",
            got=f"shapes {predicted.shape} and {observed.shape}",
            remedy="give both",
        )
    bins = checks.integer("bins", bins, least=1, remedy="10 is usual")
    _in_unit_interval(predicted)
    wrong = ~np.isin(observed, (0.0, 0.5, 1.0))
    if wrong.any():
        raise checks.DataError(
            expected="outcomes 0 (worse), 0.5 (tie) or 1 (better)",
            got=f"{observed[wrong][0]:.6g} at {int(np.argmax(wrong))}",
            remedy="recode them",
        )
    place = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    counts = np.bincount(place, minlength=bins)
    some = np.where(counts > 0, counts, np.nan)
    confidence, frequency = (np.bincount(place, x, minlength=bins) / some for x in (predicted, observed))
    error = np.nansum(counts * np.abs(confidence - frequency)) / len(predicted)
    brier = np.mean((predicted.astype(np.float64) - observed) ** 2)
    return Reliability(confidence, frequency, counts, float(error), float(brier))


def _numbers(name: str, values: Any) -> np.ndarray:
    try:
        found = np.asarray(values)
    except (TypeError, ValueError) as error:
        raise checks.UsageError(
            expected=f"{name} to be an array", got=f"something else ({error})", remedy="give rows of one length"
        ) from error
    if found.dtype.kind not in "buif":
        raise checks.UsageError(expected=f"{name} of real numbers", got=f"type {found.dtype}", remedy="convert it")
    return found if found.dtype.kind == "f" else found.astype(np.float64)


def _centred(utilities: Any) -> np.ndarray:
    """Returns float32 utilities [m, n], each member's range centred at 0: a large offset must not cost digits."""
    found = _numbers("utilities", utilities)
    if found.ndim != 2 or not found.size:
        raise checks.UsageError(
            expected="utilities [m, n] of m >= 1 members for n >= 1 architectures",
            got=f"shape {found.shape}",
            remedy="give one row for each member",
        )
    wide = found.astype(np.float64)
    if not np.isfinite(wide).all():
        member, place = np.argwhere(~np.isfinite(wide))[0]
        raise checks.DataError(
            expected="finite utilities",
            got=f"{wide[member, place]} for architecture {place} of member {member}",
            remedy="look at the predictor that made them",
        )
    middle = wide.min(axis=1, keepdims=True) / 2 + wide.max(axis=1, keepdims=True) / 2
    # Beyond these limits, a difference would overflow float32.
    return np.clip(wide - middle, -1e38, 1e38).astype(np.float32)


def _square(probability: Any) -> np.ndarray:
    found = _numbers("probability", probability)
    if found.ndim != 2 or found.shape[0] != found.shape[1] or not found.size:
        raise checks.UsageError(
            expected="a square matrix of probabilities, at least 1 x 1",
            got=f"shape {found.shape}",
            remedy="relation_matrix makes one",
        )
    _in_unit_interval(found)
    return found.astype(np.float32, copy=False)


def _in_unit_interval(probability: np.ndarray) -> None:
    if not (probability.min() >= 0 and probability.max() <= 1):
        place = np.argwhere(~((probability >= 0) & (probability <= 1)))[0].tolist()
        raise checks.DataError(
            expected="probabilities in 0..1",
            got=f"{probability[tuple(place)]:.6g} at {place}",
            remedy="utilities become ones in relation_matrix",
        )
