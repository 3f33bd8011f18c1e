"""Applies dropout with few random bits, since drawing them would dominate training on CPU."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp

from ncp_jax.types import Array, Float, UInt


def draws_needed(units: int, rate: float) -> int:
    """Returns the number of random 32-bit integers for a row of ``units``: 1 bit per unit at rate 0.5, else 8 bits."""
    if rate == 0:
        return 0
    return -(-units // (32 if rate == 0.5 else 4))


def dropout(x: Float[Array, "n h"], rate: float, draws: UInt[Array, "n w"] | None) -> Float[Array, "n h"]:
    """Zeroes each element with probability ``rate`` (rounded to 1/256) and rescales the others.

    Args:
      x: activations.
      rate: probability, 0 <= rate < 1.
      draws: ``draws_needed(h, rate)`` random 32-bit integers per row, or None to return ``x`` unchanged.
    """
    if draws is None or rate == 0:
        return x
    # Split each integer into numbers of ``bits`` bits, one per unit, and drop the units with small numbers.
    bits = 1 if rate == 0.5 else 8
    shifts = jnp.arange(0, 32, bits, dtype=jnp.uint32)
    drawn = (draws[..., None] >> shifts) & (2**bits - 1)
    drawn = drawn.reshape(*x.shape[:-1], -1)[..., : x.shape[-1]]
    level = round(rate * 2**bits)
    return jnp.where(drawn >= level, x * (2**bits / (2**bits - level)), 0.0)


def split_draws(draws: UInt[Array, "n w"] | None, needs: Sequence[int]) -> list[UInt[Array, "n v"] | None]:
    """Splits the integers of each row among layers that need so many each; returns None for each without ``draws``."""
    if draws is None:
        return [None] * len(needs)
    parts: list[Array | None] = []
    at = 0
    for need in needs:
        parts.append(draws[..., at : at + need])
        at += need
    return parts
