"""Builds the network that a code denotes, with a head for a task.

Deviations from the sources. BatchNorm normalises the tiles of a jigsaw and the frames of a video together, not one by
one. The BatchNorm of TransNAS's macro shortcuts has the usual epsilon (the source passes 1, by mistake). NAS-Bench-MR
publishes no video network, only that its costs are those of the image network: here frames go through that network one
by one, and their features are averaged. Networks here enlarge the segmentation logits to the image's size; there this
happens outside of the network. All convolutions start from one distribution, that of NAS-Bench-MR's and TransNAS's
encoders. The discriminator that TransNAS trains against its image decoders is not part of the networks.
"""

from __future__ import annotations

from typing import Any

import jax

from ncp_jax import checks
from ncp_jax.jax_settings import package_settings
from ncp_jax.networks.families import FAMILIES, Task, family_of
from ncp_jax.networks.layers import Parameters
from ncp_jax.networks.network import Form, Network
from ncp_jax.spaces import Space, get_space
from ncp_jax.spaces.costs.heads import TILES
from ncp_jax.types import Key


@package_settings
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

    Examples:
      >>> import ncp_jax as ncp
      >>> network = ncp.build("transnas-micro", "64-41414-1_02_333", "jigsaw", abstract=True)
      >>> f"{ncp.count_parameters(network):,}"
      '27,129,608'

    Args:
      space: space of the code, or its name.
      code: one legal code [d], or its architecture string.
      task: task of the space: a name of the benchmark's tables; for NAS-Bench-MR also "classification",
        "segmentation" and "video"; for TransNAS micro also those of digits ("digits/class"). Default: the first.
      classes: number of classes; by default the benchmark's.
      key: PRNG key of the weights; by default ``jax.random.key(0)``.
      abstract: whether parameters are shapes without values: enough for counting, and nothing is allocated.

    Returns:
      A module ``network(images) -> outputs``; see ``Network`` for shapes. ``network.eval()`` makes BatchNorm use its
      running averages. It is the module itself and no description of it, since it is what one trains;
      ``networks.summarise(network)`` counts what it holds and computes.

    Raises:
      UsageError: an unknown space, a code that is not in it, a task without a head, fewer than two classes, classes
        for a task that has none.
    """
    space = get_space(space) if isinstance(space, str) else space
    if space.name not in FAMILIES:
        raise checks.UsageError(
            expected="a space with networks", got=repr(space.name), remedy=f"choose from: {', '.join(FAMILIES)}"
        )
    name, chosen = _task(space, task)
    outputs = _outputs(name, chosen, classes)
    row = tuple(_code(space, code))
    parameters = Parameters(None if abstract else jax.random.key(0) if key is None else key)
    parts = family_of(space.name, name).parts(row, chosen, outputs, parameters)
    pieces = {"jigsaw": ("tiles", TILES), "video": ("frames", 0)}.get(chosen.head, ("", 0))
    form = Form(
        *(space.name, row, name, parts.stride, parts.whole, *pieces, outputs, chosen.side),
        channels=chosen.channels,
        fixed=parts.fixed,
    )
    return Network(form, parts.stages, parts.head)


def _task(space: Space, task: str | None) -> tuple[str, Task]:
    tasks = FAMILIES[space.name].tasks
    by_lower = {name.lower(): name for name in tasks}
    # A table's full name ("nas-bench-mr/seg") is accepted for its task.
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
    return checks.integer("classes", classes, least=2, remedy=f"the benchmark has {task.outputs}")


def _code(space: Space, code: Any) -> list[int]:
    if isinstance(code, str):
        return space.from_string(code).tolist()
    rows = space.check(code)
    if len(rows) != 1:
        raise checks.UsageError(expected="one code", got=f"{len(rows)} of them", remedy="build one network at a time")
    return rows[0].tolist()
