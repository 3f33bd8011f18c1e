"""Programs of Arch-Graph's Gaussian process: fits the models of runs, chooses queries, draws relations."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.predictors.targets import expected_scores, normal_scores
from ncp_jax.searchers import gaussian_process as gp
from ncp_jax.searchers.arch_graph.source_choice import source_weights, weighted
from ncp_jax.searchers.ties import any_best
from ncp_jax.training.relations import PROBIT
from ncp_jax.types import Array, Bool, Float, Int, Key

FITTED = 128  # measurements that hyper-parameters are fitted to
TIES = 1e-3  # normal scores within which chance decides between candidates: above what rounding does to equal ones
WAVES = 512  # cosines of a draw from the prior
# What makes relations of pairs that nobody measured about as frequent as they are predicted to be: the model's own
# probabilities are too far from one half. Chosen for the log loss on digits, NAS-Bench-MR and restrictions of
# NAS-Bench-201.
SHARPNESS = 0.35  # factor of the log-odds
SPREAD = 0.25  # share of the posterior's standard deviation that members differ by
LEAST_SPREAD = 1e-6  # least standard deviation of the candidates' means that they are divided by
LEAST_NOISE = 1e-2  # least variance of the noise in relations, which keeps log-odds finite
_CELLS = 2**26  # float32 in the covariances of the runs that are computed together


class Run(NamedTuple):
    """What the model of a run is made from: its hyper-parameters, the medians of their priors, and its measurements.

    ``variant`` is that of its evidence.
    """

    kernel: gp.Kernel
    centre: gp.Kernel
    rows: Int[Array | np.ndarray, " b"]
    paid: Float[Array | np.ndarray, " b"]
    variant: Int[Array | np.ndarray, ""]


class Data(NamedTuple):
    """What a run's model is fitted to.

    ``features`` are those of all candidates, ``weights`` those of the sources, one zero without sources. ``rows`` are
    the measured candidates, 0 in slots where ``mask`` is False; ``scores`` stand for the ``values``. ``few`` are the
    slots that hyper-parameters are fitted to.
    """

    features: Float[Array, "n f"]
    weights: Float[Array, " s"]
    rows: Int[Array, " b"]
    mask: Bool[Array, " b"]
    values: Float[Array, " b"]
    scores: Float[Array, " b"]
    few: Int[Array, " m"]


class Model(NamedTuple):
    """The model of a run: ``factor`` is an ``inverse_factor``, ``half`` that times the covariances with all candidates.

    ``mean`` is the posterior mean of all candidates.
    """

    kernel: gp.Kernel
    factor: Float[Array, "b b"]
    half: Float[Array, "b n"]
    mean: Float[Array, " n"]


@jax.jit
def keys_of(key: Key, numbers: Int[Array, " r"]) -> Key:
    """Returns the key of each run, made from its number."""
    return jax.vmap(functools.partial(jax.random.fold_in, key))(numbers)


def medians(blocks: int, used: int | None = None) -> gp.Kernel:
    """Medians of the priors; the last block is the constant, whose variance is 1 like that of the linear parts.

    Where only the first ``used`` blocks vary, they are the medians of a model that has no more.
    """
    used = blocks - 1 if used is None else used
    linear = np.append(np.full(blocks - 1, np.log(1 / max(used, 1))), 0.0)
    numbers: Any = [np.asarray(x, np.float32) for x in (np.log(0.3), np.zeros(blocks), linear, np.log(0.1))]
    return gp.Kernel(*numbers)


def data_of(structure: Float[Array, "n f"], evidence: Float[Array, "e n s"], run: Run) -> Data:
    """Returns what a run's model is fitted to; the scores are those that the sources expect, else normal scores."""
    mask, own = jnp.asarray(run.rows) >= 0, evidence[run.variant]
    values, rows, count = jnp.asarray(run.paid), jnp.maximum(run.rows, 0), mask.sum()
    z = normal_scores(values, mask)
    few = jnp.arange(min(len(rows), FITTED))
    few = jnp.where(count > len(few), few * count // len(few), few)
    constant = jnp.ones((len(structure), 1))
    if not own.shape[1]:
        features = jnp.concatenate([structure, constant], axis=1)
        return Data(features, jnp.zeros(1), rows, mask, values, z, few)
    weights = source_weights(own, own[rows[few]], z[few], mask[few])
    sources = weighted(own, weights)
    features = jnp.concatenate([structure, sources, constant], axis=1)
    mean = sources[:, -1]
    z = jnp.where((mean != 0).any(), expected_scores(values, mask, mean[rows]), z)
    return Data(features, weights, rows, mask, values, z, few)


def fitted(data: Data, start: gp.Kernel, centre: gp.Kernel, blocks: tuple[int, ...]) -> Model:
    """Fits a run's model."""
    seen, few, mask = data.features[data.rows], data.few, data.mask
    pairs = gp.geometry(seen[few], seen[few], blocks)
    kernel = gp.fit_kernel(start, pairs, data.scores[few], mask[few], centre=centre)
    # Without LAPACK: on a small CPU, two of its batched calls in one program may wait for each other for ever.
    factor = gp.inverse_factor(kernel, gp.geometry(seen, seen, blocks), mask)
    cross = gp.covariance_between(kernel, seen, data.features, blocks) * mask[:, None]
    half = factor @ cross
    return Model(kernel, factor, half, (factor @ data.scores) @ half)


def among_all(data: Data, start: gp.Kernel, centre: gp.Kernel, blocks: tuple[int, ...]) -> tuple[Data, Model]:
    """Fits the model that orders all candidates; what was measured has its ``expected_scores`` in it.

    They are expected by the model of a question, which is fitted once more.
    """
    model = fitted(data, start, centre, blocks)
    mean = (model.mean - model.mean.mean()) / jnp.maximum(model.mean.std(), LEAST_SPREAD)
    data = data._replace(scores=expected_scores(data.values, data.mask, mean[data.rows]))
    return data, fitted(data, model.kernel, centre, blocks)


def _together(runs: int, slots: int, n: int) -> int:
    return min(runs, max(1, _CELLS // (3 * slots * n)))


# Of a batch that grows: variances, which candidates are taken, whose networks are known, and how picks lower variances.
_Picks = tuple[Array, Array, Array, Array]


@functools.partial(jax.jit, static_argnames=("blocks", "batch"))
def ask(
    structure: Float[Array, "n f"],
    networks: Int[Array, " n"],
    evidence: Float[Array, "e n s"],
    runs: Run,
    ties: Float[Array, "r n"],
    optimism: float | Array,
    *,
    blocks: tuple[int, ...],
    batch: int,
) -> tuple[gp.Kernel, Int[Array, "r k"]]:
    """Fits the model of each run; returns kernels and the next rows to ask, of networks that are not measured yet."""
    n = len(structure)

    def one(run: tuple[Run, Array]) -> tuple[gp.Kernel, Array]:
        (own, ties), data = run, data_of(structure, evidence, run[0])
        kernel, _, half, mean = fitted(data, own.kernel, own.centre, blocks)
        features = data.features
        variance = gp.own_variance(kernel, features, blocks) - (half**2).sum(axis=0)
        taken = jnp.zeros(n, bool).at[jnp.where(data.mask, data.rows, n)].set(True, mode="drop")
        known = jnp.zeros(n, bool).at[jnp.where(data.mask, networks[data.rows], n)].set(True, mode="drop")[networks]

        def pick(carry: _Picks, slot: Array) -> tuple[_Picks, Array]:
            variance, taken, known, more = carry
            score = mean + optimism * jnp.sqrt(jnp.maximum(variance, 0.0))
            barred = jnp.where(known.all(), taken, known)
            row = any_best(jnp.where(barred, -jnp.inf, score), ties, TIES)
            taken, known = taken.at[row].set(True), known | (networks == networks[row])
            cross = gp.covariance_between(kernel, features[row][None], features, blocks)[0]
            cross = cross - half[:, row] @ half - more[:, row] @ more
            lowered = cross / jnp.sqrt(jnp.maximum(cross[row], 0.0) + jnp.exp(kernel.noise))
            return (variance - lowered**2, taken, known, more.at[slot].set(lowered)), row

        start = (variance, taken, known, jnp.zeros((batch, n)))
        return kernel, jax.lax.scan(pick, start, jnp.arange(batch))[1]

    return jax.lax.map(one, (runs, ties), batch_size=_together(len(ties), runs.rows.shape[1], n))


@functools.partial(jax.jit, static_argnames=("blocks", "members"))
def conclude(
    structure: Float[Array, "n f"],
    evidence: Float[Array, "e n s"],
    runs: Run,
    keys: Key,
    *,
    blocks: tuple[int, ...],
    members: int,
) -> tuple[Float[Array, "r n"], Float[Array, "r m n"], Float[Array, "r b"], Float[Array, "r s"]]:
    """Returns for each run the means, log-odds of functions drawn from the posterior and of the measured, and weights.

    Two measured values differ by twice the variance of the noise, which the slope of the log-odds accounts for.
    ``SHARPNESS`` and ``SPREAD`` correct what the model says about its own certainty.
    """

    def one(run: tuple[Run, Key]) -> tuple[Array, Array, Array, Array]:
        data = data_of(structure, evidence, run[0])
        data, model = among_all(data, run[0].kernel, run[0].centre, blocks)
        kernel, mean = model.kernel, model.mean
        of_functions, of_noise = jax.random.split(run[1])
        sets = (data.features, data.features[data.rows])
        near, seen = gp.prior_draws(of_functions, kernel, sets, blocks, draws=(members + 1) // 2, waves=WAVES)
        noise = jax.random.normal(of_noise, seen.shape) * jnp.exp(0.5 * kernel.noise)
        wrong = jnp.where(data.mask, data.scores - seen - noise, 0.0)
        drawn = near + wrong @ model.factor.T @ model.half
        # Each draw has its mirror image, so that the members' mean is the posterior mean.
        apart = SPREAD * (drawn - mean)
        drawn = jnp.concatenate([mean + apart, mean - apart])[:members]
        slope = SHARPNESS * PROBIT / jnp.sqrt(2 * jnp.maximum(jnp.exp(kernel.noise), LEAST_NOISE))
        return mean, slope * drawn, slope * data.scores, data.weights

    together = _together(len(runs.rows), runs.rows.shape[1] + 4 * members, len(structure))
    return jax.lax.map(one, (runs, keys), batch_size=together)
