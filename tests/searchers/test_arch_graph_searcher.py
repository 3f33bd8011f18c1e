"""Arch-Graph as a searcher: what it does with source tasks, and its final order."""

from __future__ import annotations

import numpy as np
import pytest

from ncp_jax import Table
from ncp_jax.analysis.ranks import kendall_tau
from ncp_jax.benchmarks import QueryGuard
from ncp_jax.searchers import HostSearcher, Predictions, make_searcher
from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, ArchGraphRuns
from ncp_jax.searchers.arch_graph.sources import SourceTasks
from ncp_jax.searchers.arch_graph_searcher import final_scores

SMALL = {"first": 4, "batch": 4, "members": 2, "steps": 5, "width": 8}


def search(
    table: Table, known: SourceTasks | None, seeds: tuple[int, ...] = (0, 1), **settings: str
) -> tuple[np.ndarray, Predictions | None]:
    searcher = make_searcher("arch-graph", **SMALL, **settings)
    assert isinstance(searcher, HostSearcher)
    guard = QueryGuard(table, "acc", budget=12, runs=len(seeds))
    predictions = searcher.run(guard, seeds, known)
    return guard.asked, predictions


def test_sources_lead_unless_they_are_ignored(tables: list[Table], quality: np.ndarray) -> None:
    known = SourceTasks(quality[1:])
    alone, nothing = search(tables[0], None)
    assert nothing is None  # a study without source tasks scores no predictions
    ignored, blind = search(tables[0], known, sources="ignored")
    np.testing.assert_array_equal(ignored, alone)
    none, _ = search(tables[0], SourceTasks(quality[:0]))
    np.testing.assert_array_equal(none, alone)
    led, found = search(tables[0], known)
    assert led[0, :2].tolist() == led[1, :2].tolist() != alone[0, :2].tolist()
    for predictions in (blind, found):
        assert predictions is not None
        assert predictions.utilities is not None
        assert predictions.scores.shape == (2, quality.shape[1])
        assert predictions.utilities.shape == (2, 2, quality.shape[1])


def test_settings_that_came_later_are_listed_only_where_given() -> None:
    old = {"first", "batch", "members", "steps", "ranking"}
    assert set(make_searcher("arch-graph").settings()) == old
    assert set(make_searcher("arch-graph", encoder="code", width=32, sources="used").settings()) == old
    assert set(make_searcher("arch-graph", width=8).settings()) == old | {"width"}


def test_the_final_order_is_that_of_the_graph() -> None:
    """Two members are nearly indifferent between a and b, the third is sure: the means say a, so do the relations."""
    values = np.array([3.0, 2.0, 1.0])
    members = np.array([[[0.0, 8.0, -20.0], [0.4, 0.0, -20.0], [0.4, 0.0, -20.0]]], np.float32)
    mean = members.mean(axis=1)
    found = ArchGraphRuns(np.array([[0, 1]]), np.zeros((1, 2)), mean, members, np.random.default_rng(0).random((1, 3)))

    def tau(found: ArchGraphRuns, ranking: str) -> float:
        return float(kendall_tau(final_scores(found, ArchGraphConfig(trust=0.55, ranking=ranking)), values)[0])

    # P(a over b) = (0.0003 + 2 * 0.599) / 3 = 0.4: the graph puts b first, and so does the mean.
    assert tau(found, "mwas") == pytest.approx(1 / 3)
    sure = found._replace(utilities=members * np.array([1, 5, 5], np.float32)[:, None])
    # P = (0.0003 + 2 * 0.881) / 3 = 0.59: the graph has a first, the given scores still b.
    assert tau(sure, "mwas") == pytest.approx(1)
    assert tau(sure, "borda") == pytest.approx(1 / 3)
