"""Arch-Graph: relations between architectures, an acyclic graph of the trusted ones, its top measured next."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import QueryGuard
from ncp_jax.ordering.extension import topological_order
from ncp_jax.ordering.relations import relation_matrix, trusted_weights
from ncp_jax.searchers.arch_graph.sources import Sources
from ncp_jax.training.relations import PROBIT, RelationInputs, RelationRecipe, fit_relations
from ncp_jax.types import Array, Float, Int

if TYPE_CHECKING:
    from ncp_jax.ordering import Ordering

Progress = Callable[[int, int], None]
RANKINGS = ("mwas", "borda")
SLOTS = 64  # a program is compiled for every so many measurements
NEAREST = 4096  # candidates that the final graph holds, at most: its matrix has their number squared


@dataclasses.dataclass(frozen=True)
class ArchGraphConfig:
    """How a search queries and ranks.

    Attributes:
      first: queries before the first ranking: at random without sources, the sources' favourites with them.
      batch: queries between two rankings; ``budget`` makes the search one-shot.
      hedge: queries of a batch that go to the sources' favourites whatever the relations say, as long as one is left
        for those: a guard against a predictor that follows the luck of a few measurements.
      trust: probability from which a relation counts as trusted, 0.5 ≤ trust < 1.
      optimism: standard deviations of the ensemble that are added to a candidate's utility before it is ranked.
      shortlist: candidates with the most expected wins that enter the graph.
      ranking: "mwas" (topological order of the maximum weighted acyclic subgraph) or "borda" (expected wins).
      recipe: of the relation predictor.
    """

    first: int = 10
    batch: int = 4
    hedge: int = 1
    trust: float = 0.55
    optimism: float = 0.5
    shortlist: int = 64
    ranking: str = "mwas"
    recipe: RelationRecipe = dataclasses.field(default_factory=RelationRecipe)

    def __post_init__(self) -> None:
        checks.choose("ranking", self.ranking, RANKINGS)
        for name in ("first", "batch", "shortlist"):
            if getattr(self, name) < (2 if name == "first" else 1):
                raise checks.UsageError(
                    expected=f"a larger {name}", got=str(getattr(self, name)), remedy=f"raise {name}"
                )
        if not 0.5 <= self.trust < 1:
            raise checks.UsageError(expected="0.5 <= trust < 1", got=str(self.trust), remedy="try 0.55")
        checks.positive("optimism", self.optimism, zero=True)
        checks.positive("hedge", self.hedge, zero=True)


@dataclasses.dataclass(frozen=True, eq=False)
class Trace:
    """Independent runs of one search method against one guard, as the method saw them.

    Attributes:
      asked: int32 [runs, budget], rows of the candidates in the order of asking, none twice in a run.
      paid: float32 [runs, budget], their values in the metric's unit, negated where lower is better.
      scores: float32 [runs, n], the method's final belief about all candidates; only their order means anything,
        higher is better.
    """

    asked: Int[np.ndarray, "runs budget"]
    paid: Float[np.ndarray, "runs budget"]
    scores: Float[np.ndarray, "runs n"]


class ArchGraphRuns(NamedTuple):
    """What a search of one target left behind.

    Attributes:
      trace: queries and final beliefs of the runs.
      utilities: ``[runs, members, n]`` of all candidates in log-odds, from the last fit: sigmoid of the difference of
        two is the probability that one is better.
    """

    trace: Trace
    utilities: Float[Array, "runs members n"]


def run_arch_graph(
    guards: Sequence[QueryGuard],
    inputs: RelationInputs,
    *,
    sources: Sources | None = None,
    seed: int = 0,
    numbers: Sequence[int] | None = None,
    config: ArchGraphConfig | None = None,
    progress: Progress | None = None,
) -> list[ArchGraphRuns]:
    """Searches several targets at once, each with the runs of its guard (host loop around jitted programs).

    Args:
      guards: one a target, over the same candidates with the same budget and number of runs.
      inputs: of the candidates.
      sources: what is known of other tasks, one variant a target, or one a run (targets × runs, the runs of a target
        together); None for no sources.
      seed: of starts and weights; a run's draws depend on it and the run's number alone.
      numbers: of the runs of each guard; 0, 1, … if None.
      config: how to query and rank.
      progress: called with (queries done, budget).

    Returns:
      One result a guard.

    Raises:
      UsageError: guards that differ in shape, or a budget below 2.
    """
    config = config or ArchGraphConfig()
    runs, budget, n = len(guards[0].remaining), guards[0].budget, len(guards[0].codes)
    if any((len(g.remaining), g.budget, len(g.codes)) != (runs, budget, n) for g in guards):
        raise checks.UsageError(expected="guards of one shape", got="different ones", remedy="search them one by one")
    if budget < 2:
        raise checks.UsageError(expected="a budget of 2 or more", got=str(budget), remedy="relations need pairs")
    evidence = None if sources is None else sources.evidence
    which = _variants(evidence, len(guards), runs)
    # The same seeds for every target: their runs start alike, and differences between targets are paired.
    own = np.arange(runs) if numbers is None else np.asarray(numbers)
    if own.shape != (runs,):
        raise checks.UsageError(
            expected=f"{runs} numbers of runs", got=f"{own.size}", remedy="number every run of a guard"
        )
    seeds = np.tile(np.stack([np.full(runs, seed), own], axis=1), (len(guards), 1))
    favourites = None if evidence is None else _favourites(evidence)
    opening = _opening(favourites, which, n, min(config.first, budget), seeds=seeds)
    _ask(guards, opening)
    done = opening.shape[1]
    while True:
        # All pairs are learned: slots not used yet cost as much as the others.
        slots = min(budget, -(-done // SLOTS) * SLOTS)
        rows, values = (
            np.concatenate(parts)[:, :slots] for parts in ([g.asked for g in guards], [g.paid for g in guards])
        )
        fits = fit_relations(
            inputs,
            rows,
            values[..., None],
            seeds=seeds,
            recipe=config.recipe,
            evidence=evidence,
            which=which,
            encoder=None if sources is None else sources.encoder,
        )
        if done >= budget:
            break
        if progress:
            progress(done, budget)
        count = min(config.batch, budget - done)
        hedges = 0 if favourites is None else min(config.hedge, count - 1)
        proposals = _propose(fits.utilities[..., 0], rows, config, count - hedges)
        if favourites is not None and hedges:
            proposals = np.concatenate([proposals, _next(favourites[which], rows, proposals, hedges)], axis=1)
        _ask(guards, proposals)
        done += count
    if progress:
        progress(budget, budget)
    utilities = fits.utilities[..., 0].reshape(len(guards), runs, config.recipe.members, n)
    slope = PROBIT / config.recipe.noise
    return [
        ArchGraphRuns(Trace(g.asked, g.paid, np.asarray(u.mean(axis=1))), slope * u)
        for g, u in zip(guards, utilities, strict=True)
    ]


def _variants(evidence: Array | None, targets: int, runs: int) -> Int[np.ndarray, " r"]:
    if evidence is None:
        return np.zeros(targets * runs, np.int32)
    if evidence.shape[0] == targets:
        return np.repeat(np.arange(targets, dtype=np.int32), runs)
    return np.arange(targets * runs, dtype=np.int32)


def _opening(
    favourites: np.ndarray | None, which: np.ndarray, n: int, first: int, *, seeds: Int[np.ndarray, "r k"]
) -> Int[np.ndarray, "r first"]:
    """The queries before the first ranking."""
    if favourites is None:
        return np.stack([np.random.default_rng(seed).permutation(n)[:first] for seed in seeds]).astype(np.int32)
    return favourites[which, : max(2, first // 2)]


def _favourites(evidence: Float[Array, "e n s"]) -> Int[np.ndarray, "e n"]:
    """Candidates by their mean over the sources, best first."""
    return np.argsort(-np.asarray(evidence.mean(axis=-1)), axis=-1, kind="stable").astype(np.int32)


def _next(
    favourites: Int[np.ndarray, "r n"], asked: Int[np.ndarray, "r b"], chosen: Int[np.ndarray, "r k"], count: int
) -> Int[np.ndarray, "r count"]:
    """The sources' best candidates that are neither asked nor chosen."""
    pairs = zip(favourites, np.concatenate([asked, chosen], axis=1), strict=True)
    return np.stack([line[~np.isin(line, taken)][:count] for line, taken in pairs])


def _ask(guards: Sequence[QueryGuard], rows: Int[np.ndarray, "r k"]) -> None:
    for guard, part in zip(guards, np.split(rows, len(guards)), strict=True):
        guard.query(part)


@functools.partial(jax.jit, static_argnames=("keep",))
def _shortlist(
    utilities: Float[Array, "r m n"], asked: Int[Array, "r b"], optimism: Array, keep: int
) -> tuple[Int[Array, "r k"], Float[Array, "r m k"]]:
    """The most promising candidates that were not asked, best first, and their optimistic utilities."""
    hopeful = utilities + optimism * utilities.std(axis=1, keepdims=True)
    # Scatter drops slots that are not used: their row is out of range.
    mean = jax.vmap(lambda s, a: s.at[jnp.where(a < 0, s.shape[0], a)].set(-jnp.inf, mode="drop"))(
        hopeful.mean(axis=1), asked
    )
    rows = jax.lax.top_k(mean, keep)[1]
    return rows, jnp.take_along_axis(hopeful, rows[:, None], axis=2)


def _propose(
    utilities: Float[Array, "r m n"], asked: Int[np.ndarray, "r b"], config: ArchGraphConfig, count: int
) -> Int[np.ndarray, "r k"]:
    """The next queries of each run: the first ``count`` of the order of its shortlist."""
    left = utilities.shape[-1] - int((asked[0] >= 0).sum())
    keep = min(max(config.shortlist, count), left)
    rows, hopeful = (np.asarray(a) for a in _shortlist(utilities, asked, config.optimism, keep))
    if config.ranking == "borda":
        return rows[:, :count]
    slope = PROBIT / config.recipe.noise
    order = np.stack([acyclic_order(slope * h, trust=config.trust)[0] for h in hopeful])
    return np.take_along_axis(rows, order[:, :count], axis=1)


def acyclic_order(
    utilities: Float[np.ndarray, "m k"], *, trust: float, time_limit: float = 0.2
) -> tuple[Int[np.ndarray, " k"], Ordering]:
    """Topological order of the maximum weighted acyclic subgraph of the trusted relations.

    Args:
      utilities: of each member, in log-odds. Candidates that no trusted relation orders keep the order given.
      trust: probability from which a relation counts.
      time_limit: of the solver, seconds.

    Returns:
      The order, and the solver's answer with its weight and bound.
    """
    from ncp_jax.ordering import order  # compiled code: imported by who needs it

    weights = trusted_weights(relation_matrix(utilities), trust)
    answer = order(weights, time_limit=time_limit)
    return topological_order(weights, answer.order), answer


def final_order(
    found: ArchGraphRuns, run: int = 0, *, trust: float = 0.55, nearest: int = NEAREST, time_limit: float = 3.0
) -> tuple[Int[np.ndarray, " n"], Ordering]:
    """The order of all candidates after a search, measured ones at the place that their relations give them.

    Args:
      found: what the search left behind.
      run: one of its runs.
      trust: probability from which a relation counts.
      nearest: candidates with the best mean utility that enter the graph; the rest follows in order of that.
      time_limit: of the solver, seconds.

    Returns:
      Rows, best first, and the solver's answer.
    """
    utilities = np.asarray(found.utilities[run])
    by_mean = np.argsort(-utilities.mean(axis=0), kind="stable")
    inside, answer = acyclic_order(utilities[:, by_mean[:nearest]], trust=trust, time_limit=time_limit)
    return np.concatenate([by_mean[:nearest][inside], by_mean[nearest:]]), answer
