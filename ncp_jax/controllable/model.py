"""Defines the controllable model: a shared slimmable encoder and one slimmable decoder for each task.

The encoder is a small residual network, whose stages are a convolution and one residual block. A decoder of classes is
a convolution, the mean over pixels and a linear layer. A decoder of pixels enlarges the last stage's features stage by
stage and adds those of the earlier ones. Encoder and decoders are this project's choice; that both are slimmable in
width is the method of Aich et al., "Efficient controllable multi-task architectures", ICCV 2023.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax import checks
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.layers import SlimConvolution, SlimLinear, SlimNorm, Statistics, active, copied
from ncp_jax.controllable.tasks import Target
from ncp_jax.networks.layers import Parameters, global_average, relu, resize
from ncp_jax.types import Array, Float, Int, Key

Mask = Any  # a mask [c] of active channels, or None where all are


class ConvNorm(nnx.Module):
    """A convolution and a normalisation, slimmable; without ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, config: ModelConfig, *, parameters: Parameters, **options: Any
    ) -> None:
        self.convolution = SlimConvolution(inputs, outputs, kernel, parameters=parameters, **options)
        self.norm = SlimNorm(outputs, kind=config.norm, group=config.multiple, parameters=parameters)

    def __call__(
        self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics, other: Any = 0.0
    ) -> Float[Array, "n i j d"]:
        """Returns the normalised sum of the convolution and ``other``; a larger convolution loses its last pixels."""
        y = self.convolution(x, mask)
        if not isinstance(other, float):
            y = y[:, : other.shape[1], : other.shape[2]]
        return self.norm(y + other, mask, statistics)

    def sliced(self, inputs: int, outputs: int) -> ConvNorm:
        """Returns the layers of the first channels alone."""
        found = copied(self)
        found.convolution = self.convolution.sliced(inputs, outputs)
        found.norm = self.norm.sliced(outputs)
        return found


class Stage(nnx.Module):
    """A stage of the encoder: a convolution, then a residual block of two."""

    def __init__(self, inputs: int, outputs: int, stride: int, config: ModelConfig, *, parameters: Parameters) -> None:
        self.first = ConvNorm(inputs, outputs, 3, config, stride=stride, parameters=parameters)
        self.second = ConvNorm(outputs, outputs, 3, config, parameters=parameters)
        self.third = ConvNorm(outputs, outputs, 3, config, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics) -> Float[Array, "n i j d"]:
        """Returns the stage's features."""
        x = relu(self.first(x, mask, statistics))
        y = relu(self.second(x, mask, statistics))
        return relu(x + self.third(y, mask, statistics))

    def sliced(self, inputs: int, outputs: int) -> Stage:
        """Returns the stage of the first channels alone."""
        found = copied(self)
        found.first = self.first.sliced(inputs, outputs)
        found.second, found.third = self.second.sliced(outputs, outputs), self.third.sliced(outputs, outputs)
        return found


class ClassDecoder(nnx.Module):
    """One class for each image: a convolution of the last features, their mean over pixels, a linear layer."""

    def __init__(self, target: Target, config: ModelConfig, *, parameters: Parameters) -> None:
        self.layer = ConvNorm(config.channels[-1], config.decoder, 3, config, parameters=parameters)
        self.last = SlimLinear(config.decoder, target.outputs, parameters=parameters)

    def __call__(self, features: list[Array], mask: Mask, statistics: Statistics) -> Float[Array, "n classes"]:
        """Returns logits."""
        return self.last(global_average(relu(self.layer(features[-1], mask, statistics))))

    def sliced(self, encoder: list[int], width: int) -> ClassDecoder:
        """Returns the decoder of the first channels alone, for an encoder of some widths."""
        found = copied(self)
        found.layer = self.layer.sliced(encoder[-1], width)
        found.last = self.last.sliced(width, self.last.kernel.shape[1])
        return found


class PixelDecoder(nnx.Module):
    """Numbers or logits for each pixel: features are enlarged stage by stage, and those of earlier stages added."""

    def __init__(self, target: Target, config: ModelConfig, *, parameters: Parameters) -> None:
        width = config.decoder
        self.first = ConvNorm(config.channels[-1], width, 1, config, parameters=parameters)
        places = range(config.stages - 2, -1, -1)
        self.enlarging = nnx.List(
            ConvNorm(
                *(width, width, 3, config),
                stride=config.strides[place + 1],
                transposed=config.strides[place + 1] == 2,
                parameters=parameters,
            )
            for place in places
        )
        self.lateral = nnx.List(
            SlimConvolution(config.channels[place], width, 1, parameters=parameters) for place in places
        )
        self.last = SlimConvolution(width, target.outputs, 3, bias=True, parameters=parameters)
        self.side = config.side

    def __call__(self, features: list[Array], mask: Mask, statistics: Statistics) -> Float[Array, "n h w outputs"]:
        """Returns an output for each pixel of the image."""
        x = relu(self.first(features[-1], mask, statistics))
        for layer, lateral, earlier in zip(self.enlarging, self.lateral, features[-2::-1], strict=True):
            x = relu(layer(x, mask, statistics, lateral(earlier, mask)))
        return resize(self.last(x), self.side, self.side)

    def sliced(self, encoder: list[int], width: int) -> PixelDecoder:
        """Returns the decoder of the first channels alone, for an encoder of some widths."""
        found = copied(self)
        found.first = self.first.sliced(encoder[-1], width)
        found.enlarging = nnx.List(layer.sliced(width, width) for layer in self.enlarging)
        found.lateral = nnx.List(
            layer.sliced(inputs, width) for layer, inputs in zip(self.lateral, encoder[-2::-1], strict=True)
        )
        found.last = self.last.sliced(width, self.last.kernel.shape[-1])
        return found


class ControllableModel(nnx.Module):
    """A shared encoder and one decoder for each task, every stage and decoder of its own width.

    Attributes:
      config: its sizes.
      widths: widths that the layers have been sliced to; None for the whole model.
    """

    def __init__(self, config: ModelConfig, key: Key | None) -> None:
        parameters = Parameters(key)
        inputs = (config.colours, *config.channels[:-1])
        self.encoder = nnx.List(
            Stage(before, after, stride, config, parameters=parameters)
            for before, after, stride in zip(inputs, config.channels, config.strides, strict=True)
        )
        self.decoders = nnx.List(
            (ClassDecoder if target.kind == "classes" else PixelDecoder)(target, config, parameters=parameters)
            for target in config.targets
        )
        self.config = config
        self.widths: tuple[int, ...] | None = None

    def encode(
        self, images: Float[Array, "n h w c"], widths: Int[Array, " s"] | None, statistics: Statistics
    ) -> list[Array]:
        """Returns the features of each stage, at the widths of the stages; None for all channels of the layers."""
        features, x = [], images
        for place, stage in enumerate(self.encoder):
            mask = None if widths is None else active(widths[place], self.config.channels[place])
            x = stage(x, mask, statistics)
            features.append(x)
        return features

    def decode(
        self, place: int, features: list[Array], width: Int[Array, ""] | None, statistics: Statistics
    ) -> Float[Array, "n ..."]:
        """Returns the outputs of one task's decoder, the ``place``-th, at a width."""
        mask = None if width is None else active(width, self.config.decoder)
        return self.decoders[place](features, mask, statistics).astype(jnp.float32)

    def __call__(
        self,
        images: Float[Array, "n h w c"],
        widths: Int[Array, " d"] | None = None,
        statistics: Statistics | None = None,
    ) -> tuple[Array, ...]:
        """Returns the outputs of each task, at a width configuration; None for all channels that the layers have."""
        used = Statistics() if statistics is None else statistics
        stages = self.config.stages
        features = self.encode(images, None if widths is None else widths[:stages], used)
        return tuple(
            self.decode(place, features, None if widths is None else widths[stages + place], used)
            for place in range(len(self.decoders))
        )

    def sliced(self, widths: Any) -> ControllableModel:
        """Returns the sub-network of a width configuration: the same outputs, at its real cost.

        Raises:
          UsageError: widths that the model was not made for.
        """
        chosen = check_widths(self.config, widths)
        encoder, decoders = chosen[: self.config.stages], chosen[self.config.stages :]
        found = copied(self)
        inputs = [self.config.colours, *encoder[:-1]]
        found.encoder = nnx.List(
            stage.sliced(before, after) for stage, before, after in zip(self.encoder, inputs, encoder, strict=True)
        )
        found.decoders = nnx.List(
            decoder.sliced(encoder, width) for decoder, width in zip(self.decoders, decoders, strict=True)
        )
        found.widths = tuple(chosen)
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
