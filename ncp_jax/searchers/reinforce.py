"""Policy gradient: a network writes architectures letter by letter and learns from their ranks."""

from __future__ import annotations

import math
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.special import ndtri

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, choice, number, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import random_bits
from ncp_jax.spaces import get_space
from ncp_jax.types import Array, Bool, Float, Int, Key, Params

EDGE = 1e-3  # smallest distance of a rank's share from 0 and 1
CLIP = 0.2  # a step leaves the probability of a letter within this factor of what it was
IMPOSSIBLE = -1e9  # score of a letter that goes on to no candidate
INITIAL = 0.1  # largest initial weight


class Tree(NamedTuple):
    """The beginnings of the candidates' codes, level by level.

    Attributes:
      below: int32 [d, n, v], number of the beginning that a letter makes of one of the level before; -1 for none.
      rows: int32 [n], row of the candidate that a whole code is.
    """

    below: Int[Array, "d n v"]
    rows: Int[Array, " n"]


class Letters(NamedTuple):
    """The architectures of a proposal as a controller writes them, and what it could have written instead.

    Attributes:
      places: int32 [k, d], place of each letter among the values of its position.
      legal: bool [k, d, v], the values with which the letters before go on to some candidate.
      chances: float32 [k], logarithm of the probability of the whole architecture when it was drawn.
    """

    places: Int[Array, "k d"]
    legal: Bool[Array, "k d v"]
    chances: Float[Array, " k"]


class PolicyState(NamedTuple):
    """State of a search by policy gradient.

    Attributes:
      policy: weights of the controller.
      optimizer: state of Adam.
      drawn: the last proposal.
      values: float32 [k], the answers to it, NaN where there was none.
    """

    policy: Params
    optimizer: Any
    drawn: Letters
    values: Float[Array, " k"]


@register
class Reinforce(ArraySearcher):
    """Policy gradient with a network as controller.

    After B. Zoph and Q. Le, ICLR 2017 (arXiv 1611.01578): the controller writes an architecture letter by letter, and
    the letters of good architectures become more probable. The steps are those of J. Schulman et al., 2017 (arXiv
    1707.06347): several on each proposal, with clipped ratios of probabilities; one step is REINFORCE. Deviations:
    - The controller is a perceptron with one hidden layer, which sees the letters before, not an LSTM.
    - The reward is the normal score of a value among all that were paid for, so nothing depends on the metric's unit;
      the baseline is its mean over the proposal.
    - Only letters can be drawn that go on to a candidate: the policy is a distribution over the candidates.

    An architecture may be drawn again. Where that is free, its reward counts again.

    Attributes:
      rate: learning rate of Adam; 0 for a policy that stays as it is.
      entropy: weight of the policy's entropy in the objective.
      draws: number of architectures of a proposal.
      steps: number of gradient steps on each proposal.
      width: number of units of the controller's hidden layer.
    """

    name: ClassVar[str] = "reinforce"

    rate: float | Array = number(0.02, "learning rate", least=0, most=10)
    entropy: float | Array = number(0.1, "weight of the entropy", least=0, most=100)
    draws: int = choice(10, "architectures of a proposal")
    steps: int = choice(5, "gradient steps on each proposal")
    width: int = choice(32, "units of the controller's hidden layer")

    @property
    def batch(self) -> int:
        """Number of architectures asked for at once."""
        return self.draws

    def start(self, candidates: Candidates, budget: int, key: Key) -> PolicyState:
        """Returns a policy that is nearly uniform over the letters."""
        del budget
        policy = self.policy(candidates, key)
        positions, most = _values(candidates).shape
        drawn = Letters(
            jnp.zeros((self.draws, positions), jnp.int32),
            jnp.ones((self.draws, positions, most), bool),
            jnp.zeros(self.draws),
        )
        return PolicyState(policy, optax.scale_by_adam().init(policy), drawn, jnp.full(self.draws, jnp.nan))

    def policy(self, candidates: Candidates, key: Key) -> Params:
        """Returns the weights that a run begins with."""
        return first_policy(key, *_values(candidates).shape, width=self.width)

    def ask(
        self, candidates: Candidates, state: PolicyState, history: History, key: Key
    ) -> tuple[Int[Array, " k"], PolicyState]:
        """Learns from the answers to the last proposal, then draws the next one."""
        state = self._learn(state, history)
        tree = _tree(candidates)
        shape = (self.draws, *_values(candidates).shape)
        noise = -jnp.log(-jnp.log(_uniform(random_bits(key, math.prod(shape))))).reshape(shape)
        rows, drawn = jax.vmap(lambda one: _draw(state.policy, tree, one))(noise)
        return rows, state._replace(drawn=drawn)

    def tell(
        self, candidates: Candidates, state: PolicyState, rows: Int[Array, " k"], values: Float[Array, " k"]
    ) -> PolicyState:
        """Keeps the answers, from which the next call of ``ask`` learns."""
        del candidates, rows
        return state._replace(values=values)

    def memory(self, candidates: Candidates, budget: int) -> int:
        """Bytes of drawing a proposal and of the policy with its moments and gradients."""
        del budget
        n, (positions, most) = len(candidates), _values(candidates).shape
        weights = positions * (2 * most + 1) * self.width
        drawing = 40 * self.draws * positions * (self.width + positions * most)
        return 4 * n * positions * (most + 3) + 20 * weights + drawing

    def _learn(self, state: PolicyState, history: History) -> PolicyState:
        """Takes the gradient steps on the last proposal."""
        answered = ~jnp.isnan(state.values)
        scores = jnp.where(answered, scores_among(state.values, history.values, history.count), 0.0)
        rewards = scores - scores.sum() / jnp.maximum(answered.sum(), 1)

        policy, optimizer = improve(
            state.policy, state.optimizer, state.drawn, rewards, answered, self.rate, self.entropy, steps=self.steps
        )
        learned = state._replace(policy=policy, optimizer=optimizer)
        return jax.tree.map(lambda new, old: jnp.where(answered.any(), new, old), learned, state)


def first_policy(key: Key, positions: int, most: int, *, width: int) -> Params:
    """Returns the weights of a policy that is nearly uniform.

    Args:
      key: key of this call, as ``random_bits`` takes it.
      positions: number of positions of a code.
      most: largest number of values of a position.
      width: number of units of the hidden layer.
    """
    sizes = {"letters": (positions * most, width), "position": (positions, width), "head": (positions, width, most)}
    bounds = np.cumsum([0, *(math.prod(size) for size in sizes.values())])
    drawn = INITIAL * (2 * _uniform(random_bits(key, int(bounds[-1]))) - 1)
    weights = {
        name: drawn[first:last].reshape(size)
        for (name, size), first, last in zip(sizes.items(), bounds, bounds[1:], strict=False)
    }
    return weights | {"bias": jnp.zeros((positions, most))}


def improve(
    policy: Params,
    optimizer: Any,
    drawn: Letters,
    rewards: Float[Array, " k"],
    answered: Bool[Array, " k"],
    rate: float | Array,
    entropy: float | Array,
    *,
    steps: int,
) -> tuple[Params, Any]:
    """Takes gradient steps on the clipped objective of a proposal; returns the policy and the state of Adam."""

    def objective(policy: Params) -> Float[Array, ""]:
        chances, entropies = jax.vmap(lambda one: chance(policy, one))(drawn)
        ratio = jnp.exp(chances - drawn.chances)
        gain = jnp.minimum(ratio * rewards, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * rewards)
        return -jnp.mean(jnp.where(answered, gain + entropy * entropies, 0.0))

    def step(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], None]:
        policy, moments = carry
        update, moments = optax.scale_by_adam().update(jax.grad(objective)(policy), moments)
        return (jax.tree.map(lambda w, u: w - rate * u, policy, update), moments), None

    return jax.lax.scan(step, (policy, optimizer), None, length=steps)[0]


def _uniform(bits: Int[Array, " k"]) -> Float[Array, " k"]:
    """Maps words to numbers between 0 and 1, never 0 or 1."""
    # The largest words would round up to 1, whose noise is infinite.
    return jnp.minimum(((bits >> 8).astype(jnp.float32) + 0.5) / 2**24, 1 - 2.0**-24)


def _values(candidates: Candidates) -> Int[np.ndarray, "d v"]:
    return letter_table(get_space(candidates.space).values)


def letter_table(values: tuple[tuple[int, ...], ...]) -> Int[np.ndarray, "d v"]:
    """Returns the values of each position, filled up with one that no position has."""
    table = np.full((len(values), max(map(len, values))), np.iinfo(np.int32).min, np.int32)
    for place, some in enumerate(values):
        table[place, : len(some)] = some
    return table


def _tree(candidates: Candidates) -> Tree:
    """Returns the beginnings of the candidates; each level numbers its own in lexicographic order."""
    places = jnp.argmax(candidates.codes[..., None] == _values(candidates), axis=-1).astype(jnp.int32)
    n, most = len(places), _values(candidates).shape[1]

    def level(number: Int[Array, " n"], letter: Int[Array, " n"]) -> tuple[Int[Array, " n"], Int[Array, "n v"]]:
        longer = number * most + letter
        there = jnp.zeros(n * most, jnp.int32).at[longer].set(1)
        numbers = jnp.cumsum(there, dtype=jnp.int32) - 1
        return numbers[longer], jnp.where(there > 0, numbers, -1).reshape(n, most)

    whole, below = jax.lax.scan(level, jnp.zeros(n, jnp.int32), places.T)
    return Tree(below, jnp.zeros(n, jnp.int32).at[whole].set(jnp.arange(n, dtype=jnp.int32)))


def scores_among(
    values: Float[Array, " k"], paid: Float[Array, " b"], count: int | Int[Array, ""]
) -> Float[Array, " k"]:
    """Returns the normal scores of values among the first ``count`` values paid for."""
    used = jnp.arange(len(paid)) < count
    below = ((paid < values[:, None]) & used).sum(axis=1)
    equal = ((paid == values[:, None]) & used).sum(axis=1)
    share = (below + 0.5 * equal) / jnp.maximum(count, 1)
    return ndtri(jnp.clip(share, EDGE, 1 - EDGE))


def logits(policy: Params, letters: Float[Array, "d v"]) -> Float[Array, "d v"]:
    """Returns the scores of the values of every position, given the letters before it as one-hot."""
    # A hidden layer for each position sees the letters before it, and its place.
    seen = jnp.einsum("dv,dvh->dh", letters, policy["letters"].reshape(*letters.shape, -1))
    hidden = jnp.tanh(jnp.cumsum(seen, axis=0) - seen + policy["position"])
    return jnp.einsum("dh,dhv->dv", hidden, policy["head"]) + policy["bias"]


def _draw(policy: Params, tree: Tree, noise: Float[Array, "d v"]) -> tuple[Int[Array, ""], Letters]:
    """Draws an architecture with Gumbel noise; returns its row and how it was written."""
    positions, most = noise.shape

    def write(carry: tuple[Array, Array], at: tuple[Array, Array]) -> tuple[tuple[Array, Array], tuple[Array, ...]]:
        letters, node = carry
        position, gumbel = at
        below = tree.below[position, node]
        scores = jnp.where(below >= 0, logits(policy, letters)[position], IMPOSSIBLE)
        letter = jnp.argmax(scores + gumbel).astype(jnp.int32)
        chance = jax.nn.log_softmax(scores)[letter]
        return (letters.at[position, letter].set(1.0), below[letter]), (letter, below >= 0, chance)

    first = jnp.zeros((positions, most)), jnp.zeros((), jnp.int32)
    (_, leaf), (places, legal, chances) = jax.lax.scan(write, first, (jnp.arange(positions), noise))
    return tree.rows[leaf], Letters(places, legal, chances.sum())


def chance(policy: Params, drawn: Letters) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Returns the logarithm of the probability of one architecture, and the entropy of the letters on its way."""
    letters = jax.nn.one_hot(drawn.places, drawn.legal.shape[1])
    chances = jax.nn.log_softmax(jnp.where(drawn.legal, logits(policy, letters), IMPOSSIBLE), axis=-1)
    entropies = -(jnp.exp(chances) * chances).sum()
    return (chances * letters).sum(), entropies
