"""Stops trainings early that a predictor of partial curves expects too little of."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from ncp_jax.benchmarks import EpochGuard
from ncp_jax.searchers.base import choice, number, register
from ncp_jax.searchers.curve_searchers import CurveSearcher, network_codes, random_order
from ncp_jax.types import Float

BATCH = 8  # architectures that are begun before the next prediction


@register
class EarlyStopping(CurveSearcher):
    """Begins random architectures, and goes on only with those that are predicted to become the best.

    The first ones are trained to the end. Of each later one, the predictor reads the first epochs, and the training
    goes on if its predicted final value is better than the best one so far. The predictor learns from the whole
    trainings of the run alone. Source: Baker et al., ICLR 2018 workshop, arXiv 1705.10823, early stopping; there a
    training stops where the probability of becoming the best is small, here where the expected value falls short.

    Attributes:
      whole: trainings to the end before the first prediction.
      read: share of a whole training's epochs that the predictor reads.
      predictor: "process", the Gaussian process of ``partial_curves.predict_final``, which reads the curve and the
        code; or "last-value", the last value plus the mean gain of the whole trainings.
    """

    name: ClassVar[str] = "early-stopping"

    whole: int = choice(5, "trainings to the end before the first prediction")
    read: float = number(0.25, "share of the epochs that the predictor reads", least=0.001, most=1)
    predictor: str = choice("process", "what predicts final values", options=("process", "last-value"))

    def spend(self, guard: EpochGuard, seed: int, *, predict: bool = False) -> Float[np.ndarray, " n"] | None:
        """Makes one run; the seed decides which architectures are begun."""
        from ncp_jax.searchers.partial_curves import Starts, predict_final

        codes, end = network_codes(guard), guard.epochs
        first = max(1, round(float(self.read) * end))
        starts = Starts(guard.space, codes, end)
        ended: dict[int, np.ndarray] = {}

        def finish(row: int) -> None:
            curve = guard.train(row, end)
            starts.add(row, curve)
            if np.isfinite(curve).all():
                ended[row] = curve

        left = random_order(guard, seed).tolist()
        for row in left[: min(self.whole, guard.remaining // end)]:
            finish(row)
        left = left[self.whole :]
        while left and guard.remaining >= first:
            begun, left = left[: min(BATCH, guard.remaining // first)], left[BATCH:]
            curves = {row: guard.train(row, first) for row in begun}
            for row, curve in curves.items():
                starts.add(row, curve)
            going = [row for row in begun if np.isfinite(curves[row]).all()]
            if not going:
                continue
            parts, done = np.stack([curves[row] for row in going]), [*ended]
            known = np.stack([ended[row] for row in done]) if done else np.zeros((0, end))
            if self.predictor == "process":
                predicted = predict_final(guard.space, codes[going], parts, codes[done], known)
            else:
                predicted = parts[:, -1] + (float(np.mean(known[:, -1] - known[:, first - 1])) if done else 0.0)
            for place in np.argsort(-predicted, kind="stable"):
                best = max((curve[-1] for curve in ended.values()), default=-np.inf)
                if predicted[place] <= best or guard.remaining < end - first:
                    break
                finish(going[place])
        return starts.expected() if predict else None
