"""Reads measured latencies of devices, and finds readings that are not the latency of the whole network.

Source: H. Lee, S. Lee, S. Chong, S. J. Hwang. HELP: Hardware-Adaptive Efficient Latency Prediction for NAS via
Meta-Learning. NeurIPS 2021. arXiv:2106.08630.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import store
from ncp_jax.benchmarks.arrays import TableArrays, check_arrays
from ncp_jax.benchmarks.catalogue import RECIPES, Recipe, choose_table
from ncp_jax.benchmarks.sources import all_sources, hashes_of
from ncp_jax.benchmarks.stand_ins import not_as_published
from ncp_jax.benchmarks.torch_files import read_torch_bytes
from ncp_jax.console import short_repr
from ncp_jax.spaces import get_space
from ncp_jax.spaces.cells import PATHS
from ncp_jax.types import Bool, Float, Int

_LARGEST = 64 * 2**20  # maximum bytes of what a file holds, estimated; the real ones have at most 2 MB
_NUMBERS = (int, float, np.integer, np.floating)


@dataclasses.dataclass(frozen=True, eq=False)
class Readings:
    """All readings of one device, with the broken ones.

    Attributes:
      table: name of the table.
      space: name of the space of the codes.
      codes: ``[n, d]`` architectures in ascending order, int32.
      milliseconds: ``[n]`` latencies as published, float64.
      broken: ``[n]`` whether a reading is not the latency of the whole network; see ``broken_readings``. The table
        lacks these architectures.
    """

    table: str
    space: str
    codes: Int[np.ndarray, "n d"]
    milliseconds: Float[np.ndarray, " n"]
    broken: Bool[np.ndarray, " n"]

    __repr__ = short_repr


def load_readings(name: str) -> Readings:
    """Reads all readings of a table of latencies, such as "nas-bench-201-latency/raspi4".

    Raises:
      UsageError: the table is unknown, or not one of latencies.
      FileNotFoundError: its files are not on this machine; the text names the command that fetches them.
      DataError: a file is altered or damaged.
    """
    recipe = RECIPES.get(choose_table(name))
    if recipe is None or not recipe.order:
        raise checks.UsageError(
            expected="a table of latencies", got=repr(name), remedy="for example nas-bench-201-latency/raspi4"
        )
    contents = (store.read_source(all_sources()[key], recipe.name) for key in recipe.files)
    return read_readings(recipe, *contents)


def read_readings(recipe: Recipe, content: bytes, order: bytes) -> Readings:
    """Reads the latencies of a device.

    Args:
      recipe: description of the table.
      content: bytes of ``recipe.file``, a list of numbers.
      order: bytes of ``recipe.order``: in which order the architectures are, as strings with their places or as codes.

    Raises:
      DataError: the files are damaged, have anything but simple data, or do not belong together.
    """
    values = read_torch_bytes(content, recipe.file, memory=_LARGEST)
    if not isinstance(values, list) or not all(isinstance(v, _NUMBERS) and not isinstance(v, bool) for v in values):
        raise not_as_published("a list of numbers", recipe.file, type(values).__name__)
    codes = _codes(recipe.space, recipe.order, order)
    if not len(values) == len(codes) == recipe.rows:
        raise not_as_published(
            f"latencies of {recipe.rows} architectures", recipe.file, f"{len(values)} of {len(codes)}"
        )
    sorting = np.lexsort(codes.T[::-1])
    codes, milliseconds = codes[sorting], np.array(values, np.float64)[sorting]
    if (codes[1:] == codes[:-1]).all(axis=1).any():
        raise not_as_published("different architectures", recipe.order, "one of them twice")
    return Readings(recipe.name, recipe.space, codes, milliseconds, broken_readings(recipe.space, codes, milliseconds))


def broken_readings(space: str, codes: Int[np.ndarray, "n d"], milliseconds: Float[np.ndarray, " n"]) -> np.ndarray:
    """Returns which readings are not the latency of the whole network, bool ``[n]``.

    No time at all, and values that are not finite, are broken in every space. In NAS-Bench-201 some cells pass nothing
    from their input to their output. The runtimes of some mobile devices then leave out all that cannot change the
    output, and report down to microseconds. Stem and reductions alone take about as long as the fastest network whose
    cell passes something on: a reading that is more than a tenth below that is broken. Devices that run the whole
    network have no such reading.

    Args:
      space: name of the space.
      codes: architectures.
      milliseconds: their readings.
    """
    broken = ~(np.isfinite(milliseconds) & (milliseconds > 0))
    if space == "nas-bench-201":
        passes = np.any([(codes[:, list(path)] != 0).all(axis=1) for path in PATHS], axis=0)  # 0 is "none"
        whole = milliseconds[passes & ~broken]
        if len(whole):
            broken |= ~passes & (milliseconds < 0.9 * whole.min())
    return broken


def convert_latency(recipe: Recipe, content: bytes, order: bytes) -> TableArrays:
    """Converts the latencies of a device to a table without the broken readings; see ``read_readings`` for errors."""
    readings = read_readings(recipe, content, order)
    kept = ~readings.broken
    return check_arrays(
        recipe.name,
        space=recipe.space,
        codes=readings.codes[kept],
        values=readings.milliseconds[kept, None],
        metrics=recipe.metrics,
        hashes=hashes_of(recipe),
    )


@functools.lru_cache(maxsize=2)  # the devices of a family share it
def _codes(name: str, key: str, content: bytes) -> np.ndarray:
    """Returns the architectures in the order of the readings, int32 [n, d], from the bytes of their file."""
    order, space = read_torch_bytes(content, key, memory=_LARGEST), get_space(name)
    try:
        if isinstance(order, dict) and all(isinstance(text, str) for text in order):
            if sorted(order.values()) != list(range(len(order))):
                raise not_as_published("places 0, 1, 2, ... of the architectures", key, "others")
            return np.stack([space.from_string(text) for text in sorted(order, key=order.__getitem__)])
        return np.asarray(space.check(np.array(order, np.int64)))
    except (checks.UsageError, ValueError, TypeError, OverflowError) as error:
        raise not_as_published(f"architectures of {space.name}", key, checks.shorten(str(error))) from error
