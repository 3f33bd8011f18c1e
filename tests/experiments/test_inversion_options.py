"""experiments/inversion_options.py: a smoke run, what it writes, how it continues and how it fails."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parent.parent.parent / "experiments" / "inversion_options.py"


def start(*arguments: object) -> int:
    """Runs the script in this process and returns its exit status."""
    before = sys.argv
    sys.argv = [SCRIPT.name, *map(str, arguments)]
    try:
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(SCRIPT), run_name="__main__")
    finally:
        sys.argv = before
    return int(caught.value.code or 0)


def test_a_smoke_run_and_its_continuation(
    tmp_path: Path, mirror: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "out"
    assert start("--smoke", "--out", folder) == 0
    printed = capsys.readouterr().out
    assert {"config.json", "records.jsonl", "summary.json", "options_top.png"} <= {p.name for p in folder.iterdir()}
    options = json.loads((folder / "summary.json").read_text())["options"]["transnas-macro"]
    assert set(options) == {"30", "all"}
    variants = options["all"]["variants"]
    assert set(variants) == {"plain", "bound-1", "polish", "enumeration"}
    assert variants["plain"]["difference"]["top"]["mean"] == 0.0
    assert f"transnas-macro, polish: true score {variants['polish']['difference']['top']['mean']:+.3f}" in printed

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("inverted again")

    monkeypatch.setattr("ncp_jax.studies.exploitation.exploit_table", refuse)
    lines = (folder / "records.jsonl").read_bytes()
    assert start("--smoke", "--resume", "--out", folder) == 0
    assert capsys.readouterr().out == printed
    assert (folder / "records.jsonl").read_bytes() == lines
    assert start("--smoke", "--resume", "--steps", 3, "--out", folder) == 2
    assert "steps: 70 there, 3 now" in capsys.readouterr().err


def test_wrong_options(tmp_path: Path, mirror: Path, capsys: pytest.CaptureFixture) -> None:
    assert start("--smoke", "--tasks", "jigsau", "--out", tmp_path / "out") == 2
    assert "expected a known task, got 'jigsau'; did you mean: jigsaw" in capsys.readouterr().err
    assert start("--benchmarks", "nas-bench-101", "--out", tmp_path / "out") == 2
    assert "expected a known benchmark, got 'nas-bench-101'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
