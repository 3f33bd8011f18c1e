"""Searchers of open-ended sessions without a model: evolution and local search, which edit what is good."""

from __future__ import annotations

import jax
import numpy as np

from ncp_jax.searchers.open_ended.known import ranked
from ncp_jax.searchers.open_ended.situation import TRIES, Choice, Situation, seed_of
from ncp_jax.types import Key

POPULATION, TOURNAMENT = 30, 10  # of evolution


def evolved(now: Situation, key: Key) -> Choice | None:
    """Returns a child of a tournament's winner; None where only known children were drawn."""
    observations, values = now.observations, ranked(now.observations)
    random = np.random.default_rng(seed_of(key))
    alive = np.arange(max(0, len(values) - POPULATION), len(values))
    for round_ in range(TRIES):
        fighters = random.choice(alive, min(TOURNAMENT, len(alive)), replace=False)
        parent = observations.codes[fighters[np.argmax(values[fighters])]]
        children = np.asarray(now.space.mutate(jax.random.fold_in(key, round_), parent[None]))
        if observations.goals.allowed(children)[0] and now.new(children)[0]:
            return Choice(children[0], "edit")
    return None


def edited(now: Situation, key: Key) -> Choice | None:
    """Returns an edit of the best code that has untried ones; None if there is none."""
    observations, values = now.observations, ranked(now.observations)
    random = np.random.default_rng(seed_of(key))
    for row in np.argsort(-values, kind="stable"):
        near, legal = now.space.neighbours(observations.codes[row])
        near = np.asarray(near)[np.asarray(legal)]
        near = near[observations.goals.allowed(near)]
        near = near[now.new(near)]
        if len(near):
            return Choice(near[int(random.integers(len(near)))], "edit")
    return None
