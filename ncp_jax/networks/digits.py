"""Builds the networks of the shipped benchmark, ``digits``: a TransNAS micro cell on 8 x 8 images of one channel.

They are the networks that ``gated`` trains many at a time, as modules: a stem, the cell, half the sides and twice the
channels, the cell again, a head. BatchNorm has no scale and shift.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from flax import nnx

from ncp_jax.networks.cells import Cell
from ncp_jax.networks.counting import Operations
from ncp_jax.networks.families import NetworkFamily, Parts, Task
from ncp_jax.networks.layers import ConvBatchNorm, Linear, Parameters, average_pool, global_average, relu
from ncp_jax.spaces.costs.digits import CHANNELS, HEADS, SIDE
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO
from ncp_jax.types import Array, Float

CITATION = "The benchmark digits of ncp-jax; cells of Y. Duan et al. TransNAS-Bench-101. CVPR 2021. arXiv:2105.11871"
_PREFIX, _STRIDE = "digits/", 4


class DigitsReduction(nnx.Module):
    """ReLU, the average over 2x2 pixels, a 1x1 convolution and BatchNorm."""

    def __init__(self, inputs: int, outputs: int, *, parameters: Parameters) -> None:
        self.layer = ConvBatchNorm(inputs, outputs, 1, affine=False, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j d"]:
        """Returns [n, h / 2, w / 2, outputs]."""
        return self.layer(average_pool(relu(x), window=2, stride=2))


class DigitsHead(nnx.Module):
    """ReLU, then linear layers on the mean over pixels or on every pixel.

    Args:
      sizes: numbers of inputs, of the bottleneck where there is one, and of outputs.
      pooled: whether the input is the mean over pixels.
      parameters: source of the weights.
    """

    def __init__(self, sizes: Sequence[int], *, pooled: bool, parameters: Parameters) -> None:
        self.layers = nnx.List(Linear(*pair, parameters=parameters) for pair in itertools.pairwise(sizes))
        self.pooled = pooled

    def __call__(self, x: Float[Array, "n h w c"], shape: tuple[int, ...]) -> Float[Array, "n outputs"]:
        """Returns [n, outputs]."""
        x = relu(x)
        x = global_average(x) if self.pooled else x.reshape(len(x), -1)
        for layer in self.layers:
            x = layer(x)
        return x


def _make_task(name: str) -> Task:
    head, (first, second) = HEADS[name], CHANNELS

    def parts(code: Sequence[int], task: Task, outputs: int, parameters: Parameters) -> Parts:
        ops = [TRANSNAS_MICRO.ops[op] for op in code]
        stages = {
            "stem": ConvBatchNorm(1, first, 2, stride=2, affine=False, parameters=parameters),
            "cell 1": Cell(ops, first, first, affine=False, parameters=parameters),
            "reduction": DigitsReduction(first, second, parameters=parameters),
            "cell 2": Cell(ops, second, second, affine=False, parameters=parameters),
        }
        values = second if head.pooled else second * (SIDE // _STRIDE) ** 2
        sizes = [values, *([head.bottleneck] if head.bottleneck else []), outputs]
        return Parts(
            stages, DigitsHead(sizes, pooled=head.pooled, parameters=parameters), _STRIDE, whole=True, fixed=True
        )

    kind = "regression" if name in ("autoencoder", "edges") else "classification"
    return Task(kind, head.outputs, SIDE, channels=1, family=NetworkFamily({}, parts, flops, CITATION))


def flops(total: Operations, features: tuple[int, ...], tiles: int) -> int:
    """Returns the FLOPs as the benchmark counts them: multiply-adds of convolutions and of linear layers."""
    return total.convolved + total.multiplied


DIGITS_TASKS = {f"{_PREFIX}{name}": _make_task(name) for name in HEADS}
