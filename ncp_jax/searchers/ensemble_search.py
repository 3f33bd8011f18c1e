"""What searchers that learn by an ensemble of networks share: settings, training, and whom they ask for."""

from __future__ import annotations

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, choice, number, searcher_class
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.ensemble import (
    Lessons,
    Network,
    draw_networks,
    lessons_of,
    pick,
    questions,
    train,
    training_bytes,
)
from ncp_jax.searchers.inputs import Units, input_units, network_features, network_inputs
from ncp_jax.types import Array, Bool, Float, Int, Key


class Learned(NamedTuple):
    """An ensemble and what it sees.

    Attributes:
      inputs: float32 [n, g], of all candidates, in standard units.
      units: of the inputs.
      lessons: what it was trained on.
      networks: the members, a leading axis [members] on every leaf.
    """

    inputs: Float[Array, "n g"]
    units: Units
    lessons: Lessons
    networks: Network


@searcher_class
class EnsembleSearch(ArraySearcher):
    """Trains an ensemble on what is paid for (``ensemble.train``), asks for what it is led to, and again.

    It never asks for an architecture twice. When all are asked for, it asks for nothing.

    Attributes:
      first: architectures drawn uniformly before any network is believed.
      noise: standard deviation of the values' noise, in units of the normal scores.
      least: fewest architectures asked for at once; a tenth of those paid for, up to ``most``, where that is more.
      most: most architectures asked for at once.
      members, width, depth, sweeps: networks, units of a hidden layer, hidden layers, steps of training.
    """

    first: int | Array = number(10, "random architectures to begin with", least=1, most=100_000, whole=True)
    noise: float | Array = number(0.4, "noise of the values, standard deviations", least=0.01, most=10)
    least: int | Array = number(5, "fewest architectures asked for at once", least=1, most=100_000, whole=True)
    most: int = choice(10, "most architectures asked for at once")
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
        """Trains anew and takes the best by ``scores`` that were not asked for yet."""
        draws, noise, chance, own = jax.random.split(key, 4)
        units = input_units(candidates)
        inputs = network_inputs(candidates.space, candidates.relaxed, units)
        lessons = lessons_of(history, inputs)
        anchors = draw_networks(draws, self.members, inputs.shape[1], self.width, self.depth)
        networks = train(noise, anchors, lessons, self.noise, self.sweeps)
        scores = self.scores(candidates, Learned(inputs, units, lessons, networks), history, own)
        random = jax.random.uniform(chance, (len(candidates),))
        scores = jnp.where(history.count < self.first, random, scores)
        return pick(scores, state, questions(history.count, self.least, self.most))

    def memory(self, candidates: Candidates, budget: int) -> int:
        """Bytes of training, of making the scores, and of these."""
        features = network_features(candidates)
        kept = 4 * len(candidates) * 2 * self.most
        trained = training_bytes(self.members, features, self.width, self.depth, budget)
        return trained + self.scoring_bytes(candidates, features) + kept

    @abc.abstractmethod
    def scores(self, candidates: Candidates, learned: Learned, history: History, key: Key) -> Float[Array, "k n"]:
        """How much each slot of a question wants each candidate, higher is better, above -inf.

        Args:
          candidates: what is free.
          learned: the trained networks, and what they see.
          history: what is paid for.
          key: of this call alone.
        """

    @abc.abstractmethod
    def scoring_bytes(self, candidates: Candidates, features: int) -> int:
        """Bytes that ``scores`` needs in one run, roughly, besides its result."""
