"""Breaks ties at random, so that no search depends on the order of a table's rows."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from ncp_jax.types import Array, Float, Int

TIES = 0x71E5  # sets these draws apart from the others of a seed


def tie_breakers(seeds: Sequence[Sequence[int]], n: int) -> Float[np.ndarray, "r n"]:
    """Draws a random number for each of n rows in each run, on the host.

    Args:
      seeds: what each run's draws depend on.
      n: number of rows.
    """
    return np.stack([np.random.default_rng([TIES, *seed]).random(n, np.float32) for seed in seeds])


def best_first(scores: Float[Array, "*r n"], ties: Float[Array, "*r n"]) -> Int[Array, "*r n"]:
    """Returns the rows by descending score, equal ones by ascending ``ties``. Jittable.

    Args:
      scores: higher is better.
      ties: random numbers of the run.
    """
    return jnp.lexsort((ties, -scores), axis=-1).astype(jnp.int32)


def best_first_on_host(scores: Float[np.ndarray, "*r n"], ties: Float[np.ndarray, "*r n"]) -> Int[np.ndarray, "*r n"]:
    """``best_first`` in NumPy, in the scores' own precision."""
    return np.lexsort((ties, -np.asarray(scores)), axis=-1).astype(np.int32)


def any_best(scores: Float[Array, " n"], ties: Float[Array, " n"], tolerance: float = 0.0) -> Int[Array, ""]:
    """Returns a row of the highest score; of those within ``tolerance`` of it, the one with the largest of ``ties``.

    Jittable. ``ties`` are random numbers of the run, at least 0.
    """
    return jnp.argmax(jnp.where(scores >= scores.max() - tolerance, ties, -1.0)).astype(jnp.int32)
