"""Dropout from given random bits, as few as possible: drawing them would dominate training on CPU."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from ncp_jax.types import Array, Float, UInt


def words_needed(units: int, rate: float) -> int:
    """Number of random 32-bit words that a row of ``units`` uses: one bit a unit at rate 0.5, else eight bits."""
    if rate == 0:
        return 0
    return -(-units // (32 if rate == 0.5 else 4))


def dropout(x: Float[Array, "n h"], rate: float, words: UInt[Array, "n w"] | None) -> Float[Array, "n h"]:
    """Zeroes each element with probability ``rate`` (rounded to 1/256) and rescales the rest.

    Args:
      x: activations.
      rate: probability, 0 <= rate < 1.
      words: ``words_needed(h, rate)`` random words a row; None leaves ``x`` as it is.
    """
    if words is None or rate == 0:
        return x
    bits = 1 if rate == 0.5 else 8
    shifts = jnp.arange(0, 32, bits, dtype=jnp.uint32)
    drawn = (words[..., None] >> shifts) & (2**bits - 1)
    drawn = drawn.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
    level = round(rate * 2**bits)
    return jnp.where(drawn >= level, x * (2**bits / (2**bits - level)), 0.0)


def share_words(words: UInt[Array, "n w"] | None, needs: Sequence[int]) -> list[UInt[Array, "n v"] | None]:
    """Cuts the words of a row into the parts that its layers need; as many None where there are none."""
    if words is None:
        return [None] * len(needs)
    parts: list[Array | None] = []
    at = 0
    for need in needs:
        parts.append(words[..., at : at + need])
        at += need
    return parts
