"""Small networks that learn from what a run has paid for: one way to train them for all who search by a predictor."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve

from ncp_jax.benchmarks.view import History
from ncp_jax.predictors.targets import normal_scores
from ncp_jax.types import Array, Bool, Float, Int, Key

# Standard deviations of the prior: of a layer's weights times the root of its inputs, and of its biases.
WEIGHT, BIAS, BIAS_OUT = 1.0, 0.3, 0.3
LENGTHS = (1.0, 0.25)  # of a step; the better one is made
BLOCK = 1024  # candidates that all members see at once
Network = tuple[Float[Array, "i o"], ...]  # for each layer its weights, the last row the biases, in units of the prior


class Lessons(NamedTuple):
    """What networks learn from, padded to the budget.

    Attributes:
      x: float32 [b, g], inputs.
      y: float32 [b], targets.
      used: bool [b], False for padding.
    """

    x: Float[Array, "b g"]
    y: Float[Array, " b"]
    used: Bool[Array, " b"]


def lessons_of(history: History, inputs: Float[Array, "n g"]) -> Lessons:
    """What a run has paid for, values as normal scores: what matters to a search is their order.

    Args:
      history: of the run.
      inputs: of all candidates.
    """
    used = jnp.arange(len(history.rows)) < history.count
    x = jnp.where(used[:, None], inputs[jnp.maximum(history.rows, 0)], 0.0)
    return Lessons(x, normal_scores(history.values, used), used)


def draw_networks(key: Key, members: int, features: int, width: int, depth: int) -> Network:
    """Networks from the prior: features → (width, swish) × depth → 1; every leaf has a leading axis [members]."""
    sizes = (features, *[width] * depth, 1)
    keys = jax.random.split(key, depth + 1)
    shapes = itertools.pairwise(sizes)
    return tuple(jax.random.normal(k, (members, i + 1, o)) for k, (i, o) in zip(keys, shapes, strict=True))


def predict(network: Network, x: Float[Array, "n g"]) -> Float[Array, " n"]:
    """What one network says of inputs."""
    hidden = x
    for place, weights in enumerate(network):
        scale, bias = _scales(network, place)
        hidden = hidden @ (weights[:-1] * scale) + weights[-1] * bias
        hidden = hidden if place == len(network) - 1 else jax.nn.swish(hidden)
    return hidden[:, 0]


def train(key: Key, anchors: Network, lessons: Lessons, noise: float | Array, sweeps: int) -> Network:
    """Trains an ensemble: each member from and towards its own draw from the prior, on targets with noise of its own.

    Where networks are linear in their weights, members trained so are draws from the posterior (A. Matthews et al.,
    "Sample-then-optimize posterior sampling", 2017; T. Pearce et al., AISTATS 2020, "anchored ensembles").

    Args:
      key: for the noise; used up.
      anchors: the draws, [members] leading.
      lessons: what to learn.
      noise: standard deviation of the noise of the targets, > 0.
      sweeps: see ``fit``.
    """
    members = len(anchors[0])
    blur = noise * jax.random.normal(key, (members, len(lessons.y)))
    return jax.vmap(lambda anchor, y: fit(anchor, lessons._replace(y=y), noise, sweeps))(anchors, lessons.y + blur)


def fit(anchor: Network, lessons: Lessons, noise: float | Array, sweeps: int) -> Network:
    """Trains one network by Gauss-Newton on ``loss``, all lessons at once.

    A step solves the least squares of the linearised network exactly, in the space of the b lessons: the Gram matrix of
    the Jacobian is a sum over layers of Hadamard products of two b × b matrices, much cheaper than the Jacobian itself.
    A network without hidden layers is so fitted in one step. Of the steps of ``LENGTHS`` the one of the least loss is
    made, or none.

    Args:
      anchor: where the training begins, and what it is drawn to.
      lessons: what to learn.
      noise: standard deviation of the noise of the targets, > 0.
      sweeps: steps. Static.
    """

    def sweep(network: Network, _: None) -> tuple[Network, None]:
        aim = _solve(network, anchor, lessons, noise)
        moved = [network, *(_between(network, aim, length) for length in LENGTHS)]
        losses = jnp.stack([loss(one, anchor, lessons, noise) for one in moved])
        best = jnp.argmin(jnp.where(jnp.isfinite(losses), losses, jnp.inf))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[best], *moved), None

    return jax.lax.scan(sweep, anchor, None, length=sweeps)[0]


def _between(one: Network, other: Network, share: float) -> Network:
    return tuple(a + share * (b - a) for a, b in zip(one, other, strict=True))


def loss(network: Network, anchor: Network, lessons: Lessons, noise: float | Array) -> Float[Array, ""]:
    """Squared errors in units of the noise, and squared distances from the anchor in units of the prior, summed."""
    wrong = jnp.where(lessons.used, lessons.y - predict(network, lessons.x), 0.0) / noise
    far = sum(jnp.sum((a - b) ** 2) for a, b in zip(network, anchor, strict=True))
    return jnp.sum(wrong**2) + far


def say(networks: Network, inputs: Float[Array, "n g"]) -> Float[Array, "m n"]:
    """What every member says of many inputs, a block at a time: the hidden layers of all would not fit the caches."""

    def one(row: Float[Array, " g"]) -> Float[Array, " m"]:
        return jax.vmap(predict, in_axes=(0, None))(networks, row[None])[:, 0]

    return jax.lax.map(one, inputs, batch_size=BLOCK).T


def questions(count: Int[Array, ""], least: int | Array, most: int) -> Int[Array, ""]:
    """Architectures to ask for at once: a tenth of those paid for, within bounds."""
    return jnp.clip(count // 10, least, most)


def pick(
    scores: Float[Array, "k n"], asked: Bool[Array, " n"], wanted: int | Int[Array, ""]
) -> tuple[Int[Array, " k"], Bool[Array, " n"]]:
    """For each of the first ``wanted`` slots in turn the best row not asked for yet; and what is asked for then.

    Args:
      scores: of every row in every slot, higher is better, above -inf.
      asked: what was asked for earlier.
      wanted: slots to fill.

    Returns:
      ``(rows, asked)``: int32 [k], -1 in the other slots and where nothing is left.
    """

    def one(
        asked: Bool[Array, " n"], slot: tuple[Float[Array, " n"], Int[Array, ""]]
    ) -> tuple[Bool[Array, " n"], Int[Array, ""]]:
        score, place = slot
        best = jnp.argmax(jnp.where(asked, -jnp.inf, score)).astype(jnp.int32)
        new = (place < wanted) & ~asked[best]
        return asked.at[best].set(asked[best] | new), jnp.where(new, best, -1)

    asked, rows = jax.lax.scan(one, asked, (scores, jnp.arange(len(scores))))
    return rows, asked


def training_bytes(members: int, features: int, width: int, depth: int, budget: int) -> int:
    """Bytes that training takes in one run, roughly."""
    weights = features * width + (depth - 1) * width**2
    return 4 * members * (6 * weights + 6 * budget**2 + 4 * (depth + 1) * budget * (width + features))


def _scales(network: Network, place: int) -> tuple[float, float]:
    """What weights and biases of a layer are multiplied by, so that standard normal ones have the prior's spread."""
    inputs = network[place].shape[-2] - 1
    return WEIGHT / float(np.sqrt(inputs)), BIAS_OUT if place == len(network) - 1 else BIAS


def _solve(network: Network, anchor: Network, lessons: Lessons, noise: float | Array) -> Network:
    """The minimum of ``loss`` for the network linearised at its weights."""
    below, slopes, hidden = [], [], lessons.x
    for place, weights in enumerate(network):
        scale, bias = _scales(network, place)
        below.append(jnp.concatenate([hidden * scale, jnp.full((len(hidden), 1), bias)], axis=1))
        z = below[-1] @ weights
        share = jax.nn.sigmoid(z)
        hidden = z * share
        slopes.append(share + hidden * (1 - share))
    above = [jnp.ones((len(hidden), 1))]  # slope of the output in what each layer returns, from the last one
    for place in range(len(network) - 1, 0, -1):
        scale, _ = _scales(network, place)
        above.insert(0, above[0] @ (network[place][:-1] * scale).T * slopes[place - 1])
    output = z[:, 0]
    gram = sum((a @ a.T) * (d @ d.T) for a, d in zip(below, above, strict=True))
    layers = zip(network, anchor, below, above, strict=True)
    moved = sum(jnp.sum((a @ (w - w0)) * d, axis=1) for w, w0, a, d in layers)
    used = lessons.used
    gram = jnp.where(used[:, None] & used, gram, 0.0) + jnp.diag(jnp.where(used, noise**2, 1.0))
    wrong = jnp.where(used, lessons.y - output + moved, 0.0)
    duals = cho_solve(cho_factor(gram, lower=True), wrong)
    return tuple(w0 + a.T @ (d * duals[:, None]) for w0, a, d in zip(anchor, below, above, strict=True))
