"""Base class of the searchers that train an ensemble of networks: settings, training, choice of proposals."""

from __future__ import annotations

import abc
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, choice, number, searcher_class
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.ensemble import (
    Network,
    TrainingSet,
    draw_networks,
    pick,
    proposal_size,
    train,
    training_bytes,
    training_set,
)
from ncp_jax.searchers.inputs import Units, input_units, network_features, network_inputs
from ncp_jax.types import Array, Bool, Float, Int, Key


class Learned(NamedTuple):
    """A trained ensemble and its inputs.

    Attributes:
      inputs: float32 [n, g], network inputs of all candidates, in standard units.
      units: units of the inputs.
      data: training set of the ensemble.
      networks: the members, leaves [members, ...].
    """

    inputs: Float[Array, "n g"]
    units: Units
    data: TrainingSet
    networks: Network


@searcher_class
class EnsembleSearch(ArraySearcher):
    """Trains an ensemble on the measured architectures (``ensemble.train``), asks for the best by score, and repeats.

    It never asks for an architecture twice. When all were asked for, its proposals are empty.

    Attributes:
      first: number of architectures drawn uniformly before the networks are used.
      noise: standard deviation of the values' noise, in units of the normal scores.
      least: smallest number of architectures asked for at once; the number is a tenth of those paid for, within bounds.
      most: largest number of architectures asked for at once.
      members: number of networks.
      width: number of units of a hidden layer.
      depth: number of hidden layers.
      sweeps: number of training steps.
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
        """Number of architectures asked for at once."""
        return self.most

    def start(self, candidates: Candidates, budget: int, key: Key) -> Bool[Array, " n"]:
        """Returns the state, True for rows that were asked for: none yet."""
        del budget, key
        return jnp.zeros(len(candidates), bool)

    def ask(
        self, candidates: Candidates, state: Bool[Array, " n"], history: History, key: Key
    ) -> tuple[Int[Array, " k"], Bool[Array, " n"]]:
        """Trains a new ensemble and takes the best rows by ``scores`` that were not asked for yet."""
        draws, noise, chance, own = jax.random.split(key, 4)
        units = input_units(candidates)
        inputs = network_inputs(candidates.space, candidates.relaxed, units)
        data = self.training_data(history, inputs)
        networks = self.trained(draws, noise, data)
        scores = self.scores(candidates, Learned(inputs, units, data, networks), history, own)
        random = jax.random.uniform(chance, (len(candidates),))
        scores = jnp.where(history.count < self.first, random, scores)
        return pick(scores, state, proposal_size(history.count, self.least, self.most), random)

    def training_data(self, history: History, inputs: Float[Array, "n g"]) -> TrainingSet:
        """Returns what the ensemble learns: the normal scores of the values paid for."""
        return training_set(history, inputs)

    def trained(self, draws: Key, noise: Key, data: TrainingSet) -> Network:
        """Returns the trained members, leaves [members, ...].

        Args:
          draws: key of the draws from the prior.
          noise: key of the noise of the targets.
          data: training set.
        """
        return train(noise, self.anchors(draws, data), data, self.noise, self.sweeps)

    def anchors(self, key: Key, data: TrainingSet) -> Network:
        """Returns what each member is trained from and towards, leaves [members, ...]: a draw from the prior.

        Args:
          key: key of this call.
          data: training set, whose targets a method that knows other tasks may compare with these.
        """
        return draw_networks(key, self.members, data.x.shape[1], self.width, self.depth)

    def memory(self, candidates: Candidates, budget: int) -> int:
        """Bytes of training, of computing the scores, and of the scores."""
        features = network_features(candidates)
        kept = 4 * len(candidates) * 2 * self.most
        trained = training_bytes(self.members, features, self.width, self.depth, budget)
        return trained + self.scoring_bytes(candidates, features) + kept

    @abc.abstractmethod
    def scores(self, candidates: Candidates, learned: Learned, history: History, key: Key) -> Float[Array, "k n"]:
        """Returns the score of each candidate for each slot of a proposal: higher is better, above -inf.

        Args:
          candidates: the candidates.
          learned: the trained ensemble and its inputs.
          history: queries of the run.
          key: key of this call.
        """

    @abc.abstractmethod
    def scoring_bytes(self, candidates: Candidates, features: int) -> int:
        """Approximate bytes that ``scores`` needs in one run besides its result."""
