"""NCP with some random labels of a target: from given starts, or with networks of other tasks."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve

from ncp_jax.benchmarks.view import History
from ncp_jax.predictors.targets import exponential_scores
from ncp_jax.searchers import NCPSearch
from ncp_jax.searchers.base import number, searcher_class
from ncp_jax.searchers.ensemble import (
    Network,
    TrainingSet,
    draw_networks,
    fit,
    linearise,
    predict_members,
    training_set,
)
from ncp_jax.types import Array, Float, Int, Key


@searcher_class
class ExponentialNCP(NCPSearch):
    """NCP that learns exponential scores, in which the best values are far apart."""

    name: ClassVar[str] = "exponential-ncp"

    def training_data(self, history: History, inputs: Float[Array, "n g"]) -> TrainingSet:
        """Returns the values paid for as exponential scores."""
        data = training_set(history, inputs)
        return data._replace(y=exponential_scores(history.values, data.used))


@searcher_class
class GivenStarts(ExponentialNCP):
    """NCP on exponential scores whose climbs start at given architectures, not at the best ones paid for.

    Attributes: those of ``NCPSearch``, and
      given: int32 [g], rows of the architectures.
    """

    name: ClassVar[str] = "given-starts"

    given: Any = None

    def known(self, history: History) -> Int[Array, " s"]:
        """Returns the given architectures."""
        del history
        return self.given


@searcher_class
class SourcesAndDifference(ExponentialNCP):
    """NCP on exponential scores that predicts a weighted sum of other tasks' networks and a learned difference.

    Weights and difference are learned together: a source that says nothing about the labels gets next to no weight, and
    what the difference explains as well is not laid to the sources. The network of the difference is that of a search
    from scratch with a smaller prior. Sum and difference are one network with all their hidden units, and it is
    inverted like any other.

    Attributes: those of ``NCPSearch``, of which ``depth`` is 1, and
      spread: standard deviation of a source's weight, whose mean is one over the number of sources.
      share: standard deviation of the difference, in those of a network's prior.
      source: networks of the s sources, leaves [s, members, ...].
    """

    name: ClassVar[str] = "sources-and-difference"

    spread: float | Array = number(1.0, "standard deviation of a source's weight", least=0, most=100)
    share: float | Array = number(0.5, "standard deviation of the difference, priors", least=0.01, most=100)
    source: Any = None

    def trained(self, draws: Key, noise: Key, data: TrainingSet) -> Network:
        """Returns the members: the m-th knows the m-th network of each source, and has its own draws and noise."""
        of_weights, of_networks = jax.random.split(draws)
        told = jax.vmap(lambda one: predict_members(one, data.x), out_axes=1)(self.source)
        shape = told.shape[:2]
        weights = 1 / shape[1] + self.spread * jax.random.normal(of_weights, shape)
        own = draw_networks(of_networks, self.members, data.x.shape[1], self.width, self.depth)
        y = data.y + self.noise * jax.random.normal(noise, (self.members, len(data.y)))
        weights = jax.vmap(self._weights, (0, 0, 0, 0, None))(weights, told, own, y, data)
        left = (y - jnp.einsum("ms,msb->mb", weights, told)) / self.share
        learn = jax.vmap(lambda anchor, y: fit(anchor, data._replace(y=y), self.noise / self.share, self.sweeps))
        return weighted_sum(self.source, weights, learn(own, left), self.share)

    def _weights(
        self,
        drawn: Float[Array, " s"],
        told: Float[Array, "s b"],
        own: Network,
        y: Float[Array, " b"],
        data: TrainingSet,
    ) -> Float[Array, " s"]:
        """One member's weights of the sources: a draw from their posterior, made from one of the prior as in ``train``.

        Args:
          drawn: draw of the weights from their prior.
          told: the sources' predictions of the labelled architectures.
          own: draw of the difference, linear in its weights as far as the sources' weights are concerned.
          y: labels with the member's noise.
          data: training set.
        """
        line = linearise(own, data.x)
        both = data.used[:, None] & data.used
        gram = jnp.where(both, self.share**2 * line.gram() + self.spread**2 * told.T @ told, 0.0)
        gram = gram + jnp.diag(jnp.where(data.used, self.noise**2, 1.0))
        wrong = jnp.where(data.used, y - drawn @ told - self.share * line.output, 0.0)
        return drawn + self.spread**2 * told @ cho_solve(cho_factor(gram, lower=True), wrong)


def weighted_sum(source: Network, weights: Float[Array, "m s"], own: Network, share: float | Array) -> Network:
    """Returns networks that predict ``weights`` times the sources' predictions plus ``share`` times those of ``own``.

    Args:
      source: networks with one hidden layer, leaves [s, members, ...].
      weights: weight of each source in each member.
      own: networks with one hidden layer of the same width, leaves [members, ...].
      share: weight of ``own``.
    """
    hidden, last = (jnp.concatenate([a, b[None]]) for a, b in zip(source, own, strict=True))
    count, members, inputs, units = hidden.shape
    last = last * jnp.append(weights, jnp.full((members, 1), share), axis=1).T[:, :, None, None]
    # A layer divides its weights by the root of its number of inputs, which grows by the number of networks.
    outputs = np.sqrt(count) * jnp.moveaxis(last[:, :, :units], 0, 1).reshape(members, count * units, 1)
    wide = jnp.moveaxis(hidden, 0, 2).reshape(members, inputs, count * units)
    return wide, jnp.concatenate([outputs, last[:, :, units:].sum(axis=0)], axis=1)
