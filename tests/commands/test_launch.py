"""``ncp-jax study --launch``: submitit's local executor, from submission to report."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ncp_jax.checks import UsageError
from ncp_jax.commands.launch import read_parameters

GRID = """
benchmarks = ["digits/class"]
budget = 12
seeds = 4
[searchers.random]
[searchers.local-search]
"""
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    path = tmp_path / "grid.toml"
    path.write_text(GRID)
    return path


def jobs_of(folder: Path) -> dict[str, str]:
    return json.loads((folder / "jobs.json").read_text())["jobs"]


def test_from_submission_to_report(command: Command, grid: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    call = ("study", grid, "--out", folder, "--launch", "local", "--jobs", "2")
    status, out, err = command(*call, "--detach")
    assert (status, out) == (0, "")
    assert "2 jobs submitted, 0 at work, 0 done before" in err
    first = jobs_of(folder)
    assert list(first) == ["0/2", "1/2"]

    # Other jobs are refused while these are at work.
    status, _, err = command(*call[:-1], "3", "--detach")
    assert status == 2
    assert "others at work (0/2, 1/2)" in err

    # A job that is killed is submitted again; the other one is waited for.
    os.kill(int(first["1/2"]), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while Path(f"/proc/{first['1/2']}").exists() and "Z" not in _state(first["1/2"]):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    status, out, err = command(*call)
    assert status == 0, err
    assert "1 jobs submitted" in err
    again = jobs_of(folder)
    assert again["0/2"] == first["0/2"]
    assert again["1/2"] != first["1/2"]
    assert "local-search" in out
    assert len((folder / "records.jsonl").read_text().splitlines()) == 8
    assert (folder / "summary.json").exists()

    # Asked again, it submits nothing.
    status, second, err = command(*call)
    assert (status, second) == (0, out)
    assert "submitted" not in err
    assert jobs_of(folder) == again


def _state(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--launch", "slurn"), "did you mean: slurm"),
        (("--launch", "local", "--shard", "0/2"), "without --shard"),
        (("--launch", "local", "--jobs", "0"), "--jobs"),
        (("--launch", "local", "--slurm", "partition=gpu"), "--slurm with --launch slurm"),
        (("--launch", "slurm", "--slurm", "gpu"), "--slurm KEY=VALUE, got 'gpu'"),
        (("--launch", "slurm"), "a cluster of slurm"),
        (("--detach",), "--launch with --slurm and --detach"),
    ],
)
def test_bad_input(command: Command, grid: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    status, out, err = command("study", grid, "--out", tmp_path / "out", *options)
    assert (status, out) == (2, "")
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_without_submitit_the_extra_is_named(
    command: Command, grid: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    status, _, err = command("study", grid, "--out", tmp_path / "out", "--launch", "local")
    assert status == 2
    assert 'pip install "ncp-jax[slurm]"' in err


def test_options_of_slurm() -> None:
    assert read_parameters(["partition=gpu", "time=120", "comment=a=b"]) == {
        "partition": "gpu",
        "time": 120,
        "comment": "a=b",
    }
    with pytest.raises(UsageError):
        read_parameters(["=x"])
