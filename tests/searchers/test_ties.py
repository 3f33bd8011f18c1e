"""No searcher profits from the order of a table's rows: sorted best first, it is searched like sorted worst first."""

from __future__ import annotations

import functools
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from ncp_jax import MetricSpec, Table, get_space
from ncp_jax.benchmarks.imported import Curves
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.searchers import (
    SEARCHERS,
    ArraySearcher,
    Candidates,
    CurveSearcher,
    HostSearcher,
    Searcher,
    bayesian,
    make_searcher,
    search,
    search_on_curves,
    search_on_host,
)
from ncp_jax.searchers.arch_graph.sources import SourceTasks
from ncp_jax.searchers.base import searcher_class

SEEDS, BUDGET, SIZE = 80, 16, 192  # as many seeds show the faults below with a p-value a hundred times smaller
LEAST = 1e-4  # smallest p-value that passes: of some twenty fair comparisons, one in five hundred fails
# Small sizes: what is tested is who wins a tie, not who searches well.
SMALL: dict[str, list[dict[str, Any]]] = {
    "reinforce": [{"draws": 4, "width": 4, "steps": 1}],
    "bayesian": [{"initial": 4}, {"initial": 4, "acquisition": "thompson"}, {"initial": 4, "batch": 4}],
    "neural-ensemble": [{"first": 4, "members": 2, "width": 8, "sweeps": 1, "most": 5}],
    "ncp": [{"first": 4, "members": 2, "width": 8, "sweeps": 1, "most": 5, "steps": 2, "best": 3, "polish": 2}],
    "arch-graph": [
        {"first": 4, "batch": 12, "members": 1, "steps": 3, "width": 4, "encoder": "graph"},
        {"first": 4, "batch": 12, "members": 1, "steps": 3, "width": 4, "encoder": "graph", "ranking": "borda"},
        {"first": 4, "batch": 12, "members": 1, "steps": 3, "width": 4, "encoder": "graph", "sources": "ignored"},
    ],
    "source-gaussian-process": [{"first": 4, "batch": 4}],
    "mean-rank": [{"members": 1, "steps": 3, "width": 4}],
    "asha": [{}, {"begin": "predicted"}],
}
METHODS = [(name, settings) for name in SEARCHERS for settings in SMALL.get(name, [{}])]


@functools.cache
def isomorphs() -> tuple[str, np.ndarray]:
    """Codes of a few networks: their features and predictions are equal."""
    space = get_space("transnas-micro")
    codes = space.all_codes()
    networks = np.asarray(space.networks(jnp.asarray(codes)))
    largest = np.argsort(-np.bincount(networks), kind="stable")[:12]
    return "transnas-micro", np.concatenate([codes[networks == network][: SIZE // 12] for network in largest])


@functools.cache
def sparse() -> tuple[str, np.ndarray]:
    """Codes without neighbours at one edit: many are equally far from each other."""
    codes = get_space("nas-bench-201").all_codes()
    return "nas-bench-201", codes[np.random.default_rng(0).permutation(len(codes))[:SIZE]]


def table_in_order(space: str, codes: np.ndarray, order: np.ndarray) -> tuple[Table, np.ndarray]:
    """A table of random values in some order of its rows, and two sources of few levels."""
    rng = np.random.default_rng(1)
    values, sources = rng.normal(size=len(codes)), rng.integers(3, size=(2, len(codes)))
    values = np.sort(values)[::-1]  # row 0 of ``codes`` is the best
    metric = MetricSpec("acc")
    table = Table.from_arrays("t", space=space, codes=codes[order], values=values[order, None], metrics=[metric])
    return table, sources[:, order].astype(np.float32)


def best_ranks(searcher: Searcher, table: Table, sources: np.ndarray) -> np.ndarray:
    """Rank in the table of the best architecture of each run."""
    view, seeds = QueryView.of(table, budget=BUDGET), np.arange(SEEDS)
    if isinstance(searcher, CurveSearcher):
        curves = np.repeat(table.measured("acc")[:, None], 9, axis=1) - np.arange(8, -1, -1) % 2
        known = Curves(table.name, table.space, table.main, np.asarray(table.codes), curves)
        rows = search_on_curves(searcher, seeds, table, view, known).rows
    elif isinstance(searcher, HostSearcher):
        parts = [seeds[i : i + searcher.runs_per_call] for i in range(0, SEEDS, searcher.runs_per_call)]
        tasks = SourceTasks(sources)
        rows = np.concatenate([search_on_host(searcher, part, table, "acc", view, tasks).rows for part in parts])
    else:
        several = type(searcher).together([searcher] * SEEDS)
        stacked = jax.tree.map(lambda *leaves: np.asarray(leaves), *several)
        rows = np.asarray(search(stacked, seeds, Candidates.of(table), view).rows)
    ranks = np.empty(len(table), int)
    ranks[np.argsort(-np.asarray(table.oriented("acc")))] = np.arange(len(table))
    return np.where(rows >= 0, ranks[rows], len(table)).min(axis=1)


def advantage(searcher: Searcher, made: Any) -> float:
    """p-value of the hypothesis that a table is searched equally well best first and worst first.

    A shuffled table would not do in place of the second: the first of its equal rows may happen to be the best.
    """
    space, codes = made()
    orders = np.arange(len(codes)), np.arange(len(codes))[::-1]
    samples = [best_ranks(searcher, *table_in_order(space, codes, order)) for order in orders]
    return float(mannwhitneyu(*samples).pvalue)


@pytest.mark.parametrize(
    ("name", "settings"), METHODS, ids=lambda x: x if isinstance(x, str) else "-".join(map(str, x.values()))
)
def test_the_order_of_the_rows_does_not_matter(name: str, settings: dict[str, Any]) -> None:
    assert advantage(make_searcher(name, **settings), isomorphs) > LEAST


@pytest.mark.parametrize("name", ["evolution", "local-search", "ncp"])
def test_nor_does_it_in_a_table_that_is_a_part_of_its_space(name: str) -> None:
    assert advantage(make_searcher(name, **SMALL.get(name, [{}])[0]), sparse) > LEAST


@searcher_class
class LowestRow(ArraySearcher):
    """Takes the lowest of equal rows, after a few random ones: the fault that these tests look for."""

    name: ClassVar[str] = "lowest-row"

    @property
    def batch(self) -> int:
        return 4

    def start(self, candidates: Candidates, budget: int, key: Any) -> Any:
        return jnp.zeros(len(candidates), bool)

    def ask(self, candidates: Candidates, state: Any, history: Any, key: Any) -> Any:
        # As many networks as a proposal has slots are drawn; of each, the first row that was not asked for.
        drawn = jax.random.randint(key, (self.batch,), 0, len(candidates))
        alike = (candidates.classes == candidates.classes[drawn][:, None]) & ~state
        rows = jnp.where(alike.any(axis=1), jnp.argmax(alike, axis=1), -1).astype(jnp.int32)
        return rows, state.at[jnp.where(rows >= 0, rows, len(state))].set(True, mode="drop")


def test_a_searcher_that_takes_the_lowest_of_equal_rows_is_caught() -> None:
    assert advantage(LowestRow(), isomorphs) < LEAST / 100


def test_draws_without_tie_breaks_are_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thompson draws are equal for codes with equal features."""
    monkeypatch.setattr(bayesian, "TIES", 0.0)
    # With another shortlist, a program of its own is compiled.
    thompson = make_searcher("bayesian", initial=4, acquisition="thompson", shortlist=2 * SIZE)
    assert advantage(thompson, isomorphs) < LEAST / 100


def test_nearest_rows_do_not_depend_on_the_order_of_the_rows() -> None:
    space, codes = sparse()
    order = np.random.default_rng(3).permutation(len(codes))
    one, other = Candidates.of_space(space, codes), Candidates.of_space(space, codes[order])
    np.testing.assert_array_equal(codes[np.asarray(one.neighbours)][order], codes[order][np.asarray(other.neighbours)])
    # Among equally near ones, low rows are not preferred: a table may be sorted by what was measured.
    assert abs(np.asarray(one.neighbours).mean() - (SIZE - 1) / 2) < 4 * SIZE / np.sqrt(12 * one.neighbours.size / 16)
