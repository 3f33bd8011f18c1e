"""Policy gradient in a session: the controller writes a code letter by letter, and learns from the measurements."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ncp_jax.searchers.base import make
from ncp_jax.searchers.draws import run_keys
from ncp_jax.searchers.open_ended.known import SLOTS, ranked
from ncp_jax.searchers.open_ended.situation import TRIES, Choice, Situation
from ncp_jax.searchers.reinforce import (
    IMPOSSIBLE,
    Letters,
    Reinforce,
    chance,
    first_policy,
    improve,
    letter_table,
    logits,
    scores_among,
)
from ncp_jax.spaces import Space
from ncp_jax.types import Array, Bool, Float, Int, Key, Params

SETTINGS = make(Reinforce, {})  # those of studies
TOLD = SLOTS[-1] // SETTINGS.draws * SETTINGS.draws  # latest measurements that are learned from


def by_policy(now: Situation, key: Key) -> Choice | None:
    """Returns a code that the learned policy writes; None if it wrote no new one within the limits on known costs.

    The policy is learned anew from the measurements, so that the session has no other state: in the order of telling,
    in portions of the size of a proposal. A portion counts as written by the policy that the portions before it have
    taught, whoever proposed it. Several goals count in equal parts, failed trainings as the worst, and codes beyond
    limits on metrics as worse than all others. All values of a position may be written; what was written is projected
    to a legal code and brought within the limits on known costs. Pending codes are not proposed again.
    """
    policy = replayed(now)
    written = np.asarray(_write(key, policy, space=now.space))
    goals = now.observations.goals
    codes = goals.brought_within(written, key)
    codes = codes[goals.allowed(codes)]
    codes = codes[now.new(codes)]
    return Choice(codes[0], "policy") if len(codes) else None


def replayed(now: Situation) -> Params:
    """Returns the policy that the latest measurements teach; those after the last whole portion do not count."""
    _, ranks = np.unique(ranked(now.observations), return_inverse=True)  # float32 may not tell the values apart
    first = max(0, -(-(len(ranks) - TOLD) // SETTINGS.draws)) * SETTINGS.draws
    codes, values = now.observations.codes[first:], ranks[first:].astype(np.float32)
    spare = next(slots for slots in SLOTS if slots >= len(codes)) - len(codes)
    portions = jnp.asarray(len(codes) // SETTINGS.draws)
    codes, values = np.pad(codes, ((0, spare), (0, 0)), mode="edge"), np.pad(values, (0, spare))
    return _replay(run_keys(now.config.seed)[0], codes, values, portions, space=now.space)


@functools.partial(jax.jit, static_argnames="space")
def _replay(
    key: Key, codes: Int[Array, "n d"], values: Float[Array, " n"], portions: Int[Array, ""], *, space: Space
) -> Params:
    """Returns a new policy after some portions of measurements, the first ones of n slots."""
    table = letter_table(space.values)
    places = jnp.argmax(codes[..., None] == table, axis=-1).astype(jnp.int32)
    policy = first_policy(key, *table.shape, width=SETTINGS.width)
    draws = SETTINGS.draws

    def learn(portion: Int[Array, ""], carry: tuple[Params, optax.OptState]) -> tuple[Params, optax.OptState]:
        policy, moments = carry
        mine, answers = (jax.lax.dynamic_slice_in_dim(part, portion * draws, draws) for part in (places, values))
        legal = jnp.broadcast_to(_legal(space), (draws, *table.shape))
        drawn = Letters(mine, legal, jnp.zeros(draws))
        drawn = drawn._replace(chances=jax.vmap(lambda one: chance(policy, one)[0])(drawn))
        scores = scores_among(answers, values, (portion + 1) * draws)
        rewards, answered = scores - scores.mean(), jnp.ones(draws, bool)
        return improve(policy, moments, drawn, rewards, answered, SETTINGS.rate, SETTINGS.entropy, steps=SETTINGS.steps)

    return jax.lax.fori_loop(0, portions, learn, (policy, optax.scale_by_adam().init(policy)))[0]


@functools.partial(jax.jit, static_argnames="space")
def _write(key: Key, policy: Params, *, space: Space) -> Int[Array, "t d"]:
    """Returns ``TRIES`` codes that the policy writes."""
    table = letter_table(space.values)

    def one(noise: Float[Array, "d v"]) -> Int[Array, " d"]:
        def write(letters: Float[Array, "d v"], position: Int[Array, ""]) -> tuple[Array, Array]:
            scores = jnp.where(_legal(space)[position], logits(policy, letters)[position], IMPOSSIBLE)
            place = jnp.argmax(scores + noise[position])
            return letters.at[position, place].set(1.0), jnp.asarray(table)[position, place]

        return jax.lax.scan(write, jnp.zeros(table.shape), jnp.arange(len(table)))[1]

    codes = jax.vmap(one)(jax.random.gumbel(key, (TRIES, *table.shape)))
    return space.project(space.encode(codes))


def _legal(space: Space) -> Bool[Array, "d v"]:
    counts = np.array([len(some) for some in space.values])
    return jnp.arange(counts.max()) < counts[:, None]
