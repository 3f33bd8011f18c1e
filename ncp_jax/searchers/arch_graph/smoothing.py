"""Evidence from source tasks for a Gaussian process: their values without the noise of single training runs."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import cho_factor, cho_solve

from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers import gaussian_process as gp
from ncp_jax.searchers.arch_graph.samples import measured_scores, sampled_values
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.kernel_features import kernel_features
from ncp_jax.types import Array, Bool, Float, Int

MOST = 4096  # architectures of a whole source table that are learned: the work is the third power of their number
FITTED = 128  # measurements that hyper-parameters are fitted to
FITS = 3  # fits in a row, each of which takes 40 steps
PIECE = 2048  # candidates predicted at once
JITTER = 1e-4  # variance that keeps the covariance of many measurements regular in float32
JUDGED = 256  # measurements by which a source is judged
DEVIATIONS = 5.0  # a source of noise alone has a correlation of 0, with a standard deviation of 1/sqrt(measurements);
ENOUGH = 0.6  # no more than this is asked for. Both were chosen on digits and NAS-Bench-201.


def smoothed_sources(
    candidates: Candidates,
    values: Float[np.ndarray, "s n"],
    *,
    budget: int | None,
    runs: Sequence[int],
    seed: int,
) -> Float[np.ndarray, "e n s"]:
    """Returns what a Gaussian process on the structure of the networks predicts for all candidates on each source.

    Codes of one network have the same prediction. A source whose measured values cannot be predicted from each other
    has 0 everywhere: the correlation of values and leave-one-out predictions is below 5/sqrt(measurements), at most
    ``ENOUGH``. So has one with fewer than two measured values.

    Args:
      candidates: the n candidates.
      values: values of the sources, higher is better, NaN where not measured.
      budget: number of architectures measured on the sources, drawn anew for each run; None for all. At most ``MOST``
        of them are learned.
      runs: numbers of the runs.
      seed: random seed of the samples.

    Returns:
      float32 [e, n, s] with mean 0 and variance 1 over the candidates, or 0; e is 1 without a budget, else the number
      of runs.
    """
    features, blocks = kernel_features(candidates)
    if budget is not None:
        rows, sampled = sampled_values(values, budget, runs=runs, seed=seed)
        rows, sampled = rows[:, :MOST], sampled[:, :MOST]
        columns = jnp.moveaxis(jnp.asarray(sampled), -1, 1)
        drawn = normal_scores(columns, jnp.ones(columns.shape))
        return np.asarray(_smooth(features, jnp.asarray(rows), drawn, blocks=blocks))
    found = np.zeros((1, *values.T.shape), np.float32)
    scores, known = measured_scores(values).T, np.isfinite(values)
    # Sources that were measured on the same architectures share a covariance.
    for pattern in np.unique(known, axis=0):
        same = np.flatnonzero((known == pattern).all(axis=1))
        measured = np.random.default_rng(seed).permutation(np.flatnonzero(pattern))[:MOST].astype(np.int32)
        if len(measured) > 1:
            part = _smooth(features, jnp.asarray(measured)[None], scores[same][:, measured][None], blocks=blocks)
            found[:, :, same] = np.asarray(part)
    return found


@functools.partial(jax.jit, static_argnames=("blocks",))
def _smooth(
    features: Float[Array, "n f"], rows: Int[Array, "r b"], scores: Float[Array, "r s b"], *, blocks: tuple[int, ...]
) -> Float[Array, "r n s"]:
    """Posterior means of the sources of each run.

    Those that can be predicted share one kernel, the mean of their fitted logarithms; the others become 0.
    """

    def one(run: tuple[Array, Array]) -> Array:
        rows, z = run
        few = rows[:FITTED]
        pairs, mask = gp.geometry(features[few], features[few], blocks), jnp.ones(len(few), bool)

        def fitted(own: Array) -> gp.Kernel:
            kernel = gp.prior(len(blocks))
            for _ in range(FITS):
                kernel = gp.fit_kernel(kernel, pairs, own, mask, freedom=2.0)
            return kernel

        kernels, seen = jax.vmap(fitted)(z[:, :FITTED]), features[rows]
        some = gp.geometry(seen[:JUDGED], seen[:JUDGED], blocks)
        trusted = jax.lax.map(lambda own: _is_predictable(own[0], some, own[1]), (kernels, z[:, :JUDGED]))
        share = trusted / jnp.maximum(trusted.sum(), 1)
        kernel = jax.tree.map(lambda leaf: jnp.tensordot(share, leaf, 1), kernels)
        between = gp.covariance_between(kernel, seen, seen, blocks)
        between = between + (jnp.exp(kernel.noise) + JITTER) * jnp.eye(len(rows))
        weights = cho_solve(cho_factor(between, lower=True), z.T)

        def predict(row: Array) -> Array:
            return gp.covariance_between(kernel, row[None], seen, blocks)[0] @ weights

        mean = jax.lax.map(predict, features, batch_size=PIECE)
        mean = mean - mean.mean(axis=0)
        return jnp.where(trusted, mean / jnp.maximum(mean.std(axis=0), 1e-6), 0.0)

    return jax.lax.map(one, (rows, scores))


def _is_predictable(kernel: gp.Kernel, pairs: tuple[Array, Array], scores: Float[Array, " k"]) -> Bool[Array, ""]:
    """Tells whether a source's values agree with their leave-one-out predictions (Rasmussen and Williams, eq. 5.12)."""
    centred = scores - scores.mean()
    inverse = gp.inverse_of(gp.noisy(kernel, pairs, jnp.ones(len(scores), bool)))
    predicted = centred - inverse @ centred / jnp.diag(inverse)
    predicted = predicted - predicted.mean()
    scale = jnp.sqrt((predicted**2).sum() * (centred**2).sum())
    needed = jnp.minimum(DEVIATIONS / jnp.sqrt(len(scores)), ENOUGH)
    return (predicted * centred).sum() > needed * scale
