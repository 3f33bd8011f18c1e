"""What is believed of codes that were not measured: the form that searches share, and Gaussian processes."""

from __future__ import annotations

import functools
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm

from ncp_jax.searchers.gaussian_process import log_expected_improvement
from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.features import Features, features_of
from ncp_jax.searchers.open_ended.known import Known
from ncp_jax.spaces import Space
from ncp_jax.types import Array, Bool, Float

STEPS = 60  # of the fit of hyper-parameters
CAUTION = 1.0  # standard deviations below its prediction at which the objective of a pending code counts as measured
Acquired = tuple[Float[Array, " m"], Float[Array, "p m"], Float[Array, "p m"]]


class Belief(Protocol):
    """What a model believes, given what is known; a pytree, so that programs take it as an argument."""

    @property
    def best(self) -> Float[Array, ""]:
        """Best prediction at a measured code that satisfies the limits; -inf if there is none."""

    def acquisition(self, space: Space, relaxed: Float[Array, "m f"]) -> Acquired:
        """Returns what makes relaxed codes worth a training, as a smooth function (jittable).

        Returns:
          The acquisition, in logarithms where probabilities of limits are a part of it; and mean and standard deviation
          of the predicted targets, first of the objective, then of each limit.
        """


class ProcessBelief(NamedTuple):
    """Gaussian processes of the objective and the limits.

    Attributes:
      models: the processes, stacked.
      best: see ``Belief``.
      sources: processes of other tasks, stacked, whose predictions are features; None without sources.
    """

    models: gp.Model
    best: Float[Array, ""]
    sources: gp.Model | None = None

    def acquisition(self, space: Space, relaxed: Float[Array, "m f"]) -> Acquired:
        """Returns the logarithm of the acquisition of relaxed codes, and their predictions (jittable).

        The acquisition is the expected improvement over the best prediction at a measured code, times the probability
        that the limits are satisfied (J. Gardner et al., ICML 2014); before a measured code satisfies them, that alone.
        """
        features, where = inputs(space, self.sources, relaxed)
        mean, deviation = jax.vmap(lambda model: gp.predict(features, model, where))(self.models)
        best = jnp.where(jnp.isfinite(self.best), self.best, 0.0)
        gain = log_expected_improvement(mean[0], deviation[0], best)
        return within_limits(gain, mean[1:], deviation[1:], self.best), mean, deviation


def within_limits(
    gain: Float[Array, " m"], mean: Float[Array, "c m"], deviation: Float[Array, "c m"], best: Float[Array, ""]
) -> Float[Array, " m"]:
    """Returns a gain plus the logarithm of the probability that the limits are satisfied.

    Before a measured code satisfies them, ``best`` being -inf, that logarithm alone.
    """
    return jnp.where(jnp.isfinite(best), gain, 0.0) + norm.logcdf(mean / deviation).sum(axis=0)


def inputs(space: Space, sources: gp.Model | None, relaxed: Float[Array, "m f"]) -> tuple[Features, Array]:
    """Returns the features of the space and tasks, and those of relaxed codes (jittable)."""
    if sources is None:
        return features_of(space), features_of(space)(relaxed)
    where = features_of(space)(relaxed)
    others = jax.vmap(lambda model: gp.predict(features_of(space), model, where)[0])(sources)
    features = features_of(space, len(others))
    return features, features(relaxed, others.T)


@functools.partial(jax.jit, static_argnames=("space", "steps"))
def learn(known: Known, sources: gp.Model | None, *, space: Space, steps: int = STEPS) -> ProcessBelief:
    """Fits the processes; pending codes count as measured.

    D. Ginsbourger et al. (2010): kriging believer, with less than what is believed for the objective (``CAUTION``), so
    that workers do not ask for much the same codes; limits are believed as predicted.

    Args:
      known: what is known.
      sources: processes of other tasks, stacked.
      space: the space.
      steps: steps of the fit of hyper-parameters.
    """
    features, seen = inputs(space, sources, space.encode(jnp.asarray(known.codes)))
    caution = jnp.zeros(len(known.targets)).at[0].set(CAUTION)
    models, believed = _fitted(features, seen, known, caution, steps)
    satisfied = _satisfied(known._replace(targets=known.targets[1:], measured=known.measured[1:]), believed[1:])
    return ProcessBelief(models, best_of(believed[0], known, satisfied), sources)


class LimitsBelief(NamedTuple):
    """Gaussian processes of the limits alone, for models that learn the objective in another way.

    Attributes:
      models: the processes, stacked; None without limits on metrics.
      satisfied: bool [n], whether each slot satisfies the limits, as measured or else as predicted.
    """

    models: gp.Model | None
    satisfied: Bool[Array, " n"]

    @classmethod
    def of(cls, features: Features, seen: Float[Array, "n g"], known: Known, steps: int = STEPS) -> LimitsBelief:
        """Fits the processes to what is known (jittable)."""
        known = known._replace(targets=known.targets[1:], measured=known.measured[1:])
        if not len(known.targets):
            return cls(None, jnp.ones(len(known.codes), bool))
        models, believed = _fitted(features, seen, known, jnp.zeros(len(known.targets)), steps)
        return cls(models, _satisfied(known, believed))

    def predict(
        self, features: Features, where: Float[Array, "m g"]
    ) -> tuple[Float[Array, "c m"], Float[Array, "c m"]]:
        """Returns mean and standard deviation of the limits' targets (jittable)."""
        if self.models is None:
            return jnp.zeros((0, len(where))), jnp.zeros((0, len(where)))
        return jax.vmap(lambda model: gp.predict(features, model, where))(self.models)


def best_of(believed: Float[Array, " n"], known: Known, satisfied: Bool[Array, " n"]) -> Float[Array, ""]:
    """Returns the best prediction at a measured code that satisfies the limits; -inf if there is none (jittable)."""
    return jnp.where(known.measured[0] & satisfied, believed, -jnp.inf).max()


def _fitted(
    features: Features, seen: Array, known: Known, caution: Float[Array, " p"], steps: int
) -> tuple[gp.Model, Float[Array, "p n"]]:
    """Returns a process for each row of targets, and what it predicts at the slots."""

    def one(targets: Array, measured: Array, caution: Array) -> tuple[gp.Model, Array]:
        kernel = gp.fit(features, seen, targets, measured, steps=steps)
        believed, deviation = gp.predict(features, gp.condition(features, kernel, seen, targets, measured), seen)
        everything = jnp.where(measured, targets, believed - caution * deviation)
        return gp.condition(features, kernel, seen, everything, measured | known.pending), believed

    # One after the other: on CPUs, programs that hand batches of factorisations to the pool of threads that runs them
    # may wait for each other for ever (JAX 0.10.2).
    rows = (jnp.asarray(known.targets), jnp.asarray(known.measured), caution)
    return jax.lax.map(lambda row: one(*row), rows)


def _satisfied(limits: Known, believed: Float[Array, "c n"]) -> Bool[Array, " n"]:
    return (jnp.where(limits.measured, limits.targets, believed) >= 0).all(axis=0)
