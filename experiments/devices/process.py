"""A Gaussian process for few measurements: its hyper-parameters are averaged, not chosen.

The covariance is a sum over blocks of features of a linear and a smooth part, each with its own variance. Ten
measurements do not tell these variances. Many settings are drawn from their priors, and the predictions of all are
averaged, weighted by how probable each makes the measurements (Rasmussen and Williams, 2006, section 5.2).

The processes of ``ncp_jax.searchers`` are others: their hyper-parameters are the most probable ones, their covariances
have one smooth part over all features, and they compute in float32, for which the hyper-parameters are bounded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ncp_jax.types import Float, Int

SETTINGS, USED = 400, 40  # settings drawn, and those of the largest weights that predict
CANDIDATES = 2000  # architectures among which those to measure are chosen
# Medians of the priors, for values and features of unit variance: of the linear part by other devices and by the
# structure, the smooth part, length-scales, noise. Chosen of six on 1080ti_1 and pixel3, which are no targets.
_DEVICES, _STRUCTURE, _SMOOTH, _LENGTH, _NOISE = 2.0, 0.2, 0.1, 1.5, 0.02


class Pairs(NamedTuple):
    """What covariances are made of, for pairs of architectures: mean products and squared differences, by block."""

    products: Float[np.ndarray, "blocks a b"]
    squares: Float[np.ndarray, "blocks a b"]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Hyper-parameters, one row a setting: variances ``[k, blocks]`` of both parts, length-scales, noise ``[k]``."""

    linear: Float[np.ndarray, "k blocks"]
    smooth: Float[np.ndarray, "k blocks"]
    length: Float[np.ndarray, "k blocks"]
    noise: Float[np.ndarray, " k"]

    @classmethod
    def draw(cls, blocks: int, *, sources: bool) -> Settings:
        """Returns the settings that every prediction averages: log-normal draws from one fixed seed.

        Args:
          blocks: number of blocks of features.
          sources: whether the first block is that of other devices, which is expected to say more than all others.
        """
        rng = np.random.default_rng(0)
        linear = _medians(blocks, sources=sources)
        shape = (SETTINGS, blocks)
        return cls(
            np.exp(rng.normal(np.log(linear), 1.5, shape)),
            np.exp(rng.normal(np.log(_SMOOTH / np.sqrt(blocks)), 1.5, shape)),
            np.exp(rng.normal(np.log(_LENGTH), 0.5, shape)),
            np.exp(rng.normal(np.log(_NOISE), 1.2, SETTINGS)),
        )

    def covariance(self, row: int, pairs: Pairs) -> Float[np.ndarray, "a b"]:
        """Returns the covariance of noise-free values under one setting."""
        total = np.tensordot(self.linear[row], pairs.products, 1)
        for variance, length, squares in zip(self.smooth[row], self.length[row], pairs.squares, strict=True):
            total += variance * np.exp(-0.5 / length**2 * squares)
        return total


def _medians(blocks: int, *, sources: bool) -> Float[np.ndarray, " blocks"]:
    """Returns the prior medians of the linear part's variances."""
    total = _STRUCTURE if sources else 1.0
    linear = np.full(blocks, total / max(blocks - sources, 1))
    if sources:
        linear[0] = _DEVICES
    return linear


def pairs_of(features: Sequence[Float[np.ndarray, "n f"]], a: Int[np.ndarray, " a"], b: Int[np.ndarray, " b"]) -> Pairs:
    """Returns the products and squared differences of two sets of rows."""
    products, squares = [], []
    for block in features:
        p, q = block[a], block[b]
        product = p @ q.T / block.shape[1]
        products.append(product)
        square = (p**2).mean(axis=1)[:, None] + (q**2).mean(axis=1) - 2 * product
        squares.append(np.maximum(square, 0.0))
    return Pairs(np.stack(products), np.stack(squares))


class Prediction(NamedTuple):
    """Predicted logarithms of latencies, and their standard deviations, ``[n]`` each."""

    mean: Float[np.ndarray, " n"]
    spread: Float[np.ndarray, " n"]


def predict(
    features: Sequence[Float[np.ndarray, "n f"]],
    rows: Int[np.ndarray, " k"],
    milliseconds: Float[np.ndarray, " k"],
    *,
    sources: bool,
) -> Prediction:
    """Predicts the latency of every architecture from those of some.

    Args:
      features: blocks of features of all n architectures.
      rows: the measured ones.
      milliseconds: their latencies.
      sources: whether the first block is that of other devices.
    """
    logs = np.log(milliseconds)
    centre, scale = logs.mean(), max(logs.std(), 1e-9)
    values = (logs - centre) / scale
    settings = Settings.draw(len(features), sources=sources)
    among = pairs_of(features, rows, rows)
    evidence, solutions = np.empty(SETTINGS), []
    for row in range(SETTINGS):
        covariance = settings.covariance(row, among) + settings.noise[row] * np.eye(len(rows))
        factor = np.linalg.cholesky(covariance)
        whitened = np.linalg.solve(factor, values)
        evidence[row] = -0.5 * whitened @ whitened - np.log(np.diag(factor)).sum()
        solutions.append((factor, whitened))
    chosen = np.argsort(-evidence, kind="stable")[:USED]
    weights = np.exp(evidence[chosen] - evidence[chosen[0]])
    weights /= weights.sum()
    to_all = pairs_of(features, rows, np.arange(len(features[0])))
    own = np.stack([(block**2).mean(axis=1) for block in features])
    first, second = np.zeros(own.shape[1]), np.zeros(own.shape[1])
    for weight, row in zip(weights, chosen, strict=True):
        factor, whitened = solutions[row]
        across = np.linalg.solve(factor, settings.covariance(row, to_all))
        mean = whitened @ across
        variance = settings.linear[row] @ own + settings.smooth[row].sum() - (across**2).sum(axis=0)
        first += weight * mean
        second += weight * (mean**2 + np.maximum(variance, 0.0) + settings.noise[row])
    spread = np.sqrt(np.maximum(second - first**2, 0.0))
    return Prediction(centre + scale * first, scale * spread)


def choose_spread(
    features: Sequence[Float[np.ndarray, "n f"]],
    allowed: Int[np.ndarray, " m"],
    count: int,
    rng: np.random.Generator,
    *,
    sources: bool,
) -> Int[np.ndarray, " count"]:
    """Returns architectures to measure: the first at random, each next one where the process is least certain.

    Under the priors' medians this is the greedy choice of the largest determinant (a pivoted Cholesky factorisation).

    Args:
      features: blocks of features of all architectures.
      allowed: rows that may be measured; at random, ``CANDIDATES`` of them are looked at.
      count: how many to choose.
      rng: source of randomness.
      sources: whether the first block is that of other devices.
    """
    rows = rng.choice(allowed, min(CANDIDATES, len(allowed)), replace=False)
    pairs, blocks = pairs_of(features, rows, rows), len(features)
    linear = _medians(blocks, sources=sources)
    median = Settings(
        linear[None], np.full((1, blocks), _SMOOTH / np.sqrt(blocks)), np.full((1, blocks), _LENGTH), np.array([_NOISE])
    )
    covariance = median.covariance(0, pairs)
    left, columns, picked = np.diag(covariance).copy(), np.zeros((0, len(rows))), [int(rng.integers(len(rows)))]
    while len(picked) < count:
        last = picked[-1]
        column = (covariance[:, last] - columns[:, last] @ columns) / np.sqrt(max(left[last], 0.0) + _NOISE)
        columns = np.vstack([columns, column])
        left -= column**2
        left[picked] = -np.inf
        picked.append(int(left.argmax()))
    return rows[np.array(picked)]
