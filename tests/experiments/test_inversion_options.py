"""experiments/inversion_options.py: a smoke run, its files, its continuation, its refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = "inversion_options.py"


def test_a_smoke_run_and_its_continuation(
    tmp_path: Path, mirror: Path, run: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    status, printed, err = run("--smoke", "--out", folder)
    assert status == 0, err
    assert {"config.json", "records.jsonl", "summary.json", "options_top.png"} <= {p.name for p in folder.iterdir()}
    summary = json.loads((folder / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "inversion_options/1")
    options = summary["options"]["transnas-macro"]
    assert set(options) == {"30", "all"}
    variants = options["all"]["variants"]
    assert set(variants) == {"plain", "bound-1", "polish", "enumeration"}
    assert variants["plain"]["difference"]["top"]["mean"] == 0.0
    assert f"transnas-macro, polish: true score {variants['polish']['difference']['top']['mean']:+.3f}" in printed

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("inverted again")

    monkeypatch.setattr("proposals.options.compare_variants", refuse)
    lines = (folder / "records.jsonl").read_bytes()
    assert run("--smoke", "--resume", "--out", folder)[:2] == (0, printed)
    assert (folder / "records.jsonl").read_bytes() == lines
    status, _, err = run("--smoke", "--resume", "--steps", 3, "--out", folder)
    assert status == 2
    assert "steps: 70 there, 3 now" in err


def test_wrong_options(tmp_path: Path, mirror: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    status, _, err = run("--smoke", "--tasks", "jigsau", "--out", tmp_path / "out")
    assert status == 2
    assert "expected a known task, got 'jigsau'; did you mean: jigsaw" in err
    status, _, err = run("--benchmarks", "nas-bench-101", "--out", tmp_path / "out")
    assert status == 2
    assert "expected a known benchmark, got 'nas-bench-101'" in err
    assert not (tmp_path / "out").exists()
