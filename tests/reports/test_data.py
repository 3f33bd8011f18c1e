from __future__ import annotations

import dataclasses
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax.checks import DataError, UsageError
from ncp_jax.reports import StudyData, load_study

MakeStudy = Callable[..., Path]


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def write(path: Path, lines: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def assert_same(a: StudyData, b: StudyData) -> None:
    for field in dataclasses.fields(StudyData):
        if field.name != "folder":
            x, y = getattr(a, field.name), getattr(b, field.name)
            if isinstance(x, np.ndarray):
                assert x.dtype == y.dtype
                np.testing.assert_array_equal(x, y, err_msg=field.name)
            else:
                assert x == y, field.name


def test_every_run_is_there_as_it_was_written(make_study: MakeStudy) -> None:
    folder = make_study(times=True)
    data = load_study(folder)
    assert len(data) == 4 * 2 * 8
    assert data.notes == ()
    assert len(data.sessions) == 1
    by_cell = {int(record["cell"], 16): record for record in lines_of(folder)}
    for i, cell in enumerate(data.cell.tolist()):
        record = by_cell[cell]
        results, part = record["results"], slice(data.offsets[i], data.offsets[i + 1])
        assert data.methods[data.method[i]] == record["method"]
        assert data.benchmarks[data.benchmark[i]] == record["benchmark"]
        assert data.seed[i] == record["seed"]
        for name in ("at", "rows", "values", "ranks", "regrets", "times"):
            np.testing.assert_array_equal(getattr(data, name)[part], results[name], err_msg=name)
        for name in ("queries", "asks", "seconds", "hypervolume"):
            assert getattr(data, name)[i] == results[name]
        assert data.found[i] == (results["ranks"][-1] == 1)
        assert data.percentile[i] == pytest.approx(results["ranks"][-1] / 10)


def test_runs_are_in_the_plans_order_and_groups_lie_together(make_study: MakeStudy) -> None:
    data = load_study(make_study())
    keys = list(zip(data.method.tolist(), data.benchmark.tolist(), data.seed.tolist(), strict=True))
    assert keys == sorted(keys)
    for m in range(4):
        for b in range(2):
            assert keys[data.group(m, b)] == [(m, b, seed) for seed in range(8)]


def test_any_order_of_lines_and_any_number_of_files_is_the_same(make_study: MakeStudy) -> None:
    folder = make_study()
    expected, lines = load_study(folder), lines_of(folder)
    random.Random(0).shuffle(lines)
    (folder / "records.jsonl").unlink()
    write(folder / "records-1-of-3.jsonl", lines[:20])
    write(folder / "records-2-of-3.jsonl", lines[20:21])
    write(folder / "records-3-of-3.jsonl", lines[21:])
    assert_same(load_study(folder), expected)


def test_runs_recorded_twice_count_once(make_study: MakeStudy) -> None:
    folder = make_study()
    expected, lines = load_study(folder), lines_of(folder)
    write(folder / "records-2-of-2.jsonl", lines[5:9][::-1])
    data = load_study(folder)
    assert data.notes == ("4 records of runs that are there already were dropped",)
    assert_same(dataclasses.replace(data, notes=()), expected)


def test_of_two_different_records_the_same_one_stays_in_any_order(make_study: MakeStudy) -> None:
    folder = make_study()
    other = lines_of(folder)[3]
    other["results"]["values"] = [value + 1e-9 for value in other["results"]["values"]]
    first, second = folder / "records-0-of-2.jsonl", folder / "records-z.jsonl"
    write(first, [other])
    data = load_study(folder)
    assert "1 of them were not the same to the letter" in data.notes[0]
    first.rename(second)
    assert_same(load_study(folder), data)


@pytest.mark.parametrize("cut", [2, 30, 200])
def test_a_last_line_cut_short_is_dropped_and_said(make_study: MakeStudy, cut: int) -> None:
    folder = make_study()
    path = folder / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    data = load_study(folder)
    assert len(data) == 63
    assert data.notes == (
        "the study is unfinished: 63 of 64 runs",
        "1 damaged line was dropped",
    )


def test_a_line_without_its_end_is_no_record_yet(make_study: MakeStudy) -> None:
    folder = make_study()
    path = folder / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    assert load_study(folder).notes == ("the study is unfinished: 63 of 64 runs", "1 damaged line was dropped")


def test_an_unfinished_study(make_study: MakeStudy) -> None:
    folder = make_study()
    write(folder / "records.jsonl", lines_of(folder)[:10])
    data = load_study(folder)
    assert len(data) == 10
    assert data.notes == ("the study is unfinished: 10 of 64 runs",)
    assert data.group(3, 1) == slice(10, 10)


def test_runs_that_could_afford_nothing_are_left_out(make_study: MakeStudy) -> None:
    folder = make_study()
    lines = lines_of(folder)
    lines[0]["results"] |= {"queries": 0} | {name: [] for name in ("at", "rows", "values", "ranks", "regrets")}
    write(folder / "records.jsonl", lines)
    data = load_study(folder)
    assert len(data) == 63
    assert data.notes == ("runs that could not afford a single query, left out: 1",)


def test_what_tables_lack_is_nan(make_study: MakeStudy) -> None:
    folder = make_study()
    lines = lines_of(folder)
    del lines[0]["results"]["hypervolume"]
    write(folder / "records.jsonl", lines)
    data = load_study(folder)
    assert np.isnan(data.hypervolume).sum() == 1
    assert np.isnan(data.times).all()
    assert np.isnan(data.seconds).all()


def test_sessions_that_were_cut_short_are_passed_over(make_study: MakeStudy) -> None:
    folder = make_study()
    with open(folder / "sessions.jsonl", "a") as file:
        file.write('{"date": "2026-01-01T00:00:00+00:00"}\n[1]\n{"da')
    assert [s["date"][:10] for s in load_study(folder).sessions] == ["2026-01-01", "2026-11-24"]
    (folder / "sessions.jsonl").unlink()
    assert load_study(folder).sessions == []


def test_a_folder_that_is_no_studys(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected a study's folder, with study\.json, at .*, got none there; give"):
        load_study(tmp_path)
    with pytest.raises(UsageError, match="got no such folder"):
        load_study(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((name, None) for name in ("tables", "budget", "methods", "cells")),
        *(("budget", "many"), ("budget", -1), ("cells", 0), ("methods", []), ("methods", {"a": {}}), ("tables", [])),
        ("tables", {"a": {"metric": {"name": "x", "unknown": 1}, "rows": 3}}),
        ("tables", {"a": {"metric": {"name": "x"}, "rows": 0}}),
    ],
)
def test_a_damaged_study(make_study: MakeStudy, key: str, value: Any) -> None:
    folder = make_study()
    study = json.loads((folder / "study.json").read_text())
    if value is None:
        del study[key]
    else:
        study[key] = value
    (folder / "study.json").write_text(json.dumps(study))
    with pytest.raises(DataError, match=r"expected a study in .*study\.json, got something else \(.*; make the study"):
        load_study(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_study_that_is_no_json(make_study: MakeStudy, content: bytes) -> None:
    folder = make_study()
    (folder / "study.json").write_bytes(content)
    with pytest.raises(DataError, match="expected a study in"):
        load_study(folder)


def test_no_run_has_finished(make_study: MakeStudy) -> None:
    folder = make_study()
    (folder / "records.jsonl").write_text("")
    with pytest.raises(DataError, match=r"expected finished runs in .*, got 1 record files without any; run the study"):
        load_study(folder)
    (folder / "records.jsonl").unlink()
    with pytest.raises(DataError, match="got 0 record files"):
        load_study(folder)


def test_a_damaged_line_within_loses_its_own_run_alone(make_study: MakeStudy) -> None:
    folder = make_study()
    lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    whole = load_study(folder)
    lines[6] = lines[6][:40] + b"\n"
    (folder / "records.jsonl").write_bytes(b"".join(lines))
    data = load_study(folder)
    assert data.notes == ("the study is unfinished: 63 of 64 runs", "1 damaged line was dropped")
    assert len(set(whole.cell.tolist()) - set(data.cell.tolist())) == 1


def change(record: dict[str, Any], what: str) -> None:
    results = record["results"]
    at = {
        "another study's method": lambda: record.update(method="other"),
        "another study's benchmark": lambda: record.update(benchmark="other"),
        "a cell that is no hash": lambda: record.update(cell="xyz"),
        "a cell too long": lambda: record.update(cell="f" * 17),
        "no results": lambda: record.pop("results"),
        "no ranks": lambda: results.pop("ranks"),
        "a seed of text": lambda: record.update(seed="one"),
        "a list too short": lambda: results["regrets"].pop(),
        "text in a list": lambda: results["values"].__setitem__(0, "high"),
        "fractions of ranks": lambda: results["ranks"].__setitem__(0, 3.5),
        "a hypervolume of NaN": lambda: results.update(hypervolume=float("nan")),
    }
    at[what]()


@pytest.mark.parametrize(
    "what",
    [
        *("another study's method", "another study's benchmark", "a cell that is no hash", "a cell too long"),
        *("no results", "no ranks", "a seed of text", "a list too short", "text in a list", "fractions of ranks"),
        "a hypervolume of NaN",
    ],
)
def test_a_record_of_something_else(make_study: MakeStudy, what: str) -> None:
    folder = make_study()
    lines = lines_of(folder)
    change(lines[4], what)
    write(folder / "records.jsonl", lines)
    with pytest.raises(DataError, match=r"expected a record of a run of this study at records\.jsonl:5, got something"):
        load_study(folder)


@pytest.mark.parametrize("line", ["[1]", "3", '"text"', "{}"])
def test_lines_that_are_no_objects(make_study: MakeStudy, line: str) -> None:
    folder = make_study()
    with open(folder / "records.jsonl", "a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=r"at records\.jsonl:65"):
        load_study(folder)


@pytest.mark.parametrize(
    ("name", "place", "value", "words"),
    [
        ("at", 0, 0, "improvements at rising queries"),
        ("at", -1, 31, "improvements at rising queries"),
        ("at", -1, 1, "improvements at rising queries"),
        ("ranks", 0, 1001, "ranks that fall, within the table"),
        ("ranks", -1, 0, "ranks that fall"),
        ("ranks", -1, 999, "ranks that fall"),
        ("rows", 0, 1000, "rows of the table"),
        ("rows", 0, -1, "rows of the table"),
        ("values", 0, float("inf"), "finite values"),
        ("values", 0, float("nan"), "finite values"),
        ("regrets", -1, -0.5, "regrets >= 0 that fall"),
        ("regrets", -1, 99.0, "regrets >= 0 that fall"),
        ("regrets", 0, float("nan"), "regrets >= 0 that fall"),
        ("times", -1, 0.0, "times >= 0 that rise"),
    ],
)
def test_runs_that_no_search_can_have_made(
    make_study: MakeStudy, name: str, place: int, value: float, words: str
) -> None:
    folder = make_study(times=True)
    lines = lines_of(folder)
    lines[2]["results"][name][place] = value
    assert len(lines[2]["results"][name]) > 1
    write(folder / "records.jsonl", lines)
    with pytest.raises(DataError, match=rf"expected {words}.*, got others in the run of cell {lines[2]['cell']}; rem"):
        load_study(folder)


def test_two_cells_for_one_run(make_study: MakeStudy) -> None:
    folder = make_study()
    lines = lines_of(folder)
    lines[1]["seed"] = lines[0]["seed"]
    write(folder / "records.jsonl", lines)
    with pytest.raises(DataError, match="expected one run of a method, benchmark and seed"):
        load_study(folder)


def test_more_runs_than_the_plan_has(make_study: MakeStudy) -> None:
    folder = make_study()
    study = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(study | {"cells": 60}))
    with pytest.raises(DataError, match=r"expected at most the 60 runs of study\.json in .*, got 64"):
        load_study(folder)


def test_memory_is_that_of_the_arrays_not_of_the_lines(make_study: MakeStudy) -> None:
    """What stays of 2000 runs is far less than their dictionaries would take: about 100 kB of numbers each way."""
    folder = make_study({"random": 1.0}, ("bench/a",), seeds=2000, budget=20)
    tracemalloc.start()
    data = load_study(folder)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    numbers = 8 * (8 * len(data) + 6 * len(data.at))
    assert kept < 1.3 * numbers + 100_000
    assert peak < 6 * numbers + 500_000


def judged(folder: Path, **grid: Any) -> Path:
    """A study whose first run got worse in the judge's eyes at its last improvement."""
    study = json.loads((folder / "study.json").read_text())
    (folder / "study.json").write_text(json.dumps(study | {"grid": grid}))
    lines = lines_of(folder)
    lines[0]["results"]["ranks"][-1] = 900
    lines[0]["results"]["regrets"][-1] = 9.0
    write(folder / "records.jsonl", lines)
    return folder


def test_results_judged_by_another_column_may_get_worse(make_study: MakeStudy) -> None:
    data = load_study(judged(make_study(), metric="valid", judge="test"))
    assert data.notes == ("searches saw valid, results are judged by test: the best so far may get worse",)
    assert data.ranks[data.last[0]] == 900
    assert not data.found[0]


@pytest.mark.parametrize("grid", [{}, {"metric": "valid", "judge": None}, {"metric": "valid", "judge": "valid"}])
def test_without_a_judge_they_may_not(make_study: MakeStudy, grid: dict[str, Any]) -> None:
    with pytest.raises(DataError, match="expected ranks that fall"):
        load_study(judged(make_study(), **grid))
