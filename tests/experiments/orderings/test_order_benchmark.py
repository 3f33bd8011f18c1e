"""Folders of matrices and their best known weights, and the script that solves them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from orderings.order_benchmark import Solved, best_known, load_folder, random_matrices, summarise_solved

from ncp_jax import checks

SCRIPT = Path(__file__).resolve().parents[3] / "experiments" / "solve_orderings.py"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "matrices"
    path.mkdir()
    (path / "a").write_text("2\n0 3\n1 0\n")
    (path / "b.csv").write_text("0,1\n4,0\n")
    (path / ".hidden").write_text("x")
    (tmp_path / "matrices_best_known.txt").write_text("a 3\nb.csv 5\n\n")
    return path


def test_folder_and_best_known(folder: Path) -> None:
    matrices = load_folder(folder)
    assert {name: load().tolist() for name, load in matrices.items()} == {
        "a": [[0, 3], [1, 0]],
        "b.csv": [[0, 1], [4, 0]],
    }
    assert best_known(folder) == {"a": 3, "b.csv": 5}
    assert best_known(folder.parent) == {}


def test_what_is_wrong_with_a_folder(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="expected a folder of matrices, got nothing at"):
        load_folder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(checks.DataError, match="got no files"):
        load_folder(tmp_path / "empty")
    (tmp_path / "matrices_best_known.txt").write_text("a\n")
    with pytest.raises(checks.DataError, match="one name and weight per line in"):
        best_known(folder)


def test_random_matrices_are_the_same_again() -> None:
    first, second = random_matrices((3, 4)), random_matrices((3, 4))
    assert [load().shape for load in first.values()] == [(3, 3), (4, 4)]
    assert all(np.array_equal(first[name](), second[name]()) for name in first)


def test_summary() -> None:
    results = [Solved("optimal", 0.0, 1.0, None), Solved("time limit", 0.2, 3.0, 0.1)]
    found = summarise_solved(results)
    assert (found.matrices, found.optimal, found.cut_by_the_clock) == (2, 1, 1)
    assert (found.mean_gap, found.max_gap) == (0.1, 0.2)
    assert (found.mean_gap_to_best_known, found.max_seconds) == (0.1, 3.0)
    assert summarise_solved(results[:1]).mean_gap_to_best_known is None


def test_the_script_smokes_and_resumes(tmp_path: Path, run: Run) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, str(SCRIPT), "--smoke", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert "proven optimal, mean gap to the bound" in done.stdout
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "solve_orderings/1")
    assert {"config", "versions", "device", "date"} <= set(summary)
    assert (summary["matrices"], summary["mean_gap_to_best_known"]) == (3, None)
    assert summary["optimal"] >= 2
    lines = (tmp_path / "out" / "records.jsonl").read_bytes()
    status, again, _ = run("--smoke", "--resume", "--out", tmp_path / "out")
    assert (status, again) == (0, done.stdout)
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == lines


def test_the_script_measures_against_best_known(folder: Path, tmp_path: Path, run: Run) -> None:
    status, out, err = run("--folder", folder, "--time-limit", 1, "--out", tmp_path / "out")
    assert status == 0, err
    assert "2 of 2 proven optimal" in out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["max_gap_to_best_known"] == pytest.approx(0.2)


def test_the_script_goes_on_with_more_seeds_and_the_same_matrices(folder: Path, tmp_path: Path, run: Run) -> None:
    options = ("--time-limit", 1, "--out", tmp_path / "out", "--resume")
    assert run("--folder", folder, "--limit", 1, *options)[0] == 0
    first = (tmp_path / "out" / "records.jsonl").read_bytes()
    moved = folder.rename(tmp_path / "moved")
    (tmp_path / "matrices_best_known.txt").rename(tmp_path / "moved_best_known.txt")
    assert run("--folder", moved, "--seeds", 2, *options)[0] == 0
    lines = (tmp_path / "out" / "records.jsonl").read_bytes()
    assert lines.startswith(first)
    assert [json.loads(line)["cell"]["matrix"] for line in lines.splitlines()] == ["a", "b.csv", "a", "b.csv"]
    status, out, _ = run("--folder", moved, "--limit", 1, *options)
    assert (status, out.splitlines()[0][:8]) == (0, "1 of 1 p")
    assert (tmp_path / "out" / "records.jsonl").read_bytes() == lines
    (moved / "a").write_text("2\n0 4\n1 0\n")
    status, _, err = run("--folder", moved, *options)
    assert (status, err.count("\n")) == (2, 1)
    assert "got other settings (matrices.a: " in err
    (moved / "a").write_text("2\n0 3\n1 0\n")
    (tmp_path / "moved_best_known.txt").write_text("a 4\n")
    status, _, err = run("--folder", moved, *options)
    assert status == 2
    assert "got other settings (best_known: " in err


def test_the_script_asks_for_a_folder(tmp_path: Path, run: Run) -> None:
    status, _, err = run("--out", tmp_path / "out")
    assert status == 2
    assert "expected a folder of matrices, got none" in err
    assert "Traceback" not in err
