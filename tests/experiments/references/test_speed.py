from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from references import speed
from references.speed import measure_speed

from ncp_jax.studies import Grid

OURS = {"queries_per_s", "runs", "seconds", "first_call_s"}
THEIRS = {"python_queries_per_s", "python_runs", "ratio"}


@pytest.fixture
def turns(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Who had a turn, in order: "ours", or the seed of a plain run."""
    found: list[str] = []
    ours, plain = speed._ours, speed._python
    monkeypatch.setattr(speed, "PYTHON_RUNS", 2)
    monkeypatch.setattr(speed, "_ours", lambda *a: found.append("ours") or ours(*a))
    monkeypatch.setattr(speed, "_python", lambda *a: found.append(str(a[-1])) or plain(*a))
    return found


def test_what_is_measured(make_grid: Callable[..., Grid], turns: list[str]) -> None:
    grid = make_grid(searchers={"random": [{}], "evolution": [{"population": [4, 6]}], "local-search": [{}]})
    measured = measure_speed(grid)
    labels = ["random", "evolution population=4", "evolution population=6", "local-search"]
    assert list(measured) == labels
    for result in measured.values():
        assert set(result) == OURS | THEIRS
        assert all(value > 0 for value in result.values())
        assert result["ratio"] == pytest.approx(result["queries_per_s"] / result["python_queries_per_s"])
        assert result["python_runs"] == 2
    # A sweep is one call: both of its methods are timed by all of it.
    assert [result["runs"] for result in measured.values()] == [5, 10, 10, 5]
    for label in ("random", "local-search"):
        assert measured[label]["queries_per_s"] == pytest.approx(5 * 12 / measured[label]["seconds"])
    # Once for compilation, then by turns: five rounds for each of four methods.
    assert turns == 4 * (["ours"] + speed.ROUNDS * ["ours", "0", "1"])


def test_what_has_no_plain_loop_has_no_ratio(make_grid: Callable[..., Grid], turns: list[str]) -> None:
    timed = measure_speed(make_grid(searchers={"random": [{}]}, seconds=500, seconds_column="train_s"))
    assert set(timed["random"]) == OURS
    assert Counter(turns) == {"ours": 1 + speed.ROUNDS}
    # A searcher on the host is no array program.
    searchers: Any = {"arch-graph": [{}], "random": [{}]}
    assert list(measure_speed(make_grid(searchers=searchers))) == ["random"]


def test_a_searcher_that_trains_is_timed_once_by_one_call(
    make_grid: Callable[..., Grid], turns: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those without a plain loop are the ones that train; evolution stands for them here."""
    monkeypatch.setattr(speed, "PYTHON_SEARCHES", {})
    (result,) = measure_speed(make_grid(searchers={"evolution": [{}]}), memory_mb=0.003).values()
    assert turns == ["ours", "ours"]
    assert set(result) == OURS
    assert 0 < result["runs"] < 5


def test_the_first_benchmark_serves(make_grid: Callable[..., Grid], turns: list[str]) -> None:
    both = make_grid(benchmarks=("other", "mine"), searchers={"random": [{}]}, seeds=3)
    assert measure_speed(both, memory_mb=0.001)["random"]["runs"] == 3
