"""Every baseline inverts as the engine does; those in PyTorch are tested where this optional extra is installed."""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from latency.baselines import LoopBaseline, autograd_flops, codes_timed, weight_sizes
from latency.config import make_config
from latency.engine import Engine
from latency.inputs import Setup, authors_network, batch_norm_state, load_inputs, random_starts

from ncp_jax.checks import UsageError
from ncp_jax.spaces import get_space

CODES, STEPS = 11, 5


@pytest.fixture(scope="module", params=["ncp", "shipped"])
def job(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp(request.param)
    job = {"folder": str(folder), "predictor": request.param, "codes": CODES, "seed": 3, "steps": STEPS, "smoke": True}
    Setup(job).write()
    return job | {"precision": "float32", "streamed": False, "started": time.time()}


def agreement(job: dict[str, Any], baseline: Any, path: Path) -> dict[str, Any]:
    baseline.ends(path=str(path))
    return Engine(job).compare(path=str(path))


def test_the_loop_in_jax_agrees(job: dict[str, Any], tmp_path: Path) -> None:
    baseline = LoopBaseline(job | {"engine": "loop-jax"})
    found = agreement(job, baseline, tmp_path / "ends.npy")
    assert found["codes"] == CODES
    assert found["max_difference"] < 1e-4
    assert found["different_architectures"] == 0.0
    assert baseline.run()["seconds"] > 0
    assert baseline.facts()["codes_timed"] == CODES


def test_rounding_changes_few_architectures(job: dict[str, Any]) -> None:
    assert Engine(job).changed() == {"share": 0.0}
    assert 0.0 <= Engine(job | {"precision": "bfloat16"}).changed()["share"] < 0.5


def test_codes_move_and_a_wrong_baseline_is_found_out(job: dict[str, Any], tmp_path: Path) -> None:
    arrays = np.load(Path(job["folder"]) / "baseline.npz", allow_pickle=False)
    np.save(tmp_path / "stay.npy", arrays["start"][:4])
    found = Engine(job).compare(path=str(tmp_path / "stay.npy"))
    assert found["codes"] == 4
    assert found["max_difference"] > 0.1
    assert found["different_architectures"] > 0.5


def test_torch_agrees_or_its_absence_is_reported(
    job: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if importlib.util.find_spec("torch") is None:
        options = {"steps": 1, "precision": ("float32",), "repeats": 1, "predictor": "ncp"}
        with pytest.raises(UsageError, match=r'pip install "\.\[torch\]"'):
            make_config(codes=(1,), against=("torch",), **options)
        return
    from latency import torch_baselines
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    class Operations(TorchDispatchMode):
        """PyTorch's own count of what each of its functions costs."""

        total = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            if function._overloadpacket in flop_registry:
                self.total += flop_registry[function._overloadpacket](*args, **(kwargs or {}), out_val=result)
            return result

    for engine in ("torch-authors", "torch-frozen", "torch-folded", "loop-torch"):
        baseline = torch_baselines.TorchBaseline(job | {"engine": engine})
        found = agreement(job, baseline, tmp_path / f"{engine}.npy")
        assert found["codes"] == CODES
        assert found["max_difference"] < 1e-4, engine
        assert found["different_architectures"] == 0.0, engine
        with monkeypatch.context() as patch, Operations() as counted:
            patch.setattr(torch_baselines, "_pool", lambda: SimpleNamespace(map=map))  # the count is of one thread
            baseline.ends(path=str(tmp_path / "counted.npy"))
        assert counted.total == CODES * STEPS * baseline.facts()["flops_per_code_step"], engine


def test_arrays_for_torch_are_those_of_the_network() -> None:
    """A forward pass by the names and layouts that the PyTorch network reads."""
    network = authors_network(1)
    state = {name: np.asarray(a, np.float64) for name, a in batch_norm_state(network).items()}

    def norm(name: str, x: np.ndarray) -> np.ndarray:
        mean, var, gain, shift = (state[f"{name}.{k}"] for k in ("running_mean", "running_var", "weight", "bias"))
        return gain * (x - mean) / np.sqrt(var + 1e-5) + shift

    def linear(name: str, x: np.ndarray) -> np.ndarray:
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def swish(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    x = np.random.default_rng(0).normal(size=(5, 27))
    hidden = swish(norm("norm", linear("trunk", norm("norm_in", x))))
    heads = [linear(f"out.{i}", swish(norm(f"head_norm.{i}", linear(f"head.{i}", hidden)))) for i in range(3)]
    np.testing.assert_allclose(np.concatenate(heads, axis=1), network(jnp.asarray(x, jnp.float32)), atol=1e-5)


def test_operations_under_autograd() -> None:
    shapes = {name: a.shape for name, a in batch_norm_state(authors_network(0)).items()}
    assert sum(weight_sizes(shapes).values()) == 27 * 256 + 3 * 256 * 128 + 128 * 5
    trunk, head = 27 * 256, 256 * 128
    forward, back = trunk + 3 * head + 128 * 5, trunk + 2 * head + 128 * (1 + 2)
    assert autograd_flops(shapes, {0, 2}) == 2 * (forward + back)
    assert autograd_flops({"layer.0.weight": (4, 3), "layer.0.bias": (4,)}, {0}) == 4 * 12


def test_a_loop_is_timed_on_a_few_codes() -> None:
    assert codes_timed("loop-torch", 4096, False) == 4
    assert codes_timed("loop-jax", 2, False) == 2
    assert codes_timed("loop-torch", 4096, True) == 1
    assert codes_timed("torch-folded", 4096, True) == 4096


def test_starts_are_those_of_propagate(job: dict[str, Any]) -> None:
    import jax
    from latency.inputs import authors_objective

    from ncp_jax import propagate

    predictor, starts = load_inputs(job["folder"])
    key = jax.random.key(job["seed"])
    found = propagate(predictor, authors_objective(predictor), codes=CODES, key=key)
    np.testing.assert_array_equal(get_space(predictor.space).encode(found.starts), starts)
    np.testing.assert_array_equal(random_starts(predictor, 4, job["seed"]), starts[:4])
