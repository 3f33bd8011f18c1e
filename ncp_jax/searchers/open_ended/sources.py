"""Learns other tasks' tables, whose predictions become features of the target task."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.features import features_of
from ncp_jax.spaces import Space
from ncp_jax.types import Array, Bool, Float, Int

Source = tuple[Int[np.ndarray, "n d"], Float[np.ndarray, " n"]]
ROWS = 512  # architectures that are learned from each table
STEPS = 100  # of the fit of hyper-parameters


def learn_sources(space: Space, sources: Sequence[Source]) -> gp.Model:
    """Returns a fitted process for each source, stacked (host-side).

    Values become normal scores. Of larger sources, ``ROWS`` rows are drawn.

    Args:
      space: the space.
      sources: codes [n, d] of each source, and their values [n], higher is better.
    """
    parts = []
    for place, (all_codes, all_values) in enumerate(sources):
        rows = np.random.default_rng(place).permutation(len(all_codes))[:ROWS]
        values, codes = all_values[rows], all_codes[rows]
        spare = ROWS - len(rows)
        codes = np.pad(codes, ((0, spare), (0, 0)), mode="edge")
        mask = np.pad(np.isfinite(values), (0, spare))
        parts.append(_learn(codes, np.pad(values, (0, spare)), mask, space=space))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)


@functools.partial(jax.jit, static_argnames="space")
def _learn(codes: Int[Array, "n d"], values: Float[Array, " n"], mask: Bool[Array, " n"], *, space: Space) -> gp.Model:
    features = features_of(space)
    scores = normal_scores(jnp.where(mask, values, -jnp.inf), mask)
    seen = features(space.encode(codes))
    kernel = gp.fit(features, seen, scores, mask, steps=STEPS)
    return gp.condition(features, kernel, seen, scores, mask)
