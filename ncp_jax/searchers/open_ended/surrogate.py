"""A Gaussian process on relaxed codes of a space of any size, for a few dozen to a few thousand measurements."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.linalg import cho_solve, solve_triangular

from ncp_jax.searchers.open_ended.features import Features
from ncp_jax.types import Array, Bool, Float

# Medians of the priors of the hyper-parameters, for targets of about unit variance.
SMOOTH, ADDITIVE, NOISE = (
    0.15,
    0.7,
    0.05,
)  # variances of the smooth part, of all additive effects together, of the noise
LENGTH = 0.4  # length-scale of the smooth part, times the square root of the number of groups
RATE = 0.1  # learning rate of Adam
FARTHEST = 4.0  # hyper-parameters stay within a factor e^4 of their prior medians
JITTER = 1e-4  # variance added to every measurement, so that float32 factorises covariances of equal codes
FITTED = 256  # largest number of measurements that hyper-parameters are fitted to
LEAST_VARIANCE = 1e-6
ADDITIVE_SOURCES = 0.5  # variance of the part linear in the predictions for other tasks, together


class Kernel(NamedTuple):
    """Logarithms of the hyper-parameters.

    The covariance of two codes is ``smooth`` times the Matérn-5/2 function of ``sqrt(sum_j d_j² / length_j²)``, where
    ``d_j`` is their distance in the features of group j, plus ``sum_j additive_j · p_j``, where ``p_j`` is the inner
    product of the group's functions, ``Features.effects``: most of what a position does, it does alone (N. Durrande et
    al., Annales de la Faculté de Sciences de Toulouse, 2012, additive kernels). A measurement has ``noise`` on top.

    Attributes:
      smooth: [], variance of the smooth part.
      length: [g], length-scale of each group.
      additive: [g], variance of the effect of each group alone.
      noise: [], variance of the noise.
    """

    smooth: Float[Array, ""]
    length: Float[Array, " g"]
    additive: Float[Array, " g"]
    noise: Float[Array, ""]


class Model(NamedTuple):
    """A fitted process: all that predictions need.

    Attributes:
      kernel: hyper-parameters.
      seen: float32 [n, g], features of the measured codes.
      mask: bool [n], False for slots without a measurement.
      weights: float32 [n], inverse covariance times the targets.
      whitener: float32 [n, n], inverse of the Cholesky factor of the covariance.
    """

    kernel: Kernel
    seen: Float[Array, "n g"]
    mask: Bool[Array, " n"]
    weights: Float[Array, " n"]
    whitener: Float[Array, "n n"]


def prior(features: Features) -> Kernel:
    """Returns the medians of the log-normal priors, for targets of about unit variance.

    Length-scales grow with the square root of the number of groups, as the distance of random codes does (C. Hvarfner
    et al., ICML 2024).
    """
    groups = features.count
    own = np.arange(groups) < groups - features.tasks
    additive = jnp.where(own, ADDITIVE / own.sum(), ADDITIVE_SOURCES / max(features.tasks, 1))
    length = float(np.log(LENGTH * np.sqrt(own.sum())))
    return Kernel(jnp.log(SMOOTH), length * jnp.ones(groups), jnp.log(additive), jnp.log(NOISE))


DEVIATIONS = Kernel(1.0, 1.0, 1.0, 1.5)  # type: ignore[arg-type]  # of the priors


def covariance(
    features: Features, kernel: Kernel, a: Float[Array, "n g"], b: Float[Array, "m g"]
) -> Float[Array, "n m"]:
    """Returns the covariance of noise-free values."""
    scale = jnp.exp(-kernel.length)[features.groups]
    x, y = a * scale, b * scale
    squares = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1) - 2 * x @ y.T
    r = jnp.sqrt(5 * jnp.maximum(squares, 1e-10))
    smooth = jnp.exp(kernel.smooth - r) * (1 + r + r**2 / 3)
    weights = jnp.exp(kernel.additive)[features.effect_groups]
    return smooth + (features.effects(a) * weights) @ features.effects(b).T


def own_variance(features: Features, kernel: Kernel, a: Float[Array, "n g"]) -> Float[Array, " n"]:
    """Returns the prior variance of each noise-free value."""
    return jnp.exp(kernel.smooth) + features.effects(a) ** 2 @ jnp.exp(kernel.additive)[features.effect_groups]


def noisy(
    features: Features, kernel: Kernel, seen: Float[Array, "n g"], mask: Bool[Array, " n"]
) -> Float[Array, "n n"]:
    """Returns the covariance of measurements; slots without one are independent of all others."""
    between = covariance(features, kernel, seen, seen) * mask[:, None] * mask
    return between + jnp.diag(jnp.where(mask, jnp.exp(kernel.noise) + JITTER, 1.0))


def fit(
    features: Features,
    seen: Float[Array, "n g"],
    targets: Float[Array, " n"],
    mask: Bool[Array, " n"],
    *,
    steps: int,
) -> Kernel:
    """Maximises the posterior of the hyper-parameters by Adam; of many measurements, an even share of them is used.

    Rasmussen and Williams (2006), eq. 5.9, with log-normal priors.

    Args:
      features: the features of the space.
      seen: features of the measured codes; they fill the first slots.
      targets: measured values, 0 in empty slots.
      mask: False for empty slots.
      steps: number of steps.
    """
    n = len(seen)
    if n > FITTED:
        count = mask.sum()
        some = jnp.arange(FITTED)
        some = jnp.where(count > FITTED, some * count // FITTED, some)
        seen, targets, mask = seen[some], targets[some], mask[some]
    centre = prior(features)
    adam = optax.scale_by_adam(b1=0.8, b2=0.95)

    def slope(kernel: Kernel) -> Kernel:
        between, back = jax.vjp(lambda kernel: noisy(features, kernel, seen, mask), kernel)
        inverse = cho_solve((jnp.linalg.cholesky(between), True), jnp.eye(len(between)))
        weights = inverse @ targets
        (likelihood,) = back(0.5 * (inverse - weights[:, None] * weights))
        return jax.tree.map(
            lambda g, a, b, s: jnp.nan_to_num(g) + (a - b) / s**2, likelihood, kernel, centre, DEVIATIONS
        )

    def step(_: Array, carry: tuple[Kernel, optax.OptState]) -> tuple[Kernel, optax.OptState]:
        kernel, state = carry
        change, state = adam.update(slope(kernel), state)
        moved = jax.tree.map(lambda a, d, b: jnp.clip(a - RATE * d, b - FARTHEST, b + FARTHEST), kernel, change, centre)
        return moved, state

    return jax.lax.fori_loop(0, steps, step, (centre, adam.init(centre)))[0]


def condition(
    features: Features, kernel: Kernel, seen: Float[Array, "n g"], targets: Float[Array, " n"], mask: Bool[Array, " n"]
) -> Model:
    """Returns the process given measurements: Rasmussen and Williams (2006), algorithm 2.1, prior mean 0."""
    factor = jnp.linalg.cholesky(noisy(features, kernel, seen, mask))
    whitener = solve_triangular(factor, jnp.eye(len(seen)), lower=True)
    return Model(kernel, seen, mask, whitener.T @ (whitener @ jnp.where(mask, targets, 0.0)), whitener)


def predict(
    features: Features, model: Model, where: Float[Array, "m g"]
) -> tuple[Float[Array, " m"], Float[Array, " m"]]:
    """Returns mean and standard deviation of the noise-free values."""
    cross = covariance(features, model.kernel, where, model.seen) * model.mask
    variance = own_variance(features, model.kernel, where) - ((cross @ model.whitener.T) ** 2).sum(axis=1)
    return cross @ model.weights, jnp.sqrt(jnp.maximum(variance, LEAST_VARIANCE))
