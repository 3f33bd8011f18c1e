"""Counts the network around a NAS-Bench-201 cell and the operations within it, as that benchmark does.

``params``: weights, biases, the scale and shift of BatchNorm. ``flops``, for one image: multiply-adds of convolutions
and of the linear layer, and the linear layer's bias; BatchNorm, ReLU and pooling count as nothing.

Sources: Dong & Yang, ICLR 2020, arXiv 2001.00326, section 2.1, and the counter of the authors' code
(github.com/D-X-Y/AutoDL-Projects).
"""

from __future__ import annotations

import dataclasses
import itertools

from ncp_jax.spaces.costs.layers import Counts

CHANNELS = (16, 32, 64)
CELLS = 5  # at each width
KERNELS = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What a dataset changes in the network.

    Attributes:
      classes: outputs of the linear layer.
      image: side of the images, pixels.
    """

    classes: int
    image: int


DATASETS = {"cifar10": Dataset(10, 32), "cifar100": Dataset(100, 32), "imagenet16-120": Dataset(120, 16)}


def _convolution(kernel: int, inputs: int, outputs: int, side: int, *, norm: bool = True) -> Counts:
    weights = kernel * kernel * inputs * outputs
    return Counts(weights + (2 * outputs if norm else 0), weights * side * side)


def skeleton_counts(dataset: Dataset) -> Counts:
    """Returns the counts of all but the cells: stem, two residual blocks of stride 2, BatchNorm and classifier."""
    side = dataset.image
    total = _convolution(3, 3, CHANNELS[0], side)
    for inputs, outputs in itertools.pairwise(CHANNELS):
        side //= 2
        total += _convolution(3, inputs, outputs, side)
        total += _convolution(3, outputs, outputs, side)
        total += _convolution(1, inputs, outputs, side, norm=False)
    classifier = (CHANNELS[-1] + 1) * dataset.classes
    return total + Counts(2 * CHANNELS[-1], 0) + Counts(classifier, classifier)


def operation_counts(op: str, dataset: Dataset) -> Counts:
    """Returns the counts of one operation on one edge of all cells."""
    total = Counts()
    if op in KERNELS:
        for step, width in enumerate(CHANNELS):
            params, flops = _convolution(KERNELS[op], width, width, dataset.image >> step)
            total += Counts(CELLS * params, CELLS * flops)
    return total
