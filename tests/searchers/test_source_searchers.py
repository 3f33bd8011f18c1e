"""The baselines of studies with source tasks, against closed forms, and what each of them must keep to."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import MetricSpec, Table, checks, get_space
from ncp_jax.analysis.ranks import best_ranks, expected_random_rank, kendall_tau
from ncp_jax.benchmarks.guard import QueryGuard
from ncp_jax.searchers import HostSearcher, make_searcher
from ncp_jax.searchers.arch_graph import process_model
from ncp_jax.searchers.arch_graph.samples import sampled_values
from ncp_jax.searchers.arch_graph.sources import SourceTasks
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.initial_design import spread_out
from ncp_jax.searchers.kernel_features import kernel_features
from ncp_jax.searchers.source_searchers import mean_ranks
from ncp_jax.searchers.ties import tie_breakers

N = 192
SPACE = get_space("nas-bench-201")
CODES = np.asarray(SPACE.all_codes())[np.random.default_rng(2).permutation(SPACE.size)[:N]].astype(np.int32)
NETWORKS = np.asarray(SPACE.networks(jnp.asarray(CODES)))
COUNTS = np.asarray(SPACE.graphs(jnp.asarray(CODES)).attributes, np.float32)
RNG = np.random.default_rng(0)
COUNTS = COUNTS / np.maximum(COUNTS.std(axis=0), 1e-6)
EASY = (COUNTS @ RNG.normal(size=COUNTS.shape[1]) + 0.1 * RNG.normal(size=N)).astype(np.float32)
RELATED = np.stack([EASY + RNG.normal(size=N), np.exp(EASY + RNG.normal(size=N))]).astype(np.float32)
SETTINGS = {"mean-rank": {"members": 2, "steps": 5, "width": 8}}
NAMES = ("mean-rank", "source-gaussian-process")
every = pytest.mark.parametrize("name", NAMES)


def guard_of(values: np.ndarray = EASY, *, budget: int = 23, runs: int = 4, direction: str = "maximize") -> QueryGuard:
    spec, n = MetricSpec("accuracy", direction=direction), len(values)
    column = np.asarray(values)[:, None]
    table = Table.from_arrays("t", space=SPACE, codes=CODES[:n], values=column, metrics=[spec])
    return QueryGuard(table, "accuracy", budget=budget, runs=runs)


def search(
    name: str, guard: QueryGuard, sources: SourceTasks | None, seeds: Sequence[int] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """What a searcher asks [r, b] and its scores [r, n]."""
    searcher = make_searcher(name, **SETTINGS.get(name, {}))
    assert isinstance(searcher, HostSearcher)
    found = searcher.run(guard, range(len(guard.remaining)) if seeds is None else seeds, sources)
    if sources is None:
        assert found is None
        return guard.asked, np.empty(0)
    assert found is not None
    assert (found.utilities is None) == (name == "mean-rank")
    return guard.asked, found.scores


@every
@pytest.mark.parametrize("source_budget", [None, 40])
def test_the_budget_is_spent_to_the_last_and_no_row_twice(name: str, source_budget: int | None) -> None:
    guard = guard_of(budget=23)
    asked, scores = search(name, guard, SourceTasks(RELATED, source_budget))
    assert guard.remaining.tolist() == [0] * 4
    assert (scores.shape, scores.dtype) == ((4, N), np.float32)
    assert all(len(set(run)) == 23 for run in asked)
    assert np.isfinite(scores).all()


@every
def test_a_run_depends_on_its_seed_alone(name: str) -> None:
    """With a source budget each seed has its own sample, whatever other seeds run with it."""
    asked, scores = search(name, guard_of(), SourceTasks(RELATED, 40))
    some, theirs = search(name, guard_of(runs=2), SourceTasks(RELATED, 40), (3, 1))
    np.testing.assert_array_equal(some, asked[[3, 1]])
    np.testing.assert_allclose(theirs, scores[[3, 1]], atol=1e-2)
    assert len({tuple(run) for run in asked}) == 4
    whole, _ = search(name, guard_of(), SourceTasks(RELATED))
    # Without samples of the sources, seeds only break ties.
    worth = mean_ranks(RELATED.T) if name == "mean-rank" else NETWORKS
    assert len({tuple(worth[run[:1]]) for run in whole}) == 1


@every
def test_lower_is_better_is_the_negated_table(name: str) -> None:
    up, _ = search(name, guard_of(), SourceTasks(RELATED))
    down, _ = search(name, guard_of(-EASY, direction="minimize"), SourceTasks(RELATED))
    np.testing.assert_array_equal(up, down)


@every
@pytest.mark.parametrize(("n", "budget"), [(12, 12), (12, 4), (2, 2), (2, 1)])
def test_small_tables_and_budgets(name: str, n: int, budget: int) -> None:
    asked, scores = search(name, guard_of(EASY[:n], budget=budget, runs=3), SourceTasks(RELATED[:, :n]))
    assert all(len(set(run)) == budget for run in asked)
    assert np.isfinite(scores).all()


@every
def test_a_metric_that_is_the_same_everywhere(name: str) -> None:
    asked, scores = search(name, guard_of(np.full(N, 7.0, np.float32)), SourceTasks(RELATED))
    assert all(len(set(run)) == 23 for run in asked)
    assert np.isfinite(scores).all()


def test_mean_rank_asks_the_best_on_average_first() -> None:
    sources = np.array([[1.0, 4.0], [3.0, 9.0], [2.0, 1.0], [0.0, 0.0]])  # ranks 3 2, 1 1, 2 3, 4 4
    asked, scores = search("mean-rank", guard_of(EASY[:4], budget=4, runs=2), SourceTasks(sources.T))
    assert [(run[0], {*run[1:3]}, run[3]) for run in asked.tolist()] == [(1, {0, 2}, 3)] * 2  # rows 0 and 2 tie
    np.testing.assert_allclose(scores[1], [-0.5, -0.125, -0.5, -0.875])


def test_mean_rank_takes_the_measured_tasks_only() -> None:
    missing = np.nan
    sources = np.array([[1.0, missing], [3.0, missing], [2.0, 5.0], [missing, 7.0], [missing, missing]])
    np.testing.assert_allclose(mean_ranks(sources), [5 / 6, 1 / 6, (3 / 6 + 3 / 4) / 2, 1 / 4, 0.5], rtol=1e-6)
    asked, _ = search("mean-rank", guard_of(EASY[:5], budget=5, runs=1), SourceTasks(sources.T))
    assert asked[0].tolist() == [1, 3, 4, 2, 0]


@pytest.mark.parametrize("sources", [None, SourceTasks(np.zeros((0, N), np.float32))])
def test_mean_rank_needs_sources(sources: SourceTasks | None) -> None:
    with pytest.raises(checks.UsageError, match=r"expected source tasks for mean-rank, got none; add sources"):
        search("mean-rank", guard_of(), sources)


def test_gaussian_process_beats_chance_and_knows_the_order() -> None:
    nothing = SourceTasks(np.zeros((0, N), np.float32))
    asked, scores = search("source-gaussian-process", guard_of(), nothing)
    assert best_ranks(asked, EASY)[:, -1].mean() < 1.5 < expected_random_rank(N, 23) / 5
    assert kendall_tau(scores, EASY).min() > 0.5


def test_gaussian_process_starts_far_apart_or_with_the_sources_favourite() -> None:
    blind, _ = search("source-gaussian-process", guard_of(), None)
    candidates = Candidates.of_space(guard_of().space, guard_of().codes)
    ties = tie_breakers([[0, run] for run in range(4)], N)
    for run in range(4):
        design = spread_out(kernel_features(candidates)[0], np.empty(0, np.int32), ties[run], count=3)
        np.testing.assert_array_equal(blind[run, :3], design)
    assert len({tuple(run) for run in blind[:, :3].tolist()}) > 1
    few = np.where(np.arange(N) < 1, RELATED, np.nan)  # nothing can be learned of one architecture
    led, _ = search("source-gaussian-process", guard_of(), SourceTasks(few))
    assert len({run[0] for run in led}) > 1, "all favourites tie"
    led, _ = search("source-gaussian-process", guard_of(), SourceTasks(RELATED))
    assert len(set(NETWORKS[led[:, 0]].tolist())) == 1
    assert (EASY[led[:, 0]] > np.quantile(EASY, 0.9)).all()


def test_rounds_tasks_and_seeds_share_one_program() -> None:
    search("source-gaussian-process", guard_of(), None)
    compiled = process_model.ask._cache_size()
    search("source-gaussian-process", guard_of(-EASY), None, (9, 8, 7, 6))
    assert process_model.ask._cache_size() == compiled


def test_samples_of_the_sources_are_those_of_the_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Evidence is made once for each recipe and each set of seeds, and from the seeds' own samples."""
    from ncp_jax.searchers.arch_graph import sources as module
    from ncp_jax.training.relations import RelationInputs, RelationRecipe

    calls = []

    def learn(inputs: RelationInputs, rows: np.ndarray, values: np.ndarray, **options: object) -> object:
        calls.append((rows, options["numbers"]))
        return module.Sources(np.zeros((len(rows), N, 2), np.float32))

    monkeypatch.setattr(module, "learn_sources", learn)
    inputs, tasks = RelationInputs.of(SPACE, CODES), SourceTasks(RELATED, 40)
    first = tasks.learn(inputs, (5, 2), RelationRecipe())
    assert tasks.learn(inputs, (5, 2), RelationRecipe()) is first
    tasks.learn(inputs, (2,), RelationRecipe())
    tasks.learn(inputs, (2,), RelationRecipe(width=8))
    assert [numbers for _, numbers in calls] == [(5, 2), (2,), (2,)]
    np.testing.assert_array_equal(calls[0][0][1], calls[1][0][0])
    np.testing.assert_array_equal(calls[0][0], sampled_values(RELATED, 40, runs=(5, 2), seed=0)[0])
    SourceTasks(RELATED, number=3).learn(inputs, (2,), RelationRecipe())
    assert calls[-1][1] == (3,)
    assert SourceTasks(np.zeros((0, N), np.float32), 40).learn(inputs, (2,), RelationRecipe()) is None
    with pytest.raises(checks.UsageError, match=rf"a source budget from 2 to the {N} architectures .*got {N + 1}"):
        SourceTasks(RELATED, N + 1)
