"""Counts of a network that is never run: its parameters, and the operations of one forward pass.

The forward pass is traced with shapes alone, and its operations are read from the traced program: multiply-adds from
the shapes of convolutions and matrix products, the rest from the names that ``layers`` gives its results. Nothing is
optimised away before that: a layer whose result nobody uses counts, as it does in the counts that benchmarks publish.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax.networks.layers import ACTIVATION, BATCH_NORM, BIAS, POOLING

_NAMES = {BATCH_NORM: "normalised", BIAS: "biased", ACTIVATION: "activated", POOLING: "pooled"}


@dataclasses.dataclass(frozen=True)
class Operations:
    """Operations of one forward pass.

    Attributes:
      convolved: multiply-adds of convolutions that are not transposed.
      transposed: multiply-adds of transposed convolutions, by the pixels that they read, without the zeros in between.
      multiplied: multiply-adds of linear layers.
      biased: numbers to which a convolution (not transposed) adds a bias.
      normalised: numbers that BatchNorm layers return.
      activated: numbers that ReLU and leaky ReLU return.
      pooled: numbers that average pools with a window read; the average over all pixels is not one of them.
    """

    convolved: int = 0
    transposed: int = 0
    multiplied: int = 0
    biased: int = 0
    normalised: int = 0
    activated: int = 0
    pooled: int = 0

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds of convolutions and linear layers."""
        return self.convolved + self.transposed + self.multiplied

    def __add__(self, other: Operations) -> Operations:
        """Both together."""
        return Operations(*(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)))


def count_parameters(module: nnx.Module) -> int:
    """Returns how many trainable numbers a module has: weights, biases, scale and shift of BatchNorm.

    Args:
      module: a module, with values or abstract (see ``build``).
    """
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(nnx.state(module, nnx.Param)))


def count_operations(module: nnx.Module, *shape: int) -> Operations:
    """Returns the operations of a forward pass in evaluation mode; nothing is computed.

    Args:
      module: a network of ``build``, or another module made of its layers, with values or abstract.
      *shape: the shape of the input, the batch first: ``count_operations(network, 1, 128, 128, 3)``.
    """
    return trace(module, jax.ShapeDtypeStruct(shape, jnp.float32))[0]


def trace(module: nnx.Module, inputs: Any) -> tuple[Operations, Any]:
    """Returns the operations of a forward pass and the shapes of its outputs.

    Args:
      module: as in ``count_operations``.
      inputs: arrays or shapes, in the structure that the module takes.
    """
    graph, state = nnx.split(module)

    def forward(state: Any, inputs: Any) -> Any:
        copy = nnx.merge(graph, state)
        copy.eval()
        return copy(inputs)

    program, outputs = jax.make_jaxpr(forward, return_shape=True)(state, inputs)
    return _count(program.jaxpr, {}), outputs


def _count(program: Any, known: dict[int, Operations]) -> Operations:
    """Returns the operations of a program; ``known`` holds those of its parts, which repeat."""
    if id(program) not in known:
        total = Operations()
        for equation in program.eqns:
            total = total + _count_equation(equation, known)
        known[id(program)] = total
    return known[id(program)]


def _count_equation(equation: Any, known: dict[int, Operations]) -> Operations:
    kind, params = equation.primitive.name, equation.params
    if kind == "name":
        return Operations(**{_NAMES[params["name"]]: equation.outvars[0].aval.size})
    if kind == "conv_general_dilated":
        kernel, outputs = equation.invars[1].aval, equation.outvars[0].aval
        # The kernel's size over its outputs: what one number of the output reads.
        read = kernel.size // kernel.shape[params["dimension_numbers"].rhs_spec[0]]
        enlarged = math.prod(params["lhs_dilation"])
        count = outputs.size * read // enlarged
        return Operations(convolved=count) if enlarged == 1 else Operations(transposed=count)
    if kind == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        read = int(np.prod([left[axis] for axis in contracted], dtype=np.int64))
        return Operations(multiplied=equation.outvars[0].aval.size * read)
    if params.get("name") == "resize":
        return Operations()
    total = Operations()
    for part in jax.core.jaxprs_in_params(params):
        total = total + _count(part, known)
    return total
