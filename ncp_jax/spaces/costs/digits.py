"""Counts the costs of the networks of the shipped benchmark, ``digits``: TransNAS micro cells on 8 x 8 images.

A stem (2x2 convolution, stride 2), the cell on 4 x 4 pixels, the mean of 2 x 2 pixels and a 1x1 convolution, the cell
on 2 x 2 pixels, a linear head. Parameters are weights and the biases of linear layers (BatchNorm has none here); flops
are multiply-adds of convolutions, padded pixels included, and of linear layers. An edge counts by its operation,
whether or not it has an effect, as in the published benchmarks.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Mapping
from types import MappingProxyType

from ncp_jax.spaces.cells import CONVOLUTIONS, EDGES
from ncp_jax.spaces.costs.cells import additive
from ncp_jax.spaces.costs.layers import Counts
from ncp_jax.spaces.costs.model import CostModel, network_words
from ncp_jax.spaces.costs.registry import CostFamily, register_costs
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO

SIDE = 8
CHANNELS = (6, 12)
# Names of the metrics of its tables; no other table of the space uses them.
METRICS = frozenset(
    f"{epoch}{split}{name}"
    for epoch in ("", "best_")
    for split in ("", "train_", "test_")
    for name in ("accuracy", "r2")
)


@dataclasses.dataclass(frozen=True)
class Head:
    """What follows the second cell.

    Attributes:
      outputs: number of outputs.
      pooled: whether its input is the mean over pixels; otherwise it is every pixel.
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
    """Returns the cost model of the networks of one task."""
    head, (first, second) = HEADS[task], CHANNELS
    large, small = (SIDE // 2) ** 2, (SIDE // 4) ** 2
    base = Counts(4 * first, large * 4 * first) + Counts(first * second, small * first * second)
    sizes = [second * (1 if head.pooled else small), *([head.bottleneck] if head.bottleneck else []), head.outputs]
    for inputs, outputs in itertools.pairwise(sizes):
        base += Counts(inputs * outputs + outputs, inputs * outputs)
    taps = [CONVOLUTIONS.get(op, 0) for op in TRANSNAS_MICRO.ops]
    edge = [Counts(t * (first**2 + second**2), t * (large * first**2 + small * second**2)) for t in taps]
    name = f"digits/{task}"
    return additive(TRANSNAS_MICRO, name, base, [edge] * len(EDGES), network_words(name, side=SIDE))


# TransNAS has tasks of the same names.
register_costs(TRANSNAS_MICRO, CostFamily(tuple(HEADS), digits_model, "digits/", METRICS))
