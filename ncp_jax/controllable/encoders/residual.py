"""Defines the small residual encoder: each stage is a convolution and one residual block. This project's choice."""

from __future__ import annotations

from typing import Any

from flax import nnx

from ncp_jax import checks
from ncp_jax.controllable.blocks import ConvNorm, Mask, count_normed
from ncp_jax.controllable.encoders.base import ChainEncoder, EncoderPlan, no_architecture
from ncp_jax.controllable.layers import Statistics, copied
from ncp_jax.controllable.settings import RESIDUAL, SizeOptions
from ncp_jax.networks.layers import Parameters, relu
from ncp_jax.spaces.costs.layers import Counts
from ncp_jax.types import Array, Float

CHANNELS = (8, 16, 24)


class Stage(nnx.Module):
    """A stage of the encoder: a convolution, then a residual block of two."""

    def __init__(self, inputs: int, outputs: int, stride: int, sizes: SizeOptions, *, parameters: Parameters) -> None:
        self.first = ConvNorm(inputs, outputs, 3, sizes, stride=stride, parameters=parameters)
        self.second = ConvNorm(outputs, outputs, 3, sizes, parameters=parameters)
        self.third = ConvNorm(outputs, outputs, 3, sizes, parameters=parameters)

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


class ResidualEncoder(ChainEncoder):
    """The residual encoder, of any number of stages. Decoders read the features of all."""

    name = RESIDUAL
    templates = ("residual.txt",)

    def __init__(self, architecture: str) -> None:
        no_architecture(RESIDUAL, architecture)
        self.text = RESIDUAL

    def plan(self, side: int, channels: tuple[int, ...], strides: tuple[int, ...]) -> EncoderPlan:
        """Returns the stages: by default of 8, 16 and 24 channels, all but the first with stride 2."""
        channels = channels or CHANNELS
        strides = strides or (1, *[2] * (len(channels) - 1))
        for one in channels:
            checks.integer("channels", one, least=1, remedy="see ModelConfig")
        if len(channels) != len(strides) or not {*strides} <= {1, 2}:
            raise checks.UsageError(
                expected="as many strides, each 1 or 2, as encoder stages",
                got=f"{len(channels)} stages with strides {strides}",
                remedy="give one for each stage",
            )
        count = len(channels)
        names = tuple(f"encoder[{place + 1}]" for place in range(count))
        return EncoderPlan(names, channels, strides, tuple(range(-1, count - 1)), tuple(range(count)), strides[1:])

    def parts(self, plan: EncoderPlan, colours: int, sizes: SizeOptions, parameters: Parameters) -> list[nnx.Module]:
        """Returns the stages."""
        inputs = (colours, *plan.channels[:-1])
        return [
            Stage(before, after, stride, sizes, parameters=parameters)
            for before, after, stride in zip(inputs, plan.channels, plan.strides, strict=True)
        ]

    def count_stage(self, plan: EncoderPlan, place: int, inputs: Any, outputs: Any, sides: tuple[int, ...]) -> Counts:
        """Returns the counts of three convolutions."""
        own = count_normed(3, outputs, outputs, sides[1])
        return count_normed(3, inputs, outputs, sides[1]) + own + own
