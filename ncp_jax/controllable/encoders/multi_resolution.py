"""Defines the slimmable encoder of NAS-Bench-MR: up to four resolutions in parallel, fused between neighbours.

There is a width for each convolution of the stem and for each branch of each stage, twelve in all: what the code calls
``input_channel`` and ``num_channels``. At full width they are the code's own. ``last_channel`` belongs to the
benchmark's heads and is not used. Source: Ding et al., ICLR 2022, arXiv 2103.13253, section 3; ``networks`` has the
benchmark's own networks, with the same layers.

This project's choices: the stem keeps the image's size by default (the benchmark: a quarter of the side), so that small
images work; decoders read the branches of the last stage.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from flax import nnx

from ncp_jax import checks
from ncp_jax.controllable.blocks import ConvNorm, Mask, count_normed
from ncp_jax.controllable.encoders.base import Encoder, EncoderPlan, fits, read_code, stem_strides
from ncp_jax.controllable.layers import Statistics, copied
from ncp_jax.controllable.settings import SizeOptions
from ncp_jax.networks.layers import Parameters, enlarge, relu, resize
from ncp_jax.spaces.costs.layers import Counts
from ncp_jax.spaces.multi_resolution import NAS_BENCH_MR, STAGES
from ncp_jax.types import Array, Float

STEM = 2  # convolutions of the stem, each with a width of its own


class ResidualBlock(nnx.Module):
    """Two 3x3 convolutions around a shortcut, ReLU after the sum."""

    def __init__(self, channels: int, sizes: SizeOptions, *, parameters: Parameters) -> None:
        self.first = ConvNorm(channels, channels, 3, sizes, parameters=parameters)
        self.second = ConvNorm(channels, channels, 3, sizes, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics) -> Float[Array, "n h w c"]:
        """Returns an array of the same shape."""
        y = relu(self.first(x, mask, statistics))
        return relu(x + self.second(y, mask, statistics))

    def sliced(self, channels: int) -> ResidualBlock:
        """Returns the block of the first channels alone."""
        found = copied(self)
        found.first, found.second = self.first.sliced(channels, channels), self.second.sliced(channels, channels)
        return found

    @staticmethod
    def count(channels: Any, side: int) -> Counts:
        """Returns the counts of two convolutions."""
        return count_normed(3, channels, channels, side) + count_normed(3, channels, channels, side)


def _links(inputs: int, outputs: int) -> list[tuple[int, int, int]]:
    """Returns the convolutions of a fusion: their source, their target and the size of their kernel.

    Each branch is the sum of its own resolution (3x3), of the finer one (3x3, stride 2) and of the coarser one (1x1,
    then enlarged). New branches are last: each is a convolution of the coarsest sum (3x3, stride 2).
    """
    near = [(s, t) for t in range(inputs) for s in range(max(t - 1, 0), min(t + 2, inputs))]
    new = [(t - 1, t) for t in range(inputs, outputs)]
    return [(source, target, 1 if source > target else 3) for source, target in near + new]


class Fusion(nnx.Module):
    """Makes branches from branches, each from those of neighbouring resolutions; see ``_links``."""

    def __init__(
        self, inputs: Sequence[int], outputs: Sequence[int], sizes: SizeOptions, *, parameters: Parameters
    ) -> None:
        self.inputs = len(inputs)
        self.links = tuple(_links(len(inputs), len(outputs)))
        self.layers = nnx.List(
            ConvNorm(
                *(_before(source, target, inputs, outputs), outputs[target], kernel, sizes),
                stride=1 + (source < target),
                parameters=parameters,
            )
            for source, target, kernel in self.links
        )

    def __call__(self, branches: list[Array], masks: Sequence[Mask], statistics: Statistics) -> list[Array]:
        """Returns as many branches or one more, from branches, finest first."""
        totals: list[Any] = [None] * self.inputs
        pairs = list(zip(self.links, self.layers, strict=True))
        for (source, target, _), layer in pairs:
            if target < self.inputs:
                part = relu(layer(branches[source], masks[target], statistics))
                if source > target:
                    # Sides that are no multiples of the strides make an enlarged branch a pixel too large.
                    part = resize(enlarge(part, 2), *branches[target].shape[1:3])
                totals[target] = part if totals[target] is None else totals[target] + part
        fused = [relu(total) for total in totals]
        for (source, target, _), layer in pairs[len(pairs) - (len(masks) - self.inputs) :]:
            fused.append(relu(layer(fused[source], masks[target], statistics)))
        return fused

    def sliced(self, inputs: Sequence[int], outputs: Sequence[int]) -> Fusion:
        """Returns the fusion of the first channels alone."""
        found = copied(self)
        found.layers = nnx.List(
            layer.sliced(_before(source, target, inputs, outputs), outputs[target])
            for (source, target, _), layer in zip(self.links, self.layers, strict=True)
        )
        return found

    @staticmethod
    def count(inputs: Sequence[Any], outputs: Sequence[Any], sides: Sequence[int]) -> Counts:
        """Returns the counts; a coarser branch is convolved before it is enlarged."""
        total = Counts()
        for source, target, kernel in _links(len(inputs), len(outputs)):
            side = sides[max(source, target)]
            total += count_normed(kernel, _before(source, target, inputs, outputs), outputs[target], side)
        return total


def _before(source: int, target: int, inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    """Returns the channels that a convolution of a fusion reads; a new branch grows from a fused one."""
    return outputs[source] if target >= len(inputs) else inputs[source]


class Stage(nnx.Module):
    """Repeats: a fusion, then residual blocks on each branch."""

    def __init__(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        blocks: int,
        convs: Sequence[int],
        sizes: SizeOptions,
        *,
        parameters: Parameters,
    ) -> None:
        before = [inputs, *[outputs] * (blocks - 1)]
        self.fusions = nnx.List(Fusion(widths, outputs, sizes, parameters=parameters) for widths in before)
        self.branches = nnx.List(
            nnx.List(
                nnx.List(ResidualBlock(width, sizes, parameters=parameters) for _ in range(count))
                for count, width in zip(convs, outputs, strict=True)
            )
            for _ in range(blocks)
        )

    def __call__(self, branches: list[Array], masks: Sequence[Mask], statistics: Statistics) -> list[Array]:
        """Returns as many branches or one more, from branches, finest first."""
        for fusion, parallel in zip(self.fusions, self.branches, strict=True):
            branches = fusion(branches, masks, statistics)
            for place, blocks in enumerate(parallel):
                for block in blocks:
                    branches[place] = block(branches[place], masks[place], statistics)
        return branches

    def sliced(self, inputs: Sequence[int], outputs: Sequence[int]) -> Stage:
        """Returns the stage of the first channels alone."""
        found = copied(self)
        first, *others = self.fusions
        found.fusions = nnx.List(
            [first.sliced(inputs, outputs), *(fusion.sliced(outputs, outputs) for fusion in others)]
        )
        found.branches = nnx.List(
            nnx.List(
                nnx.List(block.sliced(width) for block in blocks)
                for blocks, width in zip(parallel, outputs, strict=True)
            )
            for parallel in self.branches
        )
        return found

    @staticmethod
    def count(
        inputs: Sequence[Any], outputs: Sequence[Any], blocks: int, convs: Sequence[int], sides: Sequence[int]
    ) -> Counts:
        """Returns the counts; ``sides`` are those of the branches."""
        total = Counts()
        for before in [inputs, *[outputs] * (blocks - 1)]:
            total += Fusion.count(before, outputs, sides)
            for count, width, side in zip(convs, outputs, sides, strict=True):
                for _ in range(count):
                    total += ResidualBlock.count(width, side)
        return total


class MultiResolutionEncoder(Encoder):
    """The encoder of an architecture of NAS-Bench-MR; its parts are the stem's convolutions and the stages.

    Attributes:
      stem: channels of the stem's convolutions.
      blocks: for each stage, how often it repeats.
      convs: for each stage, the residual blocks of each branch.
      channels: for each stage, the channels of each branch.
    """

    name = NAS_BENCH_MR.name
    templates = ("multi_resolution.txt",)

    def __init__(self, architecture: str) -> None:
        code, self.text = read_code(NAS_BENCH_MR, architecture)
        numbers = iter(code)

        def take(count: int) -> tuple[int, ...]:
            return tuple(itertools.islice(numbers, count))

        self.stem = take(STEM)
        stages = [(take(1)[0], take(stage), take(stage)) for stage in STAGES]
        self.blocks, self.convs, self.channels = zip(*stages, strict=True)

    @property
    def details(self) -> dict[str, Any]:
        """The numbers of blocks; see ``Encoder``."""
        return {"blocks": list(self.blocks), "convs": list(map(list, self.convs))}

    def plan(self, side: int, channels: tuple[int, ...], strides: tuple[int, ...]) -> EncoderPlan:
        """Returns the stem's convolutions and the branches; strides are that of the stem, or those that follow."""
        widths = (*self.stem, *itertools.chain(*self.channels))
        if channels not in ((), widths):
            raise checks.UsageError(
                expected=f"no channels for the encoder {self.name}, whose architecture has them",
                got=str(channels),
                remedy="leave them out, or change the architecture",
            )
        stem = stem_strides(strides[0]) if len(strides) == 1 else strides[:STEM] or (1, 1)
        names, moves, sources = ["encoder.input[1]", "encoder.input[2]"], list(stem), [-1, 0]
        for stage in STAGES:
            for branch in range(stage):
                new = branch == stage - 1 > 0
                # A branch has the side of the same one before; a new one half of that of its finer neighbour.
                sources.append(len(names) - 1 if new or stage == 1 else len(names) - stage + 1)
                moves.append(1 + new)
                names.append(f"encoder.stage{stage}[{branch + 1}]")
        if strides not in ((), strides[:1], tuple(moves)) or stem_strides(math.prod(stem)) != stem:
            raise checks.UsageError(
                expected="the stride of the stem alone (1, 2 or 4)", got=str(strides), remedy="try (1,)"
            )
        branches = len(STAGES)
        fits(self.text, side, math.prod(moves[:STEM]) * 2 ** (branches - 1))
        read = tuple(range(len(names) - branches, len(names)))
        return EncoderPlan(tuple(names), widths, tuple(moves), tuple(sources), read, (2,) * (branches - 1))

    def parts(self, plan: EncoderPlan, colours: int, sizes: SizeOptions, parameters: Parameters) -> list[nnx.Module]:
        """Returns the two convolutions of the stem, then the stages."""
        found: list[nnx.Module] = [
            ConvNorm(before, after, 3, sizes, stride=stride, parameters=parameters)
            for before, after, stride in zip((colours, self.stem[0]), self.stem, plan.strides, strict=False)
        ]
        before: tuple[int, ...] = self.stem[1:]
        for after, blocks, convs in zip(self.channels, self.blocks, self.convs, strict=True):
            found.append(Stage(before, after, blocks, convs, sizes, parameters=parameters))
            before = after
        return found

    def features(
        self, parts: Any, images: Float[Array, "n h w c"], masks: list[Mask], statistics: Statistics
    ) -> list[Array]:
        """Returns the features of the stem's convolutions and of each branch of each stage."""
        found, x = [], images
        for layer, mask in zip(list(parts)[:STEM], masks, strict=False):
            x = relu(layer(x, mask, statistics))
            found.append(x)
        branches = [x]
        for stage, own in zip(list(parts)[STEM:], _by_stage(masks), strict=True):
            branches = stage(branches, own, statistics)
            found.extend(branches)
        return found

    def sliced(self, parts: Any, colours: int, widths: list[int]) -> list[nnx.Module]:
        """Returns the modules of the first channels alone."""
        first, second, *stages = parts
        after = _by_stage(widths)
        before = [widths[1:STEM], *after[:-1]]
        return [
            first.sliced(colours, widths[0]),
            second.sliced(*widths[:STEM]),
            *(stage.sliced(*pair) for stage, *pair in zip(stages, before, after, strict=True)),
        ]

    def count(self, plan: EncoderPlan, colours: int, widths: list[Any], side: int) -> Counts:
        """Returns parameters and multiply-adds."""
        sides, after = plan.sides(side), _by_stage(widths)
        total = count_normed(3, colours, widths[0], sides[0]) + count_normed(3, widths[0], widths[1], sides[1])
        shapes = zip(
            *([widths[1:STEM], *after[:-1]], after, self.blocks, self.convs, _by_stage(list(sides))), strict=True
        )
        return sum((Stage.count(*shape) for shape in shapes), total)


def _by_stage(values: list[Any]) -> list[list[Any]]:
    """Returns the values of the branches of each stage, from those of all positions."""
    numbers = iter(values[STEM:])
    return [list(itertools.islice(numbers, stage)) for stage in STAGES]
