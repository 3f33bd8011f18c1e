"""Searchers of learning curves are methods of a study on an imported table, judged as all others are."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import import_tables, load_curves, load_table, write_report
from ncp_jax.analysis.ranks import kendall_tau
from ncp_jax.benchmarks import EpochGuard
from ncp_jax.benchmarks.curves import curves_of
from ncp_jax.checks import DataError, UsageError
from ncp_jax.searchers import make_searcher, search_on_curves
from ncp_jax.studies import Grid, RunnerOptions, run_study
from ncp_jax.studies.plan import make_plan

from ..benchmarks.official_files import transnas
from ..benchmarks.torch_containers import archive

EPOCHS, ROWS = 9, 81
TABLE = "some-micro/jigsaw"
Records = Callable[[Path], list[dict[str, Any]]]


def write_table(folder: Path) -> None:
    """Imports a file whose curves have a level of their own each."""
    content = transnas(micro=ROWS, macro=0, epochs=EPOCHS)
    rng = np.random.default_rng(1)
    for tasks in content["data"]["micro"].values():
        level = rng.random()
        metrics = tasks["jigsaw"]["metrics"]
        for column in ("valid_top1", "test_top1"):
            metrics[column] = (level + 0.05 * rng.normal(size=EPOCHS)).tolist()
    path = folder / "file.pth"
    path.write_bytes(archive(content))
    import_tables("transnas", path, name="some", notify=lambda _: None)


def change_curves(cache: Path, row: int, first: int, value: float) -> None:
    """Changes the curve of an architecture in the cache, but not its last value, unless told to."""
    (path,) = cache.rglob("jigsaw/valid_top1.npy")
    values = np.load(path)
    values[row, first : EPOCHS - 1 if np.isfinite(value) else EPOCHS] = value
    np.save(path, values)


@pytest.fixture
def grid(empty_cache: Path, tmp_path: Path) -> Grid:
    write_table(tmp_path)
    searchers: dict[str, list[dict[str, Any]]] = {"random": [{}], "halving": [{}], "asha": [{"factor": [2, 3]}]}
    return Grid(searchers, (TABLE,), budget=8, seeds=3, seconds_column="time_elapsed")


def test_records_against_brute_force(grid: Grid, tmp_path: Path, records: Records) -> None:
    """Queries, epochs and what is returned, by hand from the steps of a run; ranks and regrets of final values."""
    assert run_study(dataclasses.replace(grid, judge="test_top1"), tmp_path / "out").finished
    table = load_table(TABLE)
    curves, tested = load_curves(TABLE, "valid_top1").values, load_curves(TABLE, "test_top1").values[:, -1]
    found = records(tmp_path / "out")
    assert [record["method"] for record in found[::3]] == ["random", "halving", "asha factor=2", "asha factor=3"]
    assert all(("epochs" in record["results"]) == (record["searcher"] != "random") for record in found)
    for record in found[3:]:
        results, searcher = record["results"], make_searcher(record["searcher"], **record["settings"])
        steps = steps_of(searcher, record["seed"], np.asarray(curves), len(table))
        returned, paid = by_hand(steps, np.asarray(curves))
        changes = [q for q in range(len(returned)) if q == 0 or returned[q] != returned[q - 1]]
        assert (results["epochs"], results["queries"]) == (paid, len(returned))
        assert results["asks"] == len({row for row, _ in steps})
        assert results["at"] == [q + 1 for q in changes]
        rows = results["rows"]
        assert rows == [returned[q] for q in changes]
        assert results["ranks"] == [1 + int((tested > tested[row]).sum()) for row in rows]
        np.testing.assert_allclose(results["values"], tested[rows], rtol=1e-6)
        np.testing.assert_allclose(results["regrets"], tested.max() - tested[rows], rtol=1e-4, atol=1e-6)
        assert results["times"] == sorted(results["times"])
        assert results["times"][-1] <= results["seconds"] * (1 + 1e-6)
    report = write_report(tmp_path / "out")
    assert list(report.methods) == ["random", "halving", "asha factor=2", "asha factor=3"]
    assert any("runs on learning curves are judged by" in note for note in report.notes)


def steps_of(searcher: Any, seed: int, curves: np.ndarray, rows: int) -> list[tuple[int, int]]:
    """The steps of a run, from a guard that notes the calls."""
    codes = np.asarray(load_table(TABLE).codes)
    guard = EpochGuard(curves, codes=codes, space="transnas-micro", budget=8 * EPOCHS)
    searcher.spend(guard, seed)
    assert rows == len(codes)
    return guard.steps


def by_hand(steps: list[tuple[int, int]], curves: np.ndarray) -> tuple[list[int], int]:
    """What is returned after 1, 2, … queries, and the epochs paid for, if every leader has to be trained to the end."""
    reached: dict[int, int] = {}
    best, spent, returned, paid = (0, -np.inf), 0, [-1] * 8, 0
    for row, until in steps:
        spent += until - reached.get(row, 0)
        reached[row] = until
        if (until, curves[row, until - 1]) > best:
            best = until, float(curves[row, until - 1])
            due = spent + EPOCHS - until
            if due <= 8 * EPOCHS:
                for query in range(-(-due // EPOCHS), 9):
                    returned[query - 1] = row
                paid = due
    paid = max(spent, paid)
    return returned[: -(-paid // EPOCHS)], paid


def test_interrupted_and_resumed(grid: Grid, tmp_path: Path) -> None:
    """Run by run: the bytes are those of a study at one go."""

    class StopError(Exception):
        pass

    assert run_study(grid, tmp_path / "whole").finished
    turns = 0

    def stop(done: int, total: int) -> None:
        raise StopError

    while turns < 20:
        try:
            run_study(grid, tmp_path / "out", RunnerOptions(resume=True, progress=stop))
            break
        except StopError:
            turns += 1
    assert turns == 1 + 3 * 3  # one call for all seeds of random, one for each other run
    assert (tmp_path / "out/records.jsonl").read_bytes() == (tmp_path / "whole/records.jsonl").read_bytes()
    for share in (1, 2):
        run_study(grid, tmp_path / "shares", RunnerOptions(f"{share}/2"))
    assert (tmp_path / "shares/records.jsonl").read_bytes() == (tmp_path / "whole/records.jsonl").read_bytes()


def test_a_study_is_extended_by_them(grid: Grid, empty_cache: Path, tmp_path: Path, records: Records) -> None:
    """Records of the others stay; study.json then has the hash of the curves, which must not change."""
    alone = dataclasses.replace(grid, searchers={"random": [{}]})
    assert run_study(alone, tmp_path / "out").finished
    before = (tmp_path / "out/records.jsonl").read_bytes()
    assert "curves" not in json.loads((tmp_path / "out/study.json").read_text())["tables"][TABLE]
    said: list[str] = []
    assert run_study(grid, tmp_path / "out", RunnerOptions(resume=True, say=said.append)).finished
    assert (tmp_path / "out/records.jsonl").read_bytes().startswith(before)
    assert said == ["3 of 12 runs are finished already"]
    assert len(json.loads((tmp_path / "out/study.json").read_text())["tables"][TABLE]["curves"]) == 64
    # The same final values with other curves: runs on curves are other runs.
    cells = {record["method"]: record["cell"] for record in records(tmp_path / "out")}
    change_curves(empty_cache, 5, 6, 0.5)
    plan = make_plan(grid)
    for method, cell in cells.items():
        assert (plan.cell(TABLE, method, 2) == cell) == (method == "random")
    with pytest.raises(UsageError, match=r"expected .* to hold this study, got another study"):
        run_study(grid, tmp_path / "out", RunnerOptions(resume=True))


def test_what_was_not_paid_for_is_not_in_the_search(grid: Grid, tmp_path: Path) -> None:
    """A study whose curves differ where nobody paid returns the same architectures; a guard sees to it."""
    plan = make_plan(grid)
    table, view, curves = plan.tables[TABLE], plan.view(TABLE), plan.curves(TABLE)
    for name in ("halving", "asha"):
        searcher = make_searcher(name)
        before = search_on_curves(searcher, (0,), table, view, curves)
        paid = dict(steps_of(searcher, 0, curves.values, len(table)))
        values = curves.values.copy()
        for row in range(len(table)):
            values[row, paid.get(row, 0) :] = 77.0
        after = search_on_curves(searcher, (0,), table, view, dataclasses.replace(curves, values=values))
        assert before.leaders is not None
        assert after.leaders is not None
        np.testing.assert_array_equal(before.leaders.rows, after.leaders.rows)


def test_refusals(grid: Grid, make_grid: Callable[..., Grid], tmp_path: Path) -> None:
    searchers: dict[str, Any] = {"asha": [{}]}
    out = tmp_path / "out"
    with pytest.raises(
        UsageError, match="expected a table with learning curves, got mine, which has none; choose from:"
    ):
        run_study(make_grid(searchers=searchers), out)
    # A table of the user's own has none, whatever it is called.
    own = make_grid()
    named = dataclasses.replace(own, searchers=searchers, benchmarks=(TABLE,), tables={TABLE: own.tables["mine"]})
    with pytest.raises(UsageError, match=f"expected a table with learning curves, got {TABLE}, which has none"):
        run_study(named, out)
    for column, wanted in (
        ("encoder_params", "a column of some-micro/jigsaw with learning curves, got encoder_params; choose from: "),
        ("test_top1", "got test_top1 of the test split"),
    ):
        with pytest.raises(UsageError, match=wanted):
            run_study(dataclasses.replace(grid, searchers=searchers, metric=column), out)
    late = dataclasses.replace(grid, searchers={"halving": [{"least": [3, 10]}]})
    with pytest.raises(
        UsageError, match=r"expected least to be an integer in 1\.\.9, got 10; the curves have 9 epochs"
    ):
        run_study(late, out)
    with pytest.raises(UsageError, match=r"factor of halving \(one in so many goes on\) to be an integer >= 2, got 1"):
        run_study(dataclasses.replace(grid, searchers={"halving": [{"factor": 1}]}), out)
    assert not out.exists()


def test_a_curve_that_ends_earlier(grid: Grid, empty_cache: Path) -> None:
    """Trainings of another length cannot be compared by epochs."""
    table = load_table(TABLE)
    change_curves(empty_cache, 5, 6, np.nan)
    with pytest.raises(DataError, match="expected curves of 9 epochs in valid_top1 of some-micro/jigsaw, got 1 of 81"):
        curves_of(table, "valid_top1")


def test_predictors_of_partial_curves_are_scored(grid: Grid, tmp_path: Path, records: Records) -> None:
    """By Kendall's tau with the whole table, in studies with sources; else of what was trained to the end."""
    searchers: dict[str, Any] = {
        "halving": [{}],
        "asha": [{"begin": "predicted"}],
        "early-stopping": [{"predictor": ["process", "last-value"]}],
    }
    scored = dataclasses.replace(grid, searchers=searchers, sources="none", budget=20)
    assert run_study(scored, tmp_path / "out").finished
    plan = make_plan(scored)
    curves = plan.curves(TABLE)
    final = plan.tables[TABLE].measured("valid_top1")
    for record in records(tmp_path / "out"):
        searcher = make_searcher(record["searcher"], **record["settings"])
        guard = EpochGuard(curves.values, codes=curves.codes, space=curves.space, budget=20 * EPOCHS)
        predicted = searcher.spend(guard, record["seed"], predict=True)
        if predicted is None:
            assert record["searcher"] == "halving"
            whole = [row for row, until in guard.steps if until == EPOCHS]
            predicted = np.full(ROWS, final[whole].mean())
            predicted[whole] = final[whole]
        (tau,) = kendall_tau(predicted[None].astype(np.float32), final)
        assert record["results"]["tau"] == pytest.approx(tau, abs=1e-6)
    # Without sources nothing is predicted, and the searches are the same.
    assert run_study(dataclasses.replace(scored, sources=None), tmp_path / "unscored").finished
    for record, other in zip(records(tmp_path / "out"), records(tmp_path / "unscored"), strict=True):
        assert "tau" not in other["results"]
        del record["results"]["tau"]
        assert record["results"] == other["results"]


def test_what_is_returned_may_get_worse(grid: Grid, tmp_path: Path, records: Records) -> None:
    """A longer training is returned instead of a better final value that is not known yet; reports allow for that."""
    out = tmp_path / "out"
    assert run_study(grid, out).finished
    worse = [r for r in records(out) if r["results"]["ranks"] != sorted(r["results"]["ranks"], reverse=True)]
    assert worse
    assert {record["searcher"] for record in worse} <= {"halving", "asha"}
    report = write_report(out)
    assert "runs on learning curves are judged by what they would return, trained to the end, " in "".join(report.notes)
    found = records(out)
    for record in found:
        record["results"].pop("epochs", None)
    (out / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in found))
    with pytest.raises(DataError, match="expected ranks that fall, within the table"):
        write_report(out)
