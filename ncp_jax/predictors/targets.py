"""Turns measured values into training targets that keep only their order."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.special import ndtri

from ncp_jax.types import Array, Bool, Float


def normal_scores(
    values: Float[Any, "*r b"], mask: Float[Any, "*r b"] | Bool[Any, "*r b"], *, edge: float = 0.0
) -> Float[Array, "*r b"]:
    """Returns standard normal quantiles at (rank - ½) / count. Equal values get their mean rank. Jittable.

    The scores do not depend on the unit of the values, nor on how extreme the worst ones are.

    Args:
      values: measured values, higher is better. Masked-out entries may be anything, even NaN.
      mask: True or 1 where a value was measured. All other scores are 0.
      edge: minimum distance of the quantiles from 0 and 1.
    """
    return _normal_scores(values, mask, edge)


@jax.jit  # in an eager call, one program in place of forty
def _normal_scores(values: Array, mask: Array, edge: float | Array) -> Array:
    return jnp.where(mask > 0, ndtri(jnp.clip(_quantiles(values, mask), edge, 1 - edge)), 0.0)


def exponential_scores(
    values: Float[Array, "*r b"], mask: Float[Array, "*r b"] | Bool[Array, "*r b"]
) -> Float[Array, "*r b"]:
    """Returns quantiles of the exponential distribution with mean 0, at (rank - ½) / count. Jittable.

    Their variance is 1 like that of ``normal_scores``, but the best values are far apart and the worst close together:
    a difference of one is a factor of 2.7 in the rank, counted from the best. After I. R. Savage, Annals of
    Mathematical Statistics 27 (1956).

    Args:
      values: measured values, higher is better. Masked-out entries may be anything, even NaN.
      mask: True or 1 where a value was measured. All other scores are 0.
    """
    better = jnp.where(mask > 0, 1 - _quantiles(values, mask), 1.0)
    return jnp.where(mask > 0, -jnp.log(better) - 1, 0.0)


def expected_scores(
    values: Float[Array, " b"], mask: Float[Array, " b"] | Bool[Array, " b"], expected: Float[Array, " b"]
) -> Float[Array, " b"]:
    """Returns what was expected of the measured architectures, in the order of their values. Jittable.

    The lowest value gets the lowest of the expected scores, the second the second, and so on. Normal scores place what
    was measured around 0, whatever it is; these place it where it is expected among all architectures, for example at
    the top if a search chose it. Like normal scores, they depend on the order of the values alone.

    Args:
      values: measured values, higher is better. Masked-out entries may be anything, even NaN.
      mask: True or 1 where a value was measured. All other scores are 0.
      expected: score that was expected of each architecture.
    """
    twice = _twice_ranks(values, mask) - 1  # twice the number of values below: equal values share a place
    ordered = jnp.sort(jnp.where(mask > 0, expected, expected.max()))
    return jnp.where(mask > 0, 0.5 * (ordered[twice // 2] + ordered[(twice + 1) // 2]), 0.0)


def _quantiles(values: Array, mask: Array) -> Array:
    """(rank - ½) / count from the lowest value; equal values get their mean rank."""
    return 0.5 * _twice_ranks(values, mask) / jnp.maximum((mask > 0).sum(-1, keepdims=True), 1)


def _twice_ranks(values: Array, mask: Array) -> Array:
    """2 · rank - 1, counted from 1 for the lowest value; equal values get their mean rank."""
    known = mask > 0
    safe = jnp.where(known, values, 0.0)
    pairs = known[..., None, :] & known[..., :, None]
    below = ((safe[..., :, None] > safe[..., None, :]) & pairs).sum(-1)
    equal = ((safe[..., :, None] == safe[..., None, :]) & pairs).sum(-1)  # counts the value itself, hence the ½
    return 2 * below + equal
