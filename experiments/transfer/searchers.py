"""Searchers that begin with what a search on a source task has left behind."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

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
    """NCP whose networks are trained from and towards networks of other tasks.

    A weighted sum of the sources' networks stands in the place of a draw from the prior: what is learned from the
    target is the difference. The weights are those of a ridge regression of the target's labels on the sources'
    predictions, drawn towards equal ones. A source that disagrees with the labels thus loses its weight.

    Attributes: those of ``NCPSearch``, of which ``depth`` is 1, and
      trust: strength of the ridge, in labels.
      source: networks of the s sources, leaves [s, members, ...], as ``fit_source`` returns them.
      favourites: int32 [best], the rows that the sources' labels rank first: starts of climbs until the target has
        labels.
    """

    name: ClassVar[str] = "transferred-predictor"

    trust: float | Array = number(5.0, "strength of the ridge, labels", least=0, most=1e6)
    source: Any = None
    favourites: Any = None

    def anchors(self, key: Key, data: TrainingSet) -> Network:
        """Returns the weighted sum of the sources' networks, as one network with all their hidden units."""
        del key
        hidden, last = self.source
        count, members, inputs, units = hidden.shape
        weighted = self.weights(data)[:, None, None, None] * last
        # A layer divides its weights by the root of its number of inputs, which grows by the number of sources.
        outputs = np.sqrt(count) * jnp.moveaxis(weighted[:, :, :units], 0, 1).reshape(members, count * units, 1)
        wide = jnp.moveaxis(hidden, 0, 2).reshape(members, inputs, count * units)
        return wide, jnp.concatenate([outputs, weighted[:, :, units:].sum(axis=0)], axis=1)

    def weights(self, data: TrainingSet) -> Float[Array, " s"]:
        """Returns the weight of each source's predictions on the target."""
        predicted = jax.vmap(lambda one: predict_members(one, data.x).mean(axis=0))(self.source)
        count = jnp.maximum(data.used.sum(), 1)
        seen = jnp.where(data.used, predicted, 0.0)
        centred = jnp.where(data.used, seen - seen.sum(axis=1, keepdims=True) / count, 0.0)
        equal = jnp.full(len(seen), 1 / len(seen))
        gram = centred @ centred.T + self.trust * jnp.eye(len(seen))
        return jnp.linalg.solve(gram, centred @ data.y + self.trust * equal)

    def known(self, history: History) -> Int[Array, " s"]:
        """Returns the best rows paid for; where there are fewer than ``best``, the source's favourites."""
        rows = history.rows[jnp.argsort(-history.values)[: self.best]]
        return jnp.where(rows >= 0, rows, self.favourites)


def fit_source(searcher: NCPSearch, data: TrainingSet, key: Key) -> Network:
    """Trains the searcher's networks on the labels of a source: pure, one run."""
    draws, noise = jax.random.split(key)
    anchors = draw_networks(draws, searcher.members, data.x.shape[1], searcher.width, searcher.depth)
    return train(noise, anchors, data, searcher.noise, searcher.sweeps)
