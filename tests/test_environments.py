"""The main commands under environments that users have: settings of JAX, terminals, caches, processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SEARCH = ("search", "--codes", "32", "--steps", "2", "--seed", "1")


def run(*arguments: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a command in a process of its own; its output is read as UTF-8, bytes that are none as escapes."""
    done = subprocess.run(
        [sys.executable, "-m", "ncp_jax", *arguments],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
        errors="backslashreplace",
        check=False,
    )
    assert done.returncode == status, done.stderr
    return done


def python(script: str, **environment: str) -> str:
    """Runs a script in a process of its own; returns what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", script], env=os.environ | environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def results(text: str) -> str:
    """The output without the line of measured times."""
    return "\n".join(line for line in text.splitlines() if "code-steps/s" not in line)


@pytest.fixture(scope="module")
def usual() -> str:
    return results(run(*SEARCH).stdout)


@pytest.mark.parametrize(
    "environment",
    [
        {"JAX_NUMPY_RANK_PROMOTION": "raise"},
        {"JAX_DEBUG_INFS": "1"},
        {"JAX_DEBUG_NANS": "1"},
        {"JAX_COMPILATION_CACHE_DIR": "/proc/no/such/folder"},
    ],
    ids=lambda environment: next(iter(environment)),
)
def test_a_search_is_the_same(environment: dict[str, str], usual: str) -> None:
    assert results(run(*SEARCH, **environment).stdout) == usual


def test_costs_without_compilation() -> None:
    code = ("cost", "64-41414-1_02_333", "--space", "transnas-micro")
    assert run(*code, JAX_DISABLE_JIT="1").stdout == run(*code).stdout


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "cp437"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
    ids=["ascii", "cp437", "posix"],
)
def test_terminals_without_unicode_show_stand_ins(environment: dict[str, str], usual: str, tmp_path: Path) -> None:
    done = run(*SEARCH, "--out", str(tmp_path / "out"), **environment)
    assert "32 codes x 2 steps" in done.stdout
    if "PYTHONIOENCODING" not in environment or environment["PYTHONIOENCODING"] == "ascii":
        assert done.stdout.isascii()
        assert results(done.stdout) == usual.replace("±", "+-").replace("×", "x").replace("τ", "tau")
    # Files do not depend on the terminal.
    assert json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["schema"] == "search/1"


def test_files_are_written_where_the_screen_fails(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ncp_jax", *SEARCH, "--out", str(tmp_path / "out")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait()
    assert process.returncode == 141
    assert (tmp_path / "out" / "result.json").exists()


@pytest.mark.parametrize("command", [SEARCH, ("rank", "--table", "digits/class", "--budget", "5")])
def test_a_platform_that_is_not_there_is_one_clear_line(command: tuple[str, ...]) -> None:
    done = run(*command, status=2, JAX_PLATFORMS="cuda")
    assert re.fullmatch(
        r"ncp-jax: error: expected a device of the platform that JAX_PLATFORMS names \(cuda\), got .*; "
        r"unset JAX_PLATFORMS or set it to cpu; for a GPU, install ncp-jax\[cuda12\] or ncp-jax\[cuda13\]\n",
        done.stderr,
    )


def test_python_functions_under_strict_settings_of_jax() -> None:
    script = """
import jax, numpy as np, ncp_jax as ncp
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_infs", True)
predictor, _ = ncp.load_shipped("nas-bench-mr")
objective = ncp.Objective(maximize={"seg/mIoU": 1.0}, minimize={"flops": 0.1})
config = ncp.PropagationConfig(steps=2)
found = ncp.propagate(predictor, objective, codes=8, key=jax.random.key(0), config=config)
fitted = ncp.fit(ncp.load_table("digits/class"), members=1, key=jax.random.key(0))
cost = ncp.cost(codes=("0,0,0,0,0,3",), space="transnas-micro")
print(len(found.codes), jax.config.jax_numpy_rank_promotion)
"""
    assert python(script).split()[-1] == "raise"


def test_settings_that_change_draws_stand_in_the_versions() -> None:
    script = "import jax; from ncp_jax.records.run_card import result_versions as v; print(v().get('jax settings'))"
    assert python(script).strip() == "None"
    assert python(script, JAX_THREEFRY_PARTITIONABLE="0").strip() == "threefry_partitionable=False"
    found = python(script, JAX_ENABLE_X64="1", JAX_DEFAULT_PRNG_IMPL="rbg")
    assert found.strip() == "default_prng_impl=rbg, enable_x64=True"


def test_it_runs_under_spawn_and_beside_torch() -> None:
    script = """
import multiprocessing
try:
    import torch
except ImportError:
    pass
import ncp_jax as ncp
with multiprocessing.get_context("spawn").Pool(1) as pool:
    print(pool.apply(ncp.cost, kwds={"codes": ("0,0,0,0,0,3",), "space": "transnas-micro"}).params[0])
print(ncp.order([[0, 5, 0], [0, 0, 4], [1, 0, 0]]).weight)
"""
    assert python(script).split()[-1] == "9.0"
