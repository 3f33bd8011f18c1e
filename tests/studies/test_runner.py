"""A study is the same to the last byte however it was interrupted, shared out and spread over devices."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import Table
from ncp_jax.benchmarks import QueryGuard
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.checks import UsageError
from ncp_jax.records.shards import read_shard
from ncp_jax.searchers import SEARCHERS, Candidates, HostSearcher, Runs, choice, make_searcher, register, search
from ncp_jax.studies import Grid, RunnerOptions, StudyResult, run_study, runner
from ncp_jax.studies.outcomes import Evaluator
from ncp_jax.studies.plan import make_plan
from ncp_jax.studies.runner import stack

ROOT = Path(__file__).resolve().parents[2]
MEMORY_MB = 0.003  # packs of a few runs
MAIN = """
import json, sys
from ncp_jax.studies import RunnerOptions, run_study
from ncp_jax.studies.grid import grid_of

given = json.loads(sys.argv[1])
grid = grid_of(given["grid"])

def run(folder, **options):
    told = lambda done, total: print(done, total, flush=True)
    return run_study(grid, folder, RunnerOptions(**options, memory_mb=given["memory_mb"], progress=told)).finished
"""
ONE = MAIN + 'print("finished", run(given["folder"], resume=True))'
DEVICES = (
    MAIN
    + """
import jax
for count in given["counts"]:
    assert run(given["folder"] + f"/{count}", devices=count), count
print("devices", jax.device_count())
"""
)
PROCESS = (
    MAIN
    + """
import jax
jax.distributed.initialize(given["address"], 2, given["number"])
run(given["folder"])
print("process", jax.process_index(), jax.process_count())
"""
)


def start(script: str, **given: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"JAX_PLATFORMS": "cpu"} | given.pop("environment", {})
    given["folder"] = str(given["folder"])
    return subprocess.Popen(
        [sys.executable, "-c", script, json.dumps({"memory_mb": MEMORY_MB} | given)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=ROOT,
    )


def records_in(folder: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("records*.jsonl"))


@pytest.fixture(scope="module")
def grid(make_grid: Callable[..., Grid]) -> Grid:
    return make_grid(benchmarks=("mine", "other"), judge="tested", seconds=600, seconds_column="train_s")


@pytest.fixture(scope="module")
def finished(grid: Grid, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The records of the study done at once, a group of runs in one call."""
    folder = tmp_path_factory.mktemp("finished") / "out"
    assert run_study(grid, folder).finished
    assert {p.name for p in folder.iterdir() if not p.name.endswith(".lock")} == {
        "study.json",
        "records.jsonl",
        "sessions.jsonl",
    }
    return (folder / "records.jsonl").read_bytes()


def test_records_are_what_search_and_evaluator_return(finished: bytes, grid: Grid, mine: Table) -> None:
    """Each run on its own, without packs: the same."""
    view = QueryView.of(mine, budget=12, seconds=600, seconds_column="train_s")
    evaluator, candidates = Evaluator(mine, "acc", "tested", np.asarray(view.costs)), Candidates.of(mine)
    wanted = [json.loads(line) for line in finished.splitlines()]
    checked = 0
    for record in wanted:
        if record["benchmark"] == "mine" and record["seed"] in (0, 3):
            method = make_searcher(record["searcher"], **record["settings"])
            alone = stack(type(method).together([method]))
            runs = search(alone, jnp.array([record["seed"]]), candidates, view)
            (outcome,) = evaluator.score(Runs(*map(np.asarray, runs)))
            assert outcome.to_json() == record["results"]
            checked += 1
    assert checked == 10
    assert all(0 < record["results"]["seconds"] <= 600 for record in wanted)
    assert min(record["results"]["queries"] for record in wanted) < 12, "the budget in seconds never mattered"


class StopError(Exception):
    """What interrupts a study."""


def interrupted(grid: Grid, folder: Path, calls: int, **options: Any) -> None:
    left = [calls]

    def stop(done: int, total: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise StopError

    with pytest.raises(StopError):
        run_study(grid, folder, RunnerOptions(resume=True, progress=stop, memory_mb=MEMORY_MB, **options))


def test_interrupted_after_each_pack(finished: bytes, grid: Grid, tmp_path: Path) -> None:
    packs = len(make_plan(grid, memory_mb=MEMORY_MB).packs)
    assert packs >= 10
    for turn in range(packs):
        interrupted(grid, tmp_path, 1)
        assert not (tmp_path / "records.jsonl").exists()
        assert records_in(tmp_path) > turn
    # Every run is there, and nothing has put them together yet.
    assert run_study(grid, tmp_path, RunnerOptions(resume=True)).finished
    assert (tmp_path / "records.jsonl").read_bytes() == finished
    sessions = [json.loads(line) for line in (tmp_path / "sessions.jsonl").read_text().splitlines()]
    assert len(sessions) == packs
    assert sum(session["runs"] for session in sessions) == 50


def test_a_pack_half_recorded(finished: bytes, grid: Grid, tmp_path: Path) -> None:
    """The tail of a killed write: some of its runs are whole, one is cut."""
    interrupted(grid, tmp_path, 3)
    path = tmp_path / "records-0-of-1.jsonl"
    path.write_bytes(path.read_bytes()[:-150])
    said: list[str] = []
    assert run_study(grid, tmp_path, RunnerOptions(resume=True, say=said.append, memory_mb=MEMORY_MB)).finished
    assert (tmp_path / "records.jsonl").read_bytes() == finished
    assert said[0] == "dropped 1 damaged record(s); their runs are repeated"
    assert said[1].endswith("of 50 runs are finished already")


def test_killed_again_and_again(finished: bytes, grid: Grid, tmp_path: Path) -> None:
    """kill -9 at random moments, early and late: at most the call in flight is lost, also where the grid has grown."""
    draw, given = random.Random(0), {"grid": grid.to_json(), "folder": tmp_path}
    smaller = dataclasses.replace(grid, benchmarks=("mine",), seeds=4).to_json()
    kept = 0
    for turn in range(4):
        process = start(ONE, **given | ({"grid": smaller} if turn < 2 else {}))
        for _ in range(draw.randrange(1, 4) if turn else 0):
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(draw.random() * (0.02 if turn else 1.0))
        os.kill(process.pid, signal.SIGKILL)
        rest, _ = process.communicate()
        assert "finished" not in rest
        assert records_in(tmp_path) >= kept
        kept = records_in(tmp_path)
    assert kept > 0
    process = start(ONE, **given)
    out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "finished True"
    assert (tmp_path / "records.jsonl").read_bytes() == finished


def test_an_extended_study_ends_as_in_one_go(
    finished: bytes, grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More seeds, methods, benchmarks, and a larger budget, interrupted once; only what is missing is run."""
    fewer: dict[str, Any] = {name: [{}] for name in ("random", "local-search")}
    fewer["evolution"] = [{"population": 4, "tournament": 2}]
    small = dataclasses.replace(grid, searchers=fewer, benchmarks=("mine",), seeds=2)
    assert run_study(dataclasses.replace(small, budget=9), tmp_path).finished
    shorter = records_of(tmp_path / "records.jsonl")
    said: list[str] = []
    assert run_study(small, tmp_path, RunnerOptions(resume=True, say=said.append)).finished
    assert said == [f"the grid has changed: 6 runs that it does not ask for are kept in {tmp_path} (earlier-1)"]
    # The first queries of these searchers are the same for any budget; each run has its own curve.
    longer = records_of(tmp_path / "records.jsonl")
    for run, found in shorter.items():
        known = sum(at <= 9 for at in longer[run]["at"])
        assert [longer[run][key][:known] for key in ("at", "rows")] == [found["at"], found["rows"]]
    assert records_of(tmp_path / "earlier-1" / "records.jsonl") == shorter

    interrupted(grid, tmp_path, 1)
    done = records_in(tmp_path)
    assert 6 < done < 50
    run, ran = runner.run_packs, list[int]()
    monkeypatch.setattr(
        runner, "run_packs", lambda plan, packs, *rest: ran.extend(p.lanes for p in packs) or run(plan, packs, *rest)
    )
    assert run_study(grid, tmp_path, RunnerOptions(resume=True)).finished
    assert sum(ran) == 50 - done
    assert (tmp_path / "records.jsonl").read_bytes() == finished
    assert len((tmp_path / "sessions.jsonl").read_text().splitlines()) == 3


def records_of(path: Path) -> dict[tuple[Any, ...], Any]:
    """(method, benchmark, seed) → results."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return {(r["method"], r["benchmark"], r["seed"]): r["results"] for r in found}


@pytest.mark.parametrize("order", [(0, 1, 2), (3, 1, 2)])
def test_in_three_shares(finished: bytes, grid: Grid, tmp_path: Path, order: tuple[int, ...]) -> None:
    totals = []
    for place, index in enumerate(order):
        told: list[tuple[int, int]] = []
        options = RunnerOptions(f"{index}/3", progress=lambda *numbers, told=told: told.append(numbers))
        assert run_study(grid, tmp_path, options).finished is (place == 2)
        assert told[-1][0] == told[-1][1]
        totals.append(told[-1][1])
    assert sum(totals) == 50
    assert (tmp_path / "records.jsonl").read_bytes() == finished


def test_shares_of_unequal_machines(finished: bytes, grid: Grid, tmp_path: Path) -> None:
    """Memory decides how many runs go into a call, not whose they are."""
    for index, memory in enumerate((None, MEMORY_MB, 0.01)):
        assert run_study(grid, tmp_path, RunnerOptions(f"{index}/3", memory_mb=memory)).finished is (index == 2)
    assert (tmp_path / "records.jsonl").read_bytes() == finished


def test_one_or_eight_devices(finished: bytes, grid: Grid, tmp_path: Path) -> None:
    environment = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"}
    process = start(DEVICES, grid=grid.to_json(), folder=tmp_path, counts=[1, 3, 8], environment=environment)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "devices 8"
    for count in (1, 3, 8):
        assert (tmp_path / str(count) / "records.jsonl").read_bytes() == finished
        session = json.loads((tmp_path / str(count) / "sessions.jsonl").read_text())
        assert (session["devices"], session["runs"], session["shard"]) == (count, 50, "0/1")


@pytest.mark.usefixtures("optimised")
def test_models_on_one_or_eight_devices(make_grid: Callable[..., Grid], tmp_path: Path) -> None:
    """Searchers that train between queries, all of whose numbers are rounded: eight runs in one call, or each alone."""
    small = {"first": 4, "members": 2, "width": 8, "least": 2, "most": 3}
    searchers = {"bayesian": [{"initial": 4}], "neural-ensemble": [small], "ncp": [small | {"steps": 2}]}
    grid = make_grid(searchers=searchers, seeds=8)
    environment = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"}
    given = {"grid": grid.to_json(), "counts": [1, 8], "memory_mb": 500}
    process = start(DEVICES, folder=tmp_path, environment=environment, **given)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, err
    assert out.splitlines()[-1] == "devices 8"
    one, eight = ((tmp_path / count / "records.jsonl").read_bytes() for count in ("1", "8"))
    assert one == eight
    assert one.count(b"\n") == 24


def test_two_processes_of_one_job(finished: bytes, grid: Grid, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    given = {"grid": grid.to_json(), "folder": tmp_path, "address": address}
    running = [start(PROCESS, number=number, **given) for number in range(2)]
    try:
        said = [process.communicate(timeout=150) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said
    assert [out.splitlines()[-1] for out, _ in said] == ["process 0 2", "process 1 2"]
    assert (tmp_path / "records.jsonl").read_bytes() == finished
    sessions = [json.loads(line) for line in (tmp_path / "sessions.jsonl").read_text().splitlines()]
    assert {session["shard"] for session in sessions} == {"0/2", "1/2"}
    assert sum(session["runs"] for session in sessions) == 50


def test_progress_and_what_is_said(make_grid: Callable[..., Grid], tmp_path: Path) -> None:
    grid = make_grid(searchers={"random": [{}]}, seeds=9)
    told, said = [], []
    each = runner.make_plan(grid, memory_mb=MEMORY_MB).packs[0].lanes
    options = RunnerOptions(
        memory_mb=MEMORY_MB, resume=True, progress=lambda *n: told.append(n), say=lambda text: said.append(text)
    )
    assert run_study(grid, tmp_path, options).finished
    assert told == [(min(done, 9), 9) for done in range(each, 9 + each, each)]
    assert said == []
    told.clear()
    assert run_study(grid, tmp_path, options).finished
    assert (told, said) == ([], ["9 of 9 runs are finished already"])
    assert len((tmp_path / "sessions.jsonl").read_text().splitlines()) == 1


def test_the_result_says_what_is_recorded(make_grid: Callable[..., Grid], tmp_path: Path) -> None:
    grid = make_grid(searchers={"random": [{}]}, seeds=9)
    first = run_study(grid, tmp_path, RunnerOptions("0/2"))
    assert first == StudyResult(folder=tmp_path, finished=False, runs=9, done=5)
    second = run_study(grid, tmp_path, RunnerOptions("1/2"))
    assert second == StudyResult(folder=tmp_path, finished=True, runs=9, done=9)
    folder = str(tmp_path)
    assert second.to_json() == {"schema": "study/1", "folder": folder, "finished": True, "runs": 9, "done": 9}
    assert next(iter(second.to_json())) == "schema"


def test_a_finished_study_computes_nothing(
    finished: bytes, grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_study(grid, tmp_path).finished
    monkeypatch.setattr(runner, "run_packs", lambda *_: pytest.fail("run again"))
    assert run_study(grid, tmp_path, RunnerOptions(resume=True)).finished
    for index in range(3):
        assert run_study(grid, tmp_path, RunnerOptions(f"{index}/3", resume=True)).finished
    assert (tmp_path / "records.jsonl").read_bytes() == finished
    with pytest.raises(UsageError, match="add --resume"):
        run_study(grid, tmp_path)


def test_a_host_searcher_keeps_the_budget_in_seconds(
    make_grid: Callable[..., Grid], tmp_path: Path, mine: Table, records: Callable[[Path], list[dict[str, Any]]]
) -> None:
    """It knows queries alone; what goes beyond is cut off, as if it had been stopped then."""
    searchers: Any = {"arch-graph": [{"first": 4, "batch": 4, "members": 2, "steps": 5}]}
    free = make_grid(searchers=searchers, seeds=3, budget=8, seconds_column="train_s")
    assert run_study(free, tmp_path / "free").finished
    assert run_study(dataclasses.replace(free, seconds=200.0), tmp_path / "timed").finished
    for whole, cut in zip(records(tmp_path / "free"), records(tmp_path / "timed"), strict=True):
        whole, cut = whole["results"], cut["results"]
        assert (whole["queries"], whole["seconds"] > 200) == (8, True)
        assert 0 < cut["queries"] < 8
        assert cut["seconds"] <= 200
        assert cut["at"] == [at for at in whole["at"] if at <= cut["queries"]]
        assert cut["rows"] == whole["rows"][: len(cut["rows"])]


def test_a_registered_searcher_is_a_method_of_a_grid(
    make_grid: Callable[..., Grid],
    tmp_path: Path,
    mine: Table,
    records: Callable[[Path], list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing but the decorator is needed, also for a searcher that runs on the host."""

    class InOrder(HostSearcher):
        name: ClassVar[str] = "in-order"
        runs_per_call: ClassVar[int] = 2

        step: int = choice(1, "distance of two queries")

        def run(self, guard: QueryGuard, seeds: Sequence[int], sources: object = None) -> None:
            guard.query(np.arange(guard.budget) * self.step + np.array(seeds)[:, None])

    monkeypatch.setitem(SEARCHERS, InOrder.name, InOrder)  # taken back in the end
    register(InOrder)
    grid = make_grid(searchers={"in-order": [{"step": [1, 2]}], "random": [{}]}, seeds=3)
    assert run_study(grid, tmp_path).finished
    values = np.asarray(mine.column("acc"))
    for record in records(tmp_path)[:6]:
        step, seed, found = record["settings"]["step"], record["seed"], record["results"]
        rows = np.arange(12) * step + seed
        best = np.maximum.accumulate(values[rows])
        assert found["queries"] == found["asks"] == 12
        assert found["values"][-1] == pytest.approx(best[-1])
        assert found["rows"] == [row for i, row in enumerate(rows) if i == 0 or best[i] > best[i - 1]]


def test_a_full_disk_in_the_middle(
    finished: bytes, grid: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was finished is whole, the error says what to do, and with some space the study goes on."""
    syncs, sync = [0], os.fsync

    def full(descriptor: int) -> None:
        syncs[0] += 1
        if syncs[0] > 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr("ncp_jax.files.os.fsync", full)
        with pytest.raises(OSError, match=r"expected to write .*records-0-of-1\.jsonl, got a full disk .*--resume"):
            run_study(grid, tmp_path, RunnerOptions(memory_mb=MEMORY_MB))
    kept = [json.loads(line) for line in (tmp_path / "records-0-of-1.jsonl").read_text().splitlines()]
    assert 0 < len(kept) < 50
    assert run_study(grid, tmp_path, RunnerOptions(resume=True)).finished
    assert (tmp_path / "records.jsonl").read_bytes() == finished


@pytest.mark.parametrize(
    ("text", "share"),
    [("0/1", (0, 1)), ("1/1", (0, 1)), ("0/3", (0, 3)), ("3/3", (0, 3)), ("2/3", (2, 3)), ("", (0, 1))],
)
def test_shards(text: str, share: tuple[int, int]) -> None:
    assert read_shard(text) == share


@pytest.mark.parametrize("text", ["3", "/3", "3/", "4/3", "-1/3", "0/0", "1.5/3", "a/b", "1/2/3", " ", "²/3"])
def test_wrong_shards(text: str, grid: Grid, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected --shard i/N with N >= 1 .*, got '.*'; try --shard 0/8"):
        run_study(grid, tmp_path / "out", RunnerOptions(text))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("count", [0, -1, 2])
def test_devices_that_are_not_there(grid: Grid, tmp_path: Path, count: int) -> None:
    with pytest.raises(UsageError, match=rf"expected 1\.\.1 devices, got {count}"):
        run_study(grid, tmp_path / "out", RunnerOptions(devices=count))
    assert not (tmp_path / "out").exists()


def test_nothing_is_written_for_a_wrong_grid(make_grid: Callable[..., Grid], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected a budget of queries"):
        run_study(make_grid(budget=100), tmp_path / "out")
    assert not (tmp_path / "out").exists()
