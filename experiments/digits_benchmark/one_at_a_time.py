"""Trains architectures one at a time, as a baseline for the gated program that trains many at once.

Each network is built from its code and compiled separately: convolutions where the code has them, a jitted step, a loop
in Python. It starts from the same weights, sees the same examples, and ends with the same scores.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ncp_jax.networks import gated
from ncp_jax.networks.gated import CONV1, CONV3, EPSILON, MOMENTUM, SIDE, SKIP, Shape
from ncp_jax.spaces.cells import EDGES
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO
from ncp_jax.training.cells.program import TrainConfig, batches, loss, make_optimizer, score, train_chunk
from ncp_jax.training.cells.tasks import Pool, Task
from ncp_jax.types import Array, Float, Int


def _convolve(x: Float[Array, "b h w i"], kernel: Array, side: int, stride: int = 1) -> Float[Array, "b h w o"]:
    kernel = kernel.reshape(side, side, *kernel.shape[-2:])
    padding = [(side // 2, side // 2)] * 2 if stride == 1 else "VALID"
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def apply_ungated(
    weights: gated.Weights,
    statistics: gated.Statistics,
    code: tuple[int, ...],
    images: Float[Array, "b 64"],
    *,
    shape: Shape,
    train: bool,
) -> tuple[Float[Array, "b outputs"], gated.Statistics]:
    """Computes ``gated.apply`` of one code with ordinary convolutions, only for the operations that the code has."""
    new = {name: (mean, variance) for name, (mean, variance) in statistics.items()}

    def normalise(name: str, place: int, x: Array) -> Array:
        mean, variance = statistics[name][0][place], statistics[name][1][place]
        if train:
            now = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
            kept = [(1 - MOMENTUM) * old + MOMENTUM * n for old, n in zip((mean, variance), now, strict=True)]
            new[name] = (new[name][0].at[place].set(kept[0]), new[name][1].at[place].set(kept[1]))
            mean, variance = now
        return (x - mean) / jnp.sqrt(variance + EPSILON)

    def cell(name: str, x: Array) -> Array:
        nodes: list[Any] = [x, None, None, None]
        for edge, (source, target) in enumerate(EDGES):
            op, here = code[edge], nodes[source]
            if here is None or op not in (SKIP, CONV1, CONV3):
                continue
            if op != SKIP:
                kernel = weights[name][edge]
                h = jax.nn.relu(here)
                h = _convolve(h, kernel, 3) if op == CONV3 else _convolve(h, kernel[4], 1)
                here = normalise(name, edge, h)
            nodes[target] = here if nodes[target] is None else nodes[target] + here
        return jnp.zeros_like(x) if nodes[3] is None else nodes[3]

    x = normalise("stem", 0, _convolve(images.reshape(-1, SIDE, SIDE, 1), weights["stem"], 2, stride=2))
    x = jax.nn.relu(cell("cell0", x))
    x = x.reshape(len(x), SIDE // 4, 2, SIDE // 4, 2, -1).mean(axis=(2, 4))
    x = normalise("down", 0, _convolve(x, weights["down"], 1))
    x = jax.nn.relu(cell("cell1", x))
    x = x.mean(axis=(1, 2)) if shape.pooled else x.reshape(len(x), -1)
    if shape.bottleneck:
        x = x @ weights["bottleneck"] + weights["bottleneck_bias"]
    return x @ weights["head"] + weights["head_bias"], new


def train_alone(
    code: Int[np.ndarray, " 6"], task: Task, pools: Mapping[str, Pool], seed: int, config: TrainConfig
) -> tuple[list[float], dict[str, float]]:
    """Trains one architecture as an ordinary script does.

    Returns:
      Final scores on train, validation and test; total seconds ("seconds") and those of compilation ("compile").
    """
    began = time.perf_counter()
    key = jax.random.key(seed)
    order = batches(jax.random.fold_in(key, 0), len(pools["train"]), config)
    own = jax.random.fold_in(jax.random.fold_in(key, 1), TRANSNAS_MICRO.index(jnp.asarray(code)))
    weights, statistics = gated.init(own, gated.gates_of(jnp.asarray(code)), task.shape)
    optimizer = make_optimizer(task.rate, config)
    forward = functools.partial(apply_ungated, code=tuple(code.tolist()), shape=task.shape)

    @jax.jit
    def step(weights: Any, statistics: Any, moments: Any, images: Array, targets: Array) -> Any:
        def objective(weights: Any) -> Any:
            outputs, new = forward(weights, statistics, images=images, train=True)
            return loss(outputs, targets), new

        slope, statistics = jax.grad(objective, has_aux=True)(weights)
        change, moments = optimizer.update(slope, moments, weights)
        return optax.apply_updates(weights, change), statistics, moments

    @jax.jit
    def measure(weights: Any, statistics: Any, images: Array, targets: Array) -> Array:
        return score(forward(weights, statistics, images=images, train=False)[0], targets)

    data = {name: (jnp.asarray(pool.images), jnp.asarray(pool.targets)) for name, pool in pools.items()}
    images, targets = data["train"]
    seen = len(data["validation"][0])
    data["train"] = (images[:seen], targets[:seen])
    moments = optimizer.init(weights)
    prepared = time.perf_counter()
    first = order[0, 0]
    jax.block_until_ready(step(weights, statistics, moments, images[first], targets[first]))
    jax.block_until_ready([measure(weights, statistics, *split) for split in data.values()])
    compiled = time.perf_counter()
    for rows in np.asarray(order):
        for batch in rows:
            weights, statistics, moments = step(weights, statistics, moments, images[batch], targets[batch])
        float(measure(weights, statistics, *data["validation"]))
    scores = [float(measure(weights, statistics, *split)) for split in data.values()]
    return scores, {"seconds": time.perf_counter() - began, "compile": compiled - prepared}


@dataclasses.dataclass(frozen=True)
class SpeedComparison:
    """The speed of training many architectures at once and one at a time, on the same cells in one run.

    Attributes:
      task: name of the task.
      trained_together: number of architectures trained in chunks.
      trained_alone: number of architectures trained one at a time.
      trainings_per_s: trainings per second in chunks, in a warm process.
      alone_per_s: trainings per second one at a time, in which each compiles a program of its own.
      ratio: trainings_per_s over alone_per_s.
      ratio_without_compilation: the same ratio without the compilation of the single programs.
      first_call_s: seconds of compilation of the first chunk.
      largest_difference: largest difference of a validation score between the two, in percentage points.
    """

    task: str
    trained_together: int
    trained_alone: int
    trainings_per_s: float
    alone_per_s: float
    ratio: float
    ratio_without_compilation: float
    first_call_s: float
    largest_difference: float

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as summary.json holds them."""
        return dataclasses.asdict(self)


def compare_speed(
    codes: Int[np.ndarray, "n 6"], task: Task, pools: Mapping[str, Pool], config: TrainConfig, *, alone: int, chunk: int
) -> SpeedComparison:
    """Trains ``codes`` in chunks and the first ``alone`` of them one at a time, and compares the speed."""
    began = time.perf_counter()
    train_chunk(codes[:chunk], task, pools, 0, config, size=chunk)
    first = time.perf_counter() - began
    began = time.perf_counter()
    together = [
        train_chunk(codes[s : s + chunk], task, pools, 0, config, size=chunk) for s in range(0, len(codes), chunk)
    ]
    pace = (time.perf_counter() - began) / len(codes)
    validation = np.concatenate([np.asarray(scores.final) for scores in together])[:, 1]
    jax.clear_caches()
    differences, spent = [], {"seconds": 0.0, "compile": 0.0}
    for row, code in enumerate(codes[:alone]):
        scores, times = train_alone(code, task, pools, 0, config)
        spent = {name: spent[name] + times[name] for name in spent}
        differences.append(abs(scores[1] - float(validation[row])))
    single, compiled = spent["seconds"] / alone, (spent["seconds"] - spent["compile"]) / alone
    return SpeedComparison(
        task=task.name,
        trained_together=len(codes),
        trained_alone=alone,
        trainings_per_s=round(1 / pace, 3),
        alone_per_s=round(1 / single, 3),
        ratio=round(single / pace, 1),
        ratio_without_compilation=round(compiled / pace, 1),
        first_call_s=round(first - pace * chunk, 1),
        largest_difference=round(max(differences), 3),
    )
