"""Arch-Graph: learns which of two architectures is better, and measures what a graph of these relations ranks first."""

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
from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers.arch_graph.sources import Sources
from ncp_jax.searchers.ties import best_first, best_first_on_host, tie_breakers
from ncp_jax.training.relations import EDGE, PROBIT, RelationInputs, RelationRecipe, fit_relations
from ncp_jax.types import Array, Float, Int

if TYPE_CHECKING:
    from ncp_jax.ordering import Ordering

Progress = Callable[[int, int], None]
RANKINGS = ("mwas", "borda")
SLOTS = 64  # measurements: programs are compiled for multiples of this number
NEAREST = 4096  # most candidates in the final graph, whose matrix has their number squared


@dataclasses.dataclass(frozen=True)
class ArchGraphConfig:
    """Settings of a search.

    Attributes:
      first: number of queries before the first ranking: random ones without sources. With sources, half as many, those
        that rank best on the sources.
      batch: number of queries between two rankings; ``budget`` makes the search one-shot.
      hedge: number of queries per batch that go to the architectures that rank best on the sources, whatever the
        relations say. It protects against a predictor that is misled by a few noisy measurements. At least one query
        of a batch always follows the relations.
      trust: probability from which a relation counts as trusted, 0.5 ≤ trust < 1.
      optimism: number of ensemble standard deviations added to a candidate's utility before the ranking.
      shortlist: number of candidates with the highest optimistic utility that enter the graph.
      ranking: "mwas" (topological order of the maximum weighted acyclic subgraph) or "borda" (expected wins).
      recipe: settings of the relation predictor.
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


class ArchGraphRuns(NamedTuple):
    """Queries and final predictions of independent runs on one target.

    Attributes:
      asked: int32 ``[runs, budget]``, rows of the candidates in the order of asking; no row is repeated within a run.
      paid: float32 ``[runs, budget]``, their values in the metric's unit, negated where lower is better.
      scores: float32 ``[runs, n]``, final score of every candidate. Higher is better; only the order has a meaning.
      utilities: float32 ``[runs, members, n]``, log-odds of all candidates from the last fit: the sigmoid of the
        difference of two utilities is the probability that the first candidate is better.
      ties: float32 ``[runs, n]``, random numbers that decide between equal candidates.
      measured: float32 ``[runs, budget]``, log-odds of the measured candidates by their values. None where they are not
        known: ``final_order`` then leaves measured candidates where the predictions place them.
      weights: float32 ``[runs, s]``, how much each source counts, with sum 1 (``source_weights``). None where it is not
        known.
    """

    asked: Int[np.ndarray, "runs budget"]
    paid: Float[np.ndarray, "runs budget"]
    scores: Float[np.ndarray, "runs n"]
    utilities: Float[Array, "runs members n"]
    ties: Float[np.ndarray, "runs n"]
    measured: Float[np.ndarray, "runs budget"] | None = None
    weights: Float[np.ndarray, "runs s"] | None = None


def run_arch_graph(
    guard: QueryGuard,
    inputs: RelationInputs,
    *,
    sources: Sources | None = None,
    seed: int = 0,
    run_numbers: Sequence[int] | None = None,
    config: ArchGraphConfig | None = None,
    progress: Progress | None = None,
) -> ArchGraphRuns:
    """Searches one target with the runs of its guard (host loop around jitted programs).

    Args:
      guard: answers the queries of each run; its whole budget is spent.
      inputs: predictor inputs of the candidates.
      sources: evidence from other tasks, one variant for all runs or one per run; None to search without sources.
      seed: random seed of the starts and of the weights. The draws of a run depend on it and on the run's number alone.
      run_numbers: numbers of the runs; 0, 1, … if None.
      config: settings of the search.
      progress: called with (queries done, budget).

    Raises:
      UsageError: a budget below 2, or numbers or evidence of another number of runs.
    """
    config = config or ArchGraphConfig()
    runs, budget, n = len(guard.remaining), guard.budget, len(guard.codes)
    if budget < 2:
        raise checks.UsageError(expected="a budget of 2 or more", got=str(budget), remedy="relations need pairs")
    numbers = np.arange(runs) if run_numbers is None else np.asarray(run_numbers)
    if numbers.shape != (runs,):
        raise checks.UsageError(
            expected=f"{runs} numbers of runs", got=f"{numbers.size}", remedy="number every run of the guard"
        )
    evidence = None if sources is None else sources.evidence
    variants = np.zeros(runs, np.int32)
    if evidence is not None and evidence.shape[0] > 1:
        variants = np.arange(runs, dtype=np.int32)
    seeds = np.stack([np.full(runs, seed), numbers], axis=1)
    ties = tie_breakers(seeds.tolist(), n)
    favourites = None if evidence is None else _rank_by_sources(evidence, variants, ties)
    opening = _opening(favourites, n, min(config.first, budget), seeds=seeds)
    guard.query(opening)
    done = opening.shape[1]
    while True:
        # Learn relations from all measurements so far. All pairs of slots are computed, so unused slots cost as much
        # as used ones: their number grows in steps of SLOTS, and a program is compiled for each of these.
        slots = min(budget, -(-done // SLOTS) * SLOTS)
        rows = guard.asked[:, :slots]
        fits = fit_relations(
            inputs,
            rows,
            guard.paid[:, :slots, None],
            seeds=seeds,
            recipe=config.recipe,
            evidence=evidence,
            which=variants,
            encoder=None if sources is None else sources.encoder,
        )
        if done >= budget:
            break
        if progress:
            progress(done, budget)
        count = min(config.batch, budget - done)
        guard.query(_choose(fits.utilities[..., 0], rows, ties, favourites, config, count))
        done += count
    if progress:
        progress(budget, budget)
    utilities = fits.utilities[..., 0]
    return _concluded(guard.asked, guard.paid, utilities, ties, config)


def next_to_measure(
    inputs: RelationInputs,
    asked: Int[np.ndarray, " k"],
    paid: Float[np.ndarray, " k"],
    most: int,
    *,
    sources: Sources | None = None,
    seed: int = 0,
    config: ArchGraphConfig | None = None,
) -> tuple[Int[np.ndarray, " m"], ArchGraphRuns | None]:
    """Chooses the candidates that a search with these measurements would measure next (host function).

    Args:
      inputs: predictor inputs of the n candidates.
      asked: the k measured candidates, each once.
      paid: their values, higher is better.
      most: largest number of candidates to choose, such as what is left of a budget.
      sources: evidence from other tasks, one variant; None to search without sources.
      seed: random seed of the start and of the weights.
      config: settings of the search.

    Returns:
      The rows to measure, all new, and the fit that chose them; None where the first queries are not all measured yet.
    """
    config, n = config or ArchGraphConfig(), inputs.nodes.shape[0]
    seeds = np.array([[seed, 0]])
    ties = tie_breakers(seeds.tolist(), n)
    evidence = None if sources is None else sources.evidence
    favourites = None if evidence is None else _rank_by_sources(evidence, np.zeros(1, np.int32), ties)
    opening = _opening(favourites, n, min(config.first, n), seeds=seeds)[0]
    if len(asked) < len(opening):
        return opening[~np.isin(opening, asked)][: min(most, len(opening) - len(asked))], None
    rows = np.full((1, -(-len(asked) // SLOTS) * SLOTS), -1, np.int32)
    values = np.full(rows.shape, np.nan, np.float32)
    rows[0, : len(asked)], values[0, : len(asked)] = asked, paid
    encoder = None if sources is None else sources.encoder
    utilities = fit_relations(
        inputs, rows, values[..., None], seeds=seeds, recipe=config.recipe, evidence=evidence, encoder=encoder
    ).utilities[..., 0]
    found = _concluded(rows[:, : len(asked)], values[:, : len(asked)], utilities, ties, config)
    count = min(most, config.batch, n - len(asked))
    if not count:
        return np.empty(0, np.int32), found
    return _choose(utilities, rows, ties, favourites, config, count)[0], found


def _concluded(
    asked: Int[np.ndarray, "r b"],
    paid: Float[np.ndarray, "r b"],
    utilities: Float[Array, "r m n"],
    ties: Float[np.ndarray, "r n"],
    config: ArchGraphConfig,
) -> ArchGraphRuns:
    """Runs with the utilities of their last fit, in units of the predictor's noise."""
    slope = PROBIT / config.recipe.noise  # from these units to log-odds
    measured = slope * np.asarray(normal_scores(paid, np.ones(paid.shape), edge=EDGE))
    return ArchGraphRuns(asked, paid, np.asarray(utilities.mean(axis=1)), slope * utilities, ties, measured)


def _opening(
    favourites: Int[np.ndarray, "r n"] | None, n: int, first: int, *, seeds: Int[np.ndarray, "r k"]
) -> Int[np.ndarray, "r first"]:
    """The queries of each run before the first ranking."""
    if favourites is None:
        return np.stack([np.random.default_rng(seed).permutation(n)[:first] for seed in seeds]).astype(np.int32)
    return favourites[:, : max(2, first // 2)]


def _rank_by_sources(
    evidence: Float[Array, "e n s"], variants: Int[np.ndarray, " r"], ties: Float[np.ndarray, "r n"]
) -> Int[np.ndarray, "r n"]:
    """Rows of the candidates by their mean over each run's sources, best first."""
    return best_first_on_host(np.asarray(evidence.mean(axis=-1))[variants], ties)


def _next(
    favourites: Int[np.ndarray, "r n"], asked: Int[np.ndarray, "r b"], chosen: Int[np.ndarray, "r k"], count: int
) -> Int[np.ndarray, "r count"]:
    """The sources' best candidates that are neither asked nor chosen."""
    pairs = zip(favourites, np.concatenate([asked, chosen], axis=1), strict=True)
    return np.stack([ranked[~np.isin(ranked, taken)][:count] for ranked, taken in pairs])


def _choose(
    utilities: Float[Array, "r m n"],
    asked: Int[np.ndarray, "r b"],
    ties: Float[np.ndarray, "r n"],
    favourites: Int[np.ndarray, "r n"] | None,
    config: ArchGraphConfig,
    count: int,
) -> Int[np.ndarray, "r count"]:
    """The next queries of each run: what the graph of relations ranks first, and a few of the sources' favourites."""
    hedges = 0 if favourites is None else min(config.hedge, count - 1)
    proposals = _propose(utilities, asked, ties, config, count - hedges)
    if favourites is not None and hedges:
        proposals = np.concatenate([proposals, _next(favourites, asked, proposals, hedges)], axis=1)
    return proposals


@functools.partial(jax.jit, static_argnames=("keep",))
def _shortlist(
    utilities: Float[Array, "r m n"], asked: Int[Array, "r b"], ties: Float[Array, "r n"], optimism: Array, keep: int
) -> tuple[Int[Array, "r k"], Float[Array, "r m k"]]:
    """The candidates of highest mean optimistic utility that were not asked, best first, and these utilities."""
    optimistic = utilities + optimism * utilities.std(axis=1, keepdims=True)
    # Asked candidates get -inf. Unused slots point to a row out of range, which the scatter drops.
    mean = jax.vmap(lambda s, a: s.at[jnp.where(a < 0, s.shape[0], a)].set(-jnp.inf, mode="drop"))(
        optimistic.mean(axis=1), asked
    )
    rows = best_first(mean, ties)[:, :keep]
    return rows, jnp.take_along_axis(optimistic, rows[:, None], axis=2)


def _propose(
    utilities: Float[Array, "r m n"],
    asked: Int[np.ndarray, "r b"],
    ties: Float[np.ndarray, "r n"],
    config: ArchGraphConfig,
    count: int,
) -> Int[np.ndarray, "r k"]:
    """The first ``count`` of the order of each run's shortlist."""
    left = utilities.shape[-1] - int((asked[0] >= 0).sum())
    keep = min(max(config.shortlist, count), left)
    rows, optimistic = (np.asarray(a) for a in _shortlist(utilities, asked, ties, config.optimism, keep))
    if config.ranking == "borda":
        return rows[:, :count]
    slope = PROBIT / config.recipe.noise
    order = np.stack([acyclic_order(slope * u, trust=config.trust)[0] for u in optimistic])
    return np.take_along_axis(rows, order[:, :count], axis=1)


def acyclic_order(
    utilities: Float[np.ndarray, "m k"], *, trust: float, time_limit: float = 0.2
) -> tuple[Int[np.ndarray, " k"], Ordering]:
    """Orders candidates topologically by the maximum weighted acyclic subgraph of their trusted relations.

    Args:
      utilities: log-odds of each member. Candidates that no trusted relation orders keep the order given.
      trust: probability from which a relation counts.
      time_limit: budget of the solver, in seconds of the machine that it counts work for (see ``ordering.order``). The
        clock does not end it, so the result is the same on every machine.

    Returns:
      The order, best first, and the solver's answer with its weight and bound.
    """
    from ncp_jax.ordering import order  # imported on use: it compiles code

    weights = trusted_weights(relation_matrix(utilities), trust)
    answer = order(weights, time_limit=time_limit, clocked=False)
    return topological_order(weights, answer.order), answer


def final_order(
    found: ArchGraphRuns, run: int = 0, *, trust: float = 0.55, nearest: int = NEAREST, time_limit: float = 3.0
) -> tuple[Int[np.ndarray, " n"], Ordering]:
    """Orders all candidates after a search; measured ones stand where their measurements place them.

    A measured candidate enters the graph with the score of its value (``ArchGraphRuns.measured``) in the place of its
    predictions. Of two measured candidates, the better one comes first.

    Args:
      found: the result of the search.
      run: index of the run.
      trust: probability from which a relation counts.
      nearest: number of candidates with the best mean utility that enter the graph; the others follow in the order of
        their mean utility.
      time_limit: budget of the solver, as in ``acyclic_order``.

    Returns:
      Rows, best first, and the solver's answer.
    """
    utilities = np.array(found.utilities[run])
    asked, paid = found.asked[run], found.paid[run]
    if found.measured is not None:
        utilities[:, asked] = found.measured[run]
    by_mean = best_first_on_host(utilities.mean(axis=0), found.ties[run])
    inside, answer = acyclic_order(utilities[:, by_mean[:nearest]], trust=trust, time_limit=time_limit)
    order = np.concatenate([by_mean[:nearest][inside], by_mean[nearest:]])
    return (order if found.measured is None else _by_measurement(order, asked, paid)), answer


def _by_measurement(
    order: Int[np.ndarray, " n"], asked: Int[np.ndarray, " q"], paid: Float[np.ndarray, " q"]
) -> Int[np.ndarray, " n"]:
    """Returns an order in which the measured rows share their places by their values; equal ones stay as they are.

    The graph may drop a relation of two measured candidates, or trust none where they are close.
    """
    values = np.full(len(order), -np.inf, np.float32)
    values[asked] = paid
    places = np.flatnonzero(np.isin(order, asked))
    order = order.copy()
    order[places] = order[places][np.argsort(-values[order[places]], kind="stable")]
    return order
