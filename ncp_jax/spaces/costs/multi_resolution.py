"""Counts the costs of NAS-Bench-MR networks in closed form: polynomials in the code.

NAS-Bench-MR counts the network with its classification head, 50 classes and one image of 3 x 128 x 128:
``params`` are weights, biases and the scale and shift of BatchNorm; ``flops`` are the multiply-adds of convolutions,
their bias additions, and two operations for each number that a BatchNorm returns. A convolution followed by BatchNorm
therefore costs (parameters x output pixels) flops, and so does the classifier: ``flops`` is ``params`` weighted by
area, and both are polynomials in the code. The same polynomial, evaluated at real numbers, is the relaxed cost: linear
in each count, quadratic in the channels, equal to the exact cost at codes.

The table has these costs in the rows of every task. A task's own network has the task's image and head (``NETWORKS``);
its costs follow the same rules (``own_network_model``).

Source of the architecture: Ding et al., ICLR 2022, arXiv 2103.13253, and the authors' network definition.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax.spaces.costs.model import UNITS, CostModel, count_rows, floating, network_words
from ncp_jax.spaces.costs.registry import CostFamily, register_costs
from ncp_jax.spaces.multi_resolution import NAS_BENCH_MR, STAGES
from ncp_jax.types import Array, Float, Int

BRANCHES = 4  # the stem halves the image twice, each further branch once more


@dataclasses.dataclass(frozen=True)
class Network:
    """The image and the head of a task.

    Attributes:
      head: "classification", "segmentation", "video" or "detection". The costs of a video are those of one frame.
      classes: number of the benchmark's classes.
      side: side of the images or frames, pixels.
      channels: channels of the images.
    """

    head: str
    classes: int
    side: int
    channels: int = 3

    @property
    def dense(self) -> bool:
        """Whether the head has outputs for each pixel of the finest branch."""
        return self.head in ("segmentation", "detection")

    @property
    def outputs(self) -> int:
        """Number of the head's outputs, for each pixel where it is dense."""
        return detection_outputs(self.classes) if self.head == "detection" else self.classes

    def words(self, task: str) -> str:
        """Returns the network in words."""
        pieces = {"video": "frames", "detection": "pseudo-images"}.get(self.head, "")
        return network_words(task, side=self.side, classes=self.classes, pieces=pieces)


def detection_outputs(classes: int) -> int:
    """Returns the outputs of the detection head for each pixel.

    Each class has ``ORIENTATIONS`` anchors at a pixel. An anchor has a score for each class, ``BOX`` numbers of its box
    and a score for each of two directions.
    """
    return ORIENTATIONS * classes * (classes + BOX + 2)


ORIENTATIONS = 2  # anchors of each class at a pixel: along the road and across it
BOX = 7  # numbers of a box: x, y, z, width, length, height, angle
TABLE = Network("classification", 50, 128)  # the network whose costs the table has, in the rows of every task
NETWORKS = {
    "seg": Network("segmentation", 19, 512),
    "seg-4x": Network("segmentation", 19, 128),
    "cls-50-1000": Network("classification", 50, 128),
    "cls-50-100": Network("classification", 50, 128),
    "cls-10-1000": Network("classification", 10, 128),
    "cls-10c": Network("classification", 10, 128),
    "video": Network("video", 51, 128),
    "video-p": Network("video", 51, 128),
    # This project's own: no network is published for KITTI. Cars, pedestrians and cyclists, with as many channels as
    # the pseudo-images of PointPillars (Lang et al., CVPR 2019, arXiv 1812.05784) have.
    "3ddet": Network("detection", 3, 512, channels=64),
}
TASKS = tuple(NETWORKS)  # every setting of the benchmark; the published costs are the same for all


def _convolution(kernel: int, inputs: Any, outputs: Any) -> Any:
    """Returns the parameters of a convolution without bias and of the BatchNorm behind it."""
    return kernel * kernel * inputs * outputs + 2 * outputs


def _fusion(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """Returns the parameters of the layers that start a module, by the side of their output.

    Each branch receives its own resolution (3x3), the next finer one (3x3, stride 2) and the next coarser one (1x1, run
    at the coarse resolution, then enlarged). Where a stage adds a branch, it grows from the coarsest fused one (3x3,
    stride 2).

    Args:
      inputs: channels of the branches before the layers.
      outputs: channels of the branches after the layers, as many or more.

    Returns:
      Parameters by the branch that they write to (as many as there are outputs).
    """
    params: list[Any] = [0] * len(outputs)
    for target in range(len(inputs)):
        params[target] = params[target] + _convolution(3, inputs[target], outputs[target])
        if target > 0:
            params[target] = params[target] + _convolution(3, inputs[target - 1], outputs[target])
        if target + 1 < len(inputs):
            params[target + 1] = params[target + 1] + _convolution(1, inputs[target + 1], outputs[target])
    for target in range(len(inputs), len(outputs)):
        params[target] = params[target] + _convolution(3, outputs[target - 1], outputs[target])
    return params


def _params_by_side(code: Sequence[Any], network: Network = TABLE) -> list[tuple[int, Any]]:
    """Returns all parameters of a NAS-Bench-MR network with the side of the output they make.

    Args:
      code: the 27 numbers, each an integer, an array of any kind, or a tracer; only sums and products are taken.
      network: its image and head. A dense head works on the finest branch, at every pixel of it.
    """
    branch_sides = [network.side >> (2 + branch) for branch in range(BRANCHES)]
    sides = [
        (network.side // 2, _convolution(3, network.channels, code[0])),
        (branch_sides[0], _convolution(3, code[0], code[1])),
    ]
    channels, start = [code[1]], 2
    for stage in STAGES:
        blocks = code[start]
        convs = code[start + 1 : start + 1 + stage]
        before, channels = channels, list(code[start + 1 + stage : start + 1 + 2 * stage])
        start += 1 + 2 * stage
        first, later = _fusion(before, channels), _fusion(channels, channels)
        for branch, width in enumerate(channels):
            residual = 2 * _convolution(3, width, width)
            modules = first[branch] + (blocks - 1) * later[branch] + blocks * convs[branch] * residual
            sides.append((branch_sides[branch], modules))
    sides.append((branch_sides[0 if network.dense else -1], _convolution(1, sum(channels), code[start])))
    sides.append((branch_sides[0] if network.dense else 1, network.outputs * code[start] + network.outputs))
    return sides


def exact_cost(codes: Any) -> dict[str, np.ndarray]:
    """Returns exact costs of NAS-Bench-MR codes as the table counts them, whatever the task (host-side).

    Args:
      codes: legal codes [..., 27].

    Returns:
      ``{"flops": multiply-adds, "params": parameters}``, int64 [...].

    Raises:
      UsageError: a code is not legal.
    """
    return _exact(TABLE, codes)


def _exact(network: Network, codes: Any) -> dict[str, np.ndarray]:
    return count_rows(NAS_BENCH_MR, codes, functools.partial(_count, network))


def _count(network: Network, rows: Int[np.ndarray, "n 27"]) -> dict[str, np.ndarray]:
    sides = _params_by_side(list(np.ascontiguousarray(rows.T, dtype=np.int64)), network)
    return {
        "flops": sum(side * side * params for side, params in sides),
        "params": sum(params for _, params in sides),
    }


def relaxed_cost(relaxed: Float[Array, "*batch 27"]) -> dict[str, Float[Array, "*batch"]]:
    """Returns costs of relaxed NAS-Bench-MR codes (or of codes); differentiable and jittable.

    Args:
      relaxed: codes in raw units [..., 27]. Nothing is rounded or clipped, also outside the box.

    Returns:
      ``{"flops": GMACs, "params": millions}`` [...], in the floating type given (float32 for integers); at legal codes
      equal to ``exact_cost`` to the precision of that type.
    """
    return _relaxed(TABLE, relaxed)


def _relaxed(network: Network, relaxed: Any) -> dict[str, Array]:
    relaxed = floating(NAS_BENCH_MR, relaxed)
    sides = _params_by_side([relaxed[..., place] for place in range(NAS_BENCH_MR.features)], network)
    return {
        "flops": sum(side * side * 1e-9 * params for side, params in sides),
        "params": sum(1e-6 * params for _, params in sides),
    }


def nas_bench_mr_model(task: str) -> CostModel:
    """Returns the cost model of the table of NAS-Bench-MR, the same for every task."""
    return CostModel(NAS_BENCH_MR.name, UNITS, exact_cost, relaxed_cost, counted=TABLE.words(""), increasing=True)


def own_network_model(task: str) -> CostModel | None:
    """Returns the cost model of a task's own network, counted by the table's rules; None where there is none."""
    network = NETWORKS.get(task)
    if network is None:
        return None
    exact, relaxed = functools.partial(_exact, network), functools.partial(_relaxed, network)
    return CostModel(NAS_BENCH_MR.name, UNITS, exact, relaxed, task, network.words(task), increasing=True)


register_costs(NAS_BENCH_MR, CostFamily(TASKS, nas_bench_mr_model, own=own_network_model))
