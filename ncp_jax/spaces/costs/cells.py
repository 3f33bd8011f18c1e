"""Counts the costs of cells: a sum over edges, exact for codes and linear in the shares of relaxed codes.

An edge costs the same whatever the others hold, and whether or not it lies on a path from input to output: the
benchmarks build, run and count an edge without effect too. Two codes of one network (``Space.canonical``) may therefore
differ in cost.

TransNAS micro: five modules of two cells; the first, third and fifth module halve the resolution and double the
channels in their first cell, on the edges from node 0. There a skip connection is two 1x1 convolutions of stride 2 side
by side (with ReLU and BatchNorm); elsewhere it is free. With the rules of ``layers`` and the task's head of ``heads``,
the costs are those published with NASLib (github.com/automl/NASLib) to the last digit.

NAS-Bench-201: see ``nas_bench_201``. The costs that the authors of NCP publish next to ImageNet16-120 accuracies are
those of the CIFAR-100 network, rounded (150 of their rows have those of another cell).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces.cells import EDGES, CellSpace
from ncp_jax.spaces.costs.heads import HEADS, head_counts
from ncp_jax.spaces.costs.layers import Counts, halved, relu_conv_bn, transnas_stem
from ncp_jax.spaces.costs.model import SCALE, UNITS, CostModel, network_words, shares_of, table_counter
from ncp_jax.spaces.costs.nas_bench_201 import DATASETS, operation_counts, skeleton_counts
from ncp_jax.spaces.costs.registry import CostFamily, register_costs
from ncp_jax.spaces.nas_bench_201 import NAS_BENCH_201
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO
from ncp_jax.types import Array

MODULES = ((128, 2), (128, 1), (256, 2), (256, 1), (512, 2))  # TransNAS micro: output channels and stride of each
BLOCKS = 2  # cells of a module
_KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


def micro_operation(op: str, inputs: int, outputs: int, side: int, stride: int) -> Counts:
    """Returns the counts of one operation on one edge of one TransNAS micro cell; ``side`` is that of its input."""
    if op in _KERNELS:
        return relu_conv_bn(_KERNELS[op], inputs, outputs, side, stride)
    if op == "skip_connect" and (stride > 1 or inputs != outputs):
        # Each of the two convolutions makes half of the channels: together they cost what one would.
        return relu_conv_bn(1, inputs, outputs, side, stride)
    return Counts()


def _micro_edge(source: int, op: str, image: int) -> Counts:
    """Returns the counts of one operation on one edge of all ten cells."""
    total, channels, side = Counts(), 64, image // 4
    for outputs, module_stride in MODULES:
        for block in range(BLOCKS):
            stride = module_stride if block == 0 else 1
            after = halved(side, stride)
            if source == 0:
                total += micro_operation(op, channels, outputs, side, stride)
            else:
                total += micro_operation(op, outputs, outputs, after, 1)
            channels, side = outputs, after
    return total


def transnas_micro_model(task: str) -> CostModel:
    """Returns the cost model of TransNAS micro with the head of a task."""
    head = HEADS[task]
    halvings = sum(stride > 1 for _, stride in MODULES)
    base = transnas_stem(head.image)
    base += head_counts(head, MODULES[-1][0], (head.image // 4) >> halvings, halvings)
    edges = [[_micro_edge(source, op, head.image) for op in TRANSNAS_MICRO.ops] for source, _ in EDGES]
    return additive(TRANSNAS_MICRO, task, base, edges, head.words(task))


def nas_bench_201_model(task: str) -> CostModel:
    """Returns the cost model of NAS-Bench-201 on a dataset."""
    dataset = DATASETS[task]
    edge = [operation_counts(op, dataset) for op in NAS_BENCH_201.ops]
    words = network_words(task, side=dataset.image, classes=dataset.classes)
    return additive(NAS_BENCH_201, task, skeleton_counts(dataset), [edge] * len(EDGES), words)


def additive(space: CellSpace, task: str, base: Counts, edges: Sequence[Sequence[Counts]], counted: str) -> CostModel:
    """Returns a model that adds up the costs of the operations on the edges.

    Args:
      space: the space of the cells.
      task: task of the model.
      base: counts of everything outside the cells.
      edges: counts of each operation on each edge, over all cells.
      counted: the network in words.
    """
    columns = {"params": 0, "flops": 1}
    terms = {cost: np.array([[counts[i] for counts in row] for row in edges], np.int64) for cost, i in columns.items()}
    bases = {cost: base[i] for cost, i in columns.items()}
    table = {
        cost: bases[cost] + functools.reduce(lambda sums, row: np.add.outer(sums, row).ravel(), terms[cost])
        for cost in UNITS
    }

    def relaxed_cost(relaxed: Any) -> dict[str, Array]:
        shares = shares_of(space, relaxed)
        return {
            cost: bases[cost] / SCALE[unit]
            + (shares * jnp.asarray(terms[cost] / SCALE[unit], shares.dtype)).sum(axis=(-2, -1))
            for cost, unit in UNITS.items()
        }

    return CostModel(space.name, UNITS, table_counter(space, table), relaxed_cost, task, counted)


register_costs(NAS_BENCH_201, CostFamily(tuple(DATASETS), nas_bench_201_model))
register_costs(TRANSNAS_MICRO, CostFamily(tuple(HEADS), transnas_micro_model))
