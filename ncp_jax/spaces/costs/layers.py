"""Counts single layers as TensorWatch's model statistics do: the convention of the TransNAS-Bench-101 figures.

``params``: weights, biases, the scale and shift of BatchNorm. ``flops``, for one image: multiply-adds of convolutions
and of linear layers, the bias additions of convolutions (not of linear layers), two operations for each number that a
BatchNorm returns, one for each number that a ReLU takes, ``(side + 1) ** 2`` for each channel that is averaged over
``side ** 2`` pixels. A transposed convolution counts as nothing, so the published costs of TransNAS decoders
are below the real ones.
"""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """Parameters and FLOPs, exact integers; ``+`` adds each of them."""

    params: int = 0
    flops: int = 0

    def __add__(self, other: tuple[int, ...]) -> Counts:  # type: ignore[override]
        return Counts(self.params + other[0], self.flops + other[1])


def halved(side: int, stride: int) -> int:
    """Returns the side behind a layer of stride 1 or 2, in pixels; one pixel stays one."""
    return -(-side // stride)


def convolution(kernel: int, inputs: int, outputs: int, side: int, *, bias: bool = False) -> Counts:
    """Returns the counts of a convolution whose output has ``side * side`` pixels."""
    params = kernel * kernel * inputs * outputs + (outputs if bias else 0)
    return Counts(params, params * side * side)


def batch_norm(channels: int, side: int) -> Counts:
    """Returns the counts of a BatchNorm with scale and shift."""
    return Counts(2 * channels, 2 * channels * side * side)


def relu(channels: int, side: int) -> Counts:
    """Returns the counts of a ReLU, leaky or not."""
    return Counts(0, channels * side * side)


def relu_conv_bn(kernel: int, inputs: int, outputs: int, side: int, stride: int = 1) -> Counts:
    """Returns the counts of ReLU, convolution without bias and BatchNorm; ``side`` is that of the input."""
    after = halved(side, stride)
    return relu(inputs, side) + convolution(kernel, inputs, outputs, after) + batch_norm(outputs, after)


def transnas_stem(image: int) -> Counts:
    """Returns the counts of TransNAS's stem: two 3x3 convolutions of stride 2, from 3 to 32 to 64 channels."""
    half = halved(image, 2)
    return convolution(3, 3, 32, half) + batch_norm(32, half) + relu_conv_bn(3, 32, 64, half, 2)
