"""The search: what it pays, what it sees, and the graph that it reads its next queries from."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import Table, checks
from ncp_jax.analysis.ranks import best_ranks, expected_random_rank, kendall_tau
from ncp_jax.benchmarks.guard import QueryGuard
from ncp_jax.searchers.arch_graph.samples import measured_scores
from ncp_jax.searchers.arch_graph.search import (
    ArchGraphConfig,
    ArchGraphRuns,
    _concluded,
    _next,
    _rank_by_sources,
    acyclic_order,
    final_order,
    run_arch_graph,
)
from ncp_jax.searchers.arch_graph.sources import Sources
from ncp_jax.training.relations import Fits, RelationInputs, RelationRecipe

BUDGET, RUNS = 13, 4  # four at first, then 3, 3 and 3


def guard_of(table: Table, *, runs: int = RUNS, budget: int = BUDGET) -> QueryGuard:
    return QueryGuard(table, "acc", budget=budget, runs=runs)


@pytest.fixture(scope="module")
def search(relation_inputs: RelationInputs, quick: ArchGraphConfig) -> Callable[..., ArchGraphRuns]:
    def run(table: Table, **options: object) -> ArchGraphRuns:
        return run_arch_graph(guard_of(table), relation_inputs, **({"config": quick} | options))

    return run


@pytest.fixture(scope="module")
def found(search: Callable, tables: list[Table]) -> ArchGraphRuns:
    return search(tables[0], seed=3)


def test_the_budget_is_spent_to_the_last_and_no_row_twice(
    relation_inputs: RelationInputs, quick: ArchGraphConfig, tables: list[Table], quality: np.ndarray
) -> None:
    guard, seen = guard_of(tables[0]), []
    result = run_arch_graph(guard, relation_inputs, config=quick, progress=lambda *done: seen.append(done))
    assert guard.remaining.tolist() == [0] * RUNS
    assert all(len(set(run)) == BUDGET for run in result.asked.tolist())
    np.testing.assert_array_equal(result.paid, quality[0][result.asked])
    assert result.utilities.shape == (RUNS, quick.recipe.members, len(quality[0]))
    assert np.isfinite(result.scores).all()
    assert seen == [(4, 13), (7, 13), (10, 13), (13, 13)]


def test_it_sees_what_it_paid_for_alone(
    search: Callable, make_table: Callable[..., Table], found: ArchGraphRuns, quality: np.ndarray
) -> None:
    other = np.random.default_rng(0).normal(size=len(quality[0])).astype(np.float32) * 100
    paid = np.unique(found.asked)
    assert len(paid) < len(other) - 20
    other[paid] = quality[0][paid]
    again = search(make_table(other), seed=3)
    np.testing.assert_array_equal(again.asked, found.asked)
    np.testing.assert_array_equal(again.utilities, found.utilities)


@pytest.mark.parametrize("change", [lambda y: 3 * y + 7, np.exp], ids=["3y + 7", "exp"])
def test_only_the_order_of_the_metric_matters(
    search: Callable, make_table: Callable[..., Table], found: ArchGraphRuns, quality: np.ndarray, change: Callable
) -> None:
    again = search(make_table(change(quality[0] / 4)), seed=3)
    np.testing.assert_array_equal(again.asked, found.asked)


def test_a_run_depends_on_its_seed_and_number_alone(
    search: Callable, tables: list[Table], found: ArchGraphRuns
) -> None:
    """Whatever other runs are searched with it, and on every target alike before the first ranking."""
    np.testing.assert_array_equal(search(tables[0], seed=3).asked, found.asked)
    among = search(tables[0], seed=3, run_numbers=(2, 7, 0, 9)).asked
    np.testing.assert_array_equal(among[[2, 0]], found.asked[[0, 2]])
    elsewhere = search(tables[1], seed=3).asked
    np.testing.assert_array_equal(elsewhere[:, :4], found.asked[:, :4])
    assert (elsewhere != found.asked).any()
    other = search(tables[0], seed=4).asked
    assert len({tuple(run) for run in np.concatenate([other, found.asked])}) == 2 * RUNS


def test_it_beats_chance_and_knows_the_order(found: ArchGraphRuns, quality: np.ndarray) -> None:
    n = len(quality[0])
    assert best_ranks(found.asked, quality[0])[:, -1].mean() < 0.6 * expected_random_rank(n, BUDGET)
    assert kendall_tau(found.scores, quality[0]).mean() > 0.25


def test_sources_open_the_search(search: Callable, tables: list[Table], quality: np.ndarray) -> None:
    evidence = measured_scores(quality[1:])
    variants = np.repeat(evidence[None], RUNS, axis=0)
    found = search(tables[0], sources=Sources(jnp.asarray(variants)))
    favourites = np.argsort(-evidence.mean(axis=1), kind="stable")[:2]
    # Two of them are equal: which comes first is random.
    np.testing.assert_array_equal(np.sort(found.asked[:, :2]), np.tile(np.sort(favourites), (RUNS, 1)))
    assert best_ranks(found.asked, quality[0])[:, -1].max() <= 3
    variants[1] *= -1
    apart = search(tables[0], sources=Sources(jnp.asarray(variants)))
    np.testing.assert_array_equal(apart.asked[[0, 2, 3]], found.asked[[0, 2, 3]])
    worst = np.argsort(evidence.mean(axis=1), kind="stable")[:2]
    np.testing.assert_array_equal(np.sort(apart.asked[1, :2]), np.sort(worst))


def test_borda_is_the_shortlist_without_the_graph(
    search: Callable, tables: list[Table], quick: ArchGraphConfig
) -> None:
    config = dataclasses.replace(quick, ranking="borda")
    found = search(tables[0], config=config)
    wide = search(tables[0], config=dataclasses.replace(config, shortlist=100))
    np.testing.assert_array_equal(found.asked, wide.asked)
    assert all(len(set(run)) == BUDGET for run in found.asked.tolist())


@pytest.mark.parametrize("budget", [2, 3, 11, 12])
def test_a_small_space(
    make_table: Callable[..., Table], quality: np.ndarray, budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Budgets below ``first`` and up to every architecture; random utilities stand for those of a fit."""
    rng = np.random.default_rng(0)

    def fit(inputs: RelationInputs, rows: np.ndarray, values: np.ndarray, **_: object) -> Fits:
        assert (rows.shape, values.shape) == ((2, budget), (2, budget, 1))
        return Fits(None, jnp.asarray(rng.normal(size=(2, 3, 12, 1)), jnp.float32))

    monkeypatch.setattr("ncp_jax.searchers.arch_graph.search.fit_relations", fit)
    table = make_table(quality[0, :12])
    inputs = RelationInputs.of(table.space, np.asarray(table.codes))
    config = ArchGraphConfig(first=4, batch=5, recipe=RelationRecipe(members=3))
    found = run_arch_graph(guard_of(table, runs=2, budget=budget), inputs, config=config)
    assert all(len(set(run)) == budget for run in found.asked.tolist())


def test_what_cannot_be_searched(relation_inputs: RelationInputs, tables: list[Table]) -> None:
    with pytest.raises(checks.UsageError, match=r"expected a budget of 2 or more, got 1; relations need pairs"):
        run_arch_graph(guard_of(tables[0], budget=1), relation_inputs)
    with pytest.raises(checks.UsageError, match=rf"expected {RUNS} numbers of runs, got 2; number every run"):
        run_arch_graph(guard_of(tables[0]), relation_inputs, run_numbers=(0, 1))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"trust": 0.4}, r"expected 0.5 <= trust < 1, got 0.4"),
        ({"trust": 1.0}, r"expected 0.5 <= trust < 1, got 1.0"),
        ({"first": 1}, r"expected a larger first, got 1"),
        ({"batch": 0}, r"expected a larger batch, got 0"),
        ({"shortlist": 0}, r"expected a larger shortlist, got 0"),
        ({"ranking": "bord"}, r"got 'bord'; did you mean: borda"),
        ({"optimism": -1.0}, r"optimism"),
    ],
)
def test_configurations_check_themselves(change: dict, text: str) -> None:
    with pytest.raises(checks.UsageError, match=text):
        ArchGraphConfig(**change)


def test_equals_keep_the_order_given() -> None:
    assert acyclic_order(np.zeros((3, 20)), trust=0.5)[0].tolist() == list(range(20))
    # Differences too small to trust are no order either.
    assert acyclic_order(np.linspace(0, 0.1, 20)[None], trust=0.6)[0].tolist() == list(range(20))


def test_a_sure_ensemble_is_sorted() -> None:
    utilities = np.random.default_rng(0).normal(size=20) * 5
    found = acyclic_order(np.stack([utilities, utilities]), trust=0.5)[0]
    assert found.tolist() == np.argsort(-utilities).tolist()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("trust", [0.5, 0.6])
def test_cycles_break_where_brute_force_breaks_them(seed: int, trust: float) -> None:
    """Members that disagree in a circle: a over b over c over a."""
    members = 6 * np.array([[3, 2, 1, 0, 2], [1, 3, 2, 1, 0], [2, 1, 3, 0, 1]])
    utilities = members + np.random.default_rng(seed).normal(size=members.shape)
    probability = (1 / (1 + np.exp(utilities[:, None, :] - utilities[:, :, None]))).mean(axis=0)
    weights = np.where(probability >= trust, np.maximum(2 * probability - 1, 0), 0)
    cycle = weights[0, 1] > 0 and weights[1, 2] > 0 and weights[2, 0] > 0
    assert cycle, "the example has no cycle"

    def weight(order: tuple[int, ...] | np.ndarray) -> float:
        return sum(weights[a, b] for a, b in itertools.combinations(order, 2))

    best = max(weight(order) for order in itertools.permutations(range(5)))
    assert weight(acyclic_order(utilities, trust=trust)[0]) == pytest.approx(best, rel=1e-5)
    assert best < weights.sum() - 1e-3


def test_hedges_are_the_sources_best_that_nobody_asked_or_chose() -> None:
    evidence = jnp.array([[[0.0], [3.0], [1.0], [2.0], [-1.0]]])
    ties = np.random.default_rng(0).random((2, 5))
    favourites = _rank_by_sources(evidence, np.zeros(2, int), ties)
    assert favourites.tolist() == [[1, 3, 2, 0, 4]] * 2
    equal = _rank_by_sources(jnp.zeros((1, 5, 1)), np.zeros(2, int), ties)
    assert equal.tolist() == np.argsort(ties, axis=1).tolist()
    found = _next(favourites, np.array([[1, -1], [0, -1]]), np.array([[3], [1]]), 2)
    assert found.tolist() == [[2, 0], [3, 2]]


def test_the_final_order_of_a_known_relation() -> None:
    """The best come from the acyclic graph, the rest follows by mean utility."""
    utilities = np.random.default_rng(0).normal(size=30).astype(np.float32) * 6
    ties = np.random.default_rng(1).random((1, 30))
    found = ArchGraphRuns(np.zeros((1, 2), int), np.zeros((1, 2)), utilities[None], utilities[None, None], ties)
    for nearest in (30, 7):
        order, answer = final_order(found, trust=0.5, nearest=nearest)
        np.testing.assert_array_equal(order, np.argsort(-utilities))
        assert answer.status == "optimal"
        assert answer.gap == 0


def test_the_network_gives_measured_candidates_their_normal_scores() -> None:
    """In log-odds, like the utilities: 1.702 for each standard deviation of noise."""
    utilities = jnp.asarray(np.random.default_rng(4).normal(size=(1, 3, 9)))
    asked, paid = np.array([[5, 0, 7]]), np.array([[3.0, -1.0, 4.0]])
    config = ArchGraphConfig(recipe=RelationRecipe(noise=0.5))
    found = _concluded(asked, paid, utilities, np.zeros((1, 9)), config)
    np.testing.assert_allclose(found.measured, [[0, -3.29316, 3.29316]], atol=1e-4)  # 3.404 times the quantile of 5/6
    np.testing.assert_allclose(found.utilities, 3.404 * utilities, rtol=1e-5)
    np.testing.assert_allclose(found.scores, utilities.mean(axis=1), rtol=1e-5)


def test_measured_candidates_stand_where_their_measurements_put_them() -> None:
    """Predictions that contradict the measurements move nothing: the best measured is first, the others follow."""
    rng = np.random.default_rng(2)
    utilities = rng.normal(size=(1, 3, 60)).astype(np.float32)
    asked = rng.permutation(60)[:25]
    paid = np.round(rng.normal(size=25) * 3).astype(np.float32)  # with ties
    ties = rng.random((1, 60))
    scores = rng.normal(size=(1, 25))
    found = ArchGraphRuns(asked[None], paid[None], utilities.mean(axis=1), jnp.asarray(utilities), ties, scores)
    for nearest in (60, 9):
        order = final_order(found, trust=0.55, nearest=nearest, time_limit=0.05)[0]
        assert sorted(order.tolist()) == list(range(60))
        values = dict(zip(asked.tolist(), paid.tolist(), strict=True))
        measured = [values[row] for row in order.tolist() if row in values]
        assert measured == sorted(measured, reverse=True)
    # Without contradictions, an unmeasured one stands between the measured ones that it is predicted between.
    sure = jnp.asarray([[[-9.0, 0.0, 9.0, 0.1]]])
    scores = np.array([[1.1, -1.1]])
    found = ArchGraphRuns(np.array([[0, 2]]), np.array([[1.0, 0.0]]), sure[:, 0], sure, ties[:, :4], scores)
    assert final_order(found, trust=0.5)[0].tolist() == [0, 3, 1, 2]
