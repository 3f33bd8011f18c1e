"""The compiled searches against the same in plain Python, and random search against closed forms: in distribution."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from references.python_searches import PythonTable, python_search
from scipy import stats

from ncp_jax import Table
from ncp_jax.benchmarks.view import REPEATS, QueryView
from ncp_jax.searchers import SEARCHERS, Candidates, Runs, make

SEEDS = 1500
BUDGET = 50
AFTER = (1, 5, 15, 30, 50)
METHODS: list[tuple[str, dict[str, Any]]] = [
    ("random", {}),
    ("evolution", {"population": 20, "tournament": 5}),
    ("evolution", {"population": 5, "tournament": 12}),
    ("evolution", {"population": 1, "tournament": 1}),
    ("local-search", {"move": "first"}),
    ("local-search", {"move": "best"}),
]
CASES = [(name, given, repeats) for name, given in METHODS for repeats in REPEATS]
# Ten statistics of eighteen cases, and of all of them at most one in a hundred false alarms.
LEVEL = 0.01 / (10 * len(CASES))
Run = Callable[..., Runs]


class Sample(NamedTuple):
    """Statistics of runs [s, …], the same for both sides."""

    best: np.ndarray  # the best value after 1, 5, 15, 30, 50 queries
    optimum: np.ndarray  # queries to the optimum, one more than the budget where it was not found
    asks: np.ndarray
    different: np.ndarray  # architectures among those paid for
    mean: np.ndarray  # of the values paid for
    turns: np.ndarray  # how often the next value is better


def sample(values: np.ndarray, rows: np.ndarray, asks: np.ndarray, top: float) -> Sample:
    best = np.maximum.accumulate(values, axis=1)
    return Sample(
        best=best[:, np.array(AFTER) - 1],
        optimum=(best < top).sum(axis=1) + 1,
        asks=asks,
        different=np.array([len(set(line)) for line in rows.tolist()]),
        mean=values.mean(axis=1),
        turns=(np.diff(values, axis=1) > 0).sum(axis=1),
    )


@pytest.fixture(scope="module")
def ours(run: Run, small: Table) -> Callable[..., Sample]:
    def make_sample(name: str, settings: dict[str, Any], repeats: str) -> Sample:
        view = QueryView.of(small, budget=BUDGET, repeats=repeats)
        runs = run(make(SEARCHERS[name], settings), range(SEEDS), view)
        assert (runs.count == BUDGET).all()
        return sample(runs.values, runs.rows, runs.asks, float(view.values.max()))

    return make_sample


@pytest.fixture(scope="module")
def theirs(small: Table) -> Callable[..., Sample]:
    table = PythonTable.of(small)
    row = {code: i for i, code in enumerate(table.codes)}

    def make_sample(name: str, settings: dict[str, Any], repeats: str) -> Sample:
        runs = [
            python_search(name, table, budget=BUDGET, seed=seed, repeats=repeats, settings=settings)
            for seed in range(SEEDS)
        ]
        rows = np.array([[row[code] for code in found.codes] for found in runs])
        return sample(
            np.array([found.values for found in runs]),
            rows,
            np.array([found.asks for found in runs]),
            max(table.values.values()),
        )

    return make_sample


def p_values(a: Sample, b: Sample) -> np.ndarray:
    """Two-sample Kolmogorov-Smirnov of each statistic (of whole numbers it is cautious)."""
    pairs = [*zip(a.best.T, b.best.T, strict=True), *zip(a[1:], b[1:], strict=True)]
    return np.array([stats.ks_2samp(x, y, method="asymp").pvalue for x, y in pairs])


@pytest.mark.parametrize(("name", "settings", "repeats"), CASES, ids=[f"{n}-{s}-{r}" for n, s, r in CASES])
def test_they_find_the_same(name: str, settings: dict[str, Any], repeats: str, ours: Any, theirs: Any) -> None:
    a, b = ours(name, settings, repeats), theirs(name, settings, repeats)
    if name == "random":
        # Eight at a time: free repeats behind the last query of a run are answered with it.
        difference = a.asks.mean() - b.asks.mean()
        assert -1 < difference < 8
        a = a._replace(asks=b.asks)
    found = p_values(a, b)
    assert len(found) == 10
    assert found.min() > LEVEL


DIFFERENT = {
    "another tournament": (("evolution", {"population": 20, "tournament": 5}, "free"), {"tournament": 3}, "free"),
    "another population": (("evolution", {"population": 20, "tournament": 5}, "free"), {"population": 14}, "free"),
    "another move": (("local-search", {"move": "first"}, "free"), {"move": "best"}, "free"),
    "repeats paid": (("local-search", {"move": "best"}, "free"), {}, "counted"),
    "isomorphs paid": (("random", {}, "free-isomorphs"), {}, "free"),
    "random repeats": (("random", {}, "counted"), {}, "free"),
}


@pytest.mark.parametrize(("case", "changes", "repeats"), DIFFERENT.values(), ids=DIFFERENT)
def test_the_comparison_sees_a_difference(case: tuple, changes: dict, repeats: str, ours: Any, theirs: Any) -> None:
    name, settings, other = case
    assert p_values(ours(name, settings | changes, repeats), theirs(name, settings, other)).min() < LEVEL


def test_the_comparison_sees_a_list_of_neighbours_that_lacks_one(small: Table, candidates: Candidates) -> None:
    """What a mistake of one place in the draw of a neighbour would do."""
    import dataclasses

    import jax

    from ncp_jax.searchers import Evolution, search

    view = QueryView.of(small, budget=BUDGET, repeats="counted")
    (searcher,) = Evolution.together([make(Evolution, {"population": 5, "tournament": 12})])
    stacked = jax.tree.map(lambda x: np.full(SEEDS, x), searcher)
    short = dataclasses.replace(candidates, degree=candidates.degree - 1)
    both = []
    for given in (candidates, short):
        runs = search(stacked, np.arange(SEEDS, dtype=np.int32), given, view)
        both.append(sample(*(np.asarray(a) for a in (runs.values, runs.rows, runs.asks)), float(view.values.max())))
    assert p_values(*both).min() < LEVEL


def ranks(runs: Runs, small: Table) -> np.ndarray:
    """Rank of the best after each query [s, b], 1 is best; the table has no ties."""
    values = np.asarray(small.column("acc"))
    rank = np.empty(len(values))
    rank[np.argsort(-values)] = np.arange(1, len(values) + 1)
    return np.minimum.accumulate(rank[runs.rows], axis=1)


@pytest.mark.parametrize("repeats", ["free", "counted"])
def test_expected_best_rank_of_random_search(repeats: str, run: Run, small: Table) -> None:
    n, seeds = len(small), 4000
    view = QueryView.of(small, budget=100, repeats=repeats)
    found = ranks(run(make(SEARCHERS["random"], {}), range(seeds), view), small)
    for k in (1, 2, 5, 10, 25, 50, 100):
        expected = (n + 1) / (k + 1) if repeats == "free" else ((1 - np.arange(n) / n) ** k).sum()
        error = found[:, k - 1].std() / np.sqrt(seeds)
        assert abs(found[:, k - 1].mean() - expected) < 4 * error
    # The two closed forms are told apart by this many runs.
    assert abs((n + 1) / 51 - ((1 - np.arange(n) / n) ** 50).sum()) > 4 * found[:, 49].std() / np.sqrt(seeds)


def test_queries_of_random_search_to_the_optimum_are_uniform(run: Run, small: Table) -> None:
    """Without replacement the optimum is as likely to be found by any query: P(found after k) = k / n."""
    runs = run(make(SEARCHERS["random"], {}), range(4000), QueryView.of(small, budget=100))
    at = (runs.rows == int(np.argmax(small.column("acc")))).argmax(axis=1)
    at = at[(runs.rows == int(np.argmax(small.column("acc")))).any(axis=1)]
    assert abs(len(at) / 4000 - 100 / len(small)) < 4 * 0.5 / np.sqrt(4000)
    assert stats.chisquare(np.bincount(at, minlength=100)).pvalue > 1e-3
