"""The first architectures to measure where nothing is known about the target: far apart from each other."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.searchers.ties import any_best
from ncp_jax.types import Array, Float, Int

CENTRAL = 0.1  # share of the candidates, those nearest to the centre, from which the first one is drawn
EQUAL = 1e-4  # mean squared differences within which chance decides: above what rounding does to equal ones


@functools.partial(jax.jit, static_argnames="count")
def spread_out(
    features: Float[Array, "n f"], measured: Int[Array, " m"], ties: Float[Array, " n"], *, count: int
) -> Int[Array, " k"]:
    """Returns candidates, each as far as possible from the measured ones and from those before it (jittable).

    A greedy maximin design (M. E. Johnson, L. M. Moore and D. Ylvisaker, J. Statistical Planning and Inference 26,
    1990). Where nothing is measured, the first one is drawn from the tenth of the candidates that is nearest to the
    centre: greedy picks are all at the edge.

    Args:
      features: of the n candidates, in standard units.
      measured: rows that are measured already; none of them is returned.
      ties: random numbers of the run, at least 0; of candidates at the same distance, the one with the largest is next.
      count: number of candidates, at most as many as are not measured.

    Returns:
      int32 [count], different rows.
    """
    own = (features**2).mean(axis=1)

    def add(carry: tuple[Array, Array], row: Array) -> tuple[tuple[Array, Array], Array]:
        nearest, free = carry
        distances = own + own[row] - 2 * (features @ features[row]) / features.shape[1]
        return (jnp.minimum(nearest, distances), free.at[row].set(False)), row

    def pick(carry: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], Array]:
        nearest, free = carry
        return add(carry, any_best(jnp.where(free, nearest, -jnp.inf), ties, EQUAL))

    middle = ((features - features.mean(axis=0)) ** 2).mean(axis=1)
    central = middle <= jnp.quantile(middle, CENTRAL)
    start = jnp.where(central, 1 + 4 * own.max(), 4 * own.max()), jnp.ones(len(features), bool)
    known, _ = jax.lax.scan(add, start, measured)
    return jax.lax.scan(pick, known, None, length=count)[1]


@functools.partial(jax.jit, static_argnames="count")
def spread_out_runs(
    features: Float[Array, "n f"], measured: Int[Array, " m"], ties: Float[Array, "r n"], *, count: int
) -> Int[Array, "r k"]:
    """Returns what ``spread_out`` returns for each of r runs that have measured the same."""
    return jax.vmap(lambda own: spread_out(features, measured, own, count=count))(ties)


def networks_first(rows: Int[np.ndarray, "r n"], networks: Int[np.ndarray, " n"]) -> Int[np.ndarray, "r n"]:
    """Moves rows behind all others of their run where one of the same network comes before them (host-side)."""
    ordered = np.empty_like(rows)
    for run, own in zip(ordered, rows, strict=True):
        firsts = np.sort(np.unique(networks[own], return_index=True)[1])
        run[: len(firsts)], run[len(firsts) :] = own[firsts], np.delete(own, firsts)
    return ordered
