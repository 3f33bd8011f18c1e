"""Values of source tables: samples of them, and their normal scores."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.types import Array, Float, Int


def sampled_values(
    values: Float[np.ndarray, "s n"], budget: int, *, runs: Sequence[int], seed: int
) -> tuple[Int[np.ndarray, "r b"], Float[np.ndarray, "r b s"]]:
    """Draws ``budget`` random architectures for each run and reads their values on every source.

    A run's sample depends on the seed and the run's number alone.

    Returns:
      Rows int32 [r, b] and values [r, b, s].

    Raises:
      UsageError: a budget below 2 or above the number of architectures that all sources have.
    """
    shared = np.flatnonzero(np.isfinite(values).all(axis=0))
    if not 2 <= budget <= len(shared):
        raise checks.UsageError(
            expected=f"a source budget from 2 to the {len(shared)} architectures that all sources have",
            got=str(budget),
            remedy="choose another one, or use all",
        )
    rows = [np.random.default_rng([seed, run]).choice(shared, budget, replace=False) for run in runs]
    chosen = np.stack(rows).astype(np.int32)
    return chosen, values.T[chosen]


def measured_scores(values: Float[np.ndarray, "s n"]) -> Float[np.ndarray, "n s"]:
    """Turns full source tables (higher is better, NaN where not measured) into normal scores, 0 where not measured."""
    values = np.asarray(values, np.float32)
    known = np.isfinite(values)
    return np.asarray(jax.vmap(_sorted_scores)(jnp.where(known, values, jnp.nan))).T


def _sorted_scores(values: Float[Array, " n"]) -> Float[Array, " n"]:
    """``normal_scores`` by sorting instead of comparing pairs, for many values."""
    known = jnp.isfinite(values)
    ordered = jnp.sort(jnp.where(known, values, jnp.inf))
    low, high = (jnp.searchsorted(ordered, values, side=side) for side in ("left", "right"))
    quantile = (low + high) / 2 / jnp.maximum(known.sum(), 1)
    edge = 0.5 / jnp.maximum(known.sum(), 1)
    return jnp.where(known, jax.scipy.special.ndtri(jnp.clip(quantile, edge, 1 - edge)), 0.0)
