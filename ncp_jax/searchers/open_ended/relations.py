"""Arch-Graph in a session: relations between codes, learned from measured pairs, order a pool."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, acyclic_order
from ncp_jax.searchers.arch_graph_searcher import ArchGraph
from ncp_jax.searchers.base import make
from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.beliefs import Acquired, LimitsBelief, best_of, inputs, within_limits
from ncp_jax.searchers.open_ended.features import Features
from ncp_jax.searchers.open_ended.known import Known
from ncp_jax.searchers.open_ended.proposals import Scored, Search, explains, seek
from ncp_jax.searchers.open_ended.situation import Choice, Situation, seed_of
from ncp_jax.spaces import Space
from ncp_jax.training.relations import PROBIT, RelationInputs, RelationRecipe, fit_relations, relation_utilities
from ncp_jax.types import Array, Float, Int, Key, Params

SETTINGS = make(ArchGraph, {})  # those of studies
CONFIG = ArchGraphConfig(recipe=RelationRecipe(members=SETTINGS.members, steps=SETTINGS.steps))
MEASURED = 256  # measurements whose pairs are learned: their number grows with the square
LEAST_VARIANCE = 1e-12


class RelationBelief(NamedTuple):
    """A relation predictor for the objective, and processes for the limits.

    Attributes:
      networks: weights of the members, leaves [members, ...].
      origin: float32 [members], what is added to utilities, so that they are normal scores of the measurements.
      limits: beliefs about the limits.
      best: see ``Belief``.
      sources: processes of other tasks, stacked; None without sources.
    """

    networks: Params
    origin: Float[Array, " members"]
    limits: LimitsBelief
    best: Float[Array, ""]
    sources: gp.Model | None

    def acquisition(self, space: Space, relaxed: Float[Array, "m f"]) -> Acquired:
        """Returns optimistic utilities plus the logarithm of the probability of the limits (jittable)."""
        utilities, mean, deviation = self.utilities(space, relaxed)
        spread = _spread(utilities)
        score = within_limits((utilities + CONFIG.optimism * spread).mean(axis=0), mean, deviation, self.best)
        means = jnp.concatenate([utilities.mean(axis=0)[None], mean])
        return score, means, jnp.concatenate([spread[None], deviation])

    def utilities(self, space: Space, relaxed: Float[Array, "m f"]) -> tuple[Array, Array, Array]:
        """Returns the members' utilities [members, m], and mean and deviation [c, m] of the limits (jittable)."""
        features, where = inputs(space, self.sources, relaxed)
        raw = relation_utilities(self.networks, *relation_inputs(features, where), recipe=CONFIG.recipe)[..., 0]
        return raw + self.origin[:, None], *self.limits.predict(features, where)


def _spread(utilities: Float[Array, "members m"]) -> Float[Array, " m"]:
    return jnp.sqrt(utilities.var(axis=0) + LEAST_VARIANCE)  # differentiable also where all members agree


def relation_inputs(features: Features, where: Float[Array, "m g"]) -> tuple[RelationInputs, Float[Array, "m s"]]:
    """Returns features as inputs of a relation predictor, and the evidence of s other tasks (jittable).

    An architecture is one node that holds all features, and not its graph: so the inputs are smooth in relaxed codes.
    """
    own = where.shape[1] - features.tasks
    standard = features.standard(where)
    n = len(where)
    nodes, one, nothing = standard[:, None, :own], jnp.ones((n, 1)), jnp.zeros((n, 0))
    return RelationInputs(nodes, one, jnp.zeros((1, 1)), nothing), standard[:, own:]


@functools.partial(jax.jit, static_argnames="space")
def _inputs(
    codes: Int[Array, "n d"], sources: gp.Model | None, *, space: Space
) -> tuple[RelationInputs, Float[Array, "n s"]]:
    return relation_inputs(*inputs(space, sources, space.encode(codes)))


@functools.partial(jax.jit, static_argnames="space")
def _believed(
    networks: Params, utilities: Float[Array, "members n"], known: Known, sources: gp.Model | None, *, space: Space
) -> RelationBelief:
    features, seen = inputs(space, sources, space.encode(jnp.asarray(known.codes)))
    limits = LimitsBelief.of(features, seen, known)
    first = relation_utilities(networks, *relation_inputs(features, seen[:1]), recipe=CONFIG.recipe)[:, 0, 0]
    best = best_of(utilities.mean(axis=0), known, limits.satisfied)
    return RelationBelief(networks, utilities[:, 0] - first, limits, best, sources)


def learn_relations(key: Key, known: Known, sources: gp.Model | None, *, space: Space) -> RelationBelief:
    """Trains relation predictors on all pairs of measurements (host-side).

    Args:
      key: key of the initial weights.
      known: what is known; pending codes have no part in it.
      sources: processes of other tasks, stacked, whose predictions are evidence.
      space: the space.
    """
    arguments, evidence = _inputs(jnp.asarray(known.codes), sources, space=space)
    rows = np.where(known.measured[0], np.arange(len(known.codes)), -1)[None]
    seeds = np.array([[seed_of(key)]])
    values = known.targets[0][None, :, None]
    fits = fit_relations(arguments, rows, values, seeds=seeds, recipe=CONFIG.recipe, evidence=evidence[None])
    networks = jax.tree.map(lambda leaf: leaf[0], fits.params)
    return _believed(networks, fits.utilities[0, :, :, 0], known, sources, space=space)


def by_relations(now: Situation, key: Key) -> Choice | None:
    """Returns the first code in the order of the relations; None if no new one was found.

    The pool is made of random codes, edits of the best, and relaxed codes that climb the optimistic utility; its best
    ones are improved by single edits. Those of the highest optimistic utility are ordered by the maximum weighted
    acyclic subgraph of their trusted relations. Deviations from the searcher of studies: codes are asked for one at a
    time, each after a fit with weights of its own, which is why pending codes need no place in it; none goes to the
    sources' favourites; and the predictor reads the features of sessions, not graphs, so that gradients lead to codes.
    """
    belief, found = seek(
        now,
        key,
        lambda k, known: learn_relations(k, known, now.sources, space=now.space),
        search=Search(),
        most=MEASURED,
    )
    if not len(found.codes):
        return None
    sure = np.flatnonzero(found.sure(now.config.confidence))
    if len(sure):  # else the first one is nearest to the limits
        shortlist = found.take(sure[: CONFIG.shortlist])
        found = shortlist.take(_order(belief, shortlist, now.space))
    return Choice(found.codes[0], explains(belief, found))


@functools.partial(jax.jit, static_argnames="space")
def _optimistic(belief: RelationBelief, codes: Int[Array, "k d"], *, space: Space) -> Float[Array, "members k"]:
    """Returns each member's utilities as the acquisition counts them: with optimism, and within the limits."""
    utilities, mean, deviation = belief.utilities(space, space.encode(codes))
    return within_limits(utilities + CONFIG.optimism * _spread(utilities), mean, deviation, belief.best)


def _order(belief: RelationBelief, shortlist: Scored, space: Space) -> Int[np.ndarray, " k"]:
    """Returns the rows of the shortlist in the order of the graph of relations."""
    k = len(shortlist.codes)
    padded = np.concatenate([shortlist.codes, np.repeat(shortlist.codes[:1], CONFIG.shortlist - k, axis=0)])
    utilities = np.asarray(_optimistic(belief, padded, space=space))[:, :k]
    return acyclic_order(PROBIT / CONFIG.recipe.noise * utilities, trust=CONFIG.trust)[0]
