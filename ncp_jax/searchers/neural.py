"""An ensemble of small networks that scores every architecture."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import choice, number, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.ensemble import BLOCK, say
from ncp_jax.searchers.ensemble_search import EnsembleSearch, Learned
from ncp_jax.searchers.gaussian_process import log_expected_improvement
from ncp_jax.types import Array, Float, Key

ACQUISITIONS = ("thompson", "ucb", "expected-improvement")
LEAST_SPREAD = 1e-6


@register
class NeuralEnsemble(EnsembleSearch):
    """Trains an ensemble on what is paid for, asks for what it thinks best, and again.

    After BANANAS: C. White et al., AAAI 2021 (arXiv 1910.11858). It differs: an architecture is shown as its relaxed
    code and attributes of its graph, not by its paths; the networks are wide and shallow, not deep and narrow, and are
    trained by Gauss-Newton on normal scores of the values, each towards a draw from the prior (``ensemble.train``), and
    anew each time; all candidates are scored, not the mutants of the best; and Thompson sampling gives every slot of a
    question a network of its own, where theirs draws from a normal distribution for each architecture.

    Attributes: those of ``EnsembleSearch``, and
      optimism: spreads added to the mean by "ucb".
      acquisition: "thompson": each slot takes the best by one member; "ucb" and "expected-improvement" rank by the mean
        and the spread over the members.
    """

    name: ClassVar[str] = "neural-ensemble"

    optimism: float | Array = number(1.0, "spreads that ucb adds to the mean", least=0, most=100)
    acquisition: str = choice("thompson", "what ranks the candidates", options=ACQUISITIONS)

    def scores(self, candidates: Candidates, learned: Learned, history: History, key: Key) -> Float[Array, "k n"]:
        """What the acquisition makes of the members' predictions."""
        del candidates, history, key
        best = jnp.where(learned.lessons.used, learned.lessons.y, -jnp.inf).max()
        return self._scores(say(learned.networks, learned.inputs), best)

    def scoring_bytes(self, candidates: Candidates, features: int) -> int:
        """Bytes of all predictions, and of a block of hidden units."""
        del features
        n, block = len(candidates), min(BLOCK, len(candidates))
        return 4 * n * 3 * self.members + 8 * block * self.members * self.width

    def _scores(self, said: Float[Array, "m n"], best: Float[Array, ""]) -> Float[Array, "k n"]:
        """Scores of all candidates for each slot; ``best`` is the best target so far."""
        if self.acquisition == "thompson":
            return said[jnp.arange(self.most) % self.members]
        mean, spread = said.mean(axis=0), jnp.maximum(said.std(axis=0), LEAST_SPREAD)
        if self.acquisition == "ucb":
            liking = mean + self.optimism * spread
        else:
            liking = log_expected_improvement(mean, spread, best)
        return jnp.broadcast_to(liking, (self.most, len(mean)))
