"""The summary of a transfer study, against hand-made numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transfer import summary

from ncp_jax import MetricSpec, Table, checks, get_space
from ncp_jax.benchmarks.registry import load_tasks
from ncp_jax.ordering import Reliability, reliability


def test_results_and_seconds_are_read_by_method_and_task(tmp_path: Path) -> None:
    def line(method: str, task: str, number: int) -> str:
        return json.dumps({"method": method, "benchmark": f"digits/{task}", "results": {"queries": number}}) + "\n"

    rows = [line(m, t, n) for m in ("a x=1", "a x=2") for t in ("class", "loop") for n in (1, 2)]
    (tmp_path / "records.jsonl").write_text("".join(rows))
    sessions = [
        {"method_seconds": {"a x=1": 1.5}},
        {"runs": 3},
        {"method_seconds": {"a x=1": 2.0, "a x=2": 4.0, "dropped": 1.0}},
    ]
    (tmp_path / "sessions.jsonl").write_text("".join(json.dumps(s) + "\n" for s in sessions))
    names = {"a x=1": "one", "a x=2": "two"}
    results = [{"queries": 1}, {"queries": 2}]
    assert summary.read_results(tmp_path, names) == {m: {"class": results, "loop": results} for m in ("one", "two")}
    assert summary.read_seconds(tmp_path, names) == {"one": 3.5, "two": 4.0}


def test_the_best_after_each_query_is_the_last_improvement() -> None:
    runs: list[dict[str, Any]] = [
        {"at": [1, 2, 4], "ranks": [5, 4, 2], "regrets": [4.0, 3.0, 1.0], "tau": 0.5},
        {"at": [1], "ranks": [1], "regrets": [0.0]},
    ]
    assert summary.score_runs(runs, 5) == {
        "ranks": [[5, 4, 4, 2, 2], [1] * 5],
        "regret": [1.0, 0.0],
        "tau": [0.5, None],
    }


def test_pooled_calibration_is_that_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    predicted = 0.9 * rng.random((4, 300))
    outcomes = rng.choice([0, 0.5, 1], (4, 300))
    runs = [{"calibration": reliability(p, o).to_json()} for p, o in zip(predicted, outcomes, strict=True)]
    pooled = summary.pool_calibration({"x": runs[:2], "y": [*runs[2:], {"queries": 3}]})
    whole = reliability(predicted.ravel(), outcomes.ravel())
    for name in ("confidence", "frequency", "counts", "error", "brier"):
        np.testing.assert_allclose(getattr(pooled, name), getattr(whole, name), rtol=1e-9)
    assert Reliability.from_json(pooled.to_json()).counts[-1] == 0
    nothing = summary.pool_calibration({"x": [{"queries": 3}]})
    assert (nothing.counts.sum(), nothing.error, nothing.brier) == (1, 0, 0)


def test_summary_of_hand_made_numbers() -> None:
    def runs(ranks: list, regret: list, tau: list) -> list[dict[str, Any]]:
        of = zip(ranks, regret, tau, strict=True)
        return [{"at": [1, 2], "ranks": r, "regrets": [9.0, g], "tau": t} for r, g, t in of]

    results = {
        "m": {
            "x": runs([[4, 2], [3, 3]], [0.5, 0.7], [0.2, 0.4]),
            "y": runs([[10, 5], [20, 20]], [1.0, 3.0], [0.6, 0.4]),
        },
        "flat": {"x": runs([[1, 1]] * 2, [0, 0], [None] * 2), "y": runs([[1, 1]] * 2, [0, 0], [None] * 2)},
    }
    found = summary.summarise(results, {"x": 10, "y": 20}, 2)
    assert set(found) == {"percentile", "rank", "tau", "tasks", "curves"}
    # Two seeds say little: Student's t with one degree of freedom, cut at the bounds.
    assert found["percentile"]["m"] == {"mean": 43.75, "low": 0.0, "high": 100.0, "n": 2}
    assert found["rank"]["m"] == {"mean": 7.5, "low": 1.0, "high": pytest.approx(7.5 + 12.7062 * 4), "n": 2}
    assert found["tau"]["m"]["mean"] == pytest.approx(0.4)
    assert found["tau"]["flat"]["mean"] == 0
    assert found["curves"]["m"]["mean"] == pytest.approx([(40 + 50 + 30 + 100) / 4, 43.75])
    assert found["curves"]["m"]["high"][1] == 100.0
    assert found["tasks"]["x"]["m"]["percentile"]["mean"] == pytest.approx(25)
    assert found["tasks"]["y"]["m"]["rank"]["mean"] == pytest.approx(12.5)
    assert found["tasks"]["y"]["m"]["regret"]["mean"] == pytest.approx(2)
    assert found["tasks"]["x"]["m"]["tau"]["low"] == pytest.approx(0.3 - 12.7062 * 0.1)


def test_similarity_of_tasks(tables: list[Table], quality: np.ndarray) -> None:
    found = summary.task_similarity(tables)
    assert found["tasks"] == ["a", "b", "c"]
    np.testing.assert_allclose(np.diag(found["kendall"]), 1)
    assert summary.task_similarity(tables[:2])["agreement"] is None
    assert found["agreement"] is not None


@pytest.mark.parametrize(("space", "count"), [("micro", 7), ("macro", 7), ("nas-bench-201", 3)])
def test_tasks_of_a_space_have_the_same_architectures(mirror: Path, space: str, count: int) -> None:
    """The similarity of tasks takes the rows of one table for those of all."""
    tables = load_tasks(space)
    assert len(tables) == count
    for table in tables:
        np.testing.assert_array_equal(table.codes, tables[0].codes)


def test_unknown_tasks() -> None:
    with pytest.raises(checks.UsageError, match=r"got 'micr'; did you mean: micro"):
        load_tasks("micr")
    with pytest.raises(checks.UsageError, match=r"got 'jigsw'; did you mean: jigsaw"):
        load_tasks("micro", ["jigsw"])


def test_networks_are_judged_by_the_mean_of_their_codes() -> None:
    """Three codes of two networks: what has the best single training has the worse mean."""
    space = get_space("transnas-micro")
    codes = np.asarray(space.all_codes())
    networks = space.networks(codes)
    shared, other = np.flatnonzero(np.bincount(networks) > 1)[0], np.flatnonzero(np.bincount(networks) == 1)[0]
    rows = [*np.flatnonzero(networks == shared)[:2], np.flatnonzero(networks == other)[0]]
    loss = np.array([[1.0], [9.0], [4.0]])  # networks' means 5 and 4
    metric = MetricSpec("loss", direction="minimize")
    table = Table.from_arrays("some/task", space=space, codes=codes[rows], values=loss, metrics=[metric])
    np.testing.assert_array_equal(summary.network_means(table), [-5, -5, -4])
    results = {"a": {"task": [{"rows": [2, 0]}, {"rows": [2]}]}, "b": {"task": [{"rows": [1]}, {"rows": [0]}]}}
    found = summary.denoised(results, [table])
    assert [found["rank"][method]["mean"] for method in "ab"] == [1.5, 2.0]
    assert found["percentile"]["b"]["mean"] == pytest.approx(200 / 3)
    alone = Table.from_arrays("some/task", space=space, codes=codes[rows[1:]], values=loss[1:], metrics=[metric])
    assert summary.denoised(results, [alone]) == {}
