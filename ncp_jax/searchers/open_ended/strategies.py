"""How an open-ended session chooses what to train next: first codes apart from each other, then by its searcher."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np

from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.beliefs import learn
from ncp_jax.searchers.open_ended.edits import edited, evolved
from ncp_jax.searchers.open_ended.features import features_of
from ncp_jax.searchers.open_ended.known import SLOTS, in_slots
from ncp_jax.searchers.open_ended.networks import by_ensemble
from ncp_jax.searchers.open_ended.observations import Observations
from ncp_jax.searchers.open_ended.policy import by_policy
from ncp_jax.searchers.open_ended.proposals import Search, evaluate, explains, seek
from ncp_jax.searchers.open_ended.relations import by_relations
from ncp_jax.searchers.open_ended.situation import Choice, Situation, drawn, fresh
from ncp_jax.searchers.open_ended.targets import TargetScale
from ncp_jax.spaces import Space
from ncp_jax.types import Array, Float, Int, Key

APART = 8  # random codes, of which the farthest from all others is a first one; of more, it is always a corner


def choose(situation: Situation, n: int) -> list[Choice]:
    """Returns up to n different codes that are neither measured nor pending."""
    chosen: list[Choice] = []
    for number in range(situation.asked, situation.asked + n):
        now = dataclasses.replace(situation, pending=situation.pending + [choice.code for choice in chosen])
        choice = _choose_one(now, situation.key(number))
        if choice is None:
            break
        chosen.append(choice)
    return chosen


def _choose_one(now: Situation, key: Key) -> Choice | None:
    started = len(now.observations.codes) + len(now.pending)
    strategy = STRATEGIES.get(now.config.searcher)
    if strategy is None:
        return drawn(now, key, "random")
    if started < now.config.initial or len(now.observations) < 2:
        return _spread_out(now, key)
    return strategy(now, key) or drawn(now, key, "random")


def _spread_out(now: Situation, key: Key) -> Choice | None:
    """Of some random codes, the one farthest from all that is measured or pending."""
    there = np.array([*now.observations.codes, *now.pending], np.int32).reshape(-1, now.space.length)
    for codes in fresh(now, key):
        if not len(there):
            return Choice(codes[0], "spread out")
        codes = codes[:APART]
        a, b = (_features(now.space, rows) for rows in (codes, there))
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
        return Choice(codes[np.argmax(np.round(squares.min(axis=1), 5))], "spread out")
    return None


def _features(space: Space, codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, "n g"]:
    """Returns the features of codes, from a program for the next power of two: n grows from call to call."""
    rows = max(SLOTS[0], 1 << (len(codes) - 1).bit_length())
    padded = np.concatenate([codes, np.repeat(codes[:1], rows - len(codes), axis=0)])
    return np.asarray(_padded_features(padded, space=space))[: len(codes)]


@functools.partial(jax.jit, static_argnames="space")
def _padded_features(codes: Int[Array, "n d"], *, space: Space) -> Float[Array, "n g"]:
    return features_of(space)(space.encode(codes))


def _by_process(now: Situation, key: Key, *, search: Search) -> Choice | None:
    """Returns the code of the highest expected improvement by a Gaussian process; None if no new one was found."""
    belief, found = seek(now, key, lambda _, known: learn(known, now.sources, space=now.space), search=search)
    return Choice(found.codes[0], explains(belief, found)) if len(found.codes) else None


# What chooses once there are enough measurements; "random" has nothing to learn. None: no new code was found.
STRATEGIES: dict[str, Callable[[Situation, Key], Choice | None]] = {
    "ncp": functools.partial(_by_process, search=Search()),
    "bayesian": functools.partial(_by_process, search=Search(climbs=0, rounds=0)),
    "neural-ensemble": by_ensemble,
    "arch-graph": by_relations,
    "reinforce": by_policy,
    "evolution": evolved,
    "local-search": edited,
}


def predict(
    space: Space, observations: Observations, sources: gp.Model | None, codes: Int[np.ndarray, "n d"]
) -> dict[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]:
    """Returns predicted values and their standard deviations by metric, in its own unit."""
    good = ~np.isnan(observations.values[:, 0])
    found = {}
    signs = dict(zip(observations.goals.metrics, observations.goals.signs, strict=False))
    for place, name in enumerate(observations.goals.metrics):
        sign = signs.get(name, 1)
        values = sign * observations.values[good, place]
        scale = TargetScale.of(values)
        known = in_slots(observations.codes[good], scale.forward(values)[None], np.ones((1, len(values)), bool), [])
        seen = evaluate(space, learn(known, sources, space=space), codes)
        mean, deviation = seen.mean[0].astype(float), seen.deviation[0].astype(float)
        found[name] = sign * scale.back(mean), scale.back_spread(mean, deviation)
    return found
