"""Costs of the small networks of the benchmark that ships, ``digits``: TransNAS micro cells on images of 8 x 8 pixels.

A stem (2x2 convolution, stride 2), the cell on 4 x 4 pixels, the mean of 2 x 2 pixels and a 1x1 convolution, the cell
on 2 x 2 pixels, a linear head. Parameters are weights and the biases of linear layers (BatchNorm has none here); flops
are multiply-adds of convolutions, padded pixels included, and of linear layers. An edge counts by its operation, alive
or not, as in the published benchmarks.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from types import MappingProxyType

from ncp_jax.spaces.cells import EDGES, TRANSNAS_MICRO
from ncp_jax.spaces.costs.cells import additive
from ncp_jax.spaces.costs.layers import Counts
from ncp_jax.spaces.costs.model import CostModel

SIDE = 8
CHANNELS = (6, 12)
# What its tables call their metrics; no other table of the space does.
METRICS = frozenset(
    f"{epoch}{split}{name}"
    for epoch in ("", "best_")
    for split in ("", "train_", "test_")
    for name in ("accuracy", "r2")
)
_KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 9}


@dataclasses.dataclass(frozen=True)
class Head:
    """What stands behind the second cell.

    Attributes:
      outputs: numbers it returns.
      pooled: whether it sees the mean over pixels, or every pixel.
      bottleneck: width of a linear layer before it, 0 for none.
    """

    outputs: int
    pooled: bool
    bottleneck: int = 0


HEADS: Mapping[str, Head] = MappingProxyType(
    {
        "class": Head(10, pooled=True),
        "rotation": Head(4, pooled=False),
        "jigsaw": Head(24, pooled=True),
        "autoencoder": Head(64, pooled=False, bottleneck=16),
        "edges": Head(64, pooled=False),
    }
)


def digits_model(task: str) -> CostModel:
    """The cost model of one task's networks."""
    head, (first, second) = HEADS[task], CHANNELS
    large, small = (SIDE // 2) ** 2, (SIDE // 4) ** 2
    base = Counts(4 * first, large * 4 * first) + Counts(first * second, small * first * second)
    sizes = [second * (1 if head.pooled else small), *([head.bottleneck] if head.bottleneck else []), head.outputs]
    for inputs, outputs in itertools.pairwise(sizes):
        base += Counts(inputs * outputs + outputs, inputs * outputs)
    taps = [_KERNELS.get(op, 0) for op in TRANSNAS_MICRO.ops]
    edge = [Counts(t * (first**2 + second**2), t * (large * first**2 + small * second**2)) for t in taps]
    return additive(TRANSNAS_MICRO, f"digits/{task}", base, [edge] * len(EDGES))
