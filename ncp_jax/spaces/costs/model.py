"""Defines ``CostModel``, and the parts that cost models share: counting rows of codes, reading shares."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.base import CategoricalSpace, Space
from ncp_jax.types import Array, Float, Int

UNITS: Mapping[str, str] = MappingProxyType({"flops": "GMAC", "params": "M"})
SCALE = MappingProxyType({"GMAC": 1e9, "M": 1e6})
PORTION = 4096  # rows that are checked and counted at once, so that their columns stay in the processor's cache


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Costs of the codes of one space; lower is better for each of them.

    Attributes:
      name: name of the space.
      units: unit of ``relaxed`` for each cost ("flops": "GMAC", "params": "M").
      exact: codes [..., d] -> {cost: int64 [...]}, counts (not in ``units``), on the host; checks the codes. Costs in
        other units than GMAC and M are float64 in their unit.
      relaxed: relaxed codes [..., f] -> {cost: float [...]} in ``units``; pure, differentiable, jittable. Codes may be
        given where a space's relaxed form is the code itself.
      task: task whose head and image are counted; "" for the network that a table counts for all of its tasks.
      counted: the network in words, as results print it: "the network of seg: 19 classes, image 512×512".
      increasing: whether every cost grows with the number at every position, so that the least values cost least. In
        spaces of more than 2**20 codes, limits on costs need it.
    """

    name: str
    units: Mapping[str, str] = dataclasses.field(hash=False)
    exact: Callable[[Any], dict[str, np.ndarray]] = dataclasses.field(repr=False)
    relaxed: Callable[[Any], dict[str, Array]] = dataclasses.field(repr=False)
    task: str = ""
    counted: str = ""
    increasing: bool = False

    @property
    def has_flops(self) -> bool:
        """Whether FLOPs are among the costs; all published spaces have them, described ones may not."""
        return "flops" in self.units

    def in_units(self, codes: Any) -> dict[str, Float[np.ndarray, "*batch"]]:
        """Returns exact costs of codes [..., d], float64 in ``units`` (GMAC: 1e9 multiply-adds; M: 1e6 parameters)."""
        return {cost: count / SCALE.get(self.units[cost], 1.0) for cost, count in self.exact(codes).items()}


def network_words(task: str, *, side: int, classes: int = 0, pieces: str = "") -> str:
    """Returns which network is counted, in the words of every result.

    Args:
      task: task of the network; "" for the one that a table counts for all of its tasks.
      side: side of the image in pixels.
      classes: number of classes; 0 where the head has none.
      pieces: what the images are: "tiles", "frames", "pseudo-images" (the view of a point cloud from above) or "".
    """
    of = f"the network of {task}" if task else "the table's classifier, whatever the task"
    image = {"tiles": "one tile", "frames": "one frame", "pseudo-images": "pseudo-image"}.get(pieces, "image")
    return f"{of}: {f'{classes} classes, ' if classes else ''}{image} {side}×{side}"


def count_rows(
    space: Space, codes: Any, count: Callable[[Int[np.ndarray, "n d"]], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    """Checks codes and counts their costs, a portion at a time.

    Args:
      space: the space of the codes.
      codes: legal codes [..., d].
      count: int32 rows [n, d] -> {cost: int64 [n]}.

    Returns:
      {cost: int64 [...]}.

    Raises:
      UsageError: a code is not legal.
    """
    given = np.asarray(codes) if hasattr(codes, "dtype") else None
    # Integer arrays of the right length are checked portion by portion, while they are in the cache; all else at once.
    is_array = given is not None and given.dtype.kind in "iu" and given.ndim > 0 and given.shape[-1] == space.length
    rows = given.reshape(-1, space.length) if is_array and given is not None else space.check(codes)
    totals = {cost: np.zeros(len(rows), np.int64) for cost in UNITS}
    for first in range(0, len(rows), PORTION):
        part = rows[first : first + PORTION]
        if is_array:
            try:
                part = space.check(part)
            except checks.UsageError:
                space.check(codes)  # raises the same error with the row's number among all rows
                raise
        for cost, counted in count(part).items():
            totals[cost][first : first + PORTION] = counted
    shape = np.shape(codes)[:-1]
    return {cost: total.reshape(shape) for cost, total in totals.items()}


def table_counter(
    space: CategoricalSpace, table: Mapping[str, Int[np.ndarray, " k"]]
) -> Callable[[Any], dict[str, np.ndarray]]:
    """Returns ``CostModel.exact`` for a space of few codes, whose costs are listed in a table.

    Args:
      space: the space.
      table: for each cost, the counts of all ``letters ** length`` sequences of letters, the first letter weighing
        most; entries of illegal sequences are not used.
    """
    radix = space.letters ** np.arange(space.length - 1, -1, -1)

    def count(rows: Int[np.ndarray, "n d"]) -> dict[str, np.ndarray]:
        place = rows @ radix
        return {cost: counts[place] for cost, counts in table.items()}

    return lambda codes: count_rows(space, codes, count)


def shares_of(space: CategoricalSpace, relaxed: Any) -> Array:
    """Returns relaxed codes [..., f] as shares [..., d, letters] that sum to 1; UsageError for a wrong shape.

    Each position is divided by its sum, so that the gradient of a cost compares the letters of a position and does not
    shrink all of them. A position without a positive sum has equal shares. Within the space's box shares are
    probabilities. Letters that no code has at a position have share 0.
    """
    relaxed = floating(space, relaxed)
    legal = np.array([[letter in values for letter in range(space.letters)] for values in space.values])
    given = relaxed.reshape(*relaxed.shape[:-1], *legal.shape) * legal
    total = given.sum(axis=-1, keepdims=True)
    # The inner where keeps the gradient finite on the branch that the outer one discards.
    shares = given / jnp.where(total > 0, total, 1)
    even = jnp.asarray(legal / legal.sum(axis=-1, keepdims=True), given.dtype)
    return jnp.where(total > 0, shares, even)


def floating(space: Space, relaxed: Any) -> Array:
    """Returns relaxed codes [..., f] in their floating type, float32 for integers; UsageError for a wrong shape."""
    relaxed = jnp.asarray(relaxed)
    if relaxed.ndim == 0 or relaxed.shape[-1] != space.features:
        raise checks.UsageError(
            expected=f"codes of {space.name} [..., {space.features}]",
            got=f"shape {relaxed.shape}",
            remedy="give all positions of each code",
        )
    return relaxed if jnp.issubdtype(relaxed.dtype, jnp.floating) else relaxed.astype(jnp.float32)
