"""Finds the row of a code in constant time, by a hash table with buckets of fixed width. Look-up is jittable."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.console import short_repr
from ncp_jax.pytrees import register_dataclass
from ncp_jax.types import Array, Int

_WIDEST = 6  # maximum number of rows per bucket; with two buckets per row, more are rare
_ATTEMPTS = 8  # maximum number of hash functions tried


@register_dataclass
@dataclasses.dataclass(frozen=True, eq=False)
class RowIndex:
    """A multiplicative hash of codes into ``b`` buckets of ``w`` rows.

    A look-up reads one bucket and compares its codes. Without a probing loop, it costs the same for present and absent
    codes, inside jit and under vmap. ``b`` and ``w`` are shapes, hence static.

    Attributes:
      multipliers: ``[d]`` odd uint32, chosen so that no bucket overflows.
      buckets: ``[b, w]`` row numbers, int32, -1 where empty; b is a power of two.
    """

    multipliers: Int[Array, " d"]
    buckets: Int[Array, "b w"]

    __repr__ = short_repr

    def rows(self, codes: Int[Array, "n d"], wanted: Int[Array, "... d"]) -> Int[Array, "..."]:
        """Returns the row of each wanted code, -1 if it is absent.

        Args:
          codes: ``[n, d]`` codes that the index was built from, int32.
          wanted: ``[..., d]`` codes to find, integers of any width.

        Returns:
          int32 ``[...]``.
        """
        return _look_up(self, codes, wanted)


@jax.jit  # makes an eager call a single dispatch; inside another jit, the call is inlined
def _look_up(index: RowIndex, codes: Int[Array, "n d"], wanted: Int[Array, "... d"]) -> Int[Array, "..."]:
    multipliers = index.multipliers.reshape((1,) * (wanted.ndim - 1) + (-1,))
    mixed = _mix(jnp.sum(wanted.astype(jnp.uint32) * multipliers, axis=-1, dtype=jnp.uint32))
    # The top bits of a product depend on all lower bits, so these give the bucket.
    shift = np.uint32(32 - (index.buckets.shape[0].bit_length() - 1))
    candidates = index.buckets[(mixed >> shift).astype(jnp.int32)]
    # Compare 64-bit integers as such: cast to int32, a large one could wrap around to a stored one. (The upper half of
    # uint32 becomes negative, which no code is.)
    wide = wanted.dtype if wanted.dtype.itemsize > codes.dtype.itemsize else codes.dtype
    stored = codes[jnp.maximum(candidates, 0)].astype(wide)
    same = jnp.all(stored == wanted[..., None, :].astype(wide), axis=-1)
    return jnp.max(jnp.where(same & (candidates >= 0), candidates, -1), axis=-1)


def _mix(value: Any) -> Any:
    """Spreads every bit of a uint32 over all bits by a bijection (two rounds of xor-shift and odd multiplier)."""
    value = value ^ (value >> np.uint32(16))
    value = value * np.uint32(0x7FEB352D)
    value = value ^ (value >> np.uint32(15))
    return value * np.uint32(0x846CA68B)


def build_index(codes: np.ndarray) -> RowIndex:
    """Builds the index of codes, as device arrays. Runs on the host.

    Args:
      codes: ``[n, d]`` codes, int32, all different, n ≥ 1.
    """
    count, length = codes.shape
    bits = (2 * count - 1).bit_length()
    best: tuple[int, Any, np.ndarray, int] | None = None
    for attempt in range(_ATTEMPTS):
        # The table doubles after every other failure, so that buckets stay narrow at any size.
        grown = min(bits + attempt // 2, 30)
        # The attempt is the seed, so the same codes give the same index in every process.
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
