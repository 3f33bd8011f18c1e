"""Ensembles of small networks as the model of a session: each proposal climbs what one network predicts."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers.base import make
from ncp_jax.searchers.ensemble import Network, TrainingSet, draw_networks, fit, predict
from ncp_jax.searchers.neural import LEAST_SPREAD, NeuralEnsemble
from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.beliefs import Acquired, LimitsBelief, best_of, inputs, within_limits
from ncp_jax.searchers.open_ended.features import Features
from ncp_jax.searchers.open_ended.known import Known
from ncp_jax.searchers.open_ended.proposals import Search, explains, seek
from ncp_jax.searchers.open_ended.situation import Choice, Situation
from ncp_jax.spaces import Space
from ncp_jax.types import Array, Float, Key

SETTINGS = make(NeuralEnsemble, {})  # those of studies


class EnsembleBelief(NamedTuple):
    """An ensemble for the objective, and processes for the limits.

    Attributes:
      networks: the members, leaves [members, ...]; proposals follow the first one.
      limits: beliefs about the limits.
      best: see ``Belief``.
      sources: processes of other tasks, stacked; None without sources.
    """

    networks: Network
    limits: LimitsBelief
    best: Float[Array, ""]
    sources: gp.Model | None

    def acquisition(self, space: Space, relaxed: Float[Array, "m f"]) -> Acquired:
        """Returns what the first network predicts plus the logarithm of the probability of the limits (jittable)."""
        features, where = inputs(space, self.sources, relaxed)
        predicted = jax.vmap(predict, in_axes=(0, None))(self.networks, network_inputs(features, where))
        mean, deviation = self.limits.predict(features, where)
        score = within_limits(predicted[0], mean, deviation, self.best)
        spread = jnp.maximum(predicted.std(axis=0), LEAST_SPREAD)
        means = jnp.concatenate([predicted.mean(axis=0)[None], mean])
        return score, means, jnp.concatenate([spread[None], deviation])


def network_inputs(features: Features, where: Float[Array, "m g"]) -> Float[Array, "m g"]:
    """Returns features in standard units; the predictions for other tasks weigh together as much as all others."""
    own = int((features.scale > 0).sum()) - features.tasks
    weights = np.ones(len(features.scale), np.float32)
    if features.tasks:
        weights[-features.tasks :] = np.sqrt(own / features.tasks)
    return features.standard(where) * weights


@functools.partial(jax.jit, static_argnames="space")
def learn_ensemble(key: Key, known: Known, sources: gp.Model | None, *, space: Space) -> EnsembleBelief:
    """Trains an ensemble on normal scores of the objective, as ``ensemble.train`` does.

    Each member is trained from and towards its own draw from the prior, on targets with its own noise.

    Args:
      key: key of the draws and of the noise.
      known: what is known; pending codes have no part in it.
      sources: processes of other tasks, stacked.
      space: the space.
    """
    draws, noise = jax.random.split(key)
    features, seen = inputs(space, sources, space.encode(jnp.asarray(known.codes)))
    used = jnp.asarray(known.measured[0])
    x = jnp.where(used[:, None], network_inputs(features, seen), 0.0)
    data = TrainingSet(x, normal_scores(known.targets[0], used), used)
    anchors = draw_networks(draws, SETTINGS.members, x.shape[1], SETTINGS.width, SETTINGS.depth)
    targets = data.y + SETTINGS.noise * jax.random.normal(noise, (SETTINGS.members, len(x)))
    # One after the other, for the reason that processes are.
    networks = jax.lax.map(
        lambda one: fit(one[0], data._replace(y=one[1]), SETTINGS.noise, SETTINGS.sweeps), (anchors, targets)
    )
    believed = jax.vmap(predict, in_axes=(0, None))(networks, x).mean(axis=0)
    limits = LimitsBelief.of(features, seen, known)
    return EnsembleBelief(networks, limits, best_of(believed, known, limits.satisfied), sources)


def by_ensemble(now: Situation, key: Key) -> Choice | None:
    """Returns the code that a newly trained network scores best: Thompson sampling; None if no new one was found.

    Random codes, edits of the best and relaxed codes that climb the network's prediction are looked at. Proposals
    differ because each one has networks of its own, so that pending codes need not be predicted (K. Kandasamy et al.,
    AISTATS 2018); they are not proposed again.
    """
    belief, found = seek(
        now, key, lambda k, known: learn_ensemble(k, known, now.sources, space=now.space), search=Search()
    )
    return Choice(found.codes[0], explains(belief, found)) if len(found.codes) else None
