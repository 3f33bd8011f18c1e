"""The main commands under environments that users have: settings of JAX, terminals, caches, processes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ncp_jax as ncp
from ncp_jax.files import write_csv
from ncp_jax.spaces import get_space

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
    """The output without measured times."""
    lines = [line for line in text.splitlines() if "code-steps/s" not in line]
    return re.sub(r"in \d+\.\d+ s\b", "in TIME", "\n".join(lines))


@pytest.fixture(scope="module")
def usual() -> str:
    return results(run(*SEARCH).stdout)


MAIN = """
import contextlib, sys
from ncp_jax import cli
for line in sys.stdin.read().splitlines():
    sys.argv = ["ncp-jax", *line.split()]
    with contextlib.suppress(SystemExit):
        cli.main()
        raise AssertionError(line)
"""


def main_commands(folder: Path, **environment: str) -> str:
    """What the main commands print, one after another in a process of its own."""
    table = ncp.load_table("digits/class")
    rows = np.arange(0, len(table), 53)
    lines = zip(get_space(table.space).to_strings(table.codes[rows]), table.column("accuracy")[rows], strict=True)
    write_csv(folder / "table.csv", ("architecture", "accuracy"), list(lines))
    write_csv(folder / "weights.csv", list("abcd"), [[0, 3, 1, 2], [1, 0, 5, 0.5], [2, 2, 0, 9], [0, 1, 1, 0]])
    (folder / "grid.toml").write_text(
        'benchmarks = ["mine"]\nbudget = 6\nseeds = 2\n[searchers.random]\n[searchers.bayesian]\ninitial = 4\n'
        f'[tables.mine]\npath = "table.csv"\nspace = "{table.space}"\nmaximize = ["accuracy"]\n'
    )
    commands = f"""
        search --codes 32 --steps 2 --seed 1 --out {folder}/search
        rank --table {folder}/table.csv --space {table.space} --maximize accuracy --budget 8
        study {folder}/grid.toml --out {folder}/study
        report {folder}/study
        order {folder}/weights.csv
        cost 64-41414-1_02_333 --space transnas-micro
        build 64-41414-1_02_333 --space transnas-micro
        convert 0,1,2,0,0,3 --space transnas-micro --to ops
        data list
        version
    """
    done = subprocess.run(
        [sys.executable, "-c", MAIN],
        input="\n".join(line.strip() for line in commands.strip().splitlines()),
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "error" in done.stderr) == (0, False), done.stderr
    return results(done.stdout.replace(str(folder), "FOLDER"))


@pytest.fixture(scope="module")
def usual_of_all(tmp_path_factory: pytest.TempPathFactory) -> str:
    return main_commands(tmp_path_factory.mktemp("usual"))


def test_the_main_commands_print_the_same(usual_of_all: str, tmp_path: Path) -> None:
    # None of these may change a result, so one process has them all.
    environment = {"JAX_DEBUG_INFS": "1", "JAX_DEBUG_NANS": "1", "JAX_ENABLE_X64": "1"}
    assert main_commands(tmp_path, JAX_NUMPY_RANK_PROMOTION="raise", **environment) == usual_of_all


def test_a_compilation_cache_that_cannot_be_written(usual: str) -> None:
    assert results(run(*SEARCH, JAX_COMPILATION_CACHE_DIR="/proc/no/such/folder").stdout) == usual


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
