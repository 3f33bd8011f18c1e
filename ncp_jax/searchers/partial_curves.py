"""Predicts final values from codes and the first parts of learning curves, and chooses what to train next by them.

A Gaussian process predicts what a training gains from an epoch to the end. Its prior is a constant, a part that is
linear in the curve so far (the last value, and its rise over the second half), and a part that depends on the
architecture. It learns from the trainings of the run that have ended, and from nothing else.

Source of the idea: Baker et al., ICLR 2018 workshop, arXiv 1705.10823, who regress final values on partial curves and
settings. The process, and predicting gains instead of values, are this project's own.
To begin what a process expects most of, among trainings that are stopped early, is the idea of Klein et al., 2020,
arXiv 2003.10865; here the process reads the predictions of unfinished trainings as noisy values.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.stats import norm

from ncp_jax.spaces import get_space
from ncp_jax.spaces.base import CategoricalSpace
from ncp_jax.types import Float, Int

LEAST = 5  # trainings that must have ended
NOISE = 0.1  # variance of a gain that neither the code nor the curve explains, as a share of that of all gains
ENDED, GOING = 0.05, 0.5  # variances of the noise of final values, and of predicted ones, as a share of that of all
CANDIDATES = 512  # architectures of which the best is begun
MOST = 512  # trainings that the process reads, since its time grows with their cube


def similarity(space: str, a: Int[np.ndarray, "m d"], b: Int[np.ndarray, "k d"]) -> Float[np.ndarray, "m k"]:
    """Returns how much alike architectures are: the exponential of minus their mean distance over the positions.

    Two letters have the distance 1, two numbers their difference as a share of the range at their position.
    """
    known = get_space(space)
    if isinstance(known, CategoricalSpace):
        distances = (a[:, None] != b).astype(np.float64)
    else:
        spread = np.array([max(values) - min(values) or 1 for values in known.values], np.float64)
        distances = np.abs(a[:, None] - b) / spread
    return np.exp(-distances.mean(axis=-1))


def predict_final(
    space: str,
    codes: Int[np.ndarray, "m d"],
    curves: Float[np.ndarray, "m p"],
    ended_codes: Int[np.ndarray, "k d"],
    ended_curves: Float[np.ndarray, "k e"],
) -> Float[np.ndarray, " m"]:
    """Returns the predicted values after the last epoch.

    Args:
      space: name of the space of the codes.
      codes: architectures whose trainings go on.
      curves: their values after epochs 1..p, all finite.
      ended_codes: architectures whose trainings have ended; equal networks should have equal codes.
      ended_curves: their values after epochs 1..e, all finite; e is at least p.

    Returns:
      Predictions in the unit of the curves; the last known values where fewer than ``LEAST`` trainings have ended.
    """
    last, epochs = curves[:, -1], curves.shape[1]
    if len(ended_curves) < LEAST:
        return last
    parts = np.concatenate([ended_curves[:, :epochs], curves])
    features = np.stack([parts[:, -1], parts[:, -1] - parts[:, (epochs - 1) // 2]], axis=1)
    features = (features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9)
    ended, going = features[: len(ended_curves)], features[len(ended_curves) :]
    gains = ended_curves[:, -1] - ended_curves[:, epochs - 1]
    centre, unit = gains.mean(), max(float(gains.std()), 1e-9)
    known = similarity(space, ended_codes, ended_codes) + ended @ ended.T + NOISE * np.eye(len(ended))
    weights = cho_solve(cho_factor(known, lower=True), (gains - centre) / unit)
    wanted = similarity(space, codes, ended_codes) + going @ ended.T
    return last + centre + unit * (wanted @ weights)


class _Known(NamedTuple):
    """Final values that are known or predicted, and the process on them.

    Attributes:
      codes: int [k, d], their architectures.
      targets: float64 [k], their values in standard units.
      best: the best measured final value, in these units.
      factor: Cholesky factor of the covariance of the values with their noise.
      centre: mean of the values, in the unit of the curves.
      unit: their standard deviation.
    """

    codes: Int[np.ndarray, "k d"]
    targets: Float[np.ndarray, " k"]
    best: float
    factor: tuple[np.ndarray, bool]
    centre: float
    unit: float


class Starts:
    """Chooses the next architecture of a run: the largest expected improvement of its final value.

    Args:
      space: name of the space.
      codes: int32 [n, d], the architectures; equal networks should have equal codes.
      epochs: length of whole curves.
    """

    def __init__(self, space: str, codes: Int[np.ndarray, "n d"], epochs: int) -> None:
        self._space, self._codes, self._epochs = space, codes, epochs
        self._curves: dict[int, Float[np.ndarray, " e"]] = {}

    def add(self, row: int, curve: Float[np.ndarray, " e"]) -> None:
        """Notes the values of an architecture after its first epochs; those of failed trainings are left out."""
        if np.isfinite(curve).all():
            self._curves[row] = curve
        else:
            self._curves.pop(row, None)

    def _known(self) -> _Known | None:
        """Returns what is known of final values, measured or predicted; None if too few trainings have ended."""
        read = self._curves
        if len(read) > MOST:  # those trained longest, and of them the latest
            latest = [*read][::-1]
            read = {row: read[row] for row in sorted(latest, key=lambda row: -len(self._curves[row]))[:MOST]}
        ended = [row for row, curve in read.items() if len(curve) == self._epochs]
        if len(ended) < LEAST:
            return None
        curves = np.stack([read[row] for row in ended])
        rows, values, noise = list(ended), list(curves[:, -1]), [ENDED] * len(ended)
        for epochs in sorted({len(curve) for curve in read.values()} - {self._epochs}):
            going = [row for row, curve in read.items() if len(curve) == epochs]
            parts = np.stack([read[row] for row in going])
            values += list(predict_final(self._space, self._codes[going], parts, self._codes[ended], curves))
            rows, noise = rows + going, noise + [GOING] * len(going)
        targets = np.array(values)
        centre, unit = float(targets.mean()), max(float(targets.std()), 1e-9)
        codes = self._codes[rows]
        factor = cho_factor(similarity(self._space, codes, codes) + np.diag(noise), lower=True)
        best = max(curve[-1] for curve in self._curves.values() if len(curve) == self._epochs)
        return _Known(codes, (targets - centre) / unit, float(best - centre) / unit, factor, centre, unit)

    def expected(self) -> Float[np.ndarray, " n"] | None:
        """Returns the expected final values of all architectures, in the unit of the curves; those known as they are.

        None where fewer than ``LEAST`` trainings have ended.
        """
        known = self._known()
        if known is None:
            return None
        weights = cho_solve(known.factor, known.targets)
        parts = [self._codes[i : i + CANDIDATES] for i in range(0, len(self._codes), CANDIDATES)]
        means = [similarity(self._space, part, known.codes) @ weights for part in parts]
        expected = known.centre + known.unit * np.concatenate(means)
        for row, curve in self._curves.items():
            if len(curve) == self._epochs:
                expected[row] = curve[-1]
        return expected

    def choose(self, left: list[int]) -> int:
        """Returns a place in ``left``, the architectures that were not begun, of which the last are considered."""
        known = self._known()
        if known is None:
            return len(left) - 1
        some = left[-CANDIDATES:]
        cross = similarity(self._space, self._codes[some], known.codes)
        mean = cross @ cho_solve(known.factor, known.targets)
        variance = 1 - (cross * cho_solve(known.factor, cross.T).T).sum(axis=1)
        spread = np.sqrt(np.maximum(variance, 1e-9))
        above = (mean - known.best) / spread
        improvement = spread * (above * norm.cdf(above) + norm.pdf(above))
        return len(left) - len(some) + int(np.argmax(improvement))
