"""Registers the networks of each space, and counts their costs by the rules of their benchmark."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from flax import nnx

from ncp_jax.networks.counting import Operations, StageCount, count_stages
from ncp_jax.networks.heads import Classifier, Decoder
from ncp_jax.networks.layers import Parameters
from ncp_jax.networks.network import CHANNELS, Network
from ncp_jax.spaces import Space, get_space
from ncp_jax.spaces.costs.heads import TILES


@dataclasses.dataclass(frozen=True)
class Task:
    """A task that a network can have a head for.

    Attributes:
      head: "classification", "segmentation", "video", "regression", "jigsaw", "image" or "detection".
      outputs: number of the benchmark's classes, or of numbers or channels of the output.
      side: side of the benchmark's images, tiles or frames, pixels.
      channels: channels of the images.
      family: the networks that have the task, where they are not those of its space's benchmark.
    """

    head: str
    outputs: int
    side: int
    channels: int = CHANNELS
    family: NetworkFamily | None = None

    @property
    def has_classes(self) -> bool:
        """Whether ``outputs`` counts classes, and may be chosen."""
        return self.head in ("classification", "segmentation", "video", "jigsaw", "detection")


class Parts(NamedTuple):
    """Parts of a network.

    Attributes:
      stages: stages of the encoder by name, in order.
      head: head of the task.
      stride: side of the image, in pixels, for one pixel of the encoder's coarsest features.
      whole: whether the sides of images must be multiples of the stride.
      fixed: whether images must have the benchmark's side.
    """

    stages: dict[str, nnx.Module]
    head: nnx.Module
    stride: int
    whole: bool
    fixed: bool = False


@dataclasses.dataclass(frozen=True)
class NetworkFamily:
    """The networks of one space.

    Attributes:
      tasks: tasks by name, the default first.
      parts: function from a code (d Python integers), a task, the number of outputs and the source of parameters to
        the parts of the network.
      flops: function from the operations of one image (of a jigsaw: the encoder's for one tile), the shape of the
        encoder's output [n, h, w, c] (the finest branch) and the number of tiles that share the encoder to the FLOPs
        that the benchmark publishes.
      citation: the paper of the networks, for files that leave the package.
    """

    tasks: Mapping[str, Task]
    parts: Callable[[Sequence[int], Task, int, Parameters], Parts]
    flops: Callable[[Operations, tuple[int, ...], int], int]
    citation: str = ""


FAMILIES: dict[str, NetworkFamily] = {}


def register(space: Space | str, family: NetworkFamily) -> None:
    """Adds the networks of a space: ``build`` makes them, ``published_cost`` counts them."""
    FAMILIES[get_space(space).name] = family


def family_of(space: str, task: str) -> NetworkFamily:
    """Returns the networks that a space has for a task, both by name."""
    return FAMILIES[space].tasks[task].family or FAMILIES[space]


def single_branch_head(
    task: Task, inputs: int, stride: int, outputs: int, *, norm: bool = False, parameters: Parameters
) -> Classifier | Decoder:
    """Returns a head for an encoder with one branch.

    Args:
      task: the task.
      inputs: channels of the encoder's output.
      stride: stride of the encoder.
      outputs: number of classes, numbers or channels.
      norm: whether a classifier begins with BatchNorm and ReLU.
      parameters: source of the weights.
    """
    if task.head in ("segmentation", "image"):
        doublings = stride.bit_length() - 1
        return Decoder(inputs, outputs, doublings, generates=task.head == "image", parameters=parameters)
    pieces = TILES if task.head == "jigsaw" else 1
    return Classifier(inputs, outputs, pieces=pieces, norm=norm, parameters=parameters)


def published_cost(network: Network, stages: list[StageCount] | None = None) -> dict[str, int]:
    """Returns the costs of a network by the rules of its benchmark, from its traced shapes.

    ``params`` are all trainable numbers. ``flops`` are those of one image, by the rule of the space's module
    (``networks.multi_resolution``, ``networks.nas_bench_201``, ``networks.transnas``).

    Args:
      network: a network of ``build``, with values or abstract.
      stages: its ``count_stages`` for one example; by default for one of the size that the benchmark uses.

    Returns:
      ``{"flops": count, "params": count}``. With the tasks and sizes of the benchmarks they equal the published figures
      and those of ``cost_model``.
    """
    form = network.form
    stages = count_stages(network, form.shape()) if stages is None else stages
    *encoder, head = stages
    total: collections.Counter[str] = collections.Counter()
    for stage in encoder:
        total.update(dataclasses.asdict(stage.operations))
    if form.pieces:
        # All pieces have one shape: the encoder's counts are those of one piece times their number.
        total = collections.Counter({kind: count // (form.count or 1) for kind, count in total.items()})
    total.update(dataclasses.asdict(head.operations))
    flops = family_of(form.space, form.task).flops(Operations(**total), encoder[-1].outputs[0], form.count or 1)
    return {"flops": flops, "params": sum(stage.parameters for stage in stages)}
