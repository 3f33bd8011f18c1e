"""Lists the commands that are interrupted, and reads what each has finished."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.store import mirror_path
from ncp_jax.files import atomic_write, write_csv
from ncp_jax.predictors import load_predictor
from ncp_jax.records.journal import read_json, read_records
from ncp_jax.spaces import get_space

SCRIPTS = Path(__file__).resolve().parent.parent
GRID = """
benchmarks = ["digits/class"]
budget = 12
seeds = 8
[searchers.random]
[searchers.evolution]
"""
FETCHED = "transnas-macro/autoencoder"  # the smallest archive; seven tables are made from it
VOLATILE = ("date", "timing", "seconds", "seconds_a_training", "run_card", "evidence")
"""Keys of JSON and arrays that differ between two equal runs: times, paths, and how many calls it took."""

Pieces = dict[str, tuple[str, str]]
"""Finished pieces of work: name → (hash of the bytes, hash of the result, without times)."""
Call = Callable[[Path, Path], list[str]]


@dataclasses.dataclass(frozen=True)
class Job:
    """A command that writes into a folder.

    Attributes:
      name: name of the command.
      start: returns the arguments of a first call, given the folder of its inputs and the one that it writes into.
      again: returns the arguments of the call that continues or repeats it.
      read: returns what is finished in a folder; raises an error where a file is not whole.
      keeps: whether finished pieces stay as they are; other commands write them anew.
      one_writer: whether a second process on the folder is refused; otherwise both write the same.
      variable: environment variable that names the folder, for a command without an option for it.
    """

    name: str
    start: Call
    again: Call
    read: Callable[[Path], Pieces]
    keeps: bool = True
    one_writer: bool = False
    variable: str = ""


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in VOLATILE}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def _result(value: Any) -> str:
    return _digest(json.dumps(_without_times(value), sort_keys=True).encode())


def _file(path: Path) -> tuple[str, str]:
    """Returns the two hashes of a file.

    Raises:
      ValueError: the file is not whole.
    """
    content = path.read_bytes()
    if path.suffix == ".json":
        return _digest(content), _result(read_json(path))
    if path.suffix == ".png":
        if not (content.startswith(b"\x89PNG\r\n\x1a\n") and content[-8:-4] == b"IEND"):
            raise ValueError(f"half of {path}")
        return _digest(content), ""  # a title may have a time
    if path.suffix == ".html":
        if not content.rstrip().endswith(b"</html>"):
            raise ValueError(f"half of {path}")
        return _digest(content), ""  # what it shows is in report.json
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files if name not in ("header", *VOLATILE)}
        return _digest(content), _digest(b"".join(arrays[name].tobytes() for name in sorted(arrays)))
    if path.suffix == ".csv" and not content.endswith(b"\n"):
        raise ValueError(f"half of {path}")
    return _digest(content), _digest(content)


def _files(folder: Path) -> Pieces:
    """Returns the finished files below a folder. Hidden ones are locks and what a killed process was writing."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(folder)): _file(path) for path in paths}


def _records(folder: Path) -> Pieces:
    """Returns the files, and in place of record files, their records."""
    names = [path.name for path in folder.glob("*.jsonl")] if folder.is_dir() else []
    paths = [path for path in sorted(folder.glob("*")) if path.is_file() and not path.name.startswith(".")]
    pieces = {path.name: _file(path) for path in paths if path.name not in names}
    for name in names:
        if name != "sessions.jsonl":  # what processes did, not what they found
            for line in read_records(folder / name):
                cell = line.record["cell"]
                pieces[f"record {json.dumps(cell)}"] = _digest(line.text), _result(line.record)
    return pieces


def _fitted(folder: Path) -> Pieces:
    path = folder / "predictor.npz"
    if not path.exists():
        return {}
    load_predictor(path)
    return {path.name: _file(path)}


def write_inputs(folder: Path) -> None:
    """Writes what the commands read: a small table of the user's own and the grid of a study."""
    space = get_space("transnas-macro")
    codes = space.all_codes()[::50]
    values = codes.sum(axis=1) + 0.1 * codes[:, 1]
    write_csv(folder / "table.csv", ("architecture", "accuracy"), zip(space.to_strings(codes), values, strict=True))
    atomic_write(folder / "grid.toml", GRID.encode())


def _search(inputs: Path, folder: Path) -> list[str]:
    return ["-m", "ncp_jax", "search", "--codes", "64", "--steps", "3", "--out", str(folder)]


def _rank(inputs: Path, folder: Path) -> list[str]:
    given = ["--table", str(inputs / "table.csv"), "--space", "transnas-macro", "--maximize", "accuracy"]
    return ["-m", "ncp_jax", "rank", *given, "--budget", "8", "--out", str(folder)]


def _study(inputs: Path, folder: Path) -> list[str]:
    # Little memory: many calls, each of which records its runs.
    return ["-m", "ncp_jax", "study", str(inputs / "grid.toml"), "--memory-mb", "0.01", "--out", str(folder)]


def _make_benchmark(inputs: Path, folder: Path) -> list[str]:
    small = ["--tasks", "class", "--seeds", "1", "--limit", "8", "--chunk", "2", "--repeated", "0"]
    return [str(SCRIPTS / "make_benchmark.py"), "--smoke", *small, "--out", str(folder)]


def _fit(inputs: Path, folder: Path) -> list[str]:
    return [str(SCRIPTS / "interruptions" / "fit.py"), str(folder)]


def _fetch(inputs: Path, folder: Path) -> list[str]:
    return ["-m", "ncp_jax", "data", "fetch", FETCHED]


def _resumed(start: Call) -> Call:
    return lambda inputs, folder: [*start(inputs, folder), "--resume"]


JOBS = {
    job.name: job
    for job in (
        Job("search", _search, _search, _files, keeps=False),
        Job("rank", _rank, _rank, _files, keeps=False),
        Job("study", _study, _resumed(_study), _records, one_writer=True),
        Job("make_benchmark", _make_benchmark, _resumed(_make_benchmark), _records, one_writer=True),
        Job("fit", _fit, _fit, _fitted),
        Job("fetch", _fetch, _fetch, _files, variable="NCP_JAX_DATA"),
    )
}


def available(names: Sequence[str]) -> tuple[Job, ...]:
    """Returns the jobs of some names; "fetch" needs a mirror, since the network is not to be asked hundreds of times.

    Raises:
      UsageError: an unknown name, or "fetch" without a mirror.
    """
    jobs = tuple(JOBS[checks.choose("command", name, JOBS)] for name in names)
    if any(job.name == "fetch" for job in jobs) and mirror_path() is None:
        raise checks.UsageError(
            expected="a mirror for fetch", got="none", remedy="set NCP_JAX_MIRROR, or leave fetch out of --commands"
        )
    return jobs
