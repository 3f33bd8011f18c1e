"""Defines the slimmable decoders, one for each kind of target, and counts them. All are this project's choice."""

from __future__ import annotations

from typing import Any

from flax import nnx

from ncp_jax.controllable.blocks import ConvNorm, Mask, count_convolution, count_normed
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.encoders import find_encoder
from ncp_jax.controllable.jigsaw import GRIDS
from ncp_jax.controllable.layers import SlimConvolution, SlimLinear, Statistics, copied
from ncp_jax.controllable.tasks import Target
from ncp_jax.networks.layers import Parameters, global_average, relu, resize
from ncp_jax.spaces.costs.layers import Counts
from ncp_jax.types import Array, Float


class ClassDecoder(nnx.Module):
    """One class for each image: a convolution of the coarsest features, their mean over pixels, a linear layer."""

    def __init__(self, target: Target, config: ModelConfig, *, parameters: Parameters) -> None:
        self.read = config.plan.read[-1]
        self.layer = ConvNorm(config.channels[self.read], config.decoder, 3, config, parameters=parameters)
        self.last = SlimLinear(config.decoder, target.outputs, parameters=parameters)

    def __call__(self, features: list[Array], mask: Mask, statistics: Statistics) -> Float[Array, "n classes"]:
        """Returns logits, from the features of all stages."""
        return self.last(global_average(relu(self.layer(features[self.read], mask, statistics))))

    def sliced(self, encoder: list[int], width: int) -> ClassDecoder:
        """Returns the decoder of the first channels alone, for an encoder of some widths."""
        found = copied(self)
        found.layer = self.layer.sliced(encoder[self.read], width)
        found.last = self.last.sliced(width, self.last.kernel.shape[1])
        return found

    @staticmethod
    def count(target: Target, config: ModelConfig, encoder: list[Any], width: Any) -> Counts:
        """Returns the counts for an encoder of some widths."""
        read, dense = config.plan.read[-1], width * target.outputs
        layer = count_normed(3, encoder[read], width, config.sides[read])
        return layer + Counts(dense + target.outputs, dense)


class PixelDecoder(nnx.Module):
    """Numbers or logits for each pixel: features are enlarged stage by stage, and those of earlier stages added."""

    def __init__(self, target: Target, config: ModelConfig, *, parameters: Parameters) -> None:
        width, plan = config.decoder, config.plan
        self.read = plan.read
        self.first = ConvNorm(config.channels[plan.read[-1]], width, 1, config, parameters=parameters)
        self.enlarging = nnx.List(
            ConvNorm(width, width, 3, config, stride=step, transposed=step == 2, parameters=parameters)
            for step in plan.steps[::-1]
        )
        self.lateral = nnx.List(
            SlimConvolution(config.channels[place], width, 1, parameters=parameters) for place in plan.read[-2::-1]
        )
        self.last = SlimConvolution(width, target.outputs, 3, bias=True, parameters=parameters)
        self.side = config.side

    def __call__(self, features: list[Array], mask: Mask, statistics: Statistics) -> Float[Array, "n h w outputs"]:
        """Returns an output for each pixel of the image, from the features of all stages."""
        x = relu(self.first(features[self.read[-1]], mask, statistics))
        for layer, lateral, place in zip(self.enlarging, self.lateral, self.read[-2::-1], strict=True):
            x = relu(layer(x, mask, statistics, lateral(features[place], mask)))
        return resize(self.last(x), self.side, self.side)

    def sliced(self, encoder: list[int], width: int) -> PixelDecoder:
        """Returns the decoder of the first channels alone, for an encoder of some widths."""
        found = copied(self)
        found.first = self.first.sliced(encoder[self.read[-1]], width)
        found.enlarging = nnx.List(layer.sliced(width, width) for layer in self.enlarging)
        found.lateral = nnx.List(
            layer.sliced(encoder[place], width) for layer, place in zip(self.lateral, self.read[-2::-1], strict=True)
        )
        found.last = self.last.sliced(width, self.last.kernel.shape[-1])
        return found

    @staticmethod
    def count(target: Target, config: ModelConfig, encoder: list[Any], width: Any) -> Counts:
        """Returns the counts for an encoder of some widths."""
        read, sides = config.plan.read, config.sides
        total = count_normed(1, encoder[read[-1]], width, sides[read[-1]])
        for finer, coarser in zip(read[-2::-1], read[:0:-1], strict=True):
            # A step of 2 is undone by a transposed convolution, which reads the smaller image.
            total += count_normed(3, width, width, sides[coarser])
            total += count_convolution(1, encoder[finer], width, sides[finer])
        return total + count_convolution(3, width, target.outputs, sides[read[0]]) + Counts(target.outputs, 0)


class JigsawDecoder(nnx.Module):
    """The permutation of an image's tiles: as of classes, but the linear layer sees the means of all tiles."""

    def __init__(self, target: Target, config: ModelConfig, *, parameters: Parameters) -> None:
        self.read, self.tiles = config.plan.read[-1], target.grid**2
        self.layer = ConvNorm(config.channels[self.read], config.decoder, 3, config, parameters=parameters)
        self.last = SlimLinear(self.tiles * config.decoder, target.outputs, parameters=parameters)

    def __call__(self, features: list[Array], mask: Mask, statistics: Statistics) -> Float[Array, "n classes"]:
        """Returns logits, from the features of all tiles, [n * tiles, h, w, c] of each stage."""
        means = global_average(relu(self.layer(features[self.read], mask, statistics)))
        # Channel by channel, so that the first channels of all tiles come first.
        by_channel = means.reshape(-1, self.tiles, means.shape[-1]).swapaxes(1, 2)
        return self.last(by_channel.reshape(len(by_channel), -1))

    def sliced(self, encoder: list[int], width: int) -> JigsawDecoder:
        """Returns the decoder of the first channels alone, for an encoder of some widths."""
        found = copied(self)
        found.layer = self.layer.sliced(encoder[self.read], width)
        found.last = self.last.sliced(self.tiles * width, self.last.kernel.shape[1])
        return found

    @staticmethod
    def count(target: Target, config: ModelConfig, encoder: list[Any], width: Any) -> Counts:
        """Returns the counts for an encoder of some widths, its multiply-adds for the tiles included."""
        read, tiles, side = config.plan.read[-1], target.grid**2, config.side // target.grid
        layer = count_normed(3, encoder[read], width, config.plan.sides(side)[read])
        encoding = find_encoder(config.encoder).count(config.plan, config.colours, encoder, side)
        dense = tiles * width * target.outputs
        return Counts(layer.params + dense + target.outputs, tiles * (layer.flops + encoding.flops) + dense)


DECODERS: dict[str, Any] = {"classes": ClassDecoder, "labels": PixelDecoder, "pixels": PixelDecoder}
DECODERS |= dict.fromkeys(GRIDS, JigsawDecoder)
