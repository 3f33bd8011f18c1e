"""An ensemble of small networks that scores every architecture."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import Searcher, choice, number, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.ensemble import (
    BLOCK,
    draw_networks,
    lessons_of,
    pick,
    questions,
    say,
    train,
    training_bytes,
)
from ncp_jax.searchers.inputs import network_features, network_inputs
from ncp_jax.types import Array, Bool, Float, Int, Key

ACQUISITIONS = ("thompson", "ucb", "expected-improvement")
LEAST_SPREAD = 1e-6


@register
class NeuralEnsemble(Searcher):
    """Trains an ensemble on what is paid for, asks for what it thinks best, and again.

    After BANANAS: C. White et al., AAAI 2021 (arXiv 1910.11858). It differs: an architecture is shown as its relaxed
    code and attributes of its graph, not by its paths; the networks are wide and shallow, not deep and narrow, and are
    trained by Gauss-Newton on normal scores of the values, each towards a draw from the prior (``ensemble.train``), and
    anew each time; all candidates are scored, not the mutants of the best; and Thompson sampling gives every slot of a
    question a network of its own, where theirs draws from a normal distribution for each architecture.

    It never asks for an architecture twice. When all are asked for, it asks for nothing.

    Attributes:
      first: architectures drawn uniformly before any network is believed.
      noise: standard deviation of the values' noise, in units of the normal scores.
      optimism: spreads added to the mean by "ucb".
      least: fewest architectures asked for at once; a tenth of those paid for, up to ``most``, where that is more.
      most: most architectures asked for at once.
      acquisition: "thompson": each slot takes the best by one member; "ucb" and "expected-improvement" rank by the mean
        and the spread over the members.
      members, width, depth, sweeps: networks, units of a hidden layer, hidden layers, steps of training.
    """

    name: ClassVar[str] = "neural-ensemble"

    first: int | Array = number(10, "random architectures to begin with", least=1, most=100_000, whole=True)
    noise: float | Array = number(0.4, "noise of the values, standard deviations", least=0.01, most=10)
    optimism: float | Array = number(1.0, "spreads that ucb adds to the mean", least=0, most=100)
    least: int | Array = number(5, "fewest architectures asked for at once", least=1, most=100_000, whole=True)
    most: int = choice(10, "most architectures asked for at once")
    acquisition: str = choice("thompson", "what ranks the candidates", options=ACQUISITIONS)
    members: int = choice(5, "networks")
    width: int = choice(128, "units of a hidden layer")
    depth: int = choice(1, "hidden layers")
    sweeps: int = choice(2, "steps of training")

    @property
    def batch(self) -> int:
        """Architectures asked for at once."""
        return self.most

    def start(self, candidates: Candidates, budget: int, key: Key) -> Bool[Array, " n"]:
        """Nothing is asked for yet."""
        del budget, key
        return jnp.zeros(len(candidates), bool)

    def ask(
        self, candidates: Candidates, state: Bool[Array, " n"], history: History, key: Key
    ) -> tuple[Int[Array, " k"], Bool[Array, " n"]]:
        """Trains anew and takes the best of all candidates not asked for yet."""
        draws, noise, chance = jax.random.split(key, 3)
        inputs = network_inputs(candidates, candidates.relaxed)
        lessons = lessons_of(history, inputs)
        anchors = draw_networks(draws, self.members, inputs.shape[1], self.width, self.depth)
        said = say(train(noise, anchors, lessons, self.noise, self.sweeps), inputs)
        scores = self._scores(said, jnp.where(lessons.used, lessons.y, -jnp.inf).max())
        random = jax.random.uniform(chance, (len(candidates),))
        scores = jnp.where(history.count < self.first, random, scores)
        return pick(scores, state, questions(history.count, self.least, self.most))

    def memory(self, candidates: Candidates, budget: int) -> int:
        """Bytes of training, of a block of hidden units, and of the scores."""
        features = network_features(candidates)
        n, block = len(candidates), min(BLOCK, len(candidates))
        scores = 4 * n * (3 * self.members + 2 * self.most)
        hidden = 8 * block * self.members * self.width
        return scores + hidden + training_bytes(self.members, features, self.width, self.depth, budget)

    def _scores(self, said: Float[Array, "m n"], best: Float[Array, ""]) -> Float[Array, "k n"]:
        """Scores of all candidates for each slot; ``best`` is the best target so far."""
        if self.acquisition == "thompson":
            return said[jnp.arange(self.most) % self.members]
        mean, spread = said.mean(axis=0), jnp.maximum(said.std(axis=0), LEAST_SPREAD)
        if self.acquisition == "ucb":
            return jnp.broadcast_to(mean + self.optimism * spread, (self.most, len(mean)))
        gap = (mean - best) / spread
        # Far below the best the gain underflows: the gap itself, much reduced, keeps the order there.
        gain = spread * (gap * norm.cdf(gap) + norm.pdf(gap)) + 1e-9 * gap
        return jnp.broadcast_to(gain, (self.most, len(mean)))
