from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.reports import load_study
from ncp_jax.reports.curves import MEASURES, POINTS, Curve, query_numbers
from ncp_jax.reports.statistics import summarise

MakeStudy = Callable[..., Path]


def by_hand(folder: Path, curve: Curve, axis: str) -> dict[str, np.ndarray]:
    """Each run's best so far at every x, by a loop over the records."""
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    found: dict[str, list[list[float]]] = {"rank": [], "regret": [], "value": []}
    for record in lines:
        if (record["method"], record["benchmark"]) == (curve.method, curve.benchmark):
            results = record["results"]
            for name, column in (("rank", "ranks"), ("regret", "regrets"), ("value", "values")):
                row = []
                for x in curve.x:
                    so_far = [v for v, t in zip(results[column], results[axis], strict=True) if t <= x]
                    row.append(so_far[-1] if so_far else float("nan"))
                found[name].append(row)
    arrays = {name: np.array(rows) for name, rows in found.items()}
    return arrays | {"percentile": arrays["rank"] / 10}


@pytest.mark.parametrize(("axis", "column"), [("queries", "at"), ("seconds", "times")])
def test_curves_are_means_over_seeds_with_intervals(make_study: MakeStudy, axis: str, column: str) -> None:
    folder = make_study(times=True)
    curves = [curve for curve in summarise(load_study(folder)).curves if curve.axis == axis]
    assert [(c.benchmark, c.method) for c in curves][:2] == [
        ("bench/a", "random"),
        ("bench/a", "local-search"),
    ]
    assert len(curves) == 8
    for curve in curves[:2]:
        assert curve.runs == 8
        runs = by_hand(folder, curve, column)
        for name in MEASURES:
            np.testing.assert_allclose(curve.mean[name], runs[name].mean(axis=0), rtol=1e-12)
            shown = np.flatnonzero(~np.isnan(curve.mean[name]))
            for i in shown[:: max(1, len(shown) // 4)]:
                least = {"rank": 1, "percentile": 0.1, "regret": 0}.get(name, -np.inf)
                plain = mean_interval(runs[name][:, i], least=least)
                assert curve.low[name][i] == pytest.approx(plain["low"], abs=1e-9)
                assert curve.high[name][i] == pytest.approx(plain["high"], abs=1e-9)


def test_curves_never_get_worse(make_study: MakeStudy) -> None:
    for curve in summarise(load_study(make_study(times=True))).curves:
        for name, sign in (("rank", 1), ("percentile", 1), ("regret", 1), ("value", -1)):
            some = ~np.isnan(curve.mean[name])
            assert (np.diff(sign * curve.mean[name][some]) <= 1e-9).all()
            assert (curve.low[name][some] <= curve.mean[name][some] + 1e-9).all()
            assert (curve.mean[name][some] <= curve.high[name][some] + 1e-9).all()
        assert np.isfinite(curve.mean["rank"][-1])


def test_they_end_with_the_final_results(make_study: MakeStudy) -> None:
    data = load_study(make_study(times=True))
    for curve in summarise(data).curves:
        group = data.group(data.methods.index(curve.method), data.benchmarks.index(curve.benchmark))
        assert curve.mean["percentile"][-1] == pytest.approx(data.percentile[group].mean())
        assert curve.mean["regret"][-1] == pytest.approx(data.regrets[data.last[group]].mean())


def test_a_line_over_seconds_begins_where_every_run_has_something(make_study: MakeStudy) -> None:
    data = load_study(make_study(times=True))
    curve = next(c for c in summarise(data).curves if c.axis == "seconds")
    begin = max(data.times[data.offsets[:-1][data.group(0, 0)]])
    np.testing.assert_array_equal(np.isnan(curve.mean["rank"]), curve.x < begin)
    assert np.isnan(curve.mean["rank"]).any()


def test_without_times_there_are_no_curves_over_seconds(make_study: MakeStudy) -> None:
    folder = make_study(times=True)
    lines = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    del lines[0]["results"]["times"]
    (folder / "records.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = {(c.benchmark, c.axis) for c in summarise(load_study(folder)).curves}
    assert found == {("bench/a", "queries"), ("bench/b", "queries"), ("bench/b", "seconds")}


def test_a_run_that_ended_early_keeps_its_best(make_study: MakeStudy) -> None:
    folder = make_study({"random": 1.0}, ("bench/a",), seeds=1)
    record = json.loads((folder / "records.jsonl").read_text())
    results = record["results"]
    for name in ("at", "rows", "values", "ranks", "regrets"):
        results[name] = results[name][:1]
    results["queries"] = 3
    (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
    (curve,) = summarise(load_study(folder)).curves
    assert len(curve.x) == 30
    assert set(curve.mean["rank"]) == {float(results["ranks"][0])}


@pytest.mark.parametrize("budget", [1, 2, POINTS - 1, POINTS])
def test_small_budgets_have_a_point_for_every_query(budget: int) -> None:
    np.testing.assert_array_equal(query_numbers(budget), np.arange(1, budget + 1))


@pytest.mark.parametrize("budget", [POINTS + 1, 5000, 423_624])
def test_large_budgets_are_thinned(budget: int) -> None:
    numbers = query_numbers(budget)
    assert len(numbers) <= POINTS
    assert (numbers[0], numbers[-1]) == (1, budget)
    assert (np.diff(numbers) > 0).all()


def test_a_regret_that_rises_and_falls_back_to_zero_is_exactly_zero(make_study: MakeStudy) -> None:
    """Results judged by another column may get worse; what rounding leaves would show on a logarithmic scale."""
    folder = make_study({"random": 1.0}, ("bench/a",), seeds=1)
    record = json.loads((folder / "records.jsonl").read_text())
    record["results"] |= {"at": [1, 2, 3, 4], "rows": [1, 0, 2, 3], "values": [1.0, 2.0, 3.0, 4.0]}
    record["results"] |= {"ranks": [4, 1, 2, 5], "regrets": [0.3, 0.0, 0.1, 0.3]}
    (folder / "records.jsonl").write_text(json.dumps(record) + "\n")
    study = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(study | {"grid": {"metric": "valid", "judge": "test"}}))
    (curve,) = summarise(load_study(folder)).curves
    np.testing.assert_allclose(curve.mean["regret"][:4], [0.3, 0.0, 0.1, 0.3], rtol=1e-12)
    assert curve.mean["regret"][1] == curve.low["regret"][1] == 0
