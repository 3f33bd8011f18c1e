"""Trains the ensembles of many seeds in one program, and predicts every architecture with each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor, Standardisation
from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.ensemble import (
    BIAS,
    WEIGHT,
    Network,
    TrainingSet,
    draw_networks,
    predict,
    predict_members,
    train,
)
from ncp_jax.searchers.inputs import Units, input_units, network_inputs, raw_inputs
from ncp_jax.spaces import get_space
from ncp_jax.spaces.base import CategoricalSpace
from ncp_jax.spaces.costs.model import shares_of
from ncp_jax.types import Array, Float, Int, Key, Params

QUALITY = MetricSpec("quality", unit="std")  # what all ensembles predict: normal scores, higher is better
TOGETHER = 10  # seeds whose ensembles are trained, and inverted, side by side
SALT = 0x1ABE15  # sets the draws of rows apart from others of a seed


@dataclasses.dataclass(frozen=True)
class EnsembleConfig:
    """Sizes of an ensemble; the defaults are those of the searchers, with more members.

    Attributes:
      members: number of networks.
      width: units of the hidden layer.
      noise: standard deviation of the labels' noise, in units of the normal scores.
      sweeps: steps of training.
    """

    members: int = 16
    width: int = 128
    noise: float = 0.4
    sweeps: int = 2


@dataclasses.dataclass(frozen=True)
class CodeNetwork:
    """An ``apply`` for inversion: one member's prediction of a relaxed code in raw units.

    Between legal codes, shares that do not sum to 1 are read as if they did, and those of letters that no code has at a
    position as 0: without a block, a code of TransNAS macro would have an infinite logarithm.

    Attributes:
      space: name of the space.
    """

    space: str

    def __call__(self, params: Params, relaxed: Float[Array, " f"]) -> Float[Array, " 1"]:
        """Returns the predicted quality."""
        space = get_space(self.space)
        if isinstance(space, CategoricalSpace) and not space.is_product:
            inside = shares_of(space, relaxed).reshape(relaxed.shape)
        else:
            inside = space.clip(relaxed)
        return predict(params, raw_inputs(self.space, inside[None]))


@dataclasses.dataclass(frozen=True)
class Ensembles:
    """Trained ensembles of r seeds.

    Attributes:
      networks: members that read standard inputs, leaves [r, members, …].
      units: units of the inputs.
      space: name of the space.
      mean: float32 [r, n], mean prediction of every architecture.
      spread: float32 [r, n], its standard deviation over the members.
    """

    networks: Network
    units: Units
    space: str
    mean: Float[np.ndarray, "r n"]
    spread: Float[np.ndarray, "r n"]

    def params(self) -> Params:
        """Returns the parameters of all ``CodeNetwork``, leaves [r, members, …]."""
        return read_raw(self.networks, self.units)

    def predictor(self, run: int) -> Predictor:
        """Returns the ensemble of one seed as a predictor."""
        return as_predictor(jax.tree.map(lambda leaf: leaf[run], self.params()), self.space)


def draw_labels(n: int, count: int, seeds: Sequence[int]) -> Int[np.ndarray, "r k"]:
    """Draws the rows that are labelled at each seed; of one seed, smaller sets are parts of larger ones."""
    return np.stack([np.random.default_rng([SALT, seed]).permutation(n)[:count] for seed in seeds])


def train_ensembles(
    candidates: Candidates,
    rows: Int[np.ndarray, "r k"],
    labels: Float[np.ndarray, "r k"],
    seeds: Sequence[int],
    config: EnsembleConfig,
) -> Ensembles:
    """Trains the ensemble of every seed (``searchers.ensemble.train``) on normal scores of its labels.

    Args:
      candidates: all architectures.
      rows: labelled rows.
      labels: their measured values, higher is better.
      seeds: seed of the networks and of the noise; an ensemble depends on its own alone.
      config: sizes.
    """
    units = input_units(candidates)
    inputs = network_inputs(candidates.space, candidates.relaxed, units)
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds, jnp.uint32))
    networks = _train(keys, inputs[jnp.asarray(rows)], jnp.asarray(labels, jnp.float32), config)
    mean, spread = _predict(networks, inputs)
    return Ensembles(networks, units, candidates.space, np.asarray(mean), np.asarray(spread))


@functools.partial(jax.jit, static_argnames="config")
def _train(key: Key, x: Float[Array, "r k g"], y: Float[Array, "r k"], config: EnsembleConfig) -> Network:
    def one(run: tuple[Key, Array, Array]) -> Network:
        own, inputs, values = run
        draws, noise = jax.random.split(own)
        used = jnp.ones(len(values), bool)
        data = TrainingSet(inputs, normal_scores(values, used), used)
        anchors = draw_networks(draws, config.members, inputs.shape[1], config.width, 1)
        return train(noise, anchors, data, config.noise, config.sweeps)

    return jax.lax.map(one, (key, x, y), batch_size=TOGETHER)


@jax.jit
def _predict(networks: Network, inputs: Float[Array, "n g"]) -> tuple[Float[Array, "r n"], Float[Array, "r n"]]:
    def one(network: Network) -> tuple[Array, Array]:
        values = predict_members(network, inputs)
        return values.mean(axis=0), values.std(axis=0)

    return jax.lax.map(one, networks)


def read_raw(networks: Network, units: Units) -> Params:
    """Returns networks that predict from raw inputs what ``networks`` predict from standard ones."""
    first, *others = networks
    kernel, bias = first[..., :-1, :], first[..., -1:, :]
    factor = WEIGHT / np.sqrt(kernel.shape[-2]) / BIAS  # how ``predict`` scales the two
    shift = jnp.einsum("g,...go->...o", units.mean * units.scale, kernel)[..., None, :]
    kernel = kernel * units.scale[:, None]
    return (jnp.concatenate([kernel, bias - shift * factor], axis=-2), *others)


def as_predictor(params: Params, space: str) -> Predictor:
    """Returns the predictor of ``CodeNetwork`` parameters; its standard units are raw units."""
    features = get_space(space).features
    scale = Standardisation(jnp.zeros(features), jnp.ones(features), jnp.zeros(1), jnp.ones(1))
    return Predictor(params, scale, CodeNetwork(space), (QUALITY,), space)
