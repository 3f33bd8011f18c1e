"""The disturbances, on small programs that do right or wrong; and on ``data fetch``, as the experiment's smoke run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from interruptions.disturb import Outcome, Workplace, _unclear
from interruptions.jobs import Job, _files, available

from ncp_jax.checks import UsageError

SCRIPT = Path(__file__).resolve().parents[3] / "experiments" / "reliability.py"
# Three files, each in two halves or renamed when it is whole; then a second call has to leave them alone.
PROGRAM = """
import json, os, pathlib, sys, time
folder, kind = pathlib.Path(sys.argv[1]), sys.argv[2]
folder.mkdir(exist_ok=True)
for number in range(3):
    path = folder / f"{number}.json"
    if path.exists() and kind != "forgets":
        continue
    text = json.dumps({"value": number + (kind == "forgets" and path.exists()), "more": "x" * 9000})
    target = path if kind == "halves" else folder / f".{number}"
    try:
        with open(target, "w") as file:
            for half in (text[:5000], text[5000:]):
                file.write(half)
                file.flush()
                time.sleep(0.05)
    except OSError as error:
        sys.exit(f"ncp-jax: error: {error}")
    os.replace(target, path)
"""


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str], tuple[Workplace, Job]]:
    def make_job(kind: str) -> tuple[Workplace, Job]:
        def call(inputs: Path, folder: Path) -> list[str]:
            return ["-c", PROGRAM, str(folder), kind]

        return Workplace(tmp_path), Job(kind, call, call, _files, variable="UNUSED")

    return make_job


def test_a_program_that_does_right(make: Callable[[str], tuple[Workplace, Job]]) -> None:
    place, job = make("right")
    whole = place.undisturbed(job)
    assert len(whole.pieces) == 3
    assert whole.largest > 9000
    for moment in (0.2, 0.5, 0.8):
        outcome = place.kill(job, moment)
        assert (outcome.lost, outcome.different, outcome.fault) == (0, 0, "")
    assert place.kill(job, 0.01) == Outcome(0, 0, 0)
    assert place.fill(job, 0.3, mount=False) == Outcome(0, 0, 0)
    assert not place.fill(job, 1.5, mount=False).struck


def test_programs_that_do_wrong(make: Callable[[str], tuple[Workplace, Job]]) -> None:
    place, job = make("halves")
    assert "JSON" in place.fill(job, 0.6, mount=False).fault
    place, job = make("forgets")
    outcome = place.kill(job, 5.0)  # it is done before
    assert not outcome.struck
    assert (outcome.finished, outcome.lost, outcome.different) == (3, 3, 3)


@pytest.mark.parametrize(
    ("status", "err", "clear"),
    [
        (0, "", True),
        (1, "ncp-jax: wrote a\nncp-jax: error: expected to write b, got a full disk\n", True),
        (1, "", False),
        (2, "ncp-jax: error: x", False),
        (1, "Traceback (most recent call last):\nOSError: x", False),
        (1, "ncp-jax: error: unexpected ValueError: x", False),
        (0, "WARNING: error", False),
    ],
)
def test_what_counts_as_a_clear_end(status: int, err: str, clear: bool) -> None:
    assert (_unclear(status, err) == "") == clear


def test_fetch_needs_a_mirror(no_mirror: None) -> None:
    with pytest.raises(UsageError, match="a mirror for fetch"):
        available(("fetch",))


def test_a_smoke_run(tmp_path: Path, mirror: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    command = [sys.executable, str(SCRIPT), "--smoke", "--commands", "fetch", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "reliability/1")
    for kind, moments in (("kills", 2), ("full_disk", 1), ("two_writers", 1)):
        row = summary[kind]["fetch"]
        assert (row["moments"], row["lost"], row["different"], row["faults"]) == (moments, 0, 0, [])
    assert summary["fuzz"] is None
    assert "two_writers  fetch" in done.stdout
