"""Embeds a task by the Fisher information of a probe network on its data (Task2Vec).

Source: Achille et al., Task2Vec: Task Embedding for Meta-Learning, ICCV 2019, arXiv 1902.03545.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.embeddings import probe as probes
from ncp_jax.types import Array, Float, Int, Key, Params


def fisher_diagonal(
    probe: probes.Probe,
    inputs: Float[Array, "n ..."],
    *,
    likelihood: str = "categorical",
    samples: int = 0,
    key: Key | None = None,
    chunk: int = 64,
) -> Params:
    """Returns the diagonal of a probe's Fisher information on a data set. Runs on the host.

    F_w = mean over x of E_{y ~ p(y | x)} [(d log p(y | x) / dw)^2] (Achille et al., ICCV 2019, section on the Fisher
    information matrix). The probe itself gives the distribution of y, so no labels are needed. The task enters through
    the inputs and through a head that was fitted to it (``fit_head``).

    With ``samples=0``, the expectation over y is exact and takes one backward pass per example and class (or output).
    With more than a few dozen of these, use the mean over ``samples`` draws of y, which is unbiased and takes one
    backward pass per draw.

    Deviation: the paper also fits a robust variant, the precision of noise on the weights. This is the basic one.

    Args:
      probe: a Flax NNX module of inputs [n, ...], used in evaluation mode with its other state (BatchNorm statistics)
        held fixed, or ``(apply, params)`` with a pure ``apply(params, inputs [n, ...])``. Examples must not mix.
      inputs: ``[n, ...]`` data of the task.
      likelihood: "categorical": outputs are logits [n, classes]. "gaussian": outputs [n, ...] of any rank are means
        with unit variance, hence in units of the noise's standard deviation.
      samples: number of draws of y per example; 0 for the exact expectation.
      key: key of the draws; example i draws from ``fold_in(key, i)``.
      chunk: number of examples processed at a time. The last chunk is padded, so one compiled program serves data sets
        of any size. Memory is about ``chunk`` times the parameters. The result does not depend on it.

    Returns:
      float32 >= 0, a pytree like the parameters (nested dictionaries for a module), in 1 / (unit of the parameter)^2.

    Raises:
      UsageError: no data, an unknown likelihood, outputs that do not fit it, samples without a key, ``samples`` or
        ``chunk`` out of range or not integers, or a probe that is neither a module nor a pair.
      DataError: an input or the result is not finite.
    """
    kind = checks.choose("likelihood", likelihood, probes.LIKELIHOODS)
    samples = checks.integer("samples", samples, least=0, remedy="samples=0 is exact, chunk=64 usual")
    chunk = checks.integer("chunk", chunk, least=1, remedy="samples=0 is exact, chunk=64 usual")
    if samples and key is None:
        raise checks.UsageError(expected="a key for the samples", got="none", remedy="give key=jax.random.key(0)")
    apply, params, rest = probes.open_probe(probe)
    data = probes.check_inputs(inputs)
    probes.check_outputs(apply, params, rest, data, kind)
    draws = jax.random.key(0) if key is None else key
    add = functools.partial(_add_chunk, apply=apply, likelihood=kind, samples=samples)
    fisher = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params)
    for examples, numbers in _chunks(np.asarray(data), chunk):
        fisher = add(fisher, params, rest, examples, numbers, draws)
    fisher = jax.tree.map(lambda leaf: leaf / len(data), fisher)
    if not all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(fisher)):
        raise checks.DataError(
            expected="finite Fisher information",
            got="NaN or infinity",
            remedy="look at the probe's parameters and outputs",
        )
    return fisher


def task2vec(
    probe: probes.Probe,
    inputs: Float[Array, "n ..."],
    *,
    keep: Callable[[str], bool] | None = None,
    likelihood: str = "categorical",
    samples: int = 0,
    key: Key | None = None,
    chunk: int = 64,
) -> Float[Array, " e"]:
    """Returns the embedding of a task: the Fisher information of a probe, averaged in each filter. Runs on the host.

    As in the paper, all weights of a filter give one entry. The last axis of a kernel numbers the output units (Flax's
    layout of linear and convolution kernels); the other axes are averaged. A bias or a scale is an array of its own
    with one entry per unit. Compare embeddings of one probe with ``similarity(..., kind="task2vec")``.

    Args:
      probe: as in ``fisher_diagonal``, with a head that was fitted to the task.
      inputs: ``[n, ...]`` data of the task.
      keep: filter of paths ("layers/0/kernel"), True for parameters in the embedding; None for all. Leave out the head,
        as the paper does, since its shape depends on the number of classes.
      likelihood: as in ``fisher_diagonal``.
      samples: as in ``fisher_diagonal``.
      key: as in ``fisher_diagonal``.
      chunk: as in ``fisher_diagonal``.

    Returns:
      float32 ``[e]``, >= 0: the kept arrays in the order of ``jax.tree.leaves``, with one entry per unit each.

    Raises:
      UsageError: ``keep`` keeps nothing (the text lists the paths), or an error of ``fisher_diagonal``.
      DataError: as in ``fisher_diagonal``.
    """
    kept = probes.choose_leaves(probes.open_probe(probe)[1], keep)
    fisher = fisher_diagonal(probe, inputs, likelihood=likelihood, samples=samples, key=key, chunk=chunk)
    leaves = [leaf for leaf, wanted in zip(jax.tree.leaves(fisher), kept, strict=True) if wanted]
    return jnp.concatenate([leaf.reshape(-1, leaf.shape[-1] if leaf.ndim else 1).mean(axis=0) for leaf in leaves])


def scores(outputs: Float[Array, " o"], key: Key, *, likelihood: str, samples: int) -> Float[Array, "q o"]:
    """Returns gradients s_q of log p(y_q) by one example's outputs, scaled so that sum_q s_q s_q^T is their covariance.

    With the Jacobian J of the outputs, the Fisher information is then sum_q (J^T s_q)^2. With ``samples=0`` it is
    exact: q runs over the classes (s = sqrt(p_q) (e_q - p)) or the outputs (s = e_q). Otherwise, q runs over draws of
    y, each divided by sqrt(samples).
    """
    values = outputs.astype(jnp.float32)
    if likelihood == "gaussian":
        noise = (samples, values.shape[0])
        return jax.random.normal(key, noise) / samples**0.5 if samples else jnp.eye(values.shape[0])
    p = jax.nn.softmax(values)
    if samples == 0:
        return jnp.sqrt(p)[:, None] * (jnp.eye(len(p)) - p)
    labels = jax.random.categorical(key, values, shape=(samples,))
    return (jax.nn.one_hot(labels, len(p)) - p) / samples**0.5


def _chunks(data: np.ndarray, chunk: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields ``chunk`` examples at a time with their numbers. The last chunk is padded, with the number -1."""
    for start in range(0, len(data), chunk):
        numbers = np.arange(start, start + chunk, dtype=np.int32)
        yield data[np.minimum(numbers, len(data) - 1)], np.where(numbers < len(data), numbers, -1)


@functools.partial(jax.jit, static_argnames=("apply", "likelihood", "samples"), donate_argnums=0)
def _add_chunk(
    total: Params,
    params: Params,
    rest: Params,
    inputs: Float[Array, "chunk ..."],
    numbers: Int[Array, " chunk"],
    key: Key,
    *,
    apply: probes.ApplyModule | probes.ApplyPure,
    likelihood: str,
    samples: int,
) -> Params:
    """Returns the total plus the Fisher information of each example whose number is not negative."""

    def one(example: Float[Array, "..."], number: Int[Array, ""]) -> Params:
        outputs, pull = jax.vjp(lambda p: apply(p, rest, example[None])[0].reshape(-1), params)

        def add(mine: Params, score: Float[Array, " o"]) -> tuple[Params, None]:
            (slope,) = pull(score.astype(outputs.dtype))
            return jax.tree.map(lambda m, g: m + g.astype(jnp.float32) ** 2, mine, slope), None

        own = jax.random.fold_in(key, number) if samples else key
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, jnp.float32), params)
        return jax.lax.scan(add, zeros, scores(outputs, own, likelihood=likelihood, samples=samples))[0]

    each = jax.vmap(one)(inputs, numbers)
    real = (numbers >= 0).astype(jnp.float32)
    return jax.tree.map(lambda t, e: t + jnp.tensordot(real, e, 1), total, each)
