"""Encoders made of modules: TransNAS-Bench-101 (macro and micro) and NAS-Bench-201.

Sources: as in ``cells``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flax import nnx

from ncp_jax.networks.cells import Cell
from ncp_jax.networks.layers import ConvBatchNorm, Convolution, Parameters, average_pool
from ncp_jax.spaces.cells import NAS_BENCH_201_OPS, TRANSNAS_MICRO_OPS
from ncp_jax.spaces.macro import doubles, halves
from ncp_jax.types import Array, Float

BASE = 64  # channels after TransNAS's stem, which makes one pixel of 4 x 4
SKELETON = (4, 1, 4, 1, 4)  # the modules around TransNAS's cells
BLOCKS = 2  # in each module of TransNAS
WIDTHS, CELLS = (16, 32, 64), 5  # NAS-Bench-201: channels, and cells in a row at each of them
_Block = Callable[[int, int, int], nnx.Module]


class Chain(nnx.Module):
    """Modules one after the other."""

    def __init__(self, modules: Sequence[nnx.Module]) -> None:
        self.links = nnx.List(modules)

    def __call__(self, x: Array) -> Array:
        """Returns what the last one returns."""
        for module in self.links:
            x = module(x)
        return x


class BasicBlock(nnx.Module):
    """Two 3x3 convolutions (ReLU before each), and a shortcut; no ReLU after the sum.

    Where the shape changes the shortcut is a 1x1 convolution with BatchNorm; with ``pooled`` it is an average over 2x2
    pixels and a 1x1 convolution alone.
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
    """The average over windows of ``stride``, and a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, parameters: Parameters) -> None:
        self.convolution = Convolution(inputs, outputs, 1, parameters=parameters)
        self.stride = stride

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j d"]:
        """Returns [n, h / stride, w / stride, outputs]."""
        return self.convolution(average_pool(x, window=self.stride, stride=self.stride))


def _modules(types: Sequence[int], block: _Block, parameters: Parameters) -> tuple[dict[str, nnx.Module], int, int]:
    """Returns TransNAS's stages, their last channels, and pixels of the image for one of their features, a side."""
    half = ConvBatchNorm(3, BASE // 2, 3, stride=2, parameters=parameters)
    stem = Chain([half, ConvBatchNorm(BASE // 2, BASE, 3, stride=2, relu="before", parameters=parameters)])
    stages: dict[str, nnx.Module] = {"stem": stem}
    channels, total = BASE, 4
    for place, kind in enumerate(types, start=1):
        before, stride = channels, 1 + halves(kind)
        channels, total = channels << doubles(kind), total * stride
        blocks = [block(before, channels, stride), *(block(channels, channels, 1) for _ in range(BLOCKS - 1))]
        stages[f"module {place}"] = Chain(blocks)
    return stages, channels, total


def micro_encoder(code: Sequence[int], parameters: Parameters) -> tuple[dict[str, nnx.Module], int, int]:
    """Returns the stages of a TransNAS micro code, their last channels (512) and stride (32)."""
    ops = [TRANSNAS_MICRO_OPS[op] for op in code]

    def block(inputs: int, outputs: int, stride: int) -> nnx.Module:
        return Cell(ops, inputs, outputs, stride=stride, parameters=parameters)

    return _modules(SKELETON, block, parameters)


def macro_encoder(code: Sequence[int], parameters: Parameters) -> tuple[dict[str, nnx.Module], int, int]:
    """Returns the stages of a TransNAS macro code, their last channels (128 to 512) and stride (8 to 64)."""

    def block(inputs: int, outputs: int, stride: int) -> nnx.Module:
        return BasicBlock(inputs, outputs, stride=stride, pooled=False, parameters=parameters)

    return _modules([kind for kind in code if kind], block, parameters)


def nas_bench_201_encoder(code: Sequence[int], parameters: Parameters) -> tuple[dict[str, nnx.Module], int, int]:
    """Returns the stages of a NAS-Bench-201 code, their last channels (64) and stride (4)."""
    ops = [NAS_BENCH_201_OPS[op] for op in code]
    stages: dict[str, nnx.Module] = {"stem": ConvBatchNorm(3, WIDTHS[0], 3, parameters=parameters)}
    for place, width in enumerate(WIDTHS):
        if place:
            stages[f"reduction {place}"] = BasicBlock(
                WIDTHS[place - 1], width, stride=2, pooled=True, parameters=parameters
            )
        stages[f"cells {place + 1}"] = Chain([Cell(ops, width, width, parameters=parameters) for _ in range(CELLS)])
    return stages, WIDTHS[-1], 2 ** (len(WIDTHS) - 1)
