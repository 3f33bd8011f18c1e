"""Baselines: random search, mean rank on the source tasks, a Gaussian process.

Each one runs all seeds of a guard at once and spends the whole budget. A method only sees the guard's codes, the
features or source values that it is given, and the values that it paid for.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.guard import QueryGuard
from ncp_jax.searchers.arch_graph.search import SearchHistory
from ncp_jax.searchers.gaussian_process import (
    Kernel,
    expected_improvement,
    fit_kernel,
    geometry,
    posterior,
    prior,
)
from ncp_jax.types import Array, Float, Int

START = 10
"""Number of random architectures at the start of a model-based search."""
_CELLS = 2**26  # float32 in the covariances of the runs that are computed together


def random_search(guard: QueryGuard, *, seed: int) -> SearchHistory:
    """Asks for architectures drawn uniformly without replacement.

    A run's rows depend on the seed and the run's number alone. More runs do not change the others, and a larger budget
    only adds rows.

    Args:
      guard: a guard without queries; its whole budget is spent.
      seed: an integer from 0.

    Returns:
      The runs; scores are a run's paid values for the rows it asked, and their mean for all others.

    Raises:
      UsageError: a guard with queries, or a negative seed.
    """
    _check_fresh(guard)
    runs, n = len(guard.remaining), len(guard.codes)
    rows = _shuffled(seed, runs, n)[:, : guard.budget]
    paid = guard.query(rows)
    scores = np.repeat(paid.mean(axis=1, keepdims=True), n, axis=1)
    np.put_along_axis(scores, rows, paid, axis=1)
    return SearchHistory(guard.asked, guard.paid, scores)


def mean_rank(guard: QueryGuard, sources: Float[np.ndarray, "n s"]) -> SearchHistory:
    """Asks for the architectures that rank best on the other tasks on average, best first.

    The paid values do not change what it asks for, so all runs are the same. The rank on a task goes from 0 (best) to
    1 (worst) among the architectures measured there, with ties at the mean of their ranks. An architecture's score is
    its mean rank over the tasks on which it was measured, 0.5 if there are none. Ties go to the lower row.

    Args:
      guard: a guard without queries; its whole budget is spent.
      sources: the other tasks' values, oriented so that higher is better; NaN where not measured.

    Returns:
      The runs; scores are minus the mean rank.

    Raises:
      UsageError: a guard with queries; sources that are not [n, s], hold infinities, or have a task without values.
    """
    from scipy.stats import rankdata

    _check_fresh(guard)
    values, n = np.asarray(sources, float), len(guard.codes)
    wrong = values.ndim != 2 or len(values) != n or not values.size or np.isinf(values).any()
    if wrong or np.isnan(values).all(axis=0).any():
        raise checks.UsageError(
            expected=f"finite source values [{n}, s >= 1]",
            got=f"{values.dtype} {list(values.shape)}",
            remedy="write NaN where not measured; drop tasks without values",
        )
    known = ~np.isnan(values)
    relative = (rankdata(-values, axis=0, nan_policy="omit") - 0.5) / known.sum(axis=0)
    total = np.where(known, relative, 0.0).sum(axis=1)
    mean = np.where(known.any(axis=1), total / np.maximum(known.sum(axis=1), 1), 0.5)
    runs = len(guard.remaining)
    guard.query(np.tile(np.argsort(mean, kind="stable")[: guard.budget], (runs, 1)))
    return SearchHistory(guard.asked, guard.paid, np.tile(-mean.astype(np.float32), (runs, 1)))


def gaussian_process(
    guard: QueryGuard,
    features: Float[np.ndarray, "n f"],
    *,
    seed: int,
    start: Int[np.ndarray, "runs k"] | None = None,
    batch: int = 5,
    blocks: tuple[int, ...] | None = None,
) -> SearchHistory:
    """Bayesian optimisation: a Gaussian process on features of the architectures, and expected improvement.

    Targets are the normal scores of the paid values, so nothing depends on the metric's unit or outliers. In each round
    the hyper-parameters of ``Kernel`` are set to their maximum a posteriori by 40 steps of Adam, starting from those of
    the last round. Then the ``batch`` new architectures of highest expected improvement are asked for; ties go to the
    lower rows. The improvement is that of a measured value, noise included, over the best value paid for.

    A run depends on the seed, its number and ``start``, not on the other runs, up to rounding. A program is compiled
    once for each (n, f, blocks, budget, batch, runs), and serves all rounds, tasks and seeds.

    Args:
      guard: a guard without queries; its whole budget is spent.
      features: finite numbers [n, f]; they are standardised over the candidates here.
      seed: an integer from 0; the first rows are those of ``random_search`` with the same seed.
      start: rows to ask first, no row twice in a run; 10 random ones if None. The budget cuts it.
      batch: architectures asked for in a round.
      blocks: sizes of consecutive groups of features, each with scales of its own; one group if None.

    Returns:
      The runs; scores are the posterior mean after the last query, in normal scores.

    Raises:
      UsageError: a guard with queries; a negative seed; a batch below 1; features, blocks or start that do not fit.
    """
    from scipy.special import ndtri
    from scipy.stats import rankdata

    _check_fresh(guard)
    runs, n, budget = len(guard.remaining), len(guard.codes), guard.budget
    x, blocks = _standardised(features, n, blocks)
    if not isinstance(batch, int | np.integer) or batch < 1:
        raise checks.UsageError(expected="batch to be an integer >= 1", got=repr(batch), remedy="give another batch")
    picks = _shuffled(seed, runs, n)[:, :START] if start is None else _check_start(start, runs, n)
    kernel = jax.tree.map(lambda leaf: jnp.repeat(leaf[None], runs, axis=0), prior(len(blocks)))
    count = 0
    while True:
        guard.query(picks[:, : budget - count])
        count = min(count + picks.shape[1], budget)
        z = np.zeros((runs, budget), np.float32)
        z[:, :count] = ndtri((rankdata(guard.paid[:, :count], axis=1) - 0.5) / count)
        rows, mask = np.maximum(guard.asked, 0), np.arange(budget) < count
        kernel, mean, ranking = _advance(kernel, rows, z, mask, x, blocks=blocks, batch=min(int(batch), budget))
        if count == budget:
            return SearchHistory(guard.asked, guard.paid, np.asarray(mean))
        picks = np.asarray(ranking)


@functools.partial(jax.jit, static_argnames=("blocks", "batch"))
def _advance(
    kernel: Kernel, rows: Array, targets: Array, mask: Array, features: Array, *, blocks: tuple[int, ...], batch: int
) -> tuple[Kernel, Array, Array]:
    """Fits all runs; returns kernels [runs, …], posterior means [runs, n] and the next rows to ask [runs, batch]."""

    def one(run: tuple[Kernel, Array, Array]) -> tuple[Kernel, Array, Array]:
        kernel, asked, z = run
        kernel = fit_kernel(kernel, geometry(features[asked], features[asked], blocks), z, mask)
        mean, variance = posterior(kernel, asked, z, mask, features, blocks=blocks)
        best = jnp.where(mask, z, -jnp.inf).max()
        gain = expected_improvement(mean, jnp.sqrt(variance + jnp.exp(kernel.noise)), best)
        gain = gain.at[jnp.where(mask, asked, len(features))].set(-jnp.inf, mode="drop")
        return kernel, mean, jax.lax.top_k(gain, batch)[1]

    together = min(len(rows), max(1, _CELLS // (rows.shape[1] * len(features))))
    return jax.lax.map(one, (kernel, rows, targets), batch_size=together)


def _shuffled(seed: int, runs: int, n: int) -> np.ndarray:
    """Permutations of n rows [runs, n], each from (seed, number of the run) alone."""
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise checks.UsageError(expected="seed to be an integer >= 0", got=repr(seed), remedy="give another seed")
    return np.stack([np.random.default_rng([int(seed), run]).permutation(n) for run in range(runs)])


def _check_fresh(guard: QueryGuard) -> None:
    if (guard.remaining < guard.budget).any():
        raise checks.UsageError(
            expected="a guard that nobody has asked", got=repr(guard), remedy="make a new QueryGuard for each method"
        )


def _standardised(features: np.ndarray, n: int, blocks: tuple[int, ...] | None) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns features [n, f] of mean 0 and variance 1, those that never vary as 0; and the sizes of the blocks."""
    x = np.asarray(features, float)
    if x.ndim != 2 or len(x) != n or not x.size or not np.isfinite(x).all():
        raise checks.UsageError(
            expected=f"finite features [{n}, f >= 1]",
            got=f"{x.dtype} {list(x.shape)}",
            remedy="give one line of numbers for each of guard.codes",
        )
    sizes = (x.shape[1],) if blocks is None else tuple(int(size) for size in blocks)
    if not sizes or min(sizes) < 1 or sum(sizes) != x.shape[1]:
        raise checks.UsageError(
            expected=f"blocks of at least 1 feature, {x.shape[1]} in all",
            got=str(blocks),
            remedy="list the sizes from left to right",
        )
    centred, deviation = x - x.mean(axis=0), x.std(axis=0)
    varies = deviation > 1e-6 * np.abs(x).max(axis=0)
    return np.where(varies, centred / np.where(varies, deviation, 1.0), 0.0).astype(np.float32), sizes


def _check_start(start: np.ndarray, runs: int, n: int) -> np.ndarray:
    rows = np.asarray(start)
    fits = rows.ndim == 2 and len(rows) == runs and rows.shape[1] > 0 and np.issubdtype(rows.dtype, np.integer)
    if not fits or rows.min() < 0 or rows.max() >= n or (np.diff(np.sort(rows, axis=1), axis=1) == 0).any():
        raise checks.UsageError(
            expected=f"start rows [{runs}, k >= 1] in 0..{n - 1}, none twice in a run",
            got=repr(start),
            remedy="give row numbers of guard.codes",
        )
    return rows
