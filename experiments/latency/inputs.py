"""Makes the inputs of a latency measurement: predictor, objective and starts, and the same as arrays for baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import FoldedMLP, Predictor, load_predictor, load_shipped, save_predictor
from ncp_jax.predictors.ncp import NCPPredictor, fold, weights
from ncp_jax.predictors.predictor import Standardisation
from ncp_jax.propagation import Objective, PropagationConfig
from ncp_jax.spaces import get_space

SPACE = "nas-bench-mr"
HEADS = (1, 2, 2)
METRICS = (
    MetricSpec("main"),
    MetricSpec("second"),
    MetricSpec("third"),
    MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost"),
    MetricSpec("params", unit="M", direction="minimize", kind="cost"),
)
State = dict[str, np.ndarray]


def authors_network(seed: int) -> NCPPredictor:
    """Returns the authors' architecture with random weights and random, unequal BatchNorm statistics."""
    features = get_space(SPACE).length
    network = NCPPredictor(features, HEADS, rngs=nnx.Rngs(seed))
    rng = np.random.default_rng(seed)
    for norm in (network.norm_in, network.norm, *network.head_norm):
        assert norm.scale is not None
        assert norm.bias is not None
        units = norm.mean[...].shape
        norm.mean[...] = rng.normal(0.0, 0.3, units).astype(np.float32)
        norm.var[...] = rng.uniform(0.5, 2.0, units).astype(np.float32)
        norm.scale[...] = rng.uniform(0.7, 1.4, units).astype(np.float32)
        norm.bias[...] = rng.normal(0.0, 0.2, units).astype(np.float32)
    return network


def as_predictor(network: NCPPredictor) -> Predictor:
    """Returns the folded network as a predictor of one member on NAS-Bench-MR; its metrics are in standard units."""
    params = jax.tree.map(lambda a: a[None], fold(network))
    values = [np.asarray(v, np.float32) for v in get_space(SPACE).values]
    x_mean, x_std = (np.array([getattr(v, name)() for v in values], np.float32) for name in ("mean", "std"))
    outputs = len(METRICS)
    scale = Standardisation(*map(jax.device_put, (x_mean, x_std, np.zeros(outputs, "f4"), np.ones(outputs, "f4"))))
    return Predictor(params, scale, FoldedMLP(), METRICS, SPACE)


def authors_objective(predictor: Predictor) -> Objective:
    """Returns the authors' trade-off: the main metric up with weight 1, FLOPs down with weight 0.5."""
    return Objective(maximize={predictor.main.name: 1.0}, minimize={"flops": 0.5})


def authors_config(steps: int, precision: str, members: int) -> PropagationConfig:
    """Returns the authors' settings. In an ensemble each code follows one member, at the cost of one network."""
    return PropagationConfig.authors(steps=steps, precision=precision, follow="member" if members > 1 else "mean")


def batch_norm_state(network: NCPPredictor) -> State:
    """Returns the network's arrays under the names and in the layout of ``torch_baselines.AuthorsNetwork``."""
    state: State = {}

    def linear(name: str, layer: nnx.Linear) -> None:
        kernel, bias = weights(layer)
        state[f"{name}.weight"], state[f"{name}.bias"] = np.asarray(kernel).T, np.asarray(bias)

    def norm(name: str, layer: nnx.BatchNorm) -> None:
        assert layer.scale is not None
        assert layer.bias is not None
        values = {"weight": layer.scale, "bias": layer.bias, "running_mean": layer.mean, "running_var": layer.var}
        state.update({f"{name}.{key}": np.asarray(value[...]) for key, value in values.items()})

    norm("norm_in", network.norm_in)
    linear("trunk", network.trunk)
    norm("norm", network.norm)
    for i, (head, head_norm, out) in enumerate(zip(network.head, network.head_norm, network.out, strict=True)):
        linear(f"head.{i}", head)
        norm(f"head_norm.{i}", head_norm)
        linear(f"out.{i}", out)
    return state


def dense_state(predictor: Predictor) -> State:
    """Returns folded layers with all outputs and a leading axis of members, for ``torch_baselines.DenseNetwork``."""
    state = {}
    for i, (w, b) in enumerate(zip(predictor.params["w"], predictor.params["b"], strict=True)):
        state[f"layer.{i}.weight"], state[f"layer.{i}.bias"] = np.asarray(w).swapaxes(1, 2), np.asarray(b)
    return state


def baseline_arrays(predictor: Predictor, state: State, starts: np.ndarray) -> State:
    """Returns all arrays that a baseline needs, in standard units."""
    space, scale = get_space(predictor.space), predictor.scale
    objective = authors_objective(predictor)
    selected = predictor.select(objective.names)
    assert isinstance(predictor.apply, FoldedMLP)
    layers = len(selected.params["w"])
    arrays = {
        "push": np.asarray(objective.weights(predictor.metrics).push),
        "selected.push": np.asarray(objective.weights(selected.metrics).push),
        "start": np.asarray(scale.standard_x(jnp.asarray(starts))),
        "low": np.asarray(scale.standard_x(jnp.asarray(space.lower))),
        "high": np.asarray(scale.standard_x(jnp.asarray(space.upper))),
        "x_mean": np.asarray(scale.x_mean),
        "x_std": np.asarray(scale.x_std),
        "log": np.asarray(predictor.apply.log),
    }
    arrays |= {f"selected.w{i}": np.asarray(selected.params["w"][i]) for i in range(layers)}
    arrays |= {f"selected.b{i}": np.asarray(selected.params["b"][i]) for i in range(layers)}
    return arrays | {f"net.{name}": array for name, array in state.items()}


def random_starts(predictor: Predictor, codes: int, seed: int) -> np.ndarray:
    """Returns the starts of ``propagate`` for the same seed: relaxed codes in raw units ``[codes, f]``."""
    space = get_space(predictor.space)
    return np.asarray(space.encode(space.sample(jax.random.key(seed), codes)))


def load_inputs(folder: str) -> tuple[Predictor, np.ndarray]:
    """Returns the predictor and the starts that ``Setup.write`` wrote into a folder."""
    return load_predictor(Path(folder) / "predictor.npz")[0], np.load(Path(folder) / "starts.npy", allow_pickle=False)


class Setup:
    """Writes the inputs, in a process of its own, so that no measured process spends time on it.

    Args:
      job: "folder", "predictor" ("ncp" or "shipped"), "seed", "codes" (number of starts).
    """

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job

    def write(self) -> dict[str, Any]:
        """Writes predictor.npz, starts.npy (raw units) and baseline.npz (standard units); returns {}."""
        seed, folder = self._job["seed"], Path(self._job["folder"])
        if self._job["predictor"] == "shipped":
            shipped = load_shipped(SPACE)
            assert shipped is not None
            predictor = shipped[0]
            state = dense_state(predictor)
        else:
            network = authors_network(seed)
            predictor, state = as_predictor(network), batch_norm_state(network)
            state = {name: array[None] for name, array in state.items()}
        starts = random_starts(predictor, self._job["codes"], seed)
        save_predictor(folder / "predictor.npz", predictor)
        np.save(folder / "starts.npy", starts)
        np.savez(folder / "baseline.npz", allow_pickle=False, **baseline_arrays(predictor, state, starts))
        return {}
