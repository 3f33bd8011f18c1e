"""Gaussian processes on features of architectures: covariance, hyper-parameters, factors, expected improvement.

All functions are pure functions of one run. Slots without a measurement are masked, so that shapes never change.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.stats import norm

from ncp_jax.types import Array, Bool, Float, Int, Key

_STEPS = 40  # steps of Adam per fit; fits are warm-started, so the early ones need not converge
_RATE = 0.1  # learning rate of Adam
LEAST_VARIANCE = 1e-6  # lower limit for the variance of a measurement given others, which rounding may undercut
_TAIL = -5.0  # below this number of standard deviations, the series of the expected improvement is used


class Kernel(NamedTuple):
    """Logarithms of a Gaussian process's hyper-parameters.

    The covariance of two architectures is ``rbf · exp(-½ Σ_b d_b² / length_b²) + Σ_b linear_b · p_b``: ``d_b²`` is
    their mean squared difference and ``p_b`` their mean product over the features of block b. A measured value
    has ``noise`` on top.

    Attributes:
      rbf: [], variance of the smooth part.
      length: [b], length-scale of each block of features.
      linear: [b], variance of the part linear in each block.
      noise: [], variance of the noise.
    """

    rbf: Float[Array, ""]
    length: Float[Array, " b"]
    linear: Float[Array, " b"]
    noise: Float[Array, ""]


def prior(blocks: int) -> Kernel:
    """Returns the medians of the log-normal priors, for targets and features of unit variance."""
    each = jnp.ones(blocks)
    return Kernel(jnp.log(0.5), 0.0 * each, jnp.log(0.5 / blocks) * each, jnp.log(0.1))


def geometry(a: Array, b: Array, blocks: tuple[int, ...]) -> tuple[Array, Array]:
    """Returns mean squared differences and mean products of each block, [blocks, |a|, |b|] each: a kernel's inputs."""
    squares, products = [], []
    for p, q in zip(_split(a, blocks), _split(b, blocks), strict=True):
        product = p @ q.T / p.shape[1]
        square = (p**2).mean(axis=1)[:, None] + (q**2).mean(axis=1) - 2 * product
        squares.append(jnp.maximum(square, 0.0))
        products.append(product)
    return jnp.stack(squares), jnp.stack(products)


def covariance(kernel: Kernel, pairs: tuple[Array, Array]) -> Float[Array, "a b"]:
    """Returns the covariance of noise-free values, from the ``geometry`` of two sets of architectures."""
    squares, products = pairs
    smooth = jnp.exp(kernel.rbf - 0.5 * jnp.tensordot(jnp.exp(-2 * kernel.length), squares, 1))
    return smooth + jnp.tensordot(jnp.exp(kernel.linear), products, 1)


def covariance_between(
    kernel: Kernel, a: Float[Array, "a f"], b: Float[Array, "b f"], blocks: tuple[int, ...]
) -> Float[Array, "a b"]:
    """Returns ``covariance`` of ``geometry`` with fewer passes over the pairs, where it is needed only once."""
    lengths, tilts = _scales(kernel, blocks)
    p, q = a * lengths, b * lengths
    squares = (p**2).sum(axis=1)[:, None] + (q**2).sum(axis=1) - 2 * p @ q.T
    return jnp.exp(kernel.rbf - 0.5 * jnp.maximum(squares, 0.0)) + (a * tilts**2) @ b.T


def own_variance(kernel: Kernel, features: Float[Array, "n f"], blocks: tuple[int, ...]) -> Float[Array, " n"]:
    """Returns the prior variance of each architecture's noise-free value."""
    own = jnp.stack([(part**2).mean(axis=1) for part in _split(features, blocks)])
    return jnp.exp(kernel.rbf) + jnp.exp(kernel.linear) @ own


def noisy(kernel: Kernel, pairs: tuple[Array, Array], mask: Bool[Array, " k"]) -> Float[Array, "k k"]:
    """Returns the covariance of measured values; slots without a measurement are independent of all others."""
    between = covariance(kernel, pairs) * mask[:, None] * mask
    return between + jnp.diag(jnp.where(mask, jnp.exp(kernel.noise), 1.0))


def slope(
    kernel: Kernel,
    pairs: tuple[Array, Array],
    targets: Array,
    mask: Array,
    *,
    freedom: float | Array = 1.0,
    centre: Kernel | None = None,
) -> Kernel:
    """Returns the gradient of minus the log posterior of the hyper-parameters (jittable).

    Rasmussen and Williams (2006), eq. 5.9. Differentiating through a factorisation would take many times as long.

    Args:
      kernel: the hyper-parameters.
      pairs: ``geometry`` of the k slots with themselves.
      targets: measured values [k], 0 in slots without a measurement.
      mask: bool [k], False for slots without a measurement.
      freedom: standard deviation of the priors, which are normal in the logarithms.
      centre: medians of the priors; ``prior`` if None.
    """
    centre = prior(len(kernel.length)) if centre is None else centre
    between, back = jax.vjp(lambda kernel: noisy(kernel, pairs, mask), kernel)
    inverse = inverse_of(between)
    weights = inverse @ targets
    (likelihood,) = back(0.5 * (inverse - weights[:, None] * weights))
    return jax.tree.map(lambda g, a, b: g + (a - b) / freedom**2, likelihood, kernel, centre)


def fit_kernel(
    kernel: Kernel,
    pairs: tuple[Array, Array],
    targets: Array,
    mask: Array,
    *,
    freedom: float | Array = 1.0,
    centre: Kernel | None = None,
) -> Kernel:
    """Maximises the log posterior of the hyper-parameters by 40 steps of Adam; for the arguments see ``slope``.

    The hyper-parameters stay within a factor e³ of their prior medians: farther out, the covariance is singular in
    float32.
    """
    centre = prior(len(kernel.length)) if centre is None else centre
    adam = optax.scale_by_adam(b1=0.8, b2=0.95)

    def step(carry: tuple[Kernel, optax.OptState], _: None) -> tuple[tuple[Kernel, optax.OptState], None]:
        kernel, state = carry
        change, state = adam.update(slope(kernel, pairs, targets, mask, freedom=freedom, centre=centre), state)
        moved = [jnp.clip(a - _RATE * d, b - 3, b + 3) for a, d, b in zip(kernel, change, centre, strict=True)]
        return (Kernel(*moved), state), None

    return jax.lax.scan(step, (kernel, adam.init(kernel)), None, length=_STEPS)[0][0]


def inverse_factor(kernel: Kernel, pairs: tuple[Array, Array], mask: Bool[Array, " k"]) -> Float[Array, "k k"]:
    """Returns the inverse W of the lower Cholesky factor of ``noisy``: W K Wᵀ = 1. No LAPACK, see ``inverse_of``."""
    matrix = noisy(kernel, pairs, mask)
    places = jnp.arange(len(matrix))

    def add(i: Array, factor: Array) -> Array:
        column = factor @ jnp.where(places < i, matrix[i], 0.0)
        return factor.at[i].set(inverse_row(factor, column, matrix[i, i], i)[0])

    return jax.lax.fori_loop(0, len(matrix), add, jnp.zeros_like(matrix))


def log_likelihood(factor: Float[Array, "k k"], targets: Float[Array, " k"]) -> Float[Array, ""]:
    """Returns the log density of measured values, up to a constant (Rasmussen and Williams, 2006, eq. 2.30).

    Args:
      factor: ``inverse_factor`` of the k slots.
      targets: measured values, 0 in slots without a measurement.
    """
    return jnp.log(jnp.diag(factor)).sum() - 0.5 * ((factor @ targets) ** 2).sum()


def inverse_row(
    factor: Float[Array, "k k"], column: Float[Array, " k"], own: Float[Array, ""], place: Int[Array, ""]
) -> tuple[Float[Array, " k"], Float[Array, ""]]:
    """Returns the row that one more measurement adds to an ``inverse_factor``.

    Args:
      factor: the inverse so far; zeros from row ``place`` on.
      column: the factor times the covariance of the other measurements with the new one.
      own: prior variance of the new measurement, noise included.
      place: index of the row.

    Returns:
      ``(row, deviation)``; ``deviation`` is the standard deviation of the new measurement given the others.
    """
    deviation = jnp.sqrt(jnp.maximum(own - column @ column, LEAST_VARIANCE))
    return jnp.where(jnp.arange(len(factor)) == place, 1.0, -(column @ factor)) / deviation, deviation


def log_expected_improvement(
    mean: Float[Array, " n"], deviation: Float[Array, " n"], best: Float[Array, ""]
) -> Float[Array, " n"]:
    """Returns log E[max(y - best, 0)] for a normal y with standard deviation > 0: Jones et al. (1998), eq. 15.

    From 5 standard deviations below the best on, it uses the first terms of the series of Mills' ratio (relative error
    1e-3).
    """
    gap = (mean - best) / deviation
    near, far = jnp.maximum(gap, _TAIL), jnp.minimum(gap, _TAIL)
    inverse = 1 / far**2
    series = inverse * (1 - inverse * (3 - inverse * (15 - 105 * inverse * (1 - 9 * inverse))))
    close = jnp.log(near * norm.cdf(near) + norm.pdf(near))
    return jnp.log(deviation) + jnp.where(gap < _TAIL, norm.logpdf(far) + jnp.log(series), close)


def prior_draws(
    key: Key, kernel: Kernel, features: tuple[Array, ...], blocks: tuple[int, ...], *, draws: int, waves: int = 512
) -> tuple[Float[Array, "s n"], ...]:
    """Draws functions from the prior of the process, evaluated at several sets of architectures.

    The smooth part is a sum of ``waves`` random cosines (A. Rahimi and B. Recht, NeurIPS 2007).

    Args:
      key: key of this call.
      kernel: the hyper-parameters.
      features: features [n, f] of each set.
      blocks: sizes of consecutive blocks of features.
      draws: number of functions, s.
      waves: number of cosines. The error of a draw's covariance is about 1 / sqrt(waves) of the variance of the smooth
        part.

    Returns:
      float32 [s, n] for each set.
    """
    lengths, tilts = _scales(kernel, blocks)
    keys = jax.random.split(key, 4)
    frequencies = jax.random.normal(keys[0], (len(lengths), waves)) * lengths[:, None]
    phases = jax.random.uniform(keys[1], (waves,), maxval=2 * np.pi)
    heights = jax.random.normal(keys[2], (draws, waves)) * jnp.exp(0.5 * kernel.rbf) * np.sqrt(2 / waves)
    gradients = jax.random.normal(keys[3], (draws, len(tilts))) * tilts
    return tuple(heights @ jnp.cos(x @ frequencies + phases).T + gradients @ x.T for x in features)


def _scales(kernel: Kernel, blocks: tuple[int, ...]) -> tuple[Float[Array, " f"], Float[Array, " f"]]:
    """Factors of each feature in the smooth part and in the linear part."""
    sizes = np.asarray(blocks)
    each = [jnp.exp(-kernel.length) / np.sqrt(sizes), jnp.exp(0.5 * kernel.linear) / np.sqrt(sizes)]
    lengths, tilts = (jnp.repeat(scale, sizes, total_repeat_length=int(sizes.sum())) for scale in each)
    return lengths, tilts


def _split(features: Array, blocks: tuple[int, ...]) -> list[Array]:
    return jnp.split(features, np.cumsum(blocks)[:-1], axis=1)


def inverse_of(matrix: Array) -> Array:
    """Inverse of a positive definite matrix by Gauss-Jordan elimination, which needs no pivoting for such a matrix.

    Many small calls of a multi-threaded LAPACK wait for each other on a busy machine; this does not.
    """

    def eliminate(i: Array, left: Array) -> Array:
        row, column, pivot = left[i], left[:, i], left[i, i]
        out = left - column[:, None] * row / pivot
        return out.at[i].set(row / pivot).at[:, i].set(column / pivot).at[i, i].set(-1 / pivot)

    return -jax.lax.fori_loop(0, len(matrix), eliminate, matrix)
