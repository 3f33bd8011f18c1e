"""Inverts the ensembles of many seeds in one program, and lists what each proposes."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from few_labels.ensembles import QUALITY, TOGETHER, Ensembles, as_predictor
from ncp_jax.benchmarks import Table
from ncp_jax.propagation import Objective, PropagationConfig
from ncp_jax.propagation.engine import invert
from ncp_jax.propagation.polish import polish
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import draw_rows
from ncp_jax.searchers.ties import best_first_on_host, tie_breakers
from ncp_jax.spaces import Bounds, get_space
from ncp_jax.types import Array, Float, Int, Params

EXHAUSTIVE, EXHAUSTIVE_BOUND, CONTINUOUS = "exhaustive", "exhaustive-bound", "continuous"
RATE, STEPS = 2.0, 20  # chosen on digits, by how much of the exhaustive ranking an inversion meets
_BASE = PropagationConfig(steps=STEPS, learning_rate=RATE)


@dataclasses.dataclass(frozen=True)
class Variant:
    """Settings of an inversion.

    Attributes:
      config: settings of the gradient loop. ``polish`` is done here, on the predictions that are known.
      codes: number of starts, as a share of the default.
    """

    config: PropagationConfig = _BASE
    codes: float = 1.0


def _changed(**changes: Any) -> Variant:
    return Variant(dataclasses.replace(_BASE, **changes))


VARIANTS: Mapping[str, Variant] = {
    CONTINUOUS: Variant(),
    # Each step moves one feature alone: a step for each of the positions of a cell, several times over.
    "winner-takes-all": _changed(strategy="winner-takes-all", steps=3 * STEPS),
    # Every code follows all networks: fewer starts for as much work.
    "mean-gradient": Variant(dataclasses.replace(_BASE, follow="mean"), codes=1 / 4),
    "bound": Variant(dataclasses.replace(_BASE, follow="bound"), codes=1 / 4),
    "straight-through": _changed(discreteness="straight-through"),
    "annealed": _changed(discreteness="annealed"),
    "polish": _changed(polish=8),
    "few-starts": Variant(codes=1 / 16),
    "few-starts-polish": Variant(dataclasses.replace(_BASE, polish=8), codes=1 / 16),
}
"""Inversions that are compared; the first is the default."""


@dataclasses.dataclass(frozen=True)
class Proposals:
    """What one method proposes at one seed.

    Attributes:
      rows: rows to query, best first: of different networks, none of which is labelled.
      scored: number of architectures whose prediction decided.
    """

    rows: Int[np.ndarray, " k"]
    scored: int


def propose(
    table: Table,
    candidates: Candidates,
    ensembles: Ensembles,
    labelled: Int[np.ndarray, "r n"],
    seeds: Sequence[int],
    *,
    codes: int,
    queries: int,
    variants: Mapping[str, Variant] = VARIANTS,
) -> list[dict[str, Proposals]]:
    """Returns what each variant proposes at each seed, and what scoring every architecture proposes.

    Args:
      table: the architectures; its values are not read.
      candidates: the same.
      ensembles: one for each seed.
      labelled: rows that each seed knows already.
      seeds: the seeds, on which the starts depend.
      codes: starts of an inversion.
      queries: number of proposals.
      variants: the inversions.
    """
    networks, n = np.asarray(candidates.classes), len(candidates)
    ties = tie_breakers([(seed,) for seed in seeds], n)
    everything = np.arange(n)
    found: list[dict[str, Proposals]] = [{} for _ in seeds]

    def choose(run: int, scores: np.ndarray, rows: np.ndarray) -> Proposals:
        order = rows[best_first_on_host(scores[rows], ties[run, rows])]
        _, first = np.unique(networks[order], return_index=True)
        order = order[np.sort(first)]
        known = np.isin(networks[order], networks[labelled[run]])
        return Proposals(order[~known][:queries], len(rows))

    bound = ensembles.mean - _BASE.confidence * ensembles.spread
    for run in range(len(seeds)):
        found[run][EXHAUSTIVE] = choose(run, ensembles.mean[run], everything)
        found[run][EXHAUSTIVE_BOUND] = choose(run, bound[run], everything)
    for name, variant in variants.items():
        # At least one start for each member.
        starts = _starts(seeds, max(round(codes * variant.codes), 2), n)
        reached = invert_all(ensembles, candidates.relaxed[starts], variant.config)
        rows = np.asarray(table.rows(jnp.asarray(reached)))
        for run in range(len(seeds)):
            scores = (bound if variant.config.follow == "bound" else ensembles.mean)[run]
            met = np.unique(rows[run])
            if variant.config.polish:
                met = np.union1d(met, _polished(table, candidates, scores, met, variant.config.polish))
            found[run][name] = choose(run, scores, met)
    return found


def invert_all(
    ensembles: Ensembles, starts: Float[Array, "r c f"], config: PropagationConfig
) -> Int[np.ndarray, "r c d"]:
    """Inverts each ensemble from its own starts and returns the legal codes reached; see ``propagation.invert``."""
    return np.asarray(_invert(ensembles.params(), starts, dataclasses.replace(config, polish=0), ensembles.space))


@functools.partial(jax.jit, static_argnames="space")
def _invert(params: Params, starts: Float[Array, "r c f"], config: PropagationConfig, space: str) -> Array:
    weights = Objective(maximize={QUALITY.name: 1.0}).weights((QUALITY,))
    bounds = Bounds.of(get_space(space), {})
    box = (jnp.asarray(bounds.lower), jnp.asarray(bounds.upper))

    def one(run: tuple[Params, Array]) -> Array:
        return bounds.project(invert(as_predictor(run[0], space), weights, run[1], box, config))

    return jax.lax.map(one, (params, starts), batch_size=TOGETHER)


def _starts(seeds: Sequence[int], codes: int, n: int) -> Int[Array, "r c"]:
    keys = jax.vmap(lambda seed: jax.random.fold_in(jax.random.key(seed), 1))(jnp.asarray(seeds, jnp.uint32))
    return jax.vmap(lambda key: draw_rows(key, codes, n))(keys)


def _polished(
    table: Table, candidates: Candidates, scores: Float[np.ndarray, " n"], rows: Int[np.ndarray, " k"], climbs: int
) -> Int[np.ndarray, " j"]:
    """Returns the rows that climbs from the best rows score (``propagation.polish``)."""

    def look_up(codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        return scores[np.asarray(table.rows(jnp.asarray(codes)))]

    codes, best = np.asarray(candidates.codes), rows[np.argsort(-scores[rows], kind="stable")]
    climbed = polish(look_up, table.space, codes[best[:climbs]], known=(codes[best], scores[best]))
    return np.asarray(table.rows(jnp.asarray(climbed.scored)), np.int64)
