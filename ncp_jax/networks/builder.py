"""From a code and a task to a network.

Deviations from the sources. BatchNorm normalises the tiles of a jigsaw and the frames of a video together, not one by
one. The BatchNorm of TransNAS's macro shortcuts has the usual epsilon (the source gives it 1, by a slip). NAS-Bench-MR
publishes no video network, only that its costs are those of the image network: here frames go through that network one
by one, and their features are averaged. The segmentation logits are enlarged to the image's size here, outside of the
network there. All convolutions start from one distribution, that of NAS-Bench-MR's and TransNAS's encoders. The
discriminator that TransNAS trains against its image decoders is not part of the networks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from flax import nnx

from ncp_jax import checks
from ncp_jax.networks import macro, multi_resolution
from ncp_jax.networks.heads import BranchClassifier, BranchSegmenter, Classifier, Decoder
from ncp_jax.networks.layers import Parameters
from ncp_jax.networks.network import Form, Network
from ncp_jax.spaces import Space, get_space
from ncp_jax.spaces.costs.heads import HEADS, TILES
from ncp_jax.spaces.costs.nas_bench_201 import DATASETS
from ncp_jax.types import Key


@dataclasses.dataclass(frozen=True)
class Task:
    """A task that a network can have a head for.

    Attributes:
      head: "classification", "segmentation", "video", "regression", "jigsaw" or "image".
      outputs: the benchmark's classes, or numbers or channels of the output.
      side: pixels a side of the benchmark's images, tiles or frames.
    """

    head: str
    outputs: int
    side: int

    @property
    def has_classes(self) -> bool:
        """Whether ``outputs`` counts classes, and may be chosen."""
        return self.head in ("classification", "segmentation", "video", "jigsaw")


_MR = {
    "classification": Task("classification", 50, 128),
    "segmentation": Task("segmentation", 19, 512),
    "video": Task("video", 51, 128),
    "cls-50-1000": Task("classification", 50, 128),
    "cls-50-100": Task("classification", 50, 128),
    "cls-10-1000": Task("classification", 10, 128),
    "cls-10c": Task("classification", 10, 128),
    "seg": Task("segmentation", 19, 512),
    "seg-4x": Task("segmentation", 19, 128),
    "video-p": Task("video", 51, 128),
}
_KINDS = {"room_layout": "regression", "jigsaw": "jigsaw", "segmentsemantic": "segmentation"}
_KINDS |= dict.fromkeys(("normal", "autoencoder"), "image")
_TRANSNAS = {name: Task(_KINDS.get(name, "classification"), head.outputs, head.image) for name, head in HEADS.items()}
_NAS_BENCH_201 = {name: Task("classification", dataset.classes, dataset.image) for name, dataset in DATASETS.items()}
TASKS: Mapping[str, Mapping[str, Task]] = MappingProxyType(
    {
        "nas-bench-mr": MappingProxyType(_MR),
        "nas-bench-201": MappingProxyType(_NAS_BENCH_201),
        "transnas-micro": MappingProxyType(_TRANSNAS),
        "transnas-macro": MappingProxyType(_TRANSNAS),
    }
)


def build(
    space: Space | str,
    code: Any,
    task: str | None = None,
    *,
    classes: int | None = None,
    key: Key | None = None,
    abstract: bool = False,
) -> Network:
    """Returns the network that a code denotes, with a head for a task: a Flax NNX module in training mode (host-side).

    Example:
      >>> import ncp_jax as ncp
      >>> network = ncp.build("transnas-micro", "64-41414-1_02_333", "jigsaw", abstract=True)
      >>> f"{ncp.count_parameters(network):,}"
      '27,129,608'

    Args:
      space: the code's space, or its name.
      code: one legal code [d], or its architecture string.
      task: a task of ``TASKS[space]``: the names of the benchmark's tables; for NAS-Bench-MR also "classification",
        "segmentation" and "video". The first of them without it.
      classes: how many classes; the benchmark's without it.
      key: a PRNG key for the weights, ``jax.random.key(0)`` without it.
      abstract: make parameters that are shapes without values: for counting, cheap, nothing is allocated.

    Returns:
      A module ``network(images) -> outputs``; see ``Network`` for shapes. ``network.eval()`` makes BatchNorm use its
      running averages. It is the module itself and no description of it, since it is what one trains;
      ``networks.summarise(network)`` counts what it holds and computes.

    Raises:
      UsageError: an unknown space, a code that is not in it, a task without a head, fewer than two classes, classes
        for a task that has none.
    """
    space = get_space(space) if isinstance(space, str) else space
    if space.name not in TASKS:
        raise checks.UsageError(
            expected="a space with networks", got=repr(space.name), remedy=f"choose from: {', '.join(TASKS)}"
        )
    name, chosen = _task(space, task)
    outputs = _outputs(name, chosen, classes)
    row = tuple(_code(space, code))
    random = None if abstract else jax.random.key(0) if key is None else key
    parameters = Parameters(random)
    if space.name == "nas-bench-mr":
        stages, widths, channels = multi_resolution.encoder(row, parameters)
        make = BranchSegmenter if chosen.head == "segmentation" else BranchClassifier
        head: nnx.Module = make(widths, channels, outputs, parameters=parameters)
        stride, whole = multi_resolution.STRIDE, False
    else:
        encoder = {
            "nas-bench-201": macro.nas_bench_201_encoder,
            "transnas-micro": macro.micro_encoder,
            "transnas-macro": macro.macro_encoder,
        }[space.name]
        stages, features, stride = encoder(row, parameters)
        head = _head(chosen, features, stride, outputs, norm=space.name == "nas-bench-201", parameters=parameters)
        whole = space.name == "nas-bench-201" or isinstance(head, Decoder)
    pieces = {"jigsaw": ("tiles", TILES), "video": ("frames", 0)}.get(chosen.head, ("", 0))
    form = Form(space.name, row, name, stride, whole, *pieces, outputs, chosen.side)
    return Network(form, stages, head)


def _head(
    task: Task, inputs: int, stride: int, outputs: int, *, norm: bool, parameters: Parameters
) -> Classifier | Decoder:
    """Returns a head for an encoder with one branch."""
    if task.head in ("segmentation", "image"):
        doublings = stride.bit_length() - 1
        return Decoder(inputs, outputs, doublings, generates=task.head == "image", parameters=parameters)
    pieces = TILES if task.head == "jigsaw" else 1
    return Classifier(inputs, outputs, pieces=pieces, norm=norm, parameters=parameters)


def _task(space: Space, task: str | None) -> tuple[str, Task]:
    tasks = TASKS[space.name]
    by_lower = {name.lower(): name for name in tasks}
    # A table's full name ("nas-bench-mr/seg") says its task as well.
    wanted = next(iter(tasks)) if task is None else str(task).removeprefix(f"{space.name}/")
    if wanted.lower() not in by_lower:
        raise checks.UsageError(
            expected=f"a task that networks of {space.name} have a head for",
            got=repr(task),
            remedy=f"choose from: {', '.join(tasks)}",
        )
    name = by_lower[wanted.lower()]
    return name, tasks[name]


def _outputs(name: str, task: Task, classes: int | None) -> int:
    if classes is None:
        return task.outputs
    if not task.has_classes:
        raise checks.UsageError(
            expected=f"no number of classes for task {name}",
            got=repr(classes),
            remedy=f"its head has {task.outputs} outputs that are no classes: leave classes out",
        )
    whole = isinstance(classes, int | np.integer) and not isinstance(classes, bool)
    if not whole or classes < 2:
        raise checks.UsageError(
            expected="classes to be an integer >= 2", got=repr(classes), remedy=f"the benchmark has {task.outputs}"
        )
    return int(classes)


def _code(space: Space, code: Any) -> list[int]:
    if isinstance(code, str):
        return space.from_string(code).tolist()
    rows = space.check(code)
    if len(rows) != 1:
        raise checks.UsageError(expected="one code", got=f"{len(rows)} of them", remedy="build one network at a time")
    return rows[0].tolist()
