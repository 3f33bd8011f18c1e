"""Intervals of unknown values from the errors of cross-fitted predictions: cross-conformal prediction in bins.

Every row of a table is predicted by a model that was fitted without the row's fold. The errors, divided by a scale
that the same model gives, are the scores. An interval for a new code has as its ends quantiles of what each row's score
would make of the prediction by the model without that row's fold (R. F. Barber, E. J. Candès, A. Ramdas and R. J.
Tibshirani, Predictive inference with the jackknife+, Annals of Statistics 2021, section 3, CV+, with normalised and
signed scores). For exchangeable rows and one bin, the two tails together miss with a probability of at most twice
1 - level, plus a term that falls with the number of rows; what is measured is close to 1 - level itself.

One bin makes intervals too wide where errors are small and too narrow where they are large. Scores are therefore
compared within bins of the prediction (Mondrian conformal prediction: V. Vovk, D. Lindsay, I. Nouretdinov and
A. Gammerman, 2003): an architecture that is predicted among the best tenth gets the errors of rows that were predicted
among the best tenth, so being chosen for a high prediction is allowed for.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from ncp_jax.types import Bool, Float, Int

BINS = 10  # the largest number of bins
SCORES = 2**22  # scores compared at once


def needed_scores(level: float) -> int:
    """Returns the smallest number of scores between whose least and greatest a share ``level`` of new ones lies."""
    return math.ceil(round(2 / (1 - level), 6)) - 1


@dataclasses.dataclass(frozen=True, eq=False)
class CrossConformal:
    """Scores of cross-fitted predictions of one metric, and the intervals that they give.

    Attributes:
      fold: ``[n]`` fold of each row, 0..K-1.
      mean: ``[n]`` prediction of each row by the model without its fold.
      scale: ``[n]`` scale of its error by the same model, > 0, same unit.
      measured: ``[n]`` measured values, same unit.
      level: share of values that intervals shall contain, in (0, 1).
    """

    fold: Int[np.ndarray, " n"]
    mean: Float[np.ndarray, " n"]
    scale: Float[np.ndarray, " n"]
    measured: Float[np.ndarray, " n"]
    level: float

    @property
    def scores(self) -> Float[np.ndarray, " n"]:
        """Errors (measured - predicted) in units of their scale, ``[n]``."""
        return (self.measured - self.mean) / self.scale

    @property
    def bins(self) -> int:
        """Number of bins: up to ten, each with twice the scores that it needs."""
        return int(np.clip(len(self.mean) // (2 * needed_scores(self.level)), 1, BINS))

    @property
    def edges(self) -> Float[np.ndarray, " b"]:
        """Predictions at which a bin ends and the next one begins, ``[bins - 1]``."""
        return np.quantile(self.mean, np.arange(1, self.bins) / self.bins)

    def interval(
        self, mean: Float[np.ndarray, "K k"], scale: Float[np.ndarray, "K k"]
    ) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
        """Returns both ends of the interval of each of k codes.

        Args:
          mean: predictions by the model without each fold, in the metric's unit.
          scale: scales of their errors, > 0.

        Returns:
          ``(low, high)``; unbounded (infinite) where there are too few scores for the level.
        """
        low, high = np.empty(mean.shape[1]), np.empty(mean.shape[1])
        step = max(1, SCORES // len(self.mean))
        for first in range(0, mean.shape[1], step):
            part = slice(first, first + step)
            low[part], high[part] = self._interval(mean[:, part], scale[:, part])
        return low, high

    def _interval(self, mean: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        own = np.searchsorted(self.edges, self.mean, side="right")
        there = np.searchsorted(self.edges, mean, side="right")
        # Row i speaks for a code if both are in one bin by the model without the fold of i.
        alike = own == there[self.fold].T
        alike[alike.sum(axis=1) < needed_scores(self.level)] = True
        values = np.where(alike, (mean[self.fold] + scale[self.fold] * self.scores[:, None]).T, np.inf)
        return quantile_ends(values, alike.sum(axis=1), self.level)

    def covered(self) -> Bool[np.ndarray, " n"]:
        """Returns whether each row lies in the interval that the scores of the other folds give it.

        It is an estimate of the coverage from the same rows: their models learned from each other's values. The
        coverage on rows that none of it has seen is what ``experiments/audit.py`` measures.
        """
        own = np.searchsorted(self.edges, self.mean, side="right")
        scores, inside = self.scores, np.zeros(len(self.mean), bool)
        for fold in np.unique(self.fold):
            for place in range(self.bins):
                rows, others = (self.fold == fold) & (own == place), (self.fold != fold) & (own == place)
                if others.sum() < needed_scores(self.level):
                    others = self.fold != fold
                low, high = quantile_ends(scores[others][None], np.array([others.sum()]), self.level)
                inside[rows] = (scores[rows] >= low) & (scores[rows] <= high)
        return inside


def quantile_ends(
    values: Float[np.ndarray, "k n"], counts: Int[np.ndarray, " k"], level: float
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Returns the order statistics between which a further value lies with a probability of at least ``level``.

    Args:
      values: the values of each row, infinite where there is none.
      counts: number of finite values in each row.
      level: the probability, half of whose complement is left out on each side.

    Returns:
      ``(low, high)``, infinite where a row has fewer values than ``needed_scores``.
    """
    ordered = np.sort(values, axis=1)
    # The r-th least of m exchangeable values is above a further one with probability r / (m + 1).
    rank = np.floor(np.round((counts + 1) * (1 - level) / 2, 6)).astype(int)
    rows, last = np.arange(len(ordered)), ordered.shape[1] - 1
    low = ordered[rows, np.clip(rank - 1, 0, last)]
    high = ordered[rows, np.clip(counts - rank, 0, last)]
    return np.where(rank > 0, low, -np.inf), np.where(rank > 0, high, np.inf)
