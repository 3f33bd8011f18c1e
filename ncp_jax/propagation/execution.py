"""Where an inversion runs and in which portions: devices, memory, kernel, and this process's share of the codes."""

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
from ncp_jax.propagation.found import rows_of_a_call
from ncp_jax.propagation.gradients import Invertible, members_of
from ncp_jax.propagation.objective import ObjectiveWeights
from ncp_jax.spaces import CostModel, Space
from ncp_jax.types import Float, Int

# Codes in a portion, at most: more only cost memory.
LARGEST = {"cpu": 2**16}
LARGEST_ELSEWHERE = 2**20
CPU_BYTES = 4e8  # what a portion may take on a CPU, where nothing says otherwise
FREE_SHARE = 0.5  # of an accelerator's free memory


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the codes are portioned out.

    Attributes:
      shape: tiles, lanes, kernel and devices of the compiled program.
      device: the first device, on which everything behind the loop is computed.
      unit: codes that must stay together, so that code i follows member i modulo their number.
      portion: codes of one call, a multiple of ``unit``.
    """

    shape: Shape
    device: jax.Device
    unit: int
    portion: int

    def with_kernel(self, invert: Callable[[Plan], jax.Array], key: Hashable) -> Plan:
        """The plan with its kernel decided: where both would do, the one that is faster on a portion, timed once."""
        if self.shape.kernel != "auto":
            return self
        plans = {name: dataclasses.replace(self, shape=self.shape._replace(kernel=name)) for name in ("xla", "pallas")}
        timed = {n: functools.partial(lambda plan: jax.block_until_ready(invert(plan)), p) for n, p in plans.items()}
        return plans[fastest(timed, key=(self.device.device_kind, key))]

    def portions(self, n: int) -> list[tuple[int, int]]:
        """First code and number of codes of each portion that is this process's share of n codes."""
        units, processes, mine = -(-n // self.unit), jax.process_count(), jax.process_index()
        begin, end = (min(n, units * p // processes * self.unit) for p in (mine, mine + 1))
        return [(i, min(self.portion, end - i)) for i in range(begin, end, self.portion)]


def make_plan(
    execution: Execution,
    predictor: Invertible,
    weights: ObjectiveWeights,
    config: PropagationConfig,
    model: CostModel | None,
    n: int,
) -> Plan:
    """Decides where and in which portions n codes are inverted. Nothing is compiled, but for a kernel to be timed.

    Raises:
      UsageError: devices that are not there, less memory than a tile of codes takes, a kernel that cannot do this.
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
    # Restarts look at the codes of a unit together: there the portion is the unit, whatever fits.
    units = 1 if config.restarts else max(1, min(largest, fitting, n + unit - 1) // unit)
    kernel = _check_kernel(execution.kernel, platform, can_fuse(predictor, weights, config, model, platform))
    return Plan(Shape(tile, lanes, kernel, mesh), devices[0], unit, units * unit)


def find_devices(execution: Execution) -> list[jax.Device]:
    """Returns this process's devices that an execution names.

    Raises:
      UsageError: there is no such platform here, or it has fewer devices.
    """
    try:
        there = jax.local_devices(backend=execution.platform)
    except RuntimeError as error:
        here = ", ".join(f"{len(jax.local_devices())} {d}" for d in {d.platform for d in jax.local_devices()})
        raise checks.UsageError(
            expected=f"a {execution.platform} device", got=f"none here ({here})", remedy="leave the platform out"
        ) from error
    if execution.devices is not None and execution.devices > len(there):
        raise checks.UsageError(
            expected=f"devices <= {len(there)} ({there[0].platform})",
            got=str(execution.devices),
            remedy="ask for fewer",
        )
    return there[: execution.devices]


def bytes_in_flight(predictor: Invertible, config: PropagationConfig, rows: int) -> float:
    """Bytes of what lives on a device beside the codes, an estimate for folded networks.

    While codes move: the activations of ``rows`` codes, each with its slope and a temporary. While they are ranked:
    what all members make of a call's codes, layer by layer.
    """
    widths = [a.shape[-1] for a in jax.tree.leaves(predictor.params) if a.ndim == 3]
    members = members_of(predictor)
    followed = 1 if config.follow == "member" else members
    region = 0 if config.region is None else len(config.region.points)
    moving = rows * (3 * sum(widths) * followed + 2 * region)
    ranking = 2 * rows_of_a_call() * members * max(widths, default=1)
    return 4.0 * (moving + ranking)


def _fitting(
    execution: Execution, device: jax.Device, predictor: Invertible, config: PropagationConfig, rows: int, unit: int
) -> int:
    """How many codes of a portion fit the memory, beside what moves and what ranks; at least a unit of them must."""
    budget = execution.memory_mb * 1e6 if execution.memory_mb is not None else free_bytes(device)
    flying = bytes_in_flight(predictor, config, rows)
    # Start, end and their tiles as floats; codes before and after, on the device and on the host.
    code = 4.0 * 12 * len(predictor.scale.x_mean)
    least = flying + unit * code
    if budget < least:
        raise checks.UsageError(
            expected=f"memory_mb >= {math.ceil(least / 1e6)}, the least that this search needs",
            got=f"{budget / 1e6:g}",
            remedy="allow more memory, or leave memory_mb out",
        )
    return int((budget - flying) / code)


def free_bytes(device: jax.Device) -> float:
    """The memory that a portion may take without a word from the user."""
    stats: dict[str, Any] = device.memory_stats() or {}
    if device.platform == "cpu" or "bytes_limit" not in stats:
        return CPU_BYTES
    return FREE_SHARE * (stats["bytes_limit"] - stats.get("bytes_in_use", 0))


def _check_kernel(wanted: str, platform: str, possible: bool) -> str:
    """Returns "xla", "pallas", or "auto" where both would do and the faster is to be found out."""
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
    """The codes that an inversion begins with: given ones, or random ones by their numbers.

    Args:
      space: the space.
      n: how many.
      rows: the codes, where they are given; else ``draw`` makes them.
      draw: ``(n, first) -> codes``.
    """

    def __init__(
        self,
        space: Space,
        n: int,
        rows: Int[np.ndarray, "n d"] | None,
        draw: Callable[[int, int], Int[np.ndarray, "n d"]] | None,
    ) -> None:
        self.space, self.n, self._rows, self._draw = space, n, rows, draw

    def codes(self, first: int, n: int) -> Int[np.ndarray, "n d"]:
        """Codes ``first`` … ``first + n - 1``; behind the last one, the last again or more random ones."""
        if self._rows is None:
            assert self._draw is not None
            return self._draw(n, first)
        return self._rows[np.minimum(np.arange(first, first + n), self.n - 1)]

    def relaxed(self, first: int, n: int) -> Float[jax.Array, "n f"]:
        """The same as relaxed codes on the device."""
        return self.space.encode(jnp.asarray(self.codes(first, n)))
