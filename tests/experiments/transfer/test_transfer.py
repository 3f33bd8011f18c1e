"""Every task in turn the target: what the methods get, and how they are scored, against hand-made numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from transfer import transfer

from ncp_jax import Table, checks
from ncp_jax.benchmarks.registry import load_tasks
from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, ArchGraphRuns, SearchHistory
from ncp_jax.searchers.arch_graph.sources import Sources, measured_scores
from ncp_jax.training.relations import RelationInputs

BUDGET, RUNS = 13, 2


@pytest.fixture(scope="module")
def make_problem(tables: list[Table], quick: ArchGraphConfig) -> Callable[..., transfer.Problem]:
    def make(sources: str, source_budget: int | None = None, count: int = 2) -> transfer.Problem:
        return transfer.make_problem(
            tables[:count], sources=sources, source_budget=source_budget, runs=RUNS, seed=0, config=quick
        )

    return make


def search(method: str, problem: transfer.Problem, config: ArchGraphConfig) -> list:
    return transfer.search_all(method, problem, budget=BUDGET, runs=RUNS, seed=0, config=config)


@pytest.fixture
def nothing_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources without predictors of their own: measured scores, or noise where they are sampled."""

    def whole(inputs: RelationInputs, known: tuple, **_: object) -> Sources:
        return Sources(np.stack([measured_scores(v) for v in known]))

    def learned(inputs: RelationInputs, rows: np.ndarray, values: np.ndarray, **_: object) -> Sources:
        size = (len(rows), len(inputs.nodes), values.shape[-1])
        return Sources(np.random.default_rng(0).normal(size=size).astype(np.float32))

    monkeypatch.setattr(transfer, "full_sources", whole)
    monkeypatch.setattr(transfer, "learn_sources", learned)


@pytest.mark.usefixtures("nothing_learned")
def test_who_knows_what(make_problem: Callable[..., transfer.Problem], quality: np.ndarray) -> None:
    none, one, every = (make_problem(sources, count=3) for sources in ("none", "one", "all"))
    assert (none.sources, [len(k) for k in none.known]) == (None, [0, 0, 0])
    assert none.tasks == ("a", "b", "c")
    for t in range(3):
        np.testing.assert_array_equal(one.known[t], quality[[(t + 1) % 3]])
        np.testing.assert_array_equal(every.known[t], np.delete(quality, t, axis=0))
        np.testing.assert_array_equal(every.sources.evidence[t], measured_scores(every.known[t]))
    np.testing.assert_array_equal(every.values, quality)
    assert every.rows is None
    assert every.sources.encoder is None


@pytest.mark.usefixtures("nothing_learned")
def test_sampled_sources(make_problem: Callable[..., transfer.Problem], quality: np.ndarray) -> None:
    problem = make_problem("all", 24)
    assert problem.sources.evidence.shape == (2 * RUNS, quality.shape[1], 1)
    assert [rows.shape for rows in problem.rows] == [(RUNS, 24)] * 2
    assert (problem.rows[0][0] != problem.rows[0][1]).any()
    for method in ("mean_rank", "random"):
        for found in search(method, problem, ArchGraphConfig()):
            assert found.asked.shape == (RUNS, BUDGET)
    first = search("mean_rank", problem, ArchGraphConfig())[1].asked[:, 0]
    np.testing.assert_array_equal(first, np.argmax(problem.sources.evidence[RUNS:, :, 0], axis=1))


@pytest.mark.usefixtures("nothing_learned")
def test_no_transfer_is_a_search_without_sources(
    make_problem: Callable[..., transfer.Problem], quick: ArchGraphConfig
) -> None:
    blind, alone = search("no_transfer", make_problem("all"), quick), search("arch_graph", make_problem("none"), quick)
    for a, b in zip(blind, alone, strict=True):
        np.testing.assert_array_equal(a.history.asked, b.history.asked)
        np.testing.assert_array_equal(a.utilities, b.utilities)


@pytest.mark.usefixtures("nothing_learned")
def test_what_is_refused(make_problem: Callable[..., transfer.Problem]) -> None:
    with pytest.raises(checks.UsageError, match=r"got 'some'; choose one of: none, one, all|got 'some'.*one"):
        make_problem("some")
    with pytest.raises(checks.UsageError, match=r"expected two tasks or more with sources, got 1; use --sources none"):
        make_problem("all", count=1)
    with pytest.raises(checks.UsageError, match=r"expected a source budget from 2 to the 128 architectures .*got 129"):
        make_problem("all", 129)


def test_scores_of_a_baseline() -> None:
    values = np.array([5.0, 1.0, 4.0, 2.0, 3.0])
    history = SearchHistory(np.array([[1, 3, 2], [0, 1, 2]]), np.zeros((2, 3)), np.array([values, -values]))
    found = transfer.score_runs(history, values, ranking="mwas", trust=0.6)
    assert found == {
        "ranks": [[5, 4, 2], [1, 1, 1]],
        "regret": [1.0, 0.0],
        "tau": [pytest.approx(1), pytest.approx(-1)],
    }
    flat = SearchHistory(history.asked, history.paid, np.zeros((2, 5)))
    assert transfer.score_runs(flat, values, ranking="borda", trust=0.6)["tau"] == [None, None]


def test_scores_of_arch_graph_take_the_order_of_the_graph() -> None:
    """Two members are nearly indifferent between a and b, the third is sure: the means say a, so do the relations."""
    values = np.array([3.0, 2.0, 1.0])
    members = np.array([[[0.0, 8.0, -20.0], [0.4, 0.0, -20.0], [0.4, 0.0, -20.0]]], np.float32)
    mean = members.mean(axis=1)
    found = ArchGraphRuns(SearchHistory(np.array([[0, 1]]), np.zeros((1, 2)), mean), members)
    # P(a over b) = (0.0003 + 2 * 0.599) / 3 = 0.4: the graph puts b first, and so does the mean.
    assert transfer.score_runs(found, values, ranking="mwas", trust=0.55)["tau"] == [pytest.approx(1 / 3)]
    sure = ArchGraphRuns(found.history, members * np.array([1, 5, 5], np.float32)[:, None])
    # P = (0.0003 + 2 * 0.881) / 3 = 0.59: the graph has a first, the given scores still b.
    assert transfer.score_runs(sure, values, ranking="mwas", trust=0.55)["tau"] == [pytest.approx(1)]
    assert transfer.score_runs(sure, values, ranking="borda", trust=0.55)["tau"] == [pytest.approx(1 / 3)]


def test_calibration_looks_at_pairs_that_nobody_measured() -> None:
    values = np.arange(6.0)
    utilities = np.array([[[900.0, 0, 1, 2, 3, -900]]], np.float32)
    found = ArchGraphRuns(SearchHistory(np.array([[0, 5]]), np.zeros((1, 2)), utilities[0]), utilities)
    predicted, truth = transfer.calibration(found, values)
    assert predicted.shape == truth.shape == (transfer.PAIRS,)
    assert set(truth) == {0, 0.5, 1}
    assert ((predicted > 0.5) == (truth > 0.5)).all()
    assert predicted.max() == pytest.approx(1 / (1 + np.exp(-3)))
    quality = transfer.relation_quality([found, found], np.stack([values, values]))
    assert quality.counts.sum() == 2 * transfer.PAIRS


def test_summary_of_hand_made_numbers() -> None:
    def result(ranks: list, regret: list, tau: list) -> dict:
        return {"ranks": ranks, "regret": regret, "tau": tau}

    scored = {
        "m": {
            "x": result([[4, 2], [3, 3]], [0.5, 0.7], [0.2, 0.4]),
            "y": result([[10, 5], [20, 20]], [1.0, 3.0], [0.6, 0.4]),
        },
        "flat": {"x": result([[1, 1]] * 2, [0, 0], [None] * 2), "y": result([[1, 1]] * 2, [0, 0], [None] * 2)},
    }
    found = transfer.summarise(scored, {"x": 10, "y": 20})
    assert set(found) == {"percentile", "rank", "tau", "tasks", "curves"}
    assert found["percentile"]["m"] == {"mean": 43.75, "low": 22.5, "high": 65.0, "n": 2}
    assert found["rank"]["m"] == {"mean": 7.5, "low": 3.5, "high": 11.5, "n": 2}
    assert found["tau"]["m"]["mean"] == pytest.approx(0.4)
    assert found["tau"]["flat"]["mean"] == 0
    assert found["curves"]["m"]["mean"] == pytest.approx([(40 + 50 + 30 + 100) / 4, 43.75])
    assert found["curves"]["m"]["high"][1] == 65.0
    assert found["tasks"]["x"]["m"]["percentile"]["mean"] == pytest.approx(25)
    assert found["tasks"]["y"]["m"]["rank"]["mean"] == pytest.approx(12.5)
    assert found["tasks"]["y"]["m"]["regret"]["mean"] == pytest.approx(2)
    assert found["tasks"]["x"]["m"]["tau"]["low"] == pytest.approx(0.2)


@pytest.mark.parametrize(("space", "count"), [("micro", 7), ("macro", 7), ("nas-bench-201", 3)])
def test_tasks_of_a_space_have_the_same_architectures(mirror: Path, space: str, count: int) -> None:
    """``make_problem`` takes the rows of one table for those of all."""
    tables = load_tasks(space)
    assert len(tables) == count
    for table in tables:
        np.testing.assert_array_equal(table.codes, tables[0].codes)


def test_unknown_tasks() -> None:
    with pytest.raises(checks.UsageError, match=r"got 'micr'; did you mean: micro"):
        load_tasks("micr")
    with pytest.raises(checks.UsageError, match=r"got 'jigsw'; did you mean: jigsaw"):
        load_tasks("micro", ["jigsw"])
