"""From a code to its row in constant time: a hash table with buckets of a fixed width, jit-able look-up."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.types import Array, Int

_WIDEST = 6  # candidates compared a look-up; at two buckets a row, more in one bucket is rare
_ATTEMPTS = 8


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class RowIndex:
    """A multiplicative hash of the code's integers into ``b`` buckets of ``w`` rows.

    A look-up reads one bucket and compares its at most ``w`` codes: no probing loop, so it costs the same for codes
    that are there and codes that are not, inside jit and under vmap. ``b`` and ``w`` are shapes, hence static.

    Attributes:
      multipliers: uint32 [d], odd; chosen while building so that no bucket overflows.
      buckets: int32 [b, w], row numbers, -1 where empty; b is a power of two.
    """

    multipliers: Int[Array, " d"]
    buckets: Int[Array, "b w"]

    def rows(self, codes: Int[Array, "n d"], wanted: Int[Array, "... d"]) -> Int[Array, "..."]:
        """Returns the row of each wanted code, -1 where it is absent.

        Args:
          codes: int32 [n, d], the codes this index was built from.
          wanted: integers [..., d] of any width.

        Returns:
          int32 [...].
        """
        return _look_up(self, codes, wanted)


@jax.jit  # an eager call is then one dispatch, and a call inside jit is inlined
def _look_up(index: RowIndex, codes: Int[Array, "n d"], wanted: Int[Array, "... d"]) -> Int[Array, "..."]:
    multipliers = index.multipliers.reshape((1,) * (wanted.ndim - 1) + (-1,))
    mixed = _mix(jnp.sum(wanted.astype(jnp.uint32) * multipliers, axis=-1, dtype=jnp.uint32))
    # The top bits of a product depend on all the lower ones, so the bucket is taken from them.
    shift = np.uint32(32 - (index.buckets.shape[0].bit_length() - 1))
    candidates = index.buckets[(mixed >> shift).astype(jnp.int32)]
    # 64-bit integers are compared as such: cast to int32, a large one could wrap round to a stored one. (The upper
    # half of uint32 becomes negative, and no code is.)
    wide = wanted.dtype if wanted.dtype.itemsize > codes.dtype.itemsize else codes.dtype
    stored = codes[jnp.maximum(candidates, 0)].astype(wide)
    same = jnp.all(stored == wanted[..., None, :].astype(wide), axis=-1)
    return jnp.max(jnp.where(same & (candidates >= 0), candidates, -1), axis=-1)


def _mix(value: Any) -> Any:
    """Spreads every bit of a uint32 over all bits: a bijection (two rounds of shift-xor and odd multiplier)."""
    value = value ^ (value >> np.uint32(16))
    value = value * np.uint32(0x7FEB352D)
    value = value ^ (value >> np.uint32(15))
    return value * np.uint32(0x846CA68B)


def build_index(codes: np.ndarray) -> RowIndex:
    """Returns the index of some codes, no two alike (host-side).

    Args:
      codes: int32 [n, d], n ≥ 1.

    Returns:
      The index, as device arrays.
    """
    count, length = codes.shape
    bits = (2 * count - 1).bit_length()
    best: tuple[int, Any, np.ndarray, int] | None = None
    for attempt in range(_ATTEMPTS):
        # After every other failure the table doubles, so that the width is bounded in practice at any size.
        grown = min(bits + attempt // 2, 30)
        # Seeded by the attempt: the same codes give the same index in every process.
        random = np.random.Generator(np.random.PCG64(attempt))
        multipliers = random.integers(0, 2**32, size=length, dtype=np.uint32) | np.uint32(1)
        summed = np.sum(codes.astype(np.uint32) * multipliers, axis=-1, dtype=np.uint32)
        bucket = (_mix(summed) >> np.uint32(32 - grown)).astype(np.int64)
        width = int(np.bincount(bucket).max())
        if best is None or width < best[0]:
            best = (width, multipliers, bucket, grown)
        if width <= _WIDEST:
            break
    assert best is not None
    width, multipliers, bucket, bits = best
    buckets = np.full((2**bits, width), -1, dtype=np.int32)
    order = np.argsort(bucket, kind="stable")
    ordered = bucket[order]
    place = np.arange(count) - np.searchsorted(ordered, ordered)
    buckets[ordered, place] = order
    return RowIndex(jax.device_put(multipliers), jax.device_put(buckets))
