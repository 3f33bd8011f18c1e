"""Defines the slimmable encoders of TransNAS-Bench-101: a stem, then the modules of a micro or macro architecture.

The stem and each module have one width: what a cell or block adds up has one number of channels. In a micro
architecture each of five modules is two cells; in a macro one each of four to six modules is two residual blocks. ReLU
and normalisation are where the benchmark has them. Source: Duan et al., CVPR 2021, arXiv 2105.11871; ``networks`` has
the benchmark's own networks.

This project's choices:

- The stem has 8 channels and keeps the image's size by default (the benchmark: 64, and a quarter of the side), so that
  small images work. Both of its convolutions have the stem's width.
- A skip without weights between different widths passes the channels that both have.
- The channels of the two convolutions of a skip that changes shape alternate, so that every width has both.
- Edges of a cell on no path from its input to its output are left out: they cost, and change nothing.
- Decoders read the last features of each resolution.
"""

from __future__ import annotations

import abc
import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from flax import nnx

from ncp_jax import checks
from ncp_jax.controllable.blocks import ConvNorm, Mask, count_normed
from ncp_jax.controllable.encoders.base import ChainEncoder, EncoderPlan, fits, read_code, stem_strides, whole
from ncp_jax.controllable.layers import SlimConvolution, SlimNorm, Statistics, copied, masked
from ncp_jax.controllable.settings import SizeOptions
from ncp_jax.networks.layers import Parameters, relu
from ncp_jax.networks.transnas import BLOCKS, SKELETON
from ncp_jax.spaces.cells import EDGES, PATHS
from ncp_jax.spaces.costs.layers import Counts, halved
from ncp_jax.spaces.transnas_macro import TRANSNAS_MACRO, doubles, halves
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO
from ncp_jax.types import Array, Float

CHANNELS = 8
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


class Stem(nnx.Module):
    """Two 3x3 convolutions with a ReLU in between."""

    def __init__(self, inputs: int, outputs: int, stride: int, sizes: SizeOptions, *, parameters: Parameters) -> None:
        first, second = stem_strides(stride)
        self.first = ConvNorm(inputs, outputs, 3, sizes, stride=first, parameters=parameters)
        self.second = ConvNorm(outputs, outputs, 3, sizes, stride=second, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics) -> Float[Array, "n i j d"]:
        """Returns the stem's features."""
        return self.second(relu(self.first(x, mask, statistics)), mask, statistics)

    def sliced(self, inputs: int, outputs: int) -> Stem:
        """Returns the stem of the first channels alone."""
        found = copied(self)
        found.first, found.second = self.first.sliced(inputs, outputs), self.second.sliced(outputs, outputs)
        return found

    @staticmethod
    def count(inputs: Any, outputs: Any, stride: int, sides: Sequence[int]) -> Counts:
        """Returns the counts for the sides of the image and of the features."""
        between = halved(sides[0], stem_strides(stride)[0])
        return count_normed(3, inputs, outputs, between) + count_normed(3, outputs, outputs, sides[1])


class Activated(nnx.Module):
    """ReLU, convolution, normalisation."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int, sizes: SizeOptions, *, parameters: Parameters
    ) -> None:
        self.layer = ConvNorm(inputs, outputs, kernel, sizes, stride=stride, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics) -> Float[Array, "n i j d"]:
        """Returns features of another width or size."""
        return self.layer(relu(x), mask, statistics)

    def sliced(self, inputs: int, outputs: int) -> Activated:
        """Returns the layers of the first channels alone."""
        found = copied(self)
        found.layer = self.layer.sliced(inputs, outputs)
        return found


class Skip(nnx.Module):
    """The identity of the channels that input and output both have; further channels are zero."""

    def __init__(self, inputs: int, outputs: int) -> None:
        self.inputs, self.outputs = inputs, outputs

    def __call__(self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics) -> Float[Array, "n h w d"]:
        """Returns an array of the same height and width."""
        more = max(self.outputs - self.inputs, 0)
        return masked(jnp.pad(x[..., : self.outputs], ((0, 0), (0, 0), (0, 0), (0, more))), mask)

    def sliced(self, inputs: int, outputs: int) -> Skip:
        """Returns the skip between so many channels."""
        return Skip(inputs, outputs)


class Reduction(nnx.Module):
    """A skip that changes shape: ReLU, two 1x1 convolutions one pixel apart whose channels alternate, normalisation."""

    def __init__(self, inputs: int, outputs: int, stride: int, sizes: SizeOptions, *, parameters: Parameters) -> None:
        self.halves = nnx.List(
            SlimConvolution(inputs, half, 1, stride=stride, parameters=parameters) for half in _halves(outputs)
        )
        self.norm = SlimNorm(outputs, kind=sizes.norm, group=sizes.multiple, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics) -> Float[Array, "n i j d"]:
        """Returns the skip's features."""
        x = relu(x)
        shifted = jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1:, 1:]
        even, odd = self.halves[0](x), self.halves[1](shifted)
        outputs = even.shape[-1] + odd.shape[-1]
        odd = jnp.pad(odd, ((0, 0), (0, 0), (0, 0), (0, even.shape[-1] - odd.shape[-1])))
        both = jnp.stack([even, odd], axis=-1).reshape(*even.shape[:-1], -1)[..., :outputs]
        return self.norm(masked(both, mask), mask, statistics)

    def sliced(self, inputs: int, outputs: int) -> Reduction:
        """Returns the layers of the first channels alone."""
        found = copied(self)
        found.halves = nnx.List(
            layer.sliced(inputs, half) for layer, half in zip(self.halves, _halves(outputs), strict=True)
        )
        found.norm = self.norm.sliced(outputs)
        return found


def _halves(channels: int) -> tuple[int, int]:
    return channels - channels // 2, channels // 2


class Cell(nnx.Module):
    """A micro cell: each node is the sum of its edges, and the last node is the output.

    Args:
      ops: names of the operations, in the order of ``EDGES``.
      inputs: channels of the input.
      outputs: channels of the output. The edges from node 0 change channels and resolution.
      stride: stride of the edges from node 0.
      sizes: kind of normalisation, and the number that widths are multiples of.
      parameters: source of the weights.
    """

    def __init__(
        self,
        ops: Sequence[str],
        inputs: int,
        outputs: int,
        stride: int,
        sizes: SizeOptions,
        *,
        parameters: Parameters,
    ) -> None:
        def edge(source: int, op: str) -> Any:
            before, step = (inputs, stride) if source == 0 else (outputs, 1)
            if op in KERNELS:
                return Activated(before, outputs, KERNELS[op], step, sizes, parameters=parameters)
            if op == "none":
                return None
            same = step == 1 and before == outputs
            return Skip(before, outputs) if same else Reduction(before, outputs, step, sizes, parameters=parameters)

        self.edges = nnx.List(edge(source, op) for (source, _), op in zip(EDGES, ops, strict=True))

    def __call__(self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics) -> Float[Array, "n i j d"]:
        """Returns the cell's features."""
        nodes: dict[int, Array] = {0: x}
        for (source, target), edge in zip(EDGES, self.edges, strict=True):
            if edge is not None:
                y = edge(nodes[source], mask, statistics)
                nodes[target] = nodes[target] + y if target in nodes else y
        return nodes[EDGES[-1][1]]

    def sliced(self, inputs: int, outputs: int) -> Cell:
        """Returns the cell of the first channels alone."""
        found = copied(self)
        found.edges = nnx.List(
            None if edge is None else edge.sliced(inputs if source == 0 else outputs, outputs)
            for (source, _), edge in zip(EDGES, self.edges, strict=True)
        )
        return found

    @staticmethod
    def count(ops: Sequence[str], inputs: Any, outputs: Any, side: int, *, changes: bool) -> Counts:
        """Returns the counts; ``side`` is that of the output, ``changes`` whether the shape changes at full width."""
        total = Counts()
        for (source, _), op in zip(EDGES, ops, strict=True):
            if op in KERNELS or (op == "skip_connect" and source == 0 and changes):
                # The two convolutions of a skip that changes shape cost what one would.
                total += count_normed(KERNELS.get(op, 1), inputs if source == 0 else outputs, outputs, side)
        return total


class ResidualBlock(nnx.Module):
    """A macro block: two 3x3 convolutions, ReLU before each, and a shortcut; of new shapes it is a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, stride: int, sizes: SizeOptions, *, parameters: Parameters) -> None:
        self.first = Activated(inputs, outputs, 3, stride, sizes, parameters=parameters)
        self.second = Activated(outputs, outputs, 3, 1, sizes, parameters=parameters)
        same = stride == 1 and inputs == outputs
        self.shortcut: Any = (
            Skip(inputs, outputs) if same else ConvNorm(inputs, outputs, 1, sizes, stride=stride, parameters=parameters)
        )

    def __call__(self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics) -> Float[Array, "n i j d"]:
        """Returns the block's features."""
        y = self.second(self.first(x, mask, statistics), mask, statistics)
        return y + self.shortcut(x, mask, statistics)

    def sliced(self, inputs: int, outputs: int) -> ResidualBlock:
        """Returns the block of the first channels alone."""
        found = copied(self)
        found.first, found.second = self.first.sliced(inputs, outputs), self.second.sliced(outputs, outputs)
        found.shortcut = self.shortcut.sliced(inputs, outputs)
        return found

    @staticmethod
    def count(inputs: Any, outputs: Any, side: int, *, changes: bool) -> Counts:
        """Returns the counts; ``side`` is that of the output, ``changes`` whether the shape changes at full width."""
        total = count_normed(3, inputs, outputs, side) + count_normed(3, outputs, outputs, side)
        return total + count_normed(1, inputs, outputs, side) if changes else total


class Module(nnx.Module):
    """Several blocks, the first of which may change channels and resolution."""

    def __init__(self, blocks: Sequence[Any]) -> None:
        self.blocks = nnx.List(blocks)

    def __call__(self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics) -> Float[Array, "n i j d"]:
        """Returns the module's features."""
        for block in self.blocks:
            x = block(x, mask, statistics)
        return x

    def sliced(self, inputs: int, outputs: int) -> Module:
        """Returns the module of the first channels alone."""
        first, *others = self.blocks
        return Module([first.sliced(inputs, outputs), *(block.sliced(outputs, outputs) for block in others)])


class TransNasEncoder(ChainEncoder):
    """A stem and modules; see the module. Micro and macro differ in what the modules are made of.

    Attributes:
      types: type of each module, as macro architectures write them.
    """

    types: tuple[int, ...]

    @abc.abstractmethod
    def block(
        self, inputs: int, outputs: int, stride: int, sizes: SizeOptions, *, parameters: Parameters
    ) -> nnx.Module:
        """Returns a block of a module."""

    @abc.abstractmethod
    def count_block(self, inputs: Any, outputs: Any, side: int, *, changes: bool) -> Counts:
        """Returns the counts of a block."""

    def plan(self, side: int, channels: tuple[int, ...], strides: tuple[int, ...]) -> EncoderPlan:
        """Returns stem and modules; channels and strides are those of the stem, or of all stages as they follow."""
        doublings = (0, *itertools.accumulate(int(doubles(kind)) for kind in self.types))
        steps = tuple(1 + int(halves(kind)) for kind in self.types)
        widths = whole("channels", channels, CHANNELS, lambda stem: tuple(stem << many for many in doublings))
        moves = whole("strides", strides, 1, lambda stem: (stem, *steps))
        stem_strides(moves[0])
        fits(self.text, side, math.prod(moves))
        count = len(widths)
        # A stage is the last one of its resolution where the next one halves it.
        read = tuple(place for place in range(count) if moves[place + 1 : place + 2] != (1,))
        names = ("encoder.stem", *(f"encoder.module[{place}]" for place in range(1, count)))
        return EncoderPlan(names, widths, moves, tuple(range(-1, count - 1)), read, (2,) * (len(read) - 1))

    def parts(self, plan: EncoderPlan, colours: int, sizes: SizeOptions, parameters: Parameters) -> list[nnx.Module]:
        """Returns stem and modules."""
        before, stride = plan.channels[0], plan.strides[0]
        found: list[nnx.Module] = [Stem(colours, before, stride, sizes, parameters=parameters)]
        for after, stride in zip(plan.channels[1:], plan.strides[1:], strict=True):
            shapes = [(before, after, stride), *[(after, after, 1)] * (BLOCKS - 1)]
            found.append(Module([self.block(*shape, sizes, parameters=parameters) for shape in shapes]))
            before = after
        return found

    def count_stage(self, plan: EncoderPlan, place: int, inputs: Any, outputs: Any, sides: tuple[int, ...]) -> Counts:
        """Returns the counts of the stem or of a module."""
        if place == 0:
            return Stem.count(inputs, outputs, plan.strides[0], sides)
        total = self.count_block(inputs, outputs, sides[1], changes=self.types[place - 1] != 1)
        for _ in range(BLOCKS - 1):
            total += self.count_block(outputs, outputs, sides[1], changes=False)
        return total


class MicroEncoder(TransNasEncoder):
    """The encoder of a micro architecture: five modules of two cells.

    Attributes:
      ops: name of the operation on each edge of a cell, "none" for edges without effect.
    """

    name = TRANSNAS_MICRO.name
    types = SKELETON
    templates = ("transnas.txt", "transnas_micro.txt")

    def __init__(self, architecture: str) -> None:
        code, self.text = read_code(TRANSNAS_MICRO, architecture)
        alive = {edge for path in PATHS if all(code[edge] for edge in path) for edge in path}
        if not alive:
            raise checks.UsageError(
                expected="a cell with a path from its input to its output",
                got=architecture,
                remedy="give an architecture with one",
            )
        self.ops = tuple(TRANSNAS_MICRO.ops[op if edge in alive else 0] for edge, op in enumerate(code))

    @property
    def details(self) -> dict[str, Any]:
        """The operations; see ``Encoder``."""
        return {"ops": list(self.ops)}

    def block(
        self, inputs: int, outputs: int, stride: int, sizes: SizeOptions, *, parameters: Parameters
    ) -> nnx.Module:
        """Returns a cell."""
        return Cell(self.ops, inputs, outputs, stride, sizes, parameters=parameters)

    def count_block(self, inputs: Any, outputs: Any, side: int, *, changes: bool) -> Counts:
        """Returns the counts of a cell."""
        return Cell.count(self.ops, inputs, outputs, side, changes=changes)


class MacroEncoder(TransNasEncoder):
    """The encoder of a macro architecture: four to six modules of two residual blocks."""

    name = TRANSNAS_MACRO.name
    templates = ("transnas.txt", "transnas_macro.txt")

    def __init__(self, architecture: str) -> None:
        code, self.text = read_code(TRANSNAS_MACRO, architecture)
        self.types = tuple(kind for kind in code if kind)

    def block(
        self, inputs: int, outputs: int, stride: int, sizes: SizeOptions, *, parameters: Parameters
    ) -> nnx.Module:
        """Returns a residual block."""
        return ResidualBlock(inputs, outputs, stride, sizes, parameters=parameters)

    def count_block(self, inputs: Any, outputs: Any, side: int, *, changes: bool) -> Counts:
        """Returns the counts of a residual block."""
        return ResidualBlock.count(inputs, outputs, side, changes=changes)
