"""experiments/arch_graph.py: a smoke run, what it writes, how it continues and how it fails."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = "arch_graph.py"
METHODS = ("arch_graph", "borda", "no_transfer", "gaussian_process", "mean_rank", "random")
TASKS = ("class_scene", "jigsaw", "normal")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, mirror: Path, start: Callable[..., int]) -> Path:
    folder = tmp_path_factory.mktemp("arch_graph") / "out"
    assert start("--smoke", "--out", folder) == 0
    return folder


def summary_of(folder: Path) -> dict[str, Any]:
    found = json.loads(
        (folder / "summary.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON")
    )
    return {k: v for k, v in found.items() if k not in ("seconds", "date", "run_card", "checklist")}


def test_what_a_smoke_run_writes(smoke: Path) -> None:
    names = {p.name for p in smoke.iterdir()}
    assert {"study.json", "records.jsonl", "summary.json", "report.html", "curves.png", "calibration.png"} <= names
    for path in smoke.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    summary = summary_of(smoke)
    assert next(iter(summary.items())) == ("schema", "arch_graph/1")
    for measure in ("percentile", "rank", "tau"):
        assert set(summary[measure]) == set(METHODS)
        for interval in summary[measure].values():
            assert interval["low"] <= interval["mean"] <= interval["high"]
    assert set(summary["tasks"]) == set(summary["architectures"]) == set(TASKS)
    for by_method in summary["tasks"].values():
        assert set(by_method) == set(METHODS)
        assert all(set(m) == {"percentile", "rank", "regret", "tau"} for m in by_method.values())
        assert all(m["regret"]["low"] >= 0 for m in by_method.values())
    for name, curve in summary["curves"].items():
        assert len(curve["mean"]) == 12
        assert sorted(curve["mean"], reverse=True) == curve["mean"], f"the best of {name} became worse"
        assert curve["mean"][-1] == pytest.approx(summary["percentile"][name]["mean"])
    assert set(summary["calibration"]) == {"arch_graph", "no_transfer", "gaussian_process"}
    assert summary["similarity"]["tasks"] == list(TASKS)
    assert len(summary["similarity"]["kendall"]) == len(summary["similarity"]["fingerprint"]) == 3
    assert set(summary["config"]["tables"]) == {f"transnas-micro/{task}" for task in TASKS}
    # Seven good sources against none: even networks of eight units know what a random search does not.
    assert summary["percentile"]["arch_graph"]["mean"] < summary["percentile"]["random"]["mean"]


def test_an_interrupted_run_goes_on(smoke: Path, run: Callable, tmp_path: Path) -> None:
    """The last records and half a line are lost; what comes out is the same."""
    folder = tmp_path / "out"
    shutil.copytree(smoke, folder)
    (folder / "summary.json").unlink()
    lines = (folder / "records.jsonl").read_bytes().splitlines(keepends=True)
    assert len(lines) == len(METHODS) * len(TASKS) * 2
    (folder / "records.jsonl").write_bytes(b"".join(lines[:-2]) + lines[-2][:40])
    status, _, err = run("--smoke", "--resume", "--out", folder)
    assert status == 0, err
    assert summary_of(folder) == summary_of(smoke)


def test_records_are_not_overwritten(smoke: Path, run: Callable) -> None:
    before = {p.name: p.read_bytes() for p in smoke.iterdir()}
    status, _, err = run("--smoke", "--out", smoke)
    assert status == 2
    assert err.splitlines()[-1].startswith("ncp-jax: error: expected a folder without records for --out")
    status, _, err = run("--smoke", "--resume", "--sources", "one", "--out", smoke)
    assert status == 2
    assert "grid.sources: 'all' there, 'one' now" in err.splitlines()[-1]
    assert {p.name: p.read_bytes() for p in smoke.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("--space micr", "got 'micr'; did you mean: micro"),
        ("--methods randon", "got 'randon'; did you mean: random"),
        ("--sources al", "got 'al'; did you mean: all"),
        ("--source-budget few", "expected --source-budget all or a number from 2, got 'few'"),
        ("--encoder grap", "got 'grap'; did you mean: graph"),
        ("--tasks jigsw", "got 'jigsw'; did you mean: jigsaw"),
        ("--seeds 0", "expected --seeds to be an integer 1 or more, got 0"),
        ("--batch 0", "expected a larger batch, got 0"),
    ],
)
def test_wrong_options(run: Callable, mirror: Path, tmp_path: Path, options: str, words: str) -> None:
    status, _, err = run(*options.split(), "--smoke", "--out", tmp_path / "out")
    assert status == 2
    assert words in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
