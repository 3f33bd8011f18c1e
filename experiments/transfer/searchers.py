"""Searchers that begin with what a search on a source task has left behind."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers import Candidates, Evolution, NCPSearch, Reinforce
from ncp_jax.searchers.base import number, searcher_class
from ncp_jax.searchers.ensemble import Network, TrainingSet, draw_networks, predict_members, train
from ncp_jax.searchers.evolution import Population
from ncp_jax.types import Array, Float, Int, Key, Params


@searcher_class
class TransferredPopulation(Evolution):
    """Evolution whose first members are a population of another task; each costs a query, like a random member.

    Attributes: those of ``Evolution``, and
      first: int32 [p], rows of the first members, p at least ``population``.
    """

    name: ClassVar[str] = "transferred-population"

    first: Any = None

    def ask(
        self, candidates: Candidates, state: Population, history: History, key: Key
    ) -> tuple[Int[Array, " k"], Population]:
        """Returns the next member of the other task's population, then a mutant."""
        rows, state = super().ask(candidates, state, history, key)
        given = self.first[jnp.minimum(state.born, len(self.first) - 1)]
        return jnp.where(state.born < self.population, given[None], rows), state


@searcher_class
class TransferredPolicy(Reinforce):
    """Policy gradient that begins with the policy of another task; with ``rate`` 0 the policy stays as it is.

    Attributes: those of ``Reinforce``, and
      learned: the other task's policy.
    """

    name: ClassVar[str] = "transferred-policy"

    learned: Any = None

    def policy(self, candidates: Candidates, key: Key) -> Params:
        """Returns the other task's policy."""
        del candidates, key
        return self.learned


@searcher_class
class TransferredPredictor(NCPSearch):
    """NCP whose networks are trained from and towards networks of another task.

    A network of the source stands in the place of a draw from the prior: what is learned from the target is the
    difference of the two tasks. How much of the source's network is kept is estimated from the target's labels: the
    slope of a regression of the targets on the source's predictions, drawn towards 1 as if ``trust`` labels had
    agreed, within 0 and 1.

    Attributes: those of ``NCPSearch``, and
      trust: number of labels that the slope's prior counts for.
      source: networks of the source, leaves [members, ...], as ``fit_source`` returns them.
      favourites: int32 [best], the rows that the source's labels rank first: starts of climbs until the target has
        labels.
    """

    name: ClassVar[str] = "transferred-predictor"

    trust: float | Array = number(5.0, "labels that the slope's prior counts for", least=0, most=1e6)
    source: Any = None
    favourites: Any = None

    def anchors(self, key: Key, data: TrainingSet) -> Network:
        """Returns the source's networks, as far as the labels agree with them."""
        del key
        *below, last = self.source
        return (*below, self.slope(data) * last)

    def slope(self, data: TrainingSet) -> Float[Array, ""]:
        """Returns how much of the source's predictions holds on the target, from 0 to 1."""
        predicted = predict_members(self.source, data.x).mean(axis=0)
        count = jnp.maximum(data.used.sum(), 1)
        centred = jnp.where(data.used, predicted - jnp.where(data.used, predicted, 0.0).sum() / count, 0.0)
        slope = ((centred * data.y).sum() + self.trust) / ((centred**2).sum() + self.trust)
        return jnp.where(data.used.any(), jnp.clip(slope, 0.0, 1.0), 1.0)

    def known(self, history: History) -> Int[Array, " s"]:
        """Returns the best rows paid for; where there are fewer than ``best``, the source's favourites."""
        rows = history.rows[jnp.argsort(-history.values)[: self.best]]
        return jnp.where(rows >= 0, rows, self.favourites)


@searcher_class
class TransferredStarts(NCPSearch):
    """NCP whose climbs start at architectures found for another task, not at the best ones paid for.

    Attributes: those of ``NCPSearch``, and
      given: int32 [g], rows of the architectures.
    """

    name: ClassVar[str] = "transferred-starts"

    given: Any = None

    def known(self, history: History) -> Int[Array, " s"]:
        """Returns the architectures found for the other task."""
        del history
        return self.given


def fit_source(searcher: NCPSearch, data: TrainingSet, key: Key) -> Network:
    """Trains the searcher's networks on the labels of a source: pure, one run."""
    draws, noise = jax.random.split(key)
    anchors = draw_networks(draws, searcher.members, data.x.shape[1], searcher.width, searcher.depth)
    return train(noise, anchors, data, searcher.noise, searcher.sweeps)
