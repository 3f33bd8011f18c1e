"""Trains many architectures on one task, from one seed, in one program.

The code is written for one architecture. ``lax.map`` with a few architectures at a time (on CPU, more do not fit the
caches) and ``shard_map`` over devices make a single call of it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, PartitionSpec

from ncp_jax import checks
from ncp_jax.networks import gated
from ncp_jax.networks.gated import Shape
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO
from ncp_jax.training.cells.tasks import Pool, Task
from ncp_jax.types import Array, Float, Int, Key


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Settings of the training, the same for all architectures and tasks: AdamW with warm-up and a cosine schedule.

    Attributes:
      epochs: number of epochs; the validation metric is measured after each.
      steps: gradient steps per epoch.
      batch: examples per step, drawn without replacement from the task's examples, which are reshuffled when used up.
      memory: Adam's decay of squared gradients.
      decay: strength of the decoupled weight decay.
    """

    epochs: int = 16
    steps: int = 14
    batch: int = 64
    memory: float = 0.99
    decay: float = 1e-2

    def __post_init__(self) -> None:
        for name in ("epochs", "steps", "batch"):
            value = checks.integer(name, getattr(self, name), least=1, remedy="see TrainConfig")
            object.__setattr__(self, name, value)
        checks.positive("memory", self.memory, zero=True)
        checks.positive("decay", self.decay, zero=True)


class Scores(NamedTuple):
    """The scores of a training in percent; higher is better, NaN where it diverged.

    Attributes:
      final: ``[..., 3]`` scores of train, validation and test after the last epoch.
      best: ``[..., 3]`` the same after the epoch of the best validation score.
      epoch: ``[...]`` number of that epoch, counted from 1; 0 if there is none.
      curve: ``[..., epochs]`` validation score after every epoch.
    """

    final: Float[Array, "... 3"]
    best: Float[Array, "... 3"]
    epoch: Int[Array, "..."]
    curve: Float[Array, "... epochs"]


def batches(key: Key, examples: int, config: TrainConfig) -> Int[Array, "epochs steps batch"]:
    """Returns the examples of each step, the same for all architectures of a seed."""
    wanted = config.epochs * config.steps * config.batch
    rounds = -(-wanted // examples)
    orders = jax.vmap(lambda k: jax.random.permutation(k, examples))(jax.random.split(key, rounds))
    return orders.reshape(-1)[:wanted].reshape(config.epochs, config.steps, config.batch)


def loss(outputs: Array, targets: Array) -> Float[Array, ""]:
    """Returns the mean cross-entropy of classes, or the mean squared error of pixels."""
    if targets.ndim == 1:
        return optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()
    return jnp.mean((outputs - targets) ** 2)


def score(outputs: Array, targets: Array) -> Float[Array, ""]:
    """Returns the accuracy of classes, or the explained share of the variance around each pixel's mean, in percent.

    The score is NaN if an output is not finite, since the arg-max of NaN would be a class.
    """
    if targets.ndim == 1:
        value = 100 * jnp.mean(outputs.argmax(axis=-1) == targets)
    else:
        spread = jnp.sum((targets - targets.mean(axis=0)) ** 2)
        value = 100 * (1 - jnp.sum((outputs - targets) ** 2) / spread)
    return jnp.where(jnp.isfinite(outputs).all(), value, jnp.nan)


def make_optimizer(rate: float, config: TrainConfig) -> optax.GradientTransformation:
    """Returns Adam with decoupled weight decay, one epoch of warm-up and a cosine schedule to zero."""
    total = config.epochs * config.steps
    schedule = optax.warmup_cosine_decay_schedule(0.0, rate, min(config.steps, total - 1), total)
    return optax.adamw(schedule, b2=config.memory, weight_decay=config.decay)


def train_one(
    key: Key,
    gates: Float[Array, "6 4"],
    order: Array,
    data: tuple[tuple[Array, Array], ...],
    *,
    shape: Shape,
    rate: float,
    config: TrainConfig,
) -> Scores:
    """Trains one architecture from its own key.

    The train score is computed like the others, on the first examples, as many as validation has.

    Args:
      key: key of the initial weights.
      gates: operations of the architecture.
      order: ``[epochs, steps, batch]`` examples of each step, from ``batches``.
      data: images and targets of train, validation and test.
      shape: sizes of the network.
      rate: peak of the learning rate.
      config: settings of the training.
    """
    optimizer = make_optimizer(rate, config)
    (images, targets), validation, test = data
    seen = (images[: len(validation[0])], targets[: len(validation[0])])

    def measure(state: tuple, split: tuple[Array, Array]) -> Array:
        outputs, _ = gated.apply(state[0], state[1], gates, split[0], shape=shape, train=False)
        return score(outputs, split[1])

    def step(state: tuple, rows: Array) -> tuple[tuple, None]:
        weights, statistics, moments = state

        def objective(weights: gated.Weights) -> tuple[Array, gated.Statistics]:
            outputs, new = gated.apply(weights, statistics, gates, images[rows], shape=shape, train=True)
            return loss(outputs, targets[rows]), new

        slope, statistics = jax.grad(objective, has_aux=True)(weights)
        change, moments = optimizer.update(slope, moments, weights)
        return (optax.apply_updates(weights, change), statistics, moments), None

    def epoch(carry: tuple, rows: Array) -> tuple[tuple, Array]:
        state, best, best_value, best_epoch, now = carry
        state, _ = jax.lax.scan(step, state, rows)
        # Keep weights and statistics of the epoch with the best validation score.
        value = measure(state, validation)
        better = value > best_value  # False for NaN
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state[:2], best)
        best_value, best_epoch = jnp.where(better, value, best_value), jnp.where(better, now, best_epoch)
        return (state, best, best_value, best_epoch, now + 1), value

    weights, statistics = gated.init(key, gates, shape)
    start = ((weights, statistics, optimizer.init(weights)), (weights, statistics), -jnp.inf, 0, 1)
    (state, best, value, best_epoch, _), curve = jax.lax.scan(epoch, start, order)
    final = jnp.stack([measure(state, seen), curve[-1], measure(state, test)])
    kept = jnp.stack([measure(best, seen), value, measure(best, test)])
    kept = jnp.where(best_epoch > 0, kept, jnp.nan)
    return Scores(final, kept, jnp.asarray(best_epoch), curve)


@functools.partial(jax.jit, static_argnames=("shape", "rate", "config", "together", "mesh"))
def _train(
    key: Key,
    identities: Array,
    codes: Array,
    data: tuple,
    *,
    shape: Shape,
    rate: float,
    config: TrainConfig,
    together: int,
    mesh: Mesh,
) -> Scores:
    order = batches(jax.random.fold_in(key, 0), len(data[0][0]), config)
    weights_key = jax.random.fold_in(key, 1)

    def part(identities: Array, codes: Array, order: Array, data: tuple) -> Scores:
        def one(pair: tuple[Array, Array]) -> Scores:
            own = jax.random.fold_in(weights_key, pair[0])
            return train_one(own, gated.gates_of(pair[1]), order, data, shape=shape, rate=rate, config=config)

        return jax.lax.map(one, (identities, codes), batch_size=together)

    split, whole = PartitionSpec("device"), PartitionSpec()
    return jax.shard_map(part, mesh=mesh, in_specs=(split, split, whole, whole), out_specs=split, check_vma=False)(
        identities, codes, order, data
    )


def train_chunk(
    codes: Int[np.ndarray, "n 6"],
    task: Task,
    pools: Mapping[str, Pool],
    seed: int,
    config: TrainConfig,
    *,
    together: int = 2,
    size: int = 0,
) -> Scores:
    """Trains architectures on one task, sharded over the local devices.

    The result for an architecture does not depend on the others in the chunk, except for rounding.

    Args:
      codes: codes of TransNAS-Bench-101 micro.
      task: the task.
      pools: examples of each split, from ``tasks.pools``.
      seed: random seed of the weights and of the order of examples.
      config: settings of the training.
      together: number of architectures vmapped at once on each device.
      size: minimum number of architectures that the program runs on; smaller chunks are padded to it, so that all run
        the same program.

    Returns:
      Host arrays with one row per architecture.
    """
    devices = jax.local_devices()
    share = len(devices) * together
    padded = -(-max(len(codes), size) // share) * share
    rows = np.resize(np.arange(len(codes)), padded)
    data = tuple((pool.images, pool.targets) for pool in pools.values())
    scores = _train(
        jax.random.key(seed),
        np.asarray(TRANSNAS_MICRO.index(jnp.asarray(codes)))[rows],
        codes[rows],
        data,
        shape=task.shape,
        rate=task.rate,
        config=config,
        together=together,
        mesh=Mesh(np.array(devices), ("device",)),
    )
    return jax.tree.map(lambda leaf: np.asarray(leaf)[: len(codes)], scores)
