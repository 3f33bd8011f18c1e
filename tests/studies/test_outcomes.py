"""Runs against brute force, row by row."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ncp_jax import MetricSpec, Table, cost_model, get_space
from ncp_jax.analysis.ranks import kendall_tau
from ncp_jax.searchers import Predictions, Runs
from ncp_jax.studies import outcomes as module
from ncp_jax.studies.outcomes import PAIRS, Evaluator, flops_of, predicted_relations

BUDGET = 9
NO_COSTS = np.zeros(0, np.float32)


def make_runs(table: Table, metric: str, *, seed: int = 0, runs: int = 8) -> Runs:
    """Runs of random rows, some with repeats, some shorter than the budget, one without any query."""
    rng = np.random.default_rng(seed)
    count = rng.integers(1, BUDGET + 1, runs)
    count[0], count[1] = 0, BUDGET
    used = np.arange(BUDGET) < count[:, None]
    rows = np.where(used, rng.integers(0, len(table), (runs, BUDGET)), -1).astype(np.int32)
    values = np.where(used, np.asarray(table.oriented(metric))[rows], -np.inf).astype(np.float32)
    return Runs(rows, values, count.astype(np.int32), count.astype(np.int32) + 3, np.zeros(runs, np.float32))


def results_of(evaluator: Evaluator, runs: Runs) -> list[dict[str, Any]]:
    """The results of the runs' records."""
    return [outcome.to_json() for outcome in evaluator.score(runs)]


def by_hand(table: Table, runs: Runs, metric: str, judge: str) -> list[dict[str, Any]]:
    """The same without arrays."""
    searched, own = np.asarray(table.column(metric)).tolist(), np.asarray(table.column(judge)).tolist()
    down, judged_down = (table.metric(name).direction == "minimize" for name in (metric, judge))
    found = []
    for rows, count, asks in zip(runs.rows, runs.count, runs.asks, strict=True):
        at, chosen, best = [], [], None
        for query, row in enumerate(rows[:count].tolist(), start=1):
            value = searched[row]
            if best is None or (value < best if down else value > best):
                at, chosen, best = [*at, query], [*chosen, row], value
        optimum = min(own) if judged_down else max(own)
        better = [sum((o < own[row]) if judged_down else (o > own[row]) for o in own) for row in chosen]
        found.append(
            {
                "queries": int(count),
                "asks": int(asks),
                "at": at,
                "rows": chosen,
                "values": pytest.approx([own[row] for row in chosen], rel=1e-6),
                "ranks": [1 + n for n in better],
                "regrets": pytest.approx([abs(own[row] - optimum) for row in chosen], rel=1e-6, abs=1e-9),
            }
        )
    return found


@pytest.mark.parametrize("metric", ["acc", "loss"])
@pytest.mark.parametrize("judge", [None, "acc", "tested", "loss"])
def test_results_are_those_of_brute_force(mine: Table, metric: str, judge: str | None) -> None:
    runs = make_runs(mine, metric)
    results = results_of(Evaluator(mine, metric, judge, NO_COSTS), runs)
    hand = by_hand(mine, runs, metric, judge or metric)
    keys = list(hand[0])
    assert [{key: result[key] for key in keys} for result in results] == hand
    assert all("times" not in result and "seconds" not in result for result in results)


def test_ties_share_the_better_rank(mine: Table) -> None:
    """Whole numbers of accuracy: several architectures have the same."""
    acc = np.asarray(mine.column("acc"))
    values, counts = np.unique(acc, return_counts=True)
    tied = values[counts > 1][-1]
    rows = np.flatnonzero(acc == tied)[:2, None].astype(np.int32)
    one = np.ones(2, np.int32)
    results = results_of(Evaluator(mine, "acc", None, NO_COSTS), Runs(rows, acc[rows], one, one, one * 0.0))
    assert [result["ranks"] for result in results] == [[1 + (acc > tied).sum()]] * 2


def test_a_run_that_reached_the_optimum_has_no_regret(mine: Table) -> None:
    for metric in ("acc", "loss"):
        best = int(np.asarray(mine.oriented(metric)).argmax())
        rows, one = np.array([[best]], np.int32), np.ones(1, np.int32)
        runs = Runs(rows, np.asarray(mine.oriented(metric))[rows], one, one, one * 0.0)
        (result,) = results_of(Evaluator(mine, metric, None, NO_COSTS), runs)
        assert (result["ranks"], result["regrets"]) == ([1], [0.0])


def test_times_are_spent_seconds(mine: Table) -> None:
    runs, costs = make_runs(mine, "acc"), np.asarray(mine.column("train_s"))
    for result, rows in zip(results_of(Evaluator(mine, "acc", None, costs), runs), runs.rows, strict=True):
        spent = [float(costs[rows[:query]].sum()) for query in range(1, result["queries"] + 1)]
        assert result["seconds"] == (spent[-1] if spent else 0.0)
        assert result["times"] == [spent[query - 1] for query in result["at"]]


def test_a_run_without_queries(mine: Table) -> None:
    costs = np.asarray(mine.column("train_s"))
    empty = results_of(Evaluator(mine, "acc", "tested", costs), make_runs(mine, "acc"))[0]
    lists = {key: [] for key in ("at", "rows", "values", "ranks", "regrets", "times")}
    assert empty == {"queries": 0, "asks": 3, **lists, "seconds": 0.0, "hypervolume": 0.0}


def area_by_hand(points: list[tuple[float, float]], worst: tuple[float, float]) -> float:
    """The dominated area as a sum over the steps of the front."""
    area, best = 0.0, worst[0]
    for quality, cost in sorted(points, key=lambda point: (point[1], -point[0])):
        if quality > best and cost < worst[1]:
            area += (quality - best) * (worst[1] - cost)
            best = quality
    return area


@pytest.mark.parametrize(("metric", "judge"), [("acc", None), ("acc", "tested"), ("loss", None)])
def test_hypervolume_is_a_share_of_the_tables(mine: Table, metric: str, judge: str | None) -> None:
    quality = np.asarray(mine.oriented(judge or metric), np.float64).tolist()
    cost = [math.log10(flops) for flops in np.asarray(mine.column("flops"), np.float64).tolist()]
    points, worst = list(zip(quality, cost, strict=True)), (min(quality), max(cost))
    whole, runs = area_by_hand(points, worst), make_runs(mine, metric)
    results = results_of(Evaluator(mine, metric, judge, NO_COSTS), runs)
    for result, rows in zip(results, runs.rows, strict=True):
        asked = [points[row] for row in rows if row >= 0]
        assert result["hypervolume"] == pytest.approx(area_by_hand(asked, worst) / whole, rel=1e-5)
        assert 0 <= result["hypervolume"] <= 1
    every = np.arange(len(mine), dtype=np.int32)[None]
    all_of = Runs(every, np.asarray(mine.oriented(metric))[every], *(np.array([len(mine)]) for _ in range(3)))
    assert results_of(Evaluator(mine, metric, judge, NO_COSTS), all_of)[0]["hypervolume"] == 1.0


def test_where_flops_come_from(mine: Table, tiny_table: Table) -> None:
    flops, unit = flops_of(tiny_table)
    np.testing.assert_array_equal(flops, np.asarray(tiny_table.column("flops"), np.float64))
    assert unit == "GMAC"
    costless = tuple(m for m in tiny_table.metrics if m.name != "flops")
    values = tiny_table.values[:, : len(costless)]
    from_codes, unit = flops_of(dataclasses.replace(tiny_table, metrics=costless, values=values))
    np.testing.assert_allclose(from_codes, flops, rtol=1e-6)
    assert unit == "GMAC"
    space = get_space("transnas-micro")
    codes = np.asarray(space.all_codes())[:4]
    for task, flops_known in (("", True), ("jigsaw", True), ("mine", False)):
        without = [MetricSpec("acc", task=task)]
        table = Table.from_arrays("four", space=space, codes=codes, values=np.arange(4.0)[:, None], metrics=without)
        result = results_of(Evaluator(table, "acc", None, NO_COSTS), make_runs(table, "acc"))[1]
        assert ("hypervolume" in result) == flops_known
        if flops_known:
            exact = cost_model(space, task or None).exact(codes)["flops"]
            np.testing.assert_allclose(flops_of(table)[0], exact / 1e9)
        else:
            assert flops_of(table) == (None, "")
    # A column of FLOPs with a zero has no logarithm.
    metrics = [*without, MetricSpec("flops", direction="minimize", kind="cost")]
    pairs = np.stack([np.arange(4.0), np.arange(4.0)], axis=1)
    with_zero = Table.from_arrays("zero", space=space, codes=codes, values=pairs, metrics=metrics)
    assert flops_of(with_zero) == (None, "")


def test_many_runs_are_scored_in_parts(mine: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, evaluator = make_runs(mine, "acc", runs=11), Evaluator(mine, "acc", None, np.asarray(mine.column("train_s")))
    whole = results_of(evaluator, runs)
    monkeypatch.setattr(module, "AT_ONCE", 4)
    assert results_of(evaluator, runs) == whole
    assert len(whole) == 11


def test_published_tables_have_true_optima(mirror: Any, make_grid: Callable[..., Any]) -> None:
    """A loss that is lower better: the best of the real table has rank 1 and its own value."""
    (table,) = make_grid(benchmarks=("transnas-macro/room_layout",)).load().values()
    loss = np.asarray(table.column("l2_loss"))
    rows = np.array([[loss.argmax(), loss.argmin()]], np.int32)
    two = np.array([2], np.int32)
    (result,) = results_of(Evaluator(table, "l2_loss", None, NO_COSTS), Runs(rows, -loss[rows], two, two, two * 0.0))
    assert result["at"] == [1, 2]
    assert result["ranks"] == [(loss < loss.max()).sum() + 1, 1]
    assert result["values"] == pytest.approx([loss.max(), loss.min()], rel=1e-6)
    assert result["regrets"] == pytest.approx([loss.max() - loss.min(), 0.0], rel=1e-5)


def test_final_predictions_are_scored_where_asked(tables: list[Table]) -> None:
    """By Kendall's tau, and relations by their calibration on pairs that the run did not measure."""
    table = tables[0]
    acc = np.asarray(table.column("acc"))
    rows = np.array([[3, 5], [7, 9]], np.int32)
    two, zero = np.full(2, 2), np.zeros(2)
    utilities = np.stack([np.stack([acc, acc]), np.stack([-acc, -acc])]).astype(np.float32)
    predictions = Predictions(np.stack([acc, -acc]), utilities)
    runs = Runs(rows, acc[rows], two, two, zero, predictions)
    right, wrong = results_of(Evaluator(table, "acc", None, NO_COSTS, True), runs)
    assert (right["tau"], wrong["tau"]) == (pytest.approx(1), pytest.approx(-1))
    assert sum(right["calibration"]["counts"]) == PAIRS
    assert right["calibration"]["brier"] < 0.25 < wrong["calibration"]["brier"]
    assert right["calibration"] == results_of(Evaluator(table, "acc", None, NO_COSTS, True), runs)[0]["calibration"]
    flat = Runs(*runs[:5], Predictions(np.zeros((2, len(table)), np.float32)))
    for found in results_of(Evaluator(table, "acc", None, NO_COSTS, True), flat):
        assert not {"tau", "calibration"} & set(found)
    for found in results_of(Evaluator(table, "acc", None, NO_COSTS), runs):
        assert not {"tau", "calibration"} & set(found)


def test_a_run_without_predictions_believes_what_it_paid_for(tables: list[Table]) -> None:
    table = tables[0]
    acc = np.asarray(table.column("acc"), np.float64)
    every = np.arange(len(table), dtype=np.int32)[None]
    all_of = Runs(every, acc[every], np.array([len(table)]), np.array([len(table)]), np.zeros(1))
    (found,) = results_of(Evaluator(table, "acc", None, NO_COSTS, True), all_of)
    assert found["tau"] == pytest.approx(1)
    rows = np.array([[4, 11, 30]], np.int32)
    three = np.array([3])
    zero = np.zeros(1, np.int32)
    (found,) = results_of(Evaluator(table, "acc", None, NO_COSTS, True), Runs(rows, acc[rows], three, three, zero))
    scores = np.full(len(table), acc[rows].mean())
    scores[rows[0]] = acc[rows[0]]
    assert found["tau"] == pytest.approx(kendall_tau(scores[None], acc)[0])
    nothing = Runs(np.full((1, 3), -1), np.full((1, 3), -np.inf), zero, zero, zero)
    (none,) = results_of(Evaluator(table, "acc", None, NO_COSTS, True), nothing)
    assert "tau" not in none


def test_relations_are_judged_by_pairs_that_nobody_measured() -> None:
    values = np.arange(6.0)
    utilities = np.array([[900.0, 0, 1, 2, 3, -900]], np.float32)
    predicted, outcomes = predicted_relations(utilities, values, np.array([0, 5]))
    assert predicted.shape == outcomes.shape == (PAIRS,)
    assert set(outcomes) == {0, 0.5, 1}
    assert ((predicted > 0.5) == (outcomes > 0.5)).all()
    assert predicted.max() == pytest.approx(1 / (1 + np.exp(-3)))
