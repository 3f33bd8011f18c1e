"""Ensembles of small networks that learn from a run's queries; shared by the searchers that use a predictor."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve

from ncp_jax.benchmarks.view import History
from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers.ties import any_best
from ncp_jax.types import Array, Bool, Float, Int, Key

# Standard deviations of the prior: of a layer's weights times the root of its inputs, and of its biases.
WEIGHT, BIAS, BIAS_OUT = 1.0, 0.3, 0.3
LENGTHS = (1.0, 0.25)  # step lengths that are tried
BLOCK = 1024  # candidates predicted at once by all members
Network = tuple[Float[Array, "i o"], ...]  # for each layer its weights, the last row the biases, in units of the prior


class TrainingSet(NamedTuple):
    """Training set of the networks, padded to the budget.

    Attributes:
      x: float32 [b, g], network inputs.
      y: float32 [b], targets, higher is better.
      used: bool [b], False for padding.
    """

    x: Float[Array, "b g"]
    y: Float[Array, " b"]
    used: Bool[Array, " b"]


def training_set(history: History, inputs: Float[Array, "n g"]) -> TrainingSet:
    """Makes the training set of a run. The targets are normal scores: only the order of values matters to a search.

    Args:
      history: queries of the run.
      inputs: network inputs of all candidates.
    """
    used = jnp.arange(len(history.rows)) < history.count
    x = jnp.where(used[:, None], inputs[jnp.maximum(history.rows, 0)], 0.0)
    return TrainingSet(x, normal_scores(history.values, used), used)


def draw_networks(key: Key, members: int, features: int, width: int, depth: int) -> Network:
    """Draws networks from the prior: features → (width, swish) × depth → 1; leaves have a leading axis [members]."""
    sizes = (features, *[width] * depth, 1)
    keys = jax.random.split(key, depth + 1)
    shapes = itertools.pairwise(sizes)
    return tuple(jax.random.normal(k, (members, i + 1, o)) for k, (i, o) in zip(keys, shapes, strict=True))


def predict(network: Network, x: Float[Array, "n g"]) -> Float[Array, " n"]:
    """Returns the predictions of one network."""
    hidden = x
    for place, weights in enumerate(network):
        scale, bias = _scales(network, place)
        hidden = hidden @ (weights[:-1] * scale) + weights[-1] * bias
        hidden = hidden if place == len(network) - 1 else jax.nn.swish(hidden)
    return hidden[:, 0]


def train(key: Key, anchors: Network, data: TrainingSet, noise: float | Array, sweeps: int) -> Network:
    """Trains an ensemble: each member starts at its own draw from the prior and is regularised towards it.

    Each member sees targets with its own noise. For networks that are linear in their weights, such members are draws
    from the posterior (A. Matthews et al., "Sample-then-optimize posterior sampling", 2017; T. Pearce et al.,
    AISTATS 2020, "anchored ensembles").

    Args:
      key: key of the noise; consumed.
      anchors: draws from the prior, leaves [members, ...].
      data: training set.
      noise: standard deviation of the noise of the targets, > 0.
      sweeps: number of steps, see ``fit``.
    """
    members = len(anchors[0])
    blur = noise * jax.random.normal(key, (members, len(data.y)))
    return jax.vmap(lambda anchor, y: fit(anchor, data._replace(y=y), noise, sweeps))(anchors, data.y + blur)


def fit(anchor: Network, data: TrainingSet, noise: float | Array, sweeps: int) -> Network:
    """Trains one network by full-batch Gauss-Newton on ``loss``.

    A step solves the least-squares problem of the linearised network exactly, in the space of the b examples: the Gram
    matrix of the Jacobian is a sum over layers of Hadamard products of two b × b matrices, which is much cheaper than
    the Jacobian itself. A network without hidden layers is fitted in one step. Among the step lengths ``LENGTHS`` and
    0, the one with the smallest loss is taken.

    Args:
      anchor: initial weights, towards which the training is regularised.
      data: training set.
      noise: standard deviation of the noise of the targets, > 0.
      sweeps: number of steps. Static.
    """

    def sweep(network: Network, _: None) -> tuple[Network, None]:
        aim = _solve(network, anchor, data, noise)
        moved = [network, *(_between(network, aim, length) for length in LENGTHS)]
        losses = jnp.stack([loss(one, anchor, data, noise) for one in moved])
        best = jnp.argmin(jnp.where(jnp.isfinite(losses), losses, jnp.inf))
        return jax.tree.map(lambda *leaves: jnp.stack(leaves)[best], *moved), None

    return jax.lax.scan(sweep, anchor, None, length=sweeps)[0]


def _between(one: Network, other: Network, share: float) -> Network:
    return tuple(a + share * (b - a) for a, b in zip(one, other, strict=True))


def loss(network: Network, anchor: Network, data: TrainingSet, noise: float | Array) -> Float[Array, ""]:
    """Sum of squared errors in units of the noise and squared distances from the anchor in units of the prior."""
    wrong = jnp.where(data.used, data.y - predict(network, data.x), 0.0) / noise
    far = sum(jnp.sum((a - b) ** 2) for a, b in zip(network, anchor, strict=True))
    return jnp.sum(wrong**2) + far


def predict_members(networks: Network, inputs: Float[Array, "n g"]) -> Float[Array, "m n"]:
    """Returns the predictions of every member, in blocks: all hidden units at once would not fit the caches."""

    def one(row: Float[Array, " g"]) -> Float[Array, " m"]:
        return jax.vmap(predict, in_axes=(0, None))(networks, row[None])[:, 0]

    return jax.lax.map(one, inputs, batch_size=BLOCK).T


def proposal_size(count: Int[Array, ""], least: int | Array, most: int) -> Int[Array, ""]:
    """Returns the number of architectures to ask for at once: a tenth of those paid for, within bounds."""
    return jnp.clip(count // 10, least, most)


def pick(
    scores: Float[Array, "k n"], asked: Bool[Array, " n"], wanted: int | Int[Array, ""], ties: Float[Array, " n"]
) -> tuple[Int[Array, " k"], Bool[Array, " n"]]:
    """Fills each of the first ``wanted`` slots in turn with the best row that was not asked for yet.

    Args:
      scores: scores of every row in every slot, higher is better, above -inf.
      asked: True for rows that were asked for earlier.
      wanted: number of slots to fill.
      ties: random numbers, at least 0, that decide between equal scores.

    Returns:
      ``(rows, asked)``: int32 [k], -1 in the other slots and where no row is left; and ``asked`` with these rows.
    """

    def one(
        asked: Bool[Array, " n"], slot: tuple[Float[Array, " n"], Int[Array, ""]]
    ) -> tuple[Bool[Array, " n"], Int[Array, ""]]:
        score, place = slot
        best = any_best(jnp.where(asked, -jnp.inf, score), ties)
        new = (place < wanted) & ~asked[best]
        return asked.at[best].set(asked[best] | new), jnp.where(new, best, -1)

    asked, rows = jax.lax.scan(one, asked, (scores, jnp.arange(len(scores))))
    return rows, asked


def training_bytes(members: int, features: int, width: int, depth: int, budget: int) -> int:
    """Approximate bytes that training takes in one run."""
    weights = features * width + (depth - 1) * width**2
    return 4 * members * (6 * weights + 6 * budget**2 + 4 * (depth + 1) * budget * (width + features))


def _scales(network: Network, place: int) -> tuple[float, float]:
    """Factors of a layer's weights and biases that turn standard normal ones into draws from the prior."""
    inputs = network[place].shape[-2] - 1
    return WEIGHT / float(np.sqrt(inputs)), BIAS_OUT if place == len(network) - 1 else BIAS


class Linearised(NamedTuple):
    """A network linearised at its weights.

    The Jacobian of layer l is, row by row, the outer product of ``below[l]`` and ``above[l]``.

    Attributes:
      output: float32 [b], the predictions.
      below: [b, inputs] of each layer, the derivatives of its results by its weights.
      above: [b, outputs] of each layer, the derivatives of the output by its results.
    """

    output: Float[Array, " b"]
    below: list[Float[Array, "b i"]]
    above: list[Float[Array, "b o"]]

    def gram(self) -> Float[Array, "b b"]:
        """Returns the Gram matrix of the Jacobian: a sum over layers of Hadamard products, without the Jacobian."""
        return sum((a @ a.T) * (d @ d.T) for a, d in zip(self.below, self.above, strict=True))  # type: ignore[return-value]


def linearise(network: Network, x: Float[Array, "b g"]) -> Linearised:
    """Linearises a network's predictions in its weights."""
    below, slopes, hidden = [], [], x
    for place, weights in enumerate(network):
        scale, bias = _scales(network, place)
        below.append(jnp.concatenate([hidden * scale, jnp.full((len(hidden), 1), bias)], axis=1))
        z = below[-1] @ weights
        share = jax.nn.sigmoid(z)
        hidden = z * share
        slopes.append(share + hidden * (1 - share))
    above = [jnp.ones((len(hidden), 1))]
    for place in range(len(network) - 1, 0, -1):
        scale, _ = _scales(network, place)
        above.insert(0, above[0] @ (network[place][:-1] * scale).T * slopes[place - 1])
    return Linearised(z[:, 0], below, above)


def _solve(network: Network, anchor: Network, data: TrainingSet, noise: float | Array) -> Network:
    """The minimum of ``loss`` for the network linearised at its weights."""
    line = linearise(network, data.x)
    layers = list(zip(network, anchor, line.below, line.above, strict=True))
    moved = sum(jnp.sum((a @ (w - w0)) * d, axis=1) for w, w0, a, d in layers)
    used = data.used
    gram = jnp.where(used[:, None] & used, line.gram(), 0.0) + jnp.diag(jnp.where(used, noise**2, 1.0))
    wrong = jnp.where(used, data.y - line.output + moved, 0.0)
    duals = cho_solve(cho_factor(gram, lower=True), wrong)
    return tuple(w0 + a.T @ (d * duals[:, None]) for _, w0, a, d in layers)
