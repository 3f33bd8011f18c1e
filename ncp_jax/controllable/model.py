"""Defines the controllable model: a shared slimmable encoder and one slimmable decoder for each task.

``encoders`` and ``decoders`` define what it is made of. That both are slimmable in width is the method of Aich et al.,
"Efficient controllable multi-task architectures", ICCV 2023.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax import checks
from ncp_jax.controllable.blocks import Mask
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.decoders import DECODERS
from ncp_jax.controllable.encoders import find_encoder
from ncp_jax.controllable.jigsaw import cut, permutations
from ncp_jax.controllable.layers import Statistics, active, copied
from ncp_jax.networks.layers import Parameters
from ncp_jax.types import Array, Float, Int, Key


class ControllableModel(nnx.Module):
    """A shared encoder and one decoder for each task, every stage and decoder of its own width.

    Attributes:
      config: its sizes.
      widths: widths that the layers have been sliced to; None for the whole model.
      statistics: statistics of BatchNorm at these widths, as in ``Statistics.given``; None for those of the batch.
    """

    def __init__(self, config: ModelConfig, key: Key | None) -> None:
        parameters = Parameters(key)
        self.encoder = nnx.List(find_encoder(config.encoder).parts(config.plan, config.colours, config, parameters))
        self.decoders = nnx.List(
            DECODERS[target.kind](target, config, parameters=parameters) for target in config.targets
        )
        self.config = config
        self.widths: tuple[int, ...] | None = None
        self.statistics: tuple[tuple[Array, Array], ...] | None = nnx.data(None)

    def encode(
        self, images: Float[Array, "n h w c"], widths: Int[Array, " s"] | None, statistics: Statistics
    ) -> list[Array]:
        """Returns the features of each stage, at the widths of the stages; None for all channels of the layers."""
        masks: list[Mask] = [
            None if widths is None else active(widths[place], channels)
            for place, channels in enumerate(self.config.channels)
        ]
        return find_encoder(self.config.encoder).features(self.encoder, images, masks, statistics)

    def decode(
        self, place: int, features: list[Array], width: Int[Array, ""] | None, statistics: Statistics
    ) -> Float[Array, "n ..."]:
        """Returns the outputs of one task's decoder, the ``place``-th, at a width, from features of images or tiles."""
        mask = None if width is None else active(width, self.config.decoder)
        return self.decoders[place](features, mask, statistics).astype(jnp.float32)

    def tiles(
        self, place: int, images: Float[Array, "n h w c"], classes: Int[Array, " n"] | None = None
    ) -> Float[Array, "m i j c"]:
        """Returns what the encoder sees of images for the ``place``-th task, a jigsaw: their tiles.

        Args:
          place: number of the task.
          images: the images.
          classes: the permutation that each image's tiles are put in; None, or -1 for an image, for their own order.
        """
        target = self.config.targets[place]
        cuts = cut(images, target.grid)
        if classes is not None:
            orders = jnp.asarray(permutations(target.grid, target.outputs))[jnp.maximum(classes, 0)]
            orders = jnp.where(classes[:, None] < 0, jnp.arange(target.grid**2), orders)
            cuts = jnp.take_along_axis(cuts, orders[:, :, None, None, None], axis=1)
        return cuts.reshape(-1, *cuts.shape[2:])

    def run(
        self,
        images: Float[Array, "n h w c"],
        widths: Int[Array, " d"] | None,
        statistics: Statistics,
        targets: Sequence[Array] | None = None,
    ) -> tuple[list[Array], tuple[Array, ...]]:
        """Returns the features of each stage for the images, and the outputs of each task.

        A jigsaw's decoder reads the features of tiles, from a pass of its own through the encoder.

        Args:
          images: the images.
          widths: a width configuration; None for all channels that the layers have.
          statistics: statistics of BatchNorm.
          targets: target of each task, of which those of jigsaws tell the order of the tiles; None for images whose
            tiles have been put in order.
        """
        stages = self.config.stages
        encoder = None if widths is None else widths[:stages]
        features, outputs = self.encode(images, encoder, statistics), []
        for place, target in enumerate(self.config.targets):
            seen = features
            if target.grid:
                order = None if targets is None else targets[place]
                seen = self.encode(self.tiles(place, images, order), encoder, statistics)
            outputs.append(self.decode(place, seen, None if widths is None else widths[stages + place], statistics))
        return features, tuple(outputs)

    def __call__(
        self,
        images: Float[Array, "n h w c"],
        widths: Int[Array, " d"] | None = None,
        statistics: Statistics | None = None,
    ) -> tuple[Array, ...]:
        """Returns the outputs of each task, at a width configuration; None for all channels that the layers have.

        The output of a jigsaw is the permutation that the tiles of the given images are in. Without statistics of
        BatchNorm, the model's own are used, or else those of the batch.
        """
        if statistics is None:
            statistics = Statistics(self.statistics if widths is None else None)
        return self.run(images, widths, statistics)[1]

    def sliced(self, widths: Any) -> ControllableModel:
        """Returns the sub-network of a width configuration: the same outputs, at its real cost.

        Raises:
          UsageError: widths that the model was not made for.
        """
        chosen = check_widths(self.config, widths)
        encoder, decoders = chosen[: self.config.stages], chosen[self.config.stages :]
        found = copied(self)
        family = find_encoder(self.config.encoder)
        found.encoder = nnx.List(family.sliced(self.encoder, self.config.colours, encoder))
        found.decoders = nnx.List(
            decoder.sliced(encoder, width) for decoder, width in zip(self.decoders, decoders, strict=True)
        )
        found.widths, found.statistics = tuple(chosen), nnx.data(None)
        return found


@functools.cache
def graph(config: ModelConfig) -> Any:
    """Returns the structure of the model of some sizes: ``nnx.merge(graph(config), params)`` is the model."""
    return nnx.split(ControllableModel(config, None))[0]


def check_widths(config: ModelConfig, widths: Any) -> list[int]:
    """Returns a width configuration as a list of integers.

    Raises:
      UsageError: another number of widths, or one that the model was not trained for.
    """
    given = np.asarray(widths).tolist()
    if not isinstance(given, list) or len(given) != len(config.names):
        raise checks.UsageError(
            expected=f"{len(config.names)} widths ({', '.join(config.names)})",
            got=repr(given),
            remedy="give one for each stage and decoder",
        )
    for name, width, trained in zip(config.names, given, config.widths, strict=True):
        if width not in trained:
            raise checks.UsageError(
                expected=f"{name} to be one of the trained widths {', '.join(map(str, trained))}",
                got=str(width),
                remedy="choose one of them",
            )
    return [int(width) for width in given]


def measured_statistics(
    model: ControllableModel, images: Float[Array, "n h w c"], widths: Int[Array, " d"] | None
) -> Statistics:
    """Returns the statistics of BatchNorm layers at a width configuration, measured on images; none for other norms."""
    if model.config.norm != "batch":
        return Statistics()
    found = Statistics()
    model(jax.lax.stop_gradient(images), widths, found)
    return Statistics(tuple(found.found))
