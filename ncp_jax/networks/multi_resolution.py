"""Builds the networks of NAS-Bench-MR: up to four resolutions in parallel, fused between neighbours.

Source: Ding et al., ICLR 2022, arXiv 2103.13253, section 3, and the authors' network definition.
"""

from __future__ import annotations

from collections.abc import Sequence

from flax import nnx

from ncp_jax.networks.counting import Operations
from ncp_jax.networks.families import NetworkFamily, Parts, Task, register
from ncp_jax.networks.heads import BranchClassifier, BranchDetector, BranchSegmenter
from ncp_jax.networks.layers import ConvBatchNorm, Parameters, enlarge, relu, resize
from ncp_jax.networks.network import CHANNELS
from ncp_jax.spaces.costs.multi_resolution import NETWORKS, TABLE
from ncp_jax.spaces.multi_resolution import NAS_BENCH_MR, STAGES
from ncp_jax.types import Array, Float

STRIDE = 32  # side of the image, in pixels, for one pixel of the coarsest branch
CITATION = (
    "M. Ding, Y. Huo, H. Lu, L. Yang, Z. Wang, Z. Lu, J. Wang, P. Luo. Learning Versatile Neural Architectures by "
    "Propagating Network Codes. ICLR 2022. arXiv:2103.13253"
)
TASKS = {
    name: Task(network.head, network.classes, network.side, network.channels)
    for name, network in (("classification", TABLE), ("segmentation", NETWORKS["seg"]), *NETWORKS.items())
}


class Stem(nnx.Module):
    """Two 3x3 convolutions of stride 2: images [n, h, w, 3] (3ddet: 64 channels) to one branch [n, h / 4, w / 4, c]."""

    def __init__(self, channels: Sequence[int], *, inputs: int = CHANNELS, parameters: Parameters) -> None:
        self.first = ConvBatchNorm(inputs, channels[0], 3, stride=2, relu="after", parameters=parameters)
        self.second = ConvBatchNorm(channels[0], channels[1], 3, stride=2, relu="after", parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"]) -> list[Array]:
        """Returns a list with the one branch."""
        return [self.second(self.first(x))]


class ResidualBlock(nnx.Module):
    """Two 3x3 convolutions around a shortcut, ReLU after the sum."""

    def __init__(self, channels: int, *, parameters: Parameters) -> None:
        self.first = ConvBatchNorm(channels, channels, 3, relu="after", parameters=parameters)
        self.second = ConvBatchNorm(channels, channels, 3, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Returns an array of the same shape."""
        return relu(x + self.second(self.first(x)))


class Fusion(nnx.Module):
    """Makes branches from branches: each is the sum of its own resolution and of the two next to it.

    Its own resolution passes a 3x3 convolution, the finer one a 3x3 convolution of stride 2, the coarser one a 1x1
    convolution before it is enlarged. A new branch is a 3x3 convolution of stride 2 of the coarsest sum.
    """

    def __init__(self, inputs: Sequence[int], outputs: Sequence[int], *, parameters: Parameters) -> None:
        def layer(source: int, target: int) -> ConvBatchNorm:
            kernel, stride = (1, 1) if source > target else (3, 1 + (source < target))
            return ConvBatchNorm(
                inputs[source], outputs[target], kernel, stride=stride, relu="after", parameters=parameters
            )

        sources = [range(max(target - 1, 0), min(target + 2, len(inputs))) for target in range(len(inputs))]
        self.sources = tuple(map(tuple, sources))
        self.layers = nnx.List([nnx.List([layer(s, t) for s in near]) for t, near in enumerate(sources)])
        self.new = nnx.List(
            ConvBatchNorm(outputs[t - 1], outputs[t], 3, stride=2, relu="after", parameters=parameters)
            for t in range(len(inputs), len(outputs))
        )

    def __call__(self, branches: list[Array]) -> list[Array]:
        """Returns as many branches or more, from branches [n, h / 2^k, w / 2^k, c_k], finest first."""
        fused = []
        for target, (sources, layers) in enumerate(zip(self.sources, self.layers, strict=True)):
            total = None
            for source, layer in zip(sources, layers, strict=True):
                part = layer(branches[source])
                if source > target:
                    part = enlarge(part, 2)
                # Sides that are not multiples of 32 make an enlarged branch a pixel too large.
                total = part if total is None else total + resize(part, *total.shape[1:3])
            fused.append(relu(total))
        for layer in self.new:
            fused.append(layer(fused[-1]))
        return fused


class Stage(nnx.Module):
    """Repeats ``blocks`` times: a fusion, then ``convs`` residual blocks on each branch."""

    def __init__(
        self,
        inputs: Sequence[int],
        blocks: int,
        convs: Sequence[int],
        channels: Sequence[int],
        *,
        parameters: Parameters,
    ) -> None:
        widths = [inputs, *[channels] * blocks]
        self.fusions = nnx.List(Fusion(widths[i], channels, parameters=parameters) for i in range(blocks))
        self.branches = nnx.List(
            nnx.List(
                nnx.List(ResidualBlock(width, parameters=parameters) for _ in range(count))
                for count, width in zip(convs, channels, strict=True)
            )
            for _ in range(blocks)
        )

    def __call__(self, branches: list[Array]) -> list[Array]:
        """Returns as many branches or one more, from branches, finest first."""
        for fusion, parallel in zip(self.fusions, self.branches, strict=True):
            branches = fusion(branches)
            for place, blocks in enumerate(parallel):
                for block in blocks:
                    branches[place] = block(branches[place])
        return branches


def parts(code: Sequence[int], task: Task, outputs: int, parameters: Parameters) -> Parts:
    """Returns the parts of a code's network; its encoder ends with four branches."""
    stages: dict[str, nnx.Module] = {"stem": Stem(code[:2], inputs=task.channels, parameters=parameters)}
    channels, start = [code[1]], 2
    for stage in STAGES:
        convs, widths = code[start + 1 : start + 1 + stage], code[start + 1 + stage : start + 1 + 2 * stage]
        stages[f"stage {stage}"] = Stage(channels, code[start], convs, widths, parameters=parameters)
        channels, start = list(widths), start + 1 + 2 * stage
    make = {"segmentation": BranchSegmenter, "detection": BranchDetector}.get(task.head, BranchClassifier)
    return Parts(stages, make(channels, code[start], outputs, parameters=parameters), STRIDE, whole=False)


def published_flops(total: Operations, features: tuple[int, ...], tiles: int) -> int:
    """Returns the FLOPs as the benchmark counts them.

    Multiply-adds and bias additions of convolutions, and two operations for each number that a BatchNorm returns.
    """
    return total.convolved + total.biased + 2 * total.normalised


register(NAS_BENCH_MR, NetworkFamily(TASKS, parts, published_flops, CITATION))
