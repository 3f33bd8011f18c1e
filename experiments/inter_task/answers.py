"""Keeps the best architecture so far for every question."""

from __future__ import annotations

import numpy as np

from inter_task.problem import Questions
from ncp_jax.types import Float, Int

MARGIN = 1e-5  # relative; GFLOPs are scored in float32, and no answer may exceed its budget


class Answers:
    """The best code for each of b budgets and w weightings; methods report what they score.

    Args:
      questions: the weightings and budgets.
      length: length of a code.

    Attributes:
      value: ``[b, w]`` weighted sum of the predicted metrics; -inf where nothing within the budget was scored yet.
      codes: ``[b, w, d]`` codes; zeros where there is none.
      scored: number of codes reported.
    """

    def __init__(self, questions: Questions, length: int) -> None:
        shape = (len(questions.budgets), len(questions.weights))
        self.value = np.full(shape, -np.inf, np.float32)
        self.codes = np.zeros((*shape, length), np.int32)
        self.scored = 0
        self._weights = np.asarray(questions.weights, np.float32)
        self._budgets = np.asarray(questions.budgets) * (1 - MARGIN)

    def report(
        self, codes: Int[np.ndarray, "n d"], metrics: Float[np.ndarray, "n t"], gflops: Float[np.ndarray, " n"]
    ) -> None:
        """Takes n scored codes."""
        self.scored += len(codes)
        # By the smallest budget that they meet: every score is looked at once.
        order = np.argsort(gflops, kind="stable")
        ends = np.searchsorted(gflops[order], self._budgets, side="right")
        for b, (begin, end) in enumerate(zip((0, *ends[:-1]), ends, strict=True)):
            if end > begin:
                chosen = order[begin:end]
                scores = self._weights @ metrics[chosen].T
                best = scores.argmax(axis=1)
                self._take(b, scores[np.arange(len(scores)), best], codes[chosen[best]])
            if b:  # what meets a smaller budget meets this one
                self._take(b, self.value[b - 1], self.codes[b - 1])

    def _take(self, b: int, value: Float[np.ndarray, " w"], codes: Int[np.ndarray, "w d"]) -> None:
        better = value > self.value[b]
        self.value[b, better], self.codes[b, better] = value[better], codes[better]

    @property
    def answered(self) -> np.ndarray:
        """``[b, w]`` whether there is an answer."""
        return np.isfinite(self.value)

    def distinct(self) -> Int[np.ndarray, "k d"]:
        """Returns the distinct codes among the answers."""
        return np.unique(self.codes[self.answered], axis=0)
