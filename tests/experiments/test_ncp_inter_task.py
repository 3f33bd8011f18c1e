"""experiments/ncp_inter_task.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = "ncp_inter_task.py"
OPTIONS = ("--smoke", "--seeds", "1", "--benchmarks", "digits", "--methods", "evolution,nsga2,optuna-nsga2")
# A smoke run waits for its times, however slow the machine: shares of them are not tested.
TIMES = ("--seconds", "0.5", "1")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, complete: Callable[..., tuple[str, str]]) -> Path:
    folder = tmp_path_factory.mktemp("ncp_inter_task") / "out"
    complete(SCRIPT, *OPTIONS, *TIMES, "--out", folder)
    return folder


def test_what_a_smoke_run_writes(smoke: Path) -> None:
    assert {"config.json", "records.jsonl", "summary.json", "inter_task_digits.png"} <= {
        p.name for p in smoke.iterdir()
    }
    summary = json.loads((smoke / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "ncp_inter_task/1")
    assert {"benchmarks", "config", "versions", "device", "date"} <= set(summary)
    digits = summary["benchmarks"]["digits"]
    assert digits["tasks"] == ["class", "rotation", "jigsaw", "autoencoder", "edges"]
    assert list(digits["methods"]) == ["inversion", "evolution", "nsga2", "optuna-nsga2"]
    assert set(digits["sets"]) == {"single-task", "table", "exhaustive"}
    assert set(digits["against"]["evolution"]) == {"0.5", "1"}
    # The table's own front is the largest that there is; no answer is off the table.
    best = digits["sets"]["table"]["judged"]["mean"]
    assert 0 < best <= 1
    for by_mark in digits["methods"].values():
        assert 0 <= by_mark["1"]["judged"]["mean"] <= best
        assert by_mark["1"]["seconds"]["mean"] <= 1
    assert digits["most_of_budget"] <= 1


def test_a_finished_run_is_summarised_anew_without_a_search(
    smoke: Path, tmp_path: Path, complete: Callable[..., tuple[str, str]]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(smoke, folder)
    before = json.loads((folder / "summary.json").read_text())
    for name in ("summary.json", "inter_task_digits.png"):
        os.remove(folder / name)
    complete(SCRIPT, *OPTIONS, *TIMES, "--resume", "--out", folder)
    assert json.loads((folder / "summary.json").read_text())["benchmarks"] == before["benchmarks"]
    assert (folder / "inter_task_digits.png").exists()
    assert (folder / "records.jsonl").read_bytes() == (smoke / "records.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--benchmarks", "micros"), "did you mean: micro"),
        (("--methods", "nsga3"), "did you mean: nsga2"),
        (("--benchmarks", "digits", "--weights", "3"), "--weights"),
        (("--benchmarks", "digits", "--rows", "3"), "--rows"),
        (("--seconds", "2", "1"), "ascending"),
        (("--members", "0"), "--members"),
        (("--clock", "cpus"), "did you mean: cpu"),
    ],
)
def test_bad_input(run: Callable[..., tuple[int, str, str]], tmp_path: Path, options, expected: str) -> None:
    status, _, err = run("--smoke", *options, "--out", tmp_path / "out")
    assert status == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
