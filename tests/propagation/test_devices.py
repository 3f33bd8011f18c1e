"""Eight devices in one process, which XLA pretends on a CPU: how many share the codes changes no bit."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Objective, PropagationConfig, execution, propagate

N = 203  # tiles of 8 codes: divided by nothing below
DEVICES = {"member": (1, 3, 8), "mean": (1, 8), "inverted": (1, 3, 8)}
SETTINGS = {
    "member": PropagationConfig(steps=4, learning_rate=60.0),
    "mean": PropagationConfig(steps=4, learning_rate=60.0, follow="mean"),
}
GOAL = Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5})

pytestmark = pytest.mark.usefixtures("optimised_module")

SCRIPT = """
import pickle, sys
import jax, numpy as np
from jax.sharding import Mesh
from ncp_jax import checks
from ncp_jax.propagation import Execution, engine, execution, propagate

predictor, goal, settings, devices, n = pickle.load(open(sys.argv[1], "rb"))
engine.TILE["cpu"], engine.GROWTH["cpu"], engine.GROWTH_OF_SEVERAL["cpu"] = 8, 1, 1
execution.LARGEST["cpu"] = 32
key, found, errors = jax.random.key(0), {}, []
for name, config in settings.items():
    for count in devices[name]:
        portions = []
        where = Execution(devices=count, progress=lambda done, total: portions.append(done))
        best = propagate(predictor, goal, codes=n, key=key, config=config, execution=where)
        found[name, count] = best.codes, best.mean, best.spread, best.score
        found[name, count, "portions"] = portions
starts = np.random.default_rng(0).uniform(0, 1, (n, 24)).astype(np.float32)
box, weights = (np.zeros(24, np.float32), np.ones(24, np.float32)), goal.weights(predictor.metrics)
for count in devices["inverted"]:
    mesh = None if count == 1 else Mesh(np.asarray(jax.devices()[:count]), (engine.AXIS,))
    shape = engine.Shape(8, 2, "xla", mesh)
    ends = engine.run(predictor, weights, starts, box, settings["member"], None, n, shape)
    found["inverted", count] = np.asarray(ends)
    found["used", count] = len(ends.sharding.device_set)
for wrong in ({"devices": 9}, {"platform": "gpu"}):
    try:
        propagate(predictor, goal, codes=8, key=key, execution=Execution(**wrong))
    except checks.UsageError as error:
        errors.append(str(error))
pickle.dump((found, errors, jax.device_count()), open(sys.argv[2], "wb"))
"""


@pytest.fixture(scope="module")
def predictor(ensemble: Callable[..., Predictor]) -> Predictor:
    return ensemble(members=3)


@pytest.fixture(scope="module")
def results(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[Any, Any], list[str]]:
    """What a process with eight devices found on some of them, and the errors that it saw."""
    folder = tmp_path_factory.mktemp("devices")
    given, made = folder / "given", folder / "made"
    given.write_bytes(pickle.dumps((predictor, GOAL, SETTINGS, DEVICES, N)))
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-c", SCRIPT, str(given), str(made)]
    root = Path(__file__).resolve().parents[2]
    ran = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    found, errors, devices = pickle.loads(made.read_bytes())
    assert devices == 8
    return found, errors


@pytest.mark.parametrize("follow", SETTINGS)
def test_the_number_of_devices_changes_no_bit(
    results: tuple[dict, list], predictor: Predictor, small_tiles: int, monkeypatch: pytest.MonkeyPatch, follow: str
) -> None:
    found, _ = results
    for count in DEVICES[follow][1:]:
        for one, many in zip(found[follow, 1], found[follow, count], strict=True):
            np.testing.assert_array_equal(one, many)
    portions = {"member": [9, 3, 1], "mean": [7, 1]}
    assert [len(found[follow, count, "portions"]) for count in DEVICES[follow]] == portions[follow]
    monkeypatch.setitem(execution.LARGEST, "cpu", 32)
    here = propagate(predictor, GOAL, codes=N, key=jax.random.key(0), config=SETTINGS[follow])
    np.testing.assert_array_equal(here.codes, found[follow, 1][0])
    np.testing.assert_allclose(here.score, found[follow, 1][3], rtol=1e-5, atol=1e-5)


def test_inverted_codes_are_spread_and_the_same(results: tuple[dict, list]) -> None:
    found, _ = results
    for count in DEVICES["inverted"]:
        assert found["used", count] == count
        np.testing.assert_array_equal(found["inverted", 1], found["inverted", count])
    assert len(np.unique(found["inverted", 1], axis=0)) > N / 2


def test_devices_that_are_not_there(results: tuple[dict, list]) -> None:
    too_many, no_platform = results[1]
    assert too_many == "expected devices <= 8 (cpu), got 9; ask for fewer"
    assert no_platform == "expected a gpu device, got none here (8 cpu); leave the platform out"
