"""Builds the networks of TransNAS-Bench-101, micro and macro: a stem, modules, and a head for each of seven tasks.

Sources: Duan et al., CVPR 2021, arXiv 2105.11871, with the network definition in NASLib.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flax import nnx

from ncp_jax.networks.blocks import BasicBlock, Chain
from ncp_jax.networks.cells import Cell
from ncp_jax.networks.counting import Operations
from ncp_jax.networks.digits import DIGITS_TASKS
from ncp_jax.networks.families import NetworkFamily, Parts, Task, register, single_branch_head
from ncp_jax.networks.heads import Decoder
from ncp_jax.networks.layers import ConvBatchNorm, Parameters
from ncp_jax.spaces.costs.heads import HEADS
from ncp_jax.spaces.transnas_macro import TRANSNAS_MACRO, doubles, halves
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO

CITATION = (
    "Y. Duan, X. Chen, H. Xu, Z. Chen, X. Liang, T. Zhang, Z. Li. TransNAS-Bench-101: Improving Transferability and "
    "Generalizability of Cross-Task Neural Architecture Search. CVPR 2021. arXiv:2105.11871"
)
BASE = 64  # channels after the stem, whose output has one pixel for 4 x 4 of the image
SKELETON = (4, 1, 4, 1, 4)  # types of the modules around the cells of the micro space
BLOCKS = 2  # in each module
_KINDS = {"room_layout": "regression", "jigsaw": "jigsaw", "segmentsemantic": "segmentation"}
_KINDS |= dict.fromkeys(("normal", "autoencoder"), "image")
TASKS = {name: Task(_KINDS.get(name, "classification"), head.outputs, head.image) for name, head in HEADS.items()}
_Block = Callable[[int, int, int], nnx.Module]


def micro_parts(code: Sequence[int], task: Task, outputs: int, parameters: Parameters) -> Parts:
    """Returns the parts of a micro code's network; its encoder ends with 512 channels at stride 32."""
    ops = [TRANSNAS_MICRO.ops[op] for op in code]

    def block(inputs: int, outputs: int, stride: int) -> nnx.Module:
        return Cell(ops, inputs, outputs, stride=stride, parameters=parameters)

    return _parts(SKELETON, block, task, outputs, parameters)


def macro_parts(code: Sequence[int], task: Task, outputs: int, parameters: Parameters) -> Parts:
    """Returns the parts of a macro code's network; its encoder ends with 128 to 512 channels at stride 8 to 64."""

    def block(inputs: int, outputs: int, stride: int) -> nnx.Module:
        return BasicBlock(inputs, outputs, stride=stride, pooled=False, parameters=parameters)

    return _parts([kind for kind in code if kind], block, task, outputs, parameters)


def _parts(types: Sequence[int], block: _Block, task: Task, outputs: int, parameters: Parameters) -> Parts:
    """Returns the parts of a network with modules of these types, made of blocks (inputs, outputs, stride)."""
    half = ConvBatchNorm(3, BASE // 2, 3, stride=2, parameters=parameters)
    stem = Chain([half, ConvBatchNorm(BASE // 2, BASE, 3, stride=2, relu="before", parameters=parameters)])
    stages: dict[str, nnx.Module] = {"stem": stem}
    channels, total = BASE, 4
    for place, kind in enumerate(types, start=1):
        before, stride = channels, 1 + halves(kind)
        channels, total = channels << doubles(kind), total * stride
        blocks = [block(before, channels, stride), *(block(channels, channels, 1) for _ in range(BLOCKS - 1))]
        stages[f"module {place}"] = Chain(blocks)
    head = single_branch_head(task, channels, total, outputs, parameters=parameters)
    return Parts(stages, head, total, isinstance(head, Decoder))


def published_flops(total: Operations, features: tuple[int, ...], tiles: int) -> int:
    """Returns the FLOPs as NASLib counts them.

    Multiply-adds of convolutions (transposed ones count as nothing) and of the linear layer, bias additions of
    convolutions, two operations for each number that a BatchNorm returns, one for each number that a ReLU returns, and
    (side + 1)² for each channel that is averaged over all pixels. Of a jigsaw's nine tiles, the encoder counts one.
    """
    flops = total.convolved + total.biased + 2 * total.normalised + total.activated + total.multiplied
    if total.multiplied:
        _, height, width, channels = features
        flops += (height + 1) * (width + 1) * channels * tiles
    return flops


register(TRANSNAS_MICRO, NetworkFamily({**TASKS, **DIGITS_TASKS}, micro_parts, published_flops, CITATION))
register(TRANSNAS_MACRO, NetworkFamily(TASKS, macro_parts, published_flops, CITATION))
