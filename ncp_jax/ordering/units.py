"""Scales weight differences to integers, so that losses and bounds on losses are computed without rounding."""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Units:
    """The differences of some elements in integer units. No entry exceeds the true difference in size.

    Attributes:
      matrix: ``[n, n]`` integers, stored as float64, antisymmetric. The sizes above the diagonal sum to at most
        ``2**bits``, so float64 and int64 hold all sums exactly.
      exponent: a unit is ``2**-exponent`` of the weights' unit.
      step: a divisor of all entries: the losses of two orders differ by a multiple of it.
      exact: True if nothing was rounded. Otherwise a true difference exceeds its entry by less than
        ``1 + entry * 2**-48`` units.
    """

    matrix: np.ndarray
    exponent: int
    step: int
    exact: bool

    def loss(self, order: np.ndarray) -> tuple[int, int]:
        """Returns (loss in units, number of preferences reversed) of an order."""
        reversed_sizes = np.minimum(np.triu(self.matrix[np.ix_(order, order)], 1), 0.0)
        return int(-reversed_sizes.sum()), int(np.count_nonzero(reversed_sizes))

    def gap(self, order: np.ndarray, least: int) -> float:
        """Returns an upper bound on the weight that any order can gain over this one.

        Args:
          order: an order that reverses no preference cut to the cap (see ``in_units``).
          least: lower bound on the loss of every order, in units.
        """
        loss, reversed_pairs = self.loss(order)
        # Where entries were rounded down, the true loss exceeds ``loss`` by at most this.
        excess = 0 if self.exact else reversed_pairs + 2
        return float(np.ldexp(float(max(0, loss + excess - least)), -self.exponent))


def in_units(weights: np.ndarray, bits: int, cap: float = np.inf) -> Units:
    """Returns the differences ``w - w.T`` in integer units, the larger ones cut to ``cap``.

    A known order of loss L permits any cap from 2 L on: reversing a preference of at least L cannot pay, so cutting
    such preferences changes neither which orders are better nor their losses. It keeps one huge weight from taking all
    digits from the others.

    Args:
      weights: ``[n, n]`` finite weights >= 0. The diagonal is ignored.
      bits: logarithm of the largest sum of the sizes; at most 50.
      cap: largest size of a difference, in the weights' unit; at least twice the loss of some order.
    """
    n = len(weights)
    above = np.triu_indices(n, 1)
    first, second = weights[above], weights.T[above]
    found = first - second
    # The rounding error of the subtraction (Knuth's two-sum), 0 where it is exact.
    virtual = found - first
    error = (first - (found - virtual)) - (second + virtual)
    cut = np.abs(found) > cap
    found, error = np.clip(found, -cap, cap), np.where(cut, 0.0, error)
    exponent = bits - int(np.frexp(np.abs(found).sum())[1])
    size = np.ldexp(np.abs(found), exponent)
    whole = np.floor(size)
    exact = bool((whole[~cut] == size[~cut]).all() and not error.any())
    if not exact:
        # The subtraction may have rounded up across an integer.
        whole = np.floor(size * (1 - 2.0**-50))
    step = max(1, int(np.gcd.reduce(whole[~cut].astype(np.int64)))) if exact else 1
    whole[cut] -= whole[cut] % step
    matrix = np.zeros((n, n))
    matrix[above] = np.copysign(whole, found)
    return Units(matrix - matrix.T, exponent, step, exact)
