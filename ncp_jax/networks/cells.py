"""Builds the cells of NAS-Bench-201 and TransNAS-Bench-101 micro: four nodes, and an operation on each of six edges.

Operations on edges without effect are built too: the benchmarks trained and counted them.

Sources: Dong & Yang, ICLR 2020, arXiv 2001.00326; Duan et al., CVPR 2021, arXiv 2105.11871, with the network
definition in NASLib.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from ncp_jax.networks.layers import BatchNorm, ConvBatchNorm, Convolution, Parameters, average_pool, relu
from ncp_jax.spaces.cells import EDGES
from ncp_jax.types import Array, Float


class Skip(nnx.Module):
    """The identity."""

    def __call__(self, x: Array) -> Array:
        """Returns x."""
        return x


class AveragePool(nnx.Module):
    """The average over 3x3 windows, stride 1."""

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Returns an array of the same shape."""
        return average_pool(x, window=3, stride=1)


class FactorizedReduction(nnx.Module):
    """A skip that changes shape: ReLU, two 1x1 convolutions of stride 2 one pixel apart, concatenated, BatchNorm."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, parameters: Parameters) -> None:
        halves = (outputs // 2, outputs - outputs // 2)
        self.halves = nnx.List(Convolution(inputs, half, 1, stride=stride, parameters=parameters) for half in halves)
        self.norm = BatchNorm(outputs, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j d"]:
        """Returns [n, ceil(h / stride), ceil(w / stride), outputs]."""
        x = relu(x)
        shifted = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
        return self.norm(jnp.concatenate([self.halves[0](x), self.halves[1](shifted)], axis=-1))


def _operation(op: str, inputs: int, outputs: int, stride: int, affine: bool, parameters: Parameters) -> Any:
    """Returns the module of an operation, None for "none"."""
    if op == "none":
        return None
    if op == "skip_connect":
        if stride == 1 and inputs == outputs:
            return Skip()
        return FactorizedReduction(inputs, outputs, stride=stride, parameters=parameters)
    if op == "avg_pool_3x3":
        return AveragePool()
    kernel = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[op]
    return ConvBatchNorm(inputs, outputs, kernel, stride=stride, relu="before", affine=affine, parameters=parameters)


class Cell(nnx.Module):
    """A cell: each node is the sum of its edges, zero without any, and the last node is the output.

    Args:
      ops: names of the operations, in the order of ``EDGES``.
      inputs: channels of the input.
      outputs: channels of the output. The edges from node 0 change channels and resolution.
      stride: stride of the edges from node 0, 1 or 2.
      affine: whether BatchNorm after convolutions has a scale and a shift.
      parameters: source of the weights.
    """

    def __init__(
        self,
        ops: Sequence[str],
        inputs: int,
        outputs: int,
        *,
        stride: int = 1,
        affine: bool = True,
        parameters: Parameters,
    ) -> None:
        self.edges = nnx.List(
            _operation(op, *((inputs, outputs, stride) if source == 0 else (outputs, outputs, 1)), affine, parameters)
            for (source, _), op in zip(EDGES, ops, strict=True)
        )
        self.ops, self.inputs, self.outputs, self.stride = tuple(ops), inputs, outputs, stride

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j d"]:
        """Returns [n, ceil(h / stride), ceil(w / stride), outputs]."""
        n, height, width, _ = x.shape
        nothing = jnp.zeros((n, -(-height // self.stride), -(-width // self.stride), self.outputs), x.dtype)
        nodes = [x, nothing, nothing, nothing]
        for (source, target), edge in zip(EDGES, self.edges, strict=True):
            if edge is not None:
                nodes[target] = nodes[target] + edge(nodes[source])
        return nodes[-1]
