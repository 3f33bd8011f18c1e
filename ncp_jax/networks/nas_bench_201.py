"""Builds the networks of NAS-Bench-201: three rows of cells and a classifier (Dong & Yang, arXiv 2001.00326)."""

from __future__ import annotations

from collections.abc import Sequence

from flax import nnx

from ncp_jax.networks.blocks import BasicBlock, Chain
from ncp_jax.networks.cells import Cell
from ncp_jax.networks.counting import Operations
from ncp_jax.networks.families import NetworkFamily, Parts, Task, register, single_branch_head
from ncp_jax.networks.layers import ConvBatchNorm, Parameters
from ncp_jax.spaces.costs.nas_bench_201 import CELLS, CHANNELS, DATASETS
from ncp_jax.spaces.nas_bench_201 import NAS_BENCH_201

CITATION = (
    "X. Dong, Y. Yang. NAS-Bench-201: Extending the Scope of Reproducible Neural Architecture Search. ICLR 2020. "
    "arXiv:2001.00326"
)
TASKS = {name: Task("classification", dataset.classes, dataset.image) for name, dataset in DATASETS.items()}


def parts(code: Sequence[int], task: Task, outputs: int, parameters: Parameters) -> Parts:
    """Returns the parts of a code's network; its encoder ends with 64 channels at stride 4."""
    ops = [NAS_BENCH_201.ops[op] for op in code]
    stages: dict[str, nnx.Module] = {"stem": ConvBatchNorm(3, CHANNELS[0], 3, parameters=parameters)}
    for place, width in enumerate(CHANNELS):
        if place:
            before = CHANNELS[place - 1]
            stages[f"reduction {place}"] = BasicBlock(before, width, stride=2, pooled=True, parameters=parameters)
        stages[f"cells {place + 1}"] = Chain([Cell(ops, width, width, parameters=parameters) for _ in range(CELLS)])
    stride = 2 ** (len(CHANNELS) - 1)
    head = single_branch_head(task, CHANNELS[-1], stride, outputs, norm=True, parameters=parameters)
    return Parts(stages, head, stride, whole=True)


def published_flops(total: Operations, features: tuple[int, ...], tiles: int) -> int:
    """Returns the FLOPs as the benchmark counts them: multiply-adds, and the bias additions of the linear layer."""
    return total.convolved + total.multiplied + total.linear_biased


register(NAS_BENCH_201, NetworkFamily(TASKS, parts, published_flops, CITATION))
