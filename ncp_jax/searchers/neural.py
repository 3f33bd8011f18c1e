"""Search by an ensemble of small networks that scores every architecture."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import choice, number, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.ensemble import BLOCK, predict_members
from ncp_jax.searchers.ensemble_search import EnsembleSearch, Learned
from ncp_jax.searchers.gaussian_process import log_expected_improvement
from ncp_jax.types import Array, Float, Key

ACQUISITIONS = ("thompson", "ucb", "expected-improvement")
LEAST_SPREAD = 1e-6


@register
class NeuralEnsemble(EnsembleSearch):
    """Trains an ensemble on the measured architectures, asks for those that it scores best, and repeats.

    After BANANAS: C. White et al., AAAI 2021 (arXiv 1910.11858). The differences are:
    - The input is the relaxed code and attributes of the graph, not an encoding of paths.
    - The networks are wide and shallow, not deep and narrow. They are trained anew each time by Gauss-Newton on normal
      scores of the values, each towards its own draw from the prior (``ensemble.train``).
    - All candidates are scored, not the mutants of the best ones.
    - Thompson sampling uses another network for each slot of a proposal; theirs draws from a normal distribution for
      each architecture.

    Attributes: those of ``EnsembleSearch``, and
      optimism: number of standard deviations over the members that "ucb" adds to the mean.
      acquisition: "thompson" fills each slot with the best architecture by one member; "ucb" and "expected-improvement"
        rank by the mean and the standard deviation over the members.
    """

    name: ClassVar[str] = "neural-ensemble"

    optimism: float | Array = number(1.0, "spreads that ucb adds to the mean", least=0, most=100)
    acquisition: str = choice("thompson", "what ranks the candidates", options=ACQUISITIONS)

    def scores(self, candidates: Candidates, learned: Learned, history: History, key: Key) -> Float[Array, "k n"]:
        """Returns the acquisition's scores of all candidates for each slot."""
        del candidates, history, key
        best = jnp.where(learned.data.used, learned.data.y, -jnp.inf).max()
        return self._scores(predict_members(learned.networks, learned.inputs), best)

    def scoring_bytes(self, candidates: Candidates, features: int) -> int:
        """Bytes of all predictions and of a block of hidden units."""
        del features
        n, block = len(candidates), min(BLOCK, len(candidates))
        return 4 * n * 3 * self.members + 8 * block * self.members * self.width

    def _scores(self, predictions: Float[Array, "m n"], best: Float[Array, ""]) -> Float[Array, "k n"]:
        """Scores from the members' predictions; ``best`` is the best target so far."""
        if self.acquisition == "thompson":
            return predictions[jnp.arange(self.most) % self.members]
        mean, spread = predictions.mean(axis=0), jnp.maximum(predictions.std(axis=0), LEAST_SPREAD)
        if self.acquisition == "ucb":
            scores = mean + self.optimism * spread
        else:
            scores = log_expected_improvement(mean, spread, best)
        return jnp.broadcast_to(scores, (self.most, len(mean)))
