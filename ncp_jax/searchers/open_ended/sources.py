"""Learns other tasks' tables, whose predictions become features of the target task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.features import features_of
from ncp_jax.spaces import Space

if TYPE_CHECKING:
    from ncp_jax.benchmarks import Table

ROWS = 512  # architectures that are learned from each table
STEPS = 100
TREND = 0.5


def learn_sources(space: Space, tables: Sequence[Table]) -> gp.Model:
    """Returns a fitted process for each table's main metric, stacked (host-side).

    Values become normal scores. Of larger tables, ``ROWS`` rows are drawn.
    """
    features = features_of(space)
    codes, targets, masks = [], [], []
    for place, table in enumerate(tables):
        rows = np.random.default_rng(place).permutation(len(table))[:ROWS]
        values = np.asarray(table.oriented(table.main.name))[rows]
        pad = ROWS - len(rows)
        codes.append(np.pad(np.asarray(table.codes)[rows], ((0, pad), (0, 0)), mode="edge"))
        masks.append(np.pad(np.isfinite(values), (0, pad)))
        targets.append(np.pad(values, (0, pad)))

    @jax.jit
    def learn(codes: jax.Array, values: jax.Array, mask: jax.Array) -> gp.Model:
        scores = normal_scores(jnp.where(mask, values, -jnp.inf), mask)
        seen = features(space.encode(codes))
        kernel = gp.fit(features, seen, scores, mask, jnp.int32(STEPS), TREND)
        return gp.condition(features, kernel, seen, scores, mask)

    parts = [learn(*part) for part in zip(codes, targets, masks, strict=True)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts)
