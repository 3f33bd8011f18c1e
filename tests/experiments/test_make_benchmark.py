"""experiments/make_benchmark.py: a smoke run, its continuation, and its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

SCRIPT = "make_benchmark.py"


def test_a_smoke_run_and_its_continuation(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    options = ("--smoke", "--tasks", "class", "--limit", 5, "--repeated", 3, "--chunk", 4, "--out", tmp_path)
    status, out, err = run(*options)
    assert status == 0, err
    assert "class: 5 architectures" in out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "make_benchmark/1")
    assert summary["seeds"]["class"]["architectures"] == 3
    status, _, err = run(*options)
    assert status == 2
    assert "add --resume" in err
    status, out, err = run(*options, "--resume", "--epochs", 3)
    assert status == 0, err  # --smoke has an epoch of its own
    status, _, err = run("--tasks", "class", "--limit", 5, "--chunk", 4, "--out", tmp_path, "--resume")
    assert status == 2
    assert "training.epochs: 1 there, 16 now" in err
    assert "choose another --out" in err
