"""Plans an inversion: its devices, its kernel, and portions of codes that fit in memory."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ncp_jax import checks
from ncp_jax.propagation.choice import fastest
from ncp_jax.propagation.config import Execution, PropagationConfig
from ncp_jax.propagation.engine import AXIS, Shape, can_fuse, followers, shape_for
from ncp_jax.propagation.found import batch_rows
from ncp_jax.propagation.gradients import Invertible, members_of
from ncp_jax.propagation.objective import ObjectiveWeights
from ncp_jax.spaces import CostModel, Space
from ncp_jax.types import Float, Int

# Maximum number of codes in a portion: larger portions take more memory and save no time.
LARGEST = {"cpu": 2**16}
LARGEST_ELSEWHERE = 2**20
CPU_BYTES = 4e8  # default memory of a portion on a CPU, bytes
FREE_SHARE = 0.5  # default share of an accelerator's free memory for a portion


@dataclasses.dataclass(frozen=True)
class Plan:
    """The division of the codes into portions, and the program that inverts a portion.

    Attributes:
      shape: tiles, lanes, kernel and devices of the compiled program.
      device: first device, which computes everything after the gradient loop.
      unit: number of codes that stay together, so that code i follows member i modulo the number of members.
      portion: number of codes of one call, a multiple of ``unit``.
    """

    shape: Shape
    device: jax.Device
    unit: int
    portion: int

    def with_kernel(self, invert: Callable[[Plan], jax.Array], key: Hashable) -> Plan:
        """Returns the plan with kernel "auto" replaced by the one that is faster on a portion, timed once."""
        if self.shape.kernel != "auto":
            return self
        plans = {name: dataclasses.replace(self, shape=self.shape._replace(kernel=name)) for name in ("xla", "pallas")}
        timed = {n: functools.partial(lambda plan: jax.block_until_ready(invert(plan)), p) for n, p in plans.items()}
        return plans[fastest(timed, key=(self.device.device_kind, key))]

    def portions(self, n: int) -> list[tuple[int, int]]:
        """Returns (first code, number of codes) of each portion in this process's share of n codes."""
        units, processes, process = -(-n // self.unit), jax.process_count(), jax.process_index()
        begin, end = (min(n, units * p // processes * self.unit) for p in (process, process + 1))
        return [(i, min(self.portion, end - i)) for i in range(begin, end, self.portion)]


def make_plan(
    execution: Execution,
    predictor: Invertible,
    weights: ObjectiveWeights,
    config: PropagationConfig,
    model: CostModel | None,
    n: int,
) -> Plan:
    """Plans the inversion of n codes. Kernel "auto" stays undecided (see ``Plan.with_kernel``); nothing is compiled.

    Raises:
      UsageError: too few devices, too little memory for one tile of codes, or a kernel that cannot do this inversion.
    """
    devices = find_devices(execution)
    platform = devices[0].platform
    each = followers(predictor, config)
    tile, lanes = shape_for(predictor, config, n, platform)
    unit = tile * each
    elsewhere = len(devices) > 1 or devices[0] != jax.local_devices()[0]
    mesh = Mesh(np.asarray(devices), (AXIS,)) if elsewhere else None
    largest = LARGEST.get(platform, LARGEST_ELSEWHERE) * len(devices)
    fitting = _fitting(execution, devices[0], predictor, config, tile * lanes, unit) * len(devices)
    # Restarts compare the codes of a portion. It is one unit then, so that results do not depend on the memory.
    units = 1 if config.restarts else max(1, min(largest, fitting, n + unit - 1) // unit)
    kernel = _check_kernel(execution.kernel, platform, can_fuse(predictor, weights, config, model, platform))
    return Plan(Shape(tile, lanes, kernel, mesh), devices[0], unit, units * unit)


def find_devices(execution: Execution) -> list[jax.Device]:
    """Returns this process's devices that an execution asks for.

    Raises:
      UsageError: the platform is not available, or has fewer devices.
    """
    try:
        available = jax.local_devices(backend=execution.platform)
    except RuntimeError as error:
        here = ", ".join(f"{len(jax.local_devices())} {d}" for d in {d.platform for d in jax.local_devices()})
        raise checks.UsageError(
            expected=f"a {execution.platform} device", got=f"none here ({here})", remedy="leave the platform out"
        ) from error
    if execution.devices is not None and execution.devices > len(available):
        raise checks.UsageError(
            expected=f"devices <= {len(available)} ({available[0].platform})",
            got=str(execution.devices),
            remedy="ask for fewer",
        )
    return available[: execution.devices]


def bytes_in_flight(predictor: Invertible, config: PropagationConfig, rows: int) -> float:
    """Estimates the bytes on a device besides the codes, for folded networks with ``rows`` codes in flight."""
    widths = [a.shape[-1] for a in jax.tree.leaves(predictor.params) if a.ndim == 3]
    members = members_of(predictor)
    followed = 1 if config.follow == "member" else members
    region = 0 if config.region is None else len(config.region.rows)
    # In the gradient loop: all activations, each with its slope and a temporary; distances to the region's rows.
    moving = rows * (3 * sum(widths) * followed + 2 * region)
    # In the ranking: input and output of one layer, for all members and the codes of one batch.
    ranking = 2 * batch_rows() * members * max(widths, default=1)
    return 4.0 * (moving + ranking)


def _fitting(
    execution: Execution, device: jax.Device, predictor: Invertible, config: PropagationConfig, rows: int, unit: int
) -> int:
    """Returns how many codes fit in a device's memory next to ``bytes_in_flight``; UsageError for less than a unit."""
    budget = execution.memory_mb * 1e6 if execution.memory_mb is not None else free_bytes(device)
    in_flight = bytes_in_flight(predictor, config, rows)
    # Bytes per code: start, end and their tiles as floats; codes before and after, on the device and on the host.
    code = 4.0 * 12 * len(predictor.scale.x_mean)
    least = in_flight + unit * code
    if budget < least:
        raise checks.UsageError(
            expected=f"memory_mb >= {math.ceil(least / 1e6)}, the least that this search needs",
            got=f"{budget / 1e6:g}",
            remedy="allow more memory, or leave memory_mb out",
        )
    return int((budget - in_flight) / code)


def free_bytes(device: jax.Device) -> float:
    """Returns the default memory of a portion, in bytes."""
    stats: dict[str, Any] = device.memory_stats() or {}
    if device.platform == "cpu" or "bytes_limit" not in stats:
        return CPU_BYTES
    return FREE_SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))


def _check_kernel(wanted: str, platform: str, possible: bool) -> str:
    """Returns "xla", "pallas", or "auto" if both are possible and the faster one is still to be measured."""
    if wanted == "xla" or (wanted == "auto" and (platform == "cpu" or not possible)):
        return "xla"
    if platform == "cpu":
        raise checks.UsageError(expected="a GPU or TPU for kernel='pallas'", got="cpu", remedy="try kernel='xla'")
    if not possible:
        raise checks.UsageError(
            expected="plain steps of folded networks on a linear objective for kernel='pallas'",
            got="other settings",
            remedy="try kernel='auto'",
        )
    return wanted


class Starts:
    """The codes that an inversion starts from, given or random.

    Args:
      space: the space of the codes.
      n: number of codes.
      rows: given codes, or None for random ones.
      draw: ``(n, first) -> codes [n, d]``, draws random codes number ``first`` and following. Unused with ``rows``.
    """

    def __init__(
        self,
        space: Space,
        n: int,
        rows: Int[np.ndarray, "n d"] | None,
        draw: Callable[[int, int], Int[np.ndarray, "n d"]] | None,
    ) -> None:
        self.space, self.n, self._rows, self._draw = space, n, rows, draw

    @property
    def random(self) -> bool:
        """Whether the codes are random."""
        return self._rows is None

    def codes(self, first: int, n: int) -> Int[np.ndarray, "n d"]:
        """Returns codes ``first`` to ``first + n - 1``. After the last one, it repeats it or draws more random ones."""
        if self._rows is None:
            assert self._draw is not None
            return self._draw(n, first)
        return self._rows[np.minimum(np.arange(first, first + n), self.n - 1)]

    def relaxed(self, first: int, n: int) -> Float[jax.Array, "n f"]:
        """Returns the same codes as relaxed codes on the device."""
        return self.space.encode(jnp.asarray(self.codes(first, n)))
