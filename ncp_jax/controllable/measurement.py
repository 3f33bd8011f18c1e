"""Measures width configurations on the real model, many in one call.

A task's metric depends on the encoder's widths and its own decoder's alone. So each encoder configuration runs once,
and every decoder at each of its widths once on top of it, however many configurations are asked for. For a jigsaw the
encoder runs once more, on the tiles.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.layers import Statistics
from ncp_jax.controllable.losses import known_means, score_of_sums, score_sums
from ncp_jax.controllable.model import ControllableModel, graph
from ncp_jax.controllable.tasks import Examples
from ncp_jax.controllable.widths import width_table
from ncp_jax.cores import usable_cores
from ncp_jax.jax_settings import package_settings
from ncp_jax.types import Array, Float, Int, Params

PORTIONS = (4, 16)  # encoder configurations of one call, so that any number of them runs one of two programs
# Pixels of the images that pass the network together. Their features take most of the memory, and should fit a CPU's
# cache.
PIXELS, PIXELS_ON_CPU = 2**16, 2**11
CALIBRATION = 256  # training images that statistics of BatchNorm are measured on


@dataclasses.dataclass(frozen=True, eq=False)
class Measurement:
    """Scores of encoder configurations with every width of every decoder.

    Attributes:
      config: sizes of the model.
      encoders: ``[e, stages]`` widths of the encoder.
      scores: ``[e, tasks, k]`` metric of each task in percent at each of its decoder's k widths; NaN where an output
        is not finite.
    """

    config: ModelConfig
    encoders: Int[np.ndarray, "e s"]
    scores: Float[np.ndarray, "e t k"]

    def all_codes(self) -> Int[np.ndarray, "n d"]:
        """Returns the configurations whose encoder was measured, with every width of every decoder."""
        table = width_table(self.config)[self.config.stages :]
        digits = np.stack(np.meshgrid(*[np.arange(table.shape[1])] * len(table), indexing="ij"), axis=-1)
        digits = digits.reshape(-1, len(table))
        decoders = table[np.arange(len(table)), digits]
        return np.concatenate(
            [np.repeat(self.encoders, len(decoders), axis=0), np.tile(decoders, (len(self.encoders), 1))], axis=1
        ).astype(np.int32)

    def of(self, codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, "n t"]:
        """Returns each task's metric of configurations; NaN for those whose encoder was not measured."""
        stages, table = self.config.stages, width_table(self.config)
        place = {tuple(row): number for number, row in enumerate(self.encoders.tolist())}
        rows = np.array([place.get(tuple(code), -1) for code in codes[:, :stages].tolist()], int)
        digits = (codes[:, stages:, None] == table[None, stages:]).argmax(axis=-1)
        found = self.scores[rows[:, None], np.arange(len(self.config.targets)), digits]
        return np.where(rows[:, None] < 0, np.nan, found)

    def joined(self, other: Measurement) -> Measurement:
        """Returns both; encoder configurations measured twice appear once."""
        known = {tuple(row) for row in self.encoders.tolist()}
        new = np.array([tuple(row) not in known for row in other.encoders.tolist()], bool)
        return dataclasses.replace(
            self,
            encoders=np.concatenate([self.encoders, other.encoders[new]]),
            scores=np.concatenate([self.scores, other.scores[new]]),
        )


@functools.partial(jax.jit, static_argnames=("model",))
def _scores(
    params: Params, encoders: Array, data: tuple[Array, tuple[Array, ...]], calibration: Array, *, model: ModelConfig
) -> Float[Array, "e t k"]:
    """Returns the scores of encoder configurations; the images and targets have a leading axis of portions."""
    decoders = jnp.asarray(width_table(model)[model.stages :])
    means = [
        known_means(t, truth.reshape(-1, *truth.shape[2:])) for t, truth in zip(model.targets, data[1], strict=True)
    ]

    def one(encoder: Array) -> Array:
        network = nnx.merge(graph(model), params)
        calibrated = _calibrated(network, encoder, decoders, calibration)

        def portion(part: tuple[Array, tuple[Array, ...]]) -> Array:
            images, truths = part
            common, sums = network.encode(images, encoder, Statistics(calibrated.whole)), []
            for place, (target, truth) in enumerate(zip(model.targets, truths, strict=True)):
                features = common
                if target.grid:
                    # The order of the tiles changes no statistics: each is normalised by itself, or all together.
                    tiles = network.tiles(place, images, truth)
                    features = network.encode(tiles, encoder, Statistics(calibrated.tiles[place]))
                measured = functools.partial(_sums, network, place, features, truth, means[place])
                sums.append(jax.vmap(measured)(decoders[place], calibrated.decoders[place]))
            return jnp.stack(sums)

        return score_of_sums(jax.lax.map(portion, data).sum(axis=0))

    return jax.lax.map(one, encoders)


def _sums(
    network: ControllableModel, place: int, features: list[Array], truth: Array, means: Array, width: Array, found: Any
) -> Float[Array, "3"]:
    """Returns what the metric of a task is made of, at one width of its decoder."""
    outputs = network.decode(place, features, width, Statistics(found))
    return score_sums(network.config.targets[place], outputs, truth, means)


class _Calibrated(NamedTuple):
    """Statistics of BatchNorm: of the encoder on images and, for each jigsaw, on tiles; of each decoder's widths."""

    whole: Any
    tiles: list[Any]
    decoders: list[Any]


def _calibrated(network: ControllableModel, encoder: Array, decoders: Array, images: Array) -> _Calibrated:
    """Returns the statistics at one width of the encoder, empty ones without BatchNorm."""
    empty: list[Any] = [()] * len(decoders)
    if network.config.norm != "batch":
        return _Calibrated((), empty, empty)

    def encoded(images: Array) -> tuple[list[Array], Any]:
        own = Statistics()
        return network.encode(images, encoder, own), tuple(own.found)

    def of_width(place: int, seen: list[Array], width: Array) -> Any:
        own = Statistics()
        network.decode(place, seen, width, own)
        return tuple(own.found)

    common, tiles, found = encoded(images), list(empty), []
    for place, target in enumerate(network.config.targets):
        seen, tiles[place] = encoded(network.tiles(place, images)) if target.grid else common
        found.append(jax.vmap(functools.partial(of_width, place, seen))(decoders[place]))
    return _Calibrated(common[1], tiles, found)


def _in_portions(array: np.ndarray, size: int, rest: float) -> Array:
    """Returns images, or targets, in portions ``[p, size, ...]``, the last one filled up with ``rest``."""
    missing = -len(array) % size
    filled = np.concatenate([array, np.full((missing, *array.shape[1:]), rest, array.dtype)])
    return jnp.asarray(filled.reshape(-1, size, *array.shape[1:]))


@package_settings
def measure(
    model: ModelConfig,
    params: Params,
    examples: Examples,
    codes: Int[np.ndarray, "n d"],
    *,
    split: str = "validation",
    progress: Callable[[int, int], None] | None = None,
) -> Measurement:
    """Measures the metrics of width configurations, and of all others with the same encoders.

    Args:
      model: sizes of the model.
      params: its weights.
      examples: the examples.
      codes: width configurations.
      split: part of the examples that the metrics are measured on.
      progress: callback, called with (encoder configurations done, all of them).
    """
    images, truths = examples.part(split)
    on_cpu = jax.default_backend() == "cpu"
    size = min(len(images), max(1, (PIXELS_ON_CPU if on_cpu else PIXELS) // model.side**2))
    rests = [np.nan if target.kind == "pixels" else -1 for target in model.targets]  # what does not count
    data: Any = (
        _in_portions(images, size, 0),
        tuple(_in_portions(truth, size, rest) for truth, rest in zip(truths, rests, strict=True)),
    )
    calibration = jnp.asarray(examples.part("train")[0][:CALIBRATION])
    encoders = np.unique(np.asarray(codes, np.int32)[:, : model.stages], axis=0)
    portion = PORTIONS[len(encoders) > PORTIONS[0]]
    parts = [encoders[first : first + portion] for first in range(0, len(encoders), portion)]

    @package_settings  # they hold in the thread that entered them alone
    def measured(part: Int[np.ndarray, "e s"]) -> Float[np.ndarray, "e t k"]:
        padded = np.resize(part, (portion, model.stages))
        return np.asarray(_scores(params, padded, data, calibration, model=model))[: len(part)]

    scores: list[np.ndarray] = []
    # XLA computes such small arrays on one core.
    with ThreadPoolExecutor(usable_cores() if on_cpu else 1) as pool:
        for done in pool.map(measured, parts):
            scores.append(done)
            if progress is not None:
                progress(sum(map(len, scores)), len(encoders))
    return Measurement(model, encoders, np.concatenate(scores).astype(np.float64))
