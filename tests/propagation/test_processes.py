"""Two processes on the loopback: each does its share, and both return what one process alone returns."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Execution, Found, Objective, PropagationConfig, execution, propagate

PROCESSES = 2
CONFIG = PropagationConfig(steps=4, learning_rate=60.0)
GOAL = Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5})
METRICS = (MetricSpec("acc", task="a"), MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost"))
# By name: the arguments of a search. A portion is a unit, 16 codes, so that few programs are compiled.
CASES: dict[str, dict[str, Any]] = {
    "many codes": {"codes": 150},
    "fewer than a unit": {"codes": 5},
    "few are kept": {"codes": 150, "execution": Execution(keep=7)},
    "restarts and polish": {
        "codes": 40,
        "config": PropagationConfig(steps=4, learning_rate=60.0, restarts=1, polish=3),
    },
    "half are within the limit": {"codes": 40, "max_gflops": 2.0},
}

pytestmark = pytest.mark.usefixtures("optimised_module")

SCRIPT = """
import pickle, sys
import jax

jax.config.update("jax_cpu_collectives_implementation", "gloo")
address, number, processes, given, made = sys.argv[1:]
jax.distributed.initialize(address, int(processes), int(number))
from ncp_jax import checks
from ncp_jax.propagation import engine, execution, propagate

engine.TILE["cpu"], engine.GROWTH["cpu"], engine.GROWTH_OF_SEVERAL["cpu"] = 8, 1, 1
execution.LARGEST["cpu"] = 16
predictor, goal, config, cases, hopeless = pickle.load(open(given, "rb"))
found = {}
for name, case in cases.items():
    best = propagate(predictor, goal, key=jax.random.key(0), **{"config": config} | case)
    found[name] = best.codes, best.mean, best.spread, best.score, best.starts
try:
    propagate(predictor, goal, key=jax.random.key(0), config=config, **hopeless)
except checks.UsageError as error:
    found["error"] = str(error)
pickle.dump((found, jax.process_count(), jax.process_index()), open(made, "wb"))
"""


@pytest.fixture(scope="module")
def predictor(ensemble: Callable[..., Predictor]) -> Predictor:
    return ensemble(metrics=METRICS)


@pytest.fixture(scope="module")
def results(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each process returned for each case."""
    folder = tmp_path_factory.mktemp("processes")
    given = folder / "given"
    given.write_bytes(pickle.dumps((predictor, GOAL, CONFIG, CASES, {"codes": 5, "max_gflops": 1e-7})))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    made = [folder / str(number) for number in range(PROCESSES)]
    environment, root = os.environ | {"JAX_PLATFORMS": "cpu"}, Path(__file__).resolve().parents[2]
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, address, str(number), str(PROCESSES), str(given), str(path)],
            env=environment,
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number, path in enumerate(made)
    ]
    try:
        said = [process.communicate(timeout=150)[0] for process in running]
    finally:
        for process in running:
            process.kill()
    assert [process.returncode for process in running] == [0] * PROCESSES, "\n".join(said)
    loaded = [pickle.loads(path.read_bytes()) for path in made]
    assert [(count, number) for _, count, number in loaded] == [(PROCESSES, number) for number in range(PROCESSES)]
    return [found for found, _, _ in loaded]


@pytest.fixture(autouse=True)
def small_portions(small_tiles: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(execution.LARGEST, "cpu", 16)


@pytest.mark.parametrize("case", CASES)
def test_every_process_returns_what_one_alone_returns(
    results: list[dict[str, Any]], predictor: Predictor, case: str
) -> None:
    alone: Found = propagate(predictor, GOAL, key=jax.random.key(0), **{"config": CONFIG} | CASES[case])
    for found in results:
        wanted = (alone.codes, alone.mean, alone.spread, alone.score, alone.starts)
        for got, array in zip(found[case], wanted, strict=True):
            assert got.dtype == array.dtype
            np.testing.assert_array_equal(got, array)


def test_every_process_raises_where_nothing_is_within_the_limit(
    results: list[dict[str, Any]], predictor: Predictor
) -> None:
    with pytest.raises(UsageError, match=r"expected architectures of at most 1e-07 GFLOPs, got none") as error:
        propagate(predictor, GOAL, codes=5, key=jax.random.key(0), config=CONFIG, max_gflops=1e-7)
    assert [found["error"] for found in results] == [str(error.value)] * PROCESSES
