"""Blocks that several spaces' networks are made of: chains, residual blocks, shortcuts.

Sources: as in ``cells``.
"""

from __future__ import annotations

from collections.abc import Sequence

from flax import nnx

from ncp_jax.networks.layers import ConvBatchNorm, Convolution, Parameters, average_pool
from ncp_jax.types import Array, Float


class Chain(nnx.Module):
    """Applies modules one after the other."""

    def __init__(self, modules: Sequence[nnx.Module]) -> None:
        self.links = nnx.List(modules)

    def __call__(self, x: Array) -> Array:
        """Returns the output of the last module."""
        for module in self.links:
            x = module(x)
        return x


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions (ReLU before each), and a shortcut; no ReLU after the sum.

    Where the shape changes, the shortcut is a 1x1 convolution with BatchNorm. With ``pooled`` it is an average over
    2x2 pixels and a 1x1 convolution without BatchNorm.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int, pooled: bool, parameters: Parameters) -> None:
        self.first = ConvBatchNorm(inputs, outputs, 3, stride=stride, relu="before", parameters=parameters)
        self.second = ConvBatchNorm(outputs, outputs, 3, relu="before", parameters=parameters)
        self.shortcut: nnx.Module | None = nnx.data(None)
        if pooled:
            self.shortcut = PooledShortcut(inputs, outputs, stride=stride, parameters=parameters)
        elif stride != 1 or inputs != outputs:
            self.shortcut = ConvBatchNorm(inputs, outputs, 1, stride=stride, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j d"]:
        """Returns [n, ceil(h / stride), ceil(w / stride), outputs]."""
        return self.second(self.first(x)) + (x if self.shortcut is None else self.shortcut(x))


class PooledShortcut(nnx.Module):
    """An average over windows of ``stride``, and a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, parameters: Parameters) -> None:
        self.convolution = Convolution(inputs, outputs, 1, parameters=parameters)
        self.stride = stride

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j d"]:
        """Returns [n, h / stride, w / stride, outputs]."""
        return self.convolution(average_pool(x, window=self.stride, stride=self.stride))
