"""Source choice: how much each source task counts for a target, judged by the target's own measurements."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.searchers import gaussian_process as gp
from ncp_jax.types import Array, Bool, Float

# The models leave out the structure of the networks, so their likelihoods are too sure: they count like those of a
# quarter of the measurements. Chosen on digits and NAS-Bench-201, as were the sizes.
TEMPER = 4.0
# A target that follows one source, with a constant; targets and sources have unit variance.
_SIZES: Any = [np.log(np.array(size, np.float32)) for size in (0.3, [1.0, 1.0], [0.4, 1.0], 0.3)]
_ALONE = gp.Kernel(*_SIZES)


def source_weights(
    evidence: Float[Array, "n s"], seen: Float[Array, "k s"], scores: Float[Array, " k"], mask: Bool[Array, " k"]
) -> Float[Array, " s"]:
    """Returns how well each source alone explains the target, as weights.

    A model for each source has a part linear in its evidence, a smooth part, a constant and noise, all of fixed size.
    The weights are the models' posterior probabilities with equal priors, where likelihoods have the power
    1 / ``TEMPER``. With few measurements these are nearly equal, and so are the weights.

    Args:
      evidence: what the sources say about the n candidates, in standard units; 0 everywhere where one says nothing.
      seen: the same for the k measured ones; other rows are masked.
      scores: normal scores of the target's measured values, 0 where masked.
      mask: which of the k slots hold a measurement.

    Returns:
      Weights with sum 1; 0 for sources that say nothing, and where none says anything.
    """

    def likelihood(one: Float[Array, " k"]) -> Float[Array, ""]:
        features = jnp.stack([one, jnp.ones(len(one))], axis=1)
        factor = gp.inverse_factor(_ALONE, gp.geometry(features, features, (1, 1)), mask)
        return gp.log_likelihood(factor, scores) / TEMPER

    says = (evidence != 0).any(axis=0)
    logs = jnp.where(says, jax.vmap(likelihood)(seen.T), -jnp.inf)
    return jnp.where(says, jax.nn.softmax(jnp.where(says.any(), logs, 0.0)), 0.0)


def weighted(evidence: Float[Array, "n s"], weights: Float[Array, " s"]) -> Float[Array, "n s+1"]:
    """Returns features for a kernel: the sources, each with its weight in mean squares, and their weighted mean."""
    mean = evidence @ weights
    mean = mean - mean.mean()
    mean = mean / jnp.maximum(mean.std(), 1e-6)
    return jnp.concatenate([evidence * jnp.sqrt(evidence.shape[1] * weights), mean[:, None]], axis=1)
