"""``ncp-jax`` as a process of its own: pipes that close, Ctrl-C at any moment, ``python -m``."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import ncp_jax

GRID = """
benchmarks = ["digits/class"]
budget = 15
seeds = 40
repeats = "counted"
[searchers.random]
[searchers.evolution]
population = [4, 8]
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
# Takes SIGINT even where the tests ignore it, as the background jobs of a shell do.
SCRIPT = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
class Interruption:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interruption())
sys.argv[0] = "ncp-jax"
from ncp_jax.cli import main
main()
"""


def start(*arguments: object, module: str = "") -> subprocess.Popen[str]:
    """Starts ``ncp-jax``; with ``module``, it gets a SIGINT when that module is about to be imported."""
    command = [sys.executable, "-c", SCRIPT.format(module=module), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)


@pytest.mark.parametrize("arguments", ["data list", "--help", "cost --space macro 64-1234-basic"])
def test_a_reader_that_goes_away(arguments: str) -> None:
    script = f"{sys.executable} -m ncp_jax {arguments} | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert done.stderr == ""
    assert done.stdout in ("141\n", "0\n")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("tyro", ("search",)),
        ("ncp_jax.commands.order", ("order", "weights.csv")),
        ("numpy", ("search",)),
        ("jaxlib.xla_client", ("search", "--out", "out")),
        ("numba", ("order", "weights.csv")),
    ],
)
def test_an_interruption_of_an_import(module: str, arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "weights.csv").write_text("0,1\n2,0\n")
    arguments = tuple(argument.replace("weights.csv", str(tmp_path / "weights.csv")) for argument in arguments)
    arguments = tuple(str(tmp_path / "out") if argument == "out" else argument for argument in arguments)
    process = start(*arguments, module=module)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out, err) == (130, "", "ncp-jax: interrupted\n")


def test_a_study_that_is_interrupted_goes_on(tmp_path: Path, command: Callable[..., tuple[int, str, str]]) -> None:
    (tmp_path / "grid.toml").write_text(GRID)
    arguments = ("study", tmp_path / "grid.toml", "--out", tmp_path / "out")
    process = start(*arguments, "--memory-mb", "0.05")
    assert process.stderr is not None
    assert process.stderr.readline().startswith("runs: ")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "ncp-jax: interrupted; what was finished is kept"
    assert "Traceback" not in err
    status, out, err = command(*arguments, "--resume")
    assert status == 0, err
    assert " of 120 runs are finished already" in err
    assert "evolution population=8" in out
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "study/1")
    assert (summary["runs"], summary["config"]["smoke"]) == (120, False)


def test_the_version() -> None:
    for arguments in ("--version", "version"):
        command = [sys.executable, "-m", "ncp_jax", arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
        assert (done.stdout, done.stderr) == (f"{ncp_jax.__version__}\n", "")


def test_typing_errors_name_the_nearest(command: Callable[..., tuple[int, str, str]]) -> None:
    status, out, err = command("serch")
    assert (status, out) == (2, "")
    assert err == "ncp-jax: error: expected a known command, got 'serch'; did you mean: search, space, order\n"
    status, _, err = command("search", "--max-gflop", "2")
    assert status == 2
    assert "--max-gflops" in err
