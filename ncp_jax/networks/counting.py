"""Counts the parameters of a network and the operations of one forward pass, without running it.

The forward pass is traced with shapes alone, and its operations are read from the traced program: multiply-adds from
the shapes of convolutions and matrix products, the rest from the names that ``layers`` gives its results. Nothing is
optimised away before that: a layer whose result is not used counts, as it does in the counts that benchmarks publish.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from flax import nnx
from jax.extend.core import jaxprs_in_params

from ncp_jax.networks.layers import ACTIVATION, BATCH_NORM, BIAS, LINEAR_BIAS, POOLING
from ncp_jax.networks.network import Network

_NAMES = {
    BATCH_NORM: "normalised",
    BIAS: "biased",
    LINEAR_BIAS: "linear_biased",
    ACTIVATION: "activated",
    POOLING: "pooled",
}


@dataclasses.dataclass(frozen=True)
class Operations:
    """Operations of one forward pass.

    Attributes:
      convolved: multiply-adds of convolutions that are not transposed.
      transposed: multiply-adds of transposed convolutions, by the pixels that they read, without the zeros in between.
      multiplied: multiply-adds of linear layers.
      biased: numbers to which a convolution (not transposed) adds a bias.
      linear_biased: numbers to which a linear layer adds a bias.
      normalised: numbers that BatchNorm layers return.
      activated: numbers that ReLU and leaky ReLU return.
      pooled: numbers that average pools with a window read; the average over all pixels is not one of them.
    """

    convolved: int = 0
    transposed: int = 0
    multiplied: int = 0
    biased: int = 0
    linear_biased: int = 0
    normalised: int = 0
    activated: int = 0
    pooled: int = 0

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of convolutions and linear layers."""
        return self.convolved + self.transposed + self.multiplied


def count_parameters(module: nnx.Module) -> int:
    """Returns the number of trainable numbers of a module: weights, biases, scale and shift of BatchNorm.

    Args:
      module: a module, with values or abstract (see ``build``).
    """
    return _size(nnx.state(module, nnx.Param))


def count_operations(module: nnx.Module, *shape: int) -> Operations:
    """Returns the operations of a forward pass in evaluation mode; nothing is computed.

    Args:
      module: a network of ``build``, or another module made of its layers, with values or abstract.
      *shape: the shape of the input, the batch first: ``count_operations(network, 1, 128, 128, 3)``.
    """
    return _trace(module, jax.ShapeDtypeStruct(shape, jnp.float32))[0]


@dataclasses.dataclass(frozen=True)
class StageCount:
    """Counts of one stage of a network.

    Attributes:
      name: name of the stage; "head" for the last one.
      outputs: shapes of its outputs, finest first.
      parameters: number of its trainable numbers.
      operations: its operations in one forward pass.
    """

    name: str
    outputs: tuple[tuple[int, ...], ...]
    parameters: int
    operations: Operations


def count_stages(network: Network, shape: tuple[int, ...]) -> list[StageCount]:
    """Returns the counts of each stage of a network, the head last, for an input of that shape.

    Raises:
      UsageError: the network does not take inputs of that shape.
    """
    network.form.check(shape)
    modules: list[tuple[str, Any, tuple[Any, ...]]] = [(name, network.stages[name], ()) for name in network.names]
    modules.append(("head", network.head, (shape,)))
    features: Any = jax.ShapeDtypeStruct((math.prod(shape[:-3]), *shape[-3:]), jnp.float32)
    counts = []
    for name, module, static in modules:
        operations, parameters, features = _trace(module, features, *static)
        outputs = tuple(tuple(leaf.shape) for leaf in jax.tree.leaves(features))
        counts.append(StageCount(name, outputs, parameters, operations))
    return counts


def _trace(module: nnx.Module, inputs: Any, *static: Any) -> tuple[Operations, int, Any]:
    """Returns the operations of a forward pass, the module's parameters, and the shapes of its outputs.

    Args:
      module: as in ``count_operations``.
      inputs: arrays or shapes, in the structure that the module takes.
      *static: further arguments, constants.
    """
    split: Any = nnx.split(module, nnx.Param, ...)
    graph, params, rest = split

    def forward(params: Any, rest: Any, inputs: Any) -> Any:
        copy = nnx.merge(graph, params, rest)
        copy.eval()
        return copy(inputs, *static)

    program, outputs = jax.make_jaxpr(forward, return_shape=True)(params, rest, inputs)
    return Operations(**_count(program.jaxpr, {})), _size(params), outputs


def _size(params: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


_Counts: TypeAlias = dict[str, int]


def _count(program: Any, known: dict[int, _Counts]) -> _Counts:
    """Returns the operations of a program by kind; ``known`` caches those of its parts, which repeat."""
    if id(program) not in known:
        total: _Counts = {}
        for equation in program.eqns:
            for kind, count in _count_equation(equation, known):
                total[kind] = total.get(kind, 0) + count
        known[id(program)] = total
    return known[id(program)]


def _count_equation(equation: Any, known: dict[int, _Counts]) -> Iterator[tuple[str, int]]:
    """Yields kinds of operations and how many of each an equation does; a kind may repeat."""
    primitive, params = equation.primitive.name, equation.params
    if primitive == "name":
        if params["name"] in _NAMES:
            yield _NAMES[params["name"]], equation.outvars[0].aval.size
    elif primitive == "conv_general_dilated":
        kernel, outputs = equation.invars[1].aval, equation.outvars[0].aval
        # Each number of the output reads the kernel's size divided by its output channels.
        read = kernel.size // kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        enlarged = math.prod(params["lhs_dilation"])
        yield ("convolved" if enlarged == 1 else "transposed"), outputs.size * read // enlarged
    elif primitive == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        yield "multiplied", equation.outvars[0].aval.size * math.prod(left[axis] for axis in contracted)
    elif params.get("name") != "resize":
        for part in jaxprs_in_params(params):
            yield from _count(part, known).items()
