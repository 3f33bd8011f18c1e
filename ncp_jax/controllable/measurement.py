"""Measures width configurations on the real model, many in one call.

A task's metric depends on the encoder's widths and its own decoder's alone. So each encoder configuration runs once,
and every decoder at each of its widths once on top of it, however many configurations are asked for. For a jigsaw the
encoder runs once more, on the tiles.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.layers import Statistics
from ncp_jax.controllable.losses import task_score
from ncp_jax.controllable.model import graph
from ncp_jax.controllable.tasks import Examples
from ncp_jax.controllable.widths import width_table
from ncp_jax.jax_settings import package_settings
from ncp_jax.types import Array, Float, Int, Params

PORTIONS = (4, 16)  # encoder configurations of one call, so that any number of them runs one of two programs
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
    images, truths = data
    decoders = jnp.asarray(width_table(model)[model.stages :])
    counted = model.norm == "batch"

    def one(encoder: Array) -> Array:
        network = nnx.merge(graph(model), params)

        def encoded(images: Array, calibration: Array) -> tuple[list[Array], list[Array]]:
            own = Statistics()
            seen = network.encode(calibration, encoder, own) if counted else []
            return seen, network.encode(images, encoder, Statistics(tuple(own.found)))

        def task(place: int, seen: list[Array], features: list[Array], width: Array) -> Array:
            own = Statistics()
            if counted:
                network.decode(place, seen, width, own)
            return network.decode(place, features, width, Statistics(tuple(own.found)))

        common, scores = encoded(images, calibration), []
        for place, (target, truth) in enumerate(zip(model.targets, truths, strict=True)):
            both = common
            if target.grid:
                # The order of the tiles changes no statistics: each is normalised by itself, or all together.
                both = encoded(network.tiles(place, images, truth), network.tiles(place, calibration))
            outputs = jax.vmap(functools.partial(task, place, *both))(decoders[place])
            scores.append(jax.vmap(lambda out, target=target, truth=truth: task_score(target, out, truth))(outputs))
        return jnp.stack(scores)

    return jax.lax.map(one, encoders)


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
    data: Any = (jnp.asarray(images), tuple(map(jnp.asarray, truths)))
    calibration = jnp.asarray(examples.part("train")[0][:CALIBRATION])
    encoders = np.unique(np.asarray(codes, np.int32)[:, : model.stages], axis=0)
    scores, portion = [], PORTIONS[len(encoders) > PORTIONS[0]]
    for first in range(0, len(encoders), portion):
        part = encoders[first : first + portion]
        padded = np.resize(part, (portion, model.stages))
        scores.append(np.asarray(_scores(params, padded, data, calibration, model=model))[: len(part)])
        if progress is not None:
            progress(first + len(part), len(encoders))
    return Measurement(model, encoders, np.concatenate(scores).astype(np.float64))
