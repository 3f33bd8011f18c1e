"""Checks weights and reduces them to the differences ``w - w.T`` as int32, the part that an order can change."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import boolean, float64, int32, int64, void
from numba.types import Tuple  # type: ignore[attr-defined]

from ncp_jax import checks
from ncp_jax.ordering.compiled import compiled

_LARGEST = 2**30  # largest scaled difference
_TILE = 64  # rows and columns of a tile
_SHARES = 16  # number of parts that the rows are divided into, for any number of threads


@compiled(Tuple((boolean, boolean, float64, float64))(float64[:, ::1], int64, int64))
def _survey(weights, begin, end):  # type: ignore[no-untyped-def]
    """Surveys the pairs whose smaller index is in ``begin`` … ``end - 1``.

    It works in tiles, since half of the entries are read by columns.

    Returns:
      (all finite and >= 0, all integers, largest difference, sum of all entries).
    """
    n = weights.shape[0]
    valid, whole, largest, total = True, True, 0.0, 0.0
    for row in range(begin, end, _TILE):
        for column in range(row, n, _TILE):
            both = 0.0
            for i in range(row, min(end, row + _TILE)):
                for j in range(max(i + 1, column), min(n, column + _TILE)):
                    a, b = weights[i, j], weights[j, i]
                    # Written so that NaN fails it.
                    if not (a >= 0.0 and b >= 0.0 and a < np.inf and b < np.inf):
                        valid = False
                    if whole and (a != np.floor(a) or b != np.floor(b)):
                        whole = False
                    largest = max(largest, abs(a - b))
                    both += a + b
            total += both
    return valid, whole, largest, total


@compiled(void(float64[:, ::1], float64, int32[:, ::1], int64, int64))
def _subtract(weights, scale, out, begin, end):  # type: ignore[no-untyped-def]
    """Writes the scaled, rounded differences of the pairs whose smaller index is in ``begin`` … ``end - 1``."""
    n = weights.shape[0]
    for row in range(begin, end, _TILE):
        for column in range(row, n, _TILE):
            for i in range(row, min(end, row + _TILE)):
                for j in range(max(i + 1, column), min(n, column + _TILE)):
                    d = weights[i, j] - weights[j, i]
                    scaled = np.int32(abs(d) * scale + 0.5)
                    if d != 0.0 and scaled == 0:
                        scaled = np.int32(1)  # a preference stays one, however weak it is
                    if d < 0.0:
                        scaled = -scaled
                    out[i, j] = scaled
                    out[j, i] = -scaled


@compiled(Tuple((float64, float64, boolean))(float64[:, ::1], int32[::1]))
def forward_weight(weights, order):  # type: ignore[no-untyped-def]
    """Returns the sum of ``weights[i, j]`` over all i before j in ``order``, with twice the digits of float64.

    Returns:
      (the sum rounded to float64, what the rounding left out, exact). The two numbers add up to the sum exactly, or
      within ``2**-90`` of it. Integers with a sum below ``2**70`` are always added exactly.
    """
    total, rest, exact = 0.0, 0.0, True
    for i in range(order.size):
        row = weights[order[i]]
        for j in range(i + 1, order.size):
            weight = row[order[j]]
            # The rounding error of each addition (Knuth's two-sum) goes into ``rest``.
            raised = total + weight
            virtual = raised - total
            error = (total - (raised - virtual)) + (weight - virtual)
            total = raised
            if error != 0.0:
                more = rest + error
                virtual = more - rest
                if (rest - (more - virtual)) + (error - virtual) != 0.0:
                    exact = False
                rest = more
    rounded = total + rest
    return rounded, rest - (rounded - total), exact


@compiled(Tuple((int64, int64, int64))(int32[:, ::1], int32[::1]))
def backward_sum(differences, order):  # type: ignore[no-untyped-def]
    """Returns (sum, number) of the preferences that ``order`` goes against, and the number of all preferences."""
    total, count, pairs = int64(0), int64(0), int64(0)
    for i in range(order.size):
        row = differences[order[i]]
        for j in range(i + 1, order.size):
            d = row[order[j]]
            if d < 0:
                total -= d
                count += 1
            if d != 0:
                pairs += 1
    return total, count, pairs


@dataclasses.dataclass(frozen=True)
class Scaled:
    """Differences of some elements as integers, for the local search.

    Attributes:
      matrix: ``[n, n]`` rounded ``(w - w.T) * scale``, int32, antisymmetric; 0 only where the weights are equal.
      scale: factor between weights and entries of ``matrix``.
      exact: True if nothing was rounded.
    """

    matrix: np.ndarray
    scale: float
    exact: bool

    def loss(self, order: np.ndarray) -> float:
        """Returns an upper bound on the loss of an order that reverses no difference cut to a cap."""
        lost, reversed_pairs, _ = backward_sum(self.matrix, order)
        return float(lost + (0 if self.exact else reversed_pairs)) / self.scale * (1 + 1e-12)

    def gap(self, order: np.ndarray, least: int) -> float:
        """Returns an upper bound on the weight that any order can gain over this one, see ``loss``.

        Args:
          order: ``[n]`` an order.
          least: lower bound on the loss of every order, in units of the matrix, rounding included.
        """
        lost, reversed_pairs, _ = backward_sum(self.matrix, order)
        return float(lost - least) if self.exact else (lost + reversed_pairs - least) / self.scale * (1 + 1e-12)


def narrowed(weights: np.ndarray, whole: bool, cap: float) -> Scaled:
    """Returns the scaled differences with the larger ones cut to ``cap``, so that the others keep their digits.

    Args:
      weights: ``[n, n]`` weights, float64. The diagonal may hold anything.
      whole: whether all weights are integers.
      cap: largest size of a difference, > 0, in the weights' unit.
    """
    weights = weights.copy()
    np.fill_diagonal(weights, 0.0)
    found = np.clip(weights - weights.T, -cap, cap)
    exact = whole and cap <= _LARGEST
    scale = 1.0 if exact else min(_LARGEST / cap, 1e300)
    size = np.floor(np.abs(found) * scale + 0.5)
    size[(size == 0) & (found != 0)] = 1
    return Scaled(np.copysign(size, found).astype(np.int32), scale, exact)


@dataclasses.dataclass(frozen=True)
class Differences:
    """The differences of a weight matrix.

    Attributes:
      weights: ``[n, n]`` weights, float64. The diagonal is never read.
      matrix: ``[n, n]`` rounded ``(w - w.T) * scale``, int32, antisymmetric; 0 only where the weights are equal.
      scale: factor between weights and entries of ``matrix``.
      whole: True if all weights are integers.
      exact: True if nothing was rounded (integer weights with differences up to 2**30).
      total: sum of all weights off the diagonal.
    """

    weights: np.ndarray
    matrix: np.ndarray
    scale: float
    whole: bool
    exact: bool
    total: float


def differences(weights: np.ndarray, each: Callable[..., list[Any]]) -> Differences:
    """Returns the differences of weights.

    Integer weights with differences up to 2**30 are kept exactly. Others are scaled to a largest difference of 2**30
    and rounded; a difference that is not zero stays so. The local search compares orders by these integers. The weights
    and bounds that a caller gets are sums of the weights themselves.

    Args:
      weights: ``[n, n]`` weights, float64, contiguous by rows.
      each: a ``map`` that returns a list; with threads, it is faster.

    Raises:
      UsageError: negative, infinite or NaN weights off the diagonal.
    """
    n = len(weights)
    # Parts with about equal numbers of pairs (the first rows have the most). They do not depend on the number of
    # threads, and so neither do the sums.
    cuts = [int(n * (1 - (1 - k / _SHARES) ** 0.5)) // _TILE * _TILE for k in range(_SHARES)] + [n]
    spans = [(begin, end) for begin, end in itertools.pairwise(cuts) if end > begin]
    parts = each(lambda span: _survey(weights, *span), spans)
    valid, whole, largest, totals = zip(*parts, strict=True)
    if not all(valid) or not np.isfinite(sum(totals)):
        raise checks.UsageError(_invalid(weights))
    exact = all(whole) and max(largest) <= _LARGEST
    scale = 1.0 if exact or max(largest) == 0.0 else min(_LARGEST / max(largest), 1e300)
    matrix = np.zeros(weights.shape, np.int32)
    each(lambda span: _subtract(weights, scale, matrix, *span), spans)
    return Differences(weights, matrix, scale, all(whole), exact, float(sum(totals)))


def _invalid(weights: np.ndarray) -> str:
    wrong = ~(np.isfinite(weights) & (weights >= 0))
    np.fill_diagonal(wrong, False)
    if not wrong.any():
        return checks.message("weights whose sum is finite", "an overflow", "scale them down")
    i, j = (int(k) for k in np.argwhere(wrong)[0])
    return checks.message(
        "finite weights >= 0", f"{weights[i, j]} at row {i}, column {j}", "drop that edge (0) or shift the weights"
    )
