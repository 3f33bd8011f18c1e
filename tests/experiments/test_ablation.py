"""experiments/ablation.py: a smoke run, interruptions, shares, one job of two processes, errors."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = "ablation.py"
GRID = """
benchmarks = ["transnas-macro/jigsaw"]
budget = 15
seeds = 4
repeats = "counted"

[searchers.random]

[[searchers.evolution]]
population = [4, 8]
tournament = [2, 3]
[[searchers.evolution]]
population = 2

[searchers.local-search]
move = ["first", "best"]
"""
METHODS = [
    "random",
    *(f"evolution population={p} tournament={t}" for p in (4, 8) for t in (2, 3)),
    "evolution population=2",
    "local-search move=first",
    "local-search move=best",
]


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory, mirror: Path) -> Path:
    path = tmp_path_factory.mktemp("grid") / "grid.toml"
    path.write_text(GRID)
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, grid: Path, complete: Callable[..., tuple[str, str]]) -> Path:
    """The folder of the ablation done at once."""
    folder = tmp_path_factory.mktemp("ablation") / "out"
    out, _ = complete(SCRIPT, grid, "--out", folder)
    assert all(method in out for method in METHODS)
    return folder


def summary_of(folder: Path) -> dict[str, Any]:
    found = json.loads((folder / "summary.json").read_text(), parse_constant=lambda n: pytest.fail(f"{n} in JSON"))
    return {key: value for key, value in found.items() if key != "date"}


def test_what_an_ablation_writes(whole: Path) -> None:
    names = {p.name for p in whole.iterdir()}
    assert {"study.json", "records.jsonl", "sessions.jsonl", "summary.json", "report.html", "runs.csv"} <= names
    records = [json.loads(line) for line in (whole / "records.jsonl").read_text().splitlines()]
    assert [(r["method"], r["seed"]) for r in records] == [(m, seed) for m in METHODS for seed in range(4)]
    assert {r["results"]["queries"] for r in records} == {15}
    summary = summary_of(whole)
    assert list(summary["methods"]) == METHODS
    assert {"benchmarks", "comparison", "config", "versions", "device"} <= set(summary)
    assert (summary["config"]["smoke"], summary["config"]["seeds"]) == (False, 4)


def test_a_smoke_run_and_other_seeds(run: Callable, grid: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for options, seeds, budget in ((("--smoke",), 2, 12), (("--seeds", 3, "--resume"), 3, 15)):
        status, _, err = run(grid, *options, "--out", folder)
        assert status == 0, err
        config = summary_of(folder)["config"]
        assert (config["seeds"], config["budget"]) == (seeds, budget)
        assert len((folder / "records.jsonl").read_text().splitlines()) == seeds * len(METHODS)
    # The smoke run had another budget: it is kept beside, with its summary, and its runs are not mixed in.
    assert "the grid has changed: 16 runs that it does not ask for are kept in " in err
    assert summary_of(folder / "earlier-1")["config"]["smoke"] is True


def test_resume_repeats_nothing(
    whole: Path, grid: Path, run: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, records = summary_of(whole), (whole / "records.jsonl").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("ncp_jax.studies.runner.run_packs", lambda *_: pytest.fail("searched again"))
        status, out, err = run(grid, "--resume", "--out", whole)
    assert status == 0, err
    assert "32 of 32 runs are finished already" in err
    assert METHODS[1] in out
    assert (whole / "records.jsonl").read_bytes() == records
    assert summary_of(whole) == before
    status, _, err = run(grid, "--out", whole)
    assert status == 2
    assert "add --resume or choose another --out" in err.splitlines()[-1]
    other = tmp_path / "other.toml"
    other.write_text(GRID.replace('repeats = "counted"', 'repeats = "free"'))
    status, _, err = run(other, "--resume", "--seeds", 5, "--out", whole)
    assert status == 2
    assert "got another study (grid.repeats: 'counted' there, 'free' now)" in err.splitlines()[-1]


def test_killed_and_resumed_in_shares(
    whole: Path, grid: Path, launch: Callable[..., subprocess.Popen[str]], run: Callable, tmp_path: Path
) -> None:
    """kill -9 after the first records, then other shares than before: the same study."""
    folder = tmp_path / "out"
    process = launch(grid, "--memory-mb", "0.05", "--out", folder)
    assert process.stderr is not None
    assert process.stderr.readline().startswith("runs: ")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (folder / "summary.json").exists()
    for index in range(3):
        status, out, err = run(grid, "--resume", "--shard", f"{index}/3", "--out", folder)
        assert status == 0, err
        assert bool(out) == (index == 2)
    assert (folder / "records.jsonl").read_bytes() == (whole / "records.jsonl").read_bytes()
    left_out = ("run_card", "checklist")  # who ran what when
    assert {k: v for k, v in summary_of(folder).items() if k not in left_out} == {
        k: v for k, v in summary_of(whole).items() if k not in left_out
    }


def test_one_job_of_two_processes(
    whole: Path, grid: Path, launch: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    folder = tmp_path / "out"
    running = [
        launch(grid, "--coordinator", address, "--shard", f"{number}/2", "--out", folder, JAX_PLATFORMS="cpu")
        for number in range(2)
    ]
    try:
        said = [process.communicate(timeout=200) for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0, 0], said
    assert [METHODS[1] in out for out, _ in said] == [True, False]
    assert (folder / "records.jsonl").read_bytes() == (whole / "records.jsonl").read_bytes()
    assert summary_of(folder)["benchmarks"] == summary_of(whole)["benchmarks"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("[searchers.random]", "[searchers.randon]"), "expected a known searcher, got 'randon'; did you mean: random"),
        (("move =", "moev ="), "expected a known setting of local-search, got 'moev'; did you mean: move"),
        (("budget = 15", "budgte = 15"), "expected a known key of a grid, got 'budgte'; did you mean: budget"),
        (("budget = 15", "budget = 0"), "expected budget to be an integer in 1.., got 0"),
        (('"counted"', '"free"\nseconds = 9'), "expected one column of training seconds"),
        (
            ("jigsaw", "jigsau"),
            "expected a known benchmark, got 'transnas-macro/jigsau'; did you mean: transnas-macro/j",
        ),
        (("[4, 8]", "[]"), "expected a value for population, got an empty list"),
    ],
)
def test_wrong_grids(run: Callable, mirror: Path, tmp_path: Path, change: tuple[str, str], words: str) -> None:
    (tmp_path / "grid.toml").write_text(GRID.replace(*change))
    status, out, err = run(tmp_path / "grid.toml", "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert words.replace("1..,", "1..2147483647,") in err
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_grids(run: Callable, tmp_path: Path) -> None:
    status, _, err = run(tmp_path / "gird.toml", "--out", tmp_path / "out")
    assert status == 1
    assert len(err.splitlines()) == 1
    assert "expected a grid, got no file" in err
    (tmp_path / "grid.toml").write_text("budget = = 3")
    status, _, err = run(tmp_path / "grid.toml", "--out", tmp_path / "out")
    assert status == 1
    assert len(err.splitlines()) == 1
    assert "expected TOML in" in err
    assert run("--out", tmp_path / "out")[0] == 2
    assert run(tmp_path / "grid.toml", "--seeds", -1, "--out", tmp_path / "out")[0] == 2
    assert not (tmp_path / "out").exists()
