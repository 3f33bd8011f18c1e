"""The training of controllable models as one jitted program, for several seeds and settings at once.

Each step trains the full width, the smallest, and random ones in between (the sandwich rule of Yu & Huang,
"Universally slimmable networks", ICCV 2019), whose gradients are summed. Written for one run; ``advance`` maps it.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ncp_jax import checks
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.layers import Statistics
from ncp_jax.controllable.losses import feature_loss, imitation_loss, task_loss
from ncp_jax.controllable.model import ControllableModel, graph
from ncp_jax.controllable.settings import TrainOptions
from ncp_jax.controllable.widths import width_table
from ncp_jax.types import Array, Bool, Float, Int, Params

BALANCES = ("fixed", "uncertainty", "rates")
PRECISIONS = ("auto", "float32", "bfloat16")
_MEMORY = 0.99  # of the running averages of losses, for the balance by rates


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainConfig(TrainOptions):
    """Settings of the training: those of ``TrainOptions``, and more.

    Attributes:
      decay: strength of the decoupled weight decay.
      segment: steps between two checkpoints.
      patience: steps in a row with a loss or gradient that is not finite after which the training stops.
    """

    decay: float = 1e-2
    segment: int = 100
    patience: int = 50

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "sampled", "segment", "patience"):
            checks.integer(name, getattr(self, name), least=1, remedy="see TrainConfig")
        checks.positive("rate", self.rate)
        checks.positive("decay", self.decay, zero=True)
        checks.positive("ci_kd", self.ci_kd, zero=True)
        checks.positive("in_place", self.in_place, zero=True)
        if self.in_place > 1:
            raise checks.UsageError(expected="in_place from 0 to 1", got=str(self.in_place), remedy="give a share")
        checks.choose("balance", self.balance, BALANCES)
        checks.choose("precision", self.precision, PRECISIONS)


class Settings(NamedTuple):
    """What differs between the runs of one program; leaves have a leading axis of runs.

    Attributes:
      seed: seed of weights, images and widths.
      low: ``[d]`` number of each position's smallest width among its widths.
      high: ``[d]`` number of its largest.
      tied: whether all positions take the same random number: one ratio for the whole model.
      in_place: as in ``TrainConfig``.
      ci_kd: as in ``TrainConfig``.
    """

    seed: Int[Any, ""]
    low: Int[Any, " d"]
    high: Int[Any, " d"]
    tied: Bool[Any, ""]
    in_place: Float[Any, ""]
    ci_kd: Float[Any, ""]

    @classmethod
    def make(
        cls, model: ModelConfig, train: TrainConfig, *, seed: int, low: Any = None, high: Any = None, tied: bool = False
    ) -> Settings:
        """Returns the settings of one run, by default with all widths of the model."""
        least = np.zeros(len(model.names), np.int32) if low is None else np.asarray(low, np.int32)
        most = np.array([len(w) - 1 for w in model.widths], np.int32) if high is None else np.asarray(high, np.int32)
        return cls(np.uint32(seed), least, most, np.bool_(tied), np.float32(train.in_place), np.float32(train.ci_kd))


class State(NamedTuple):
    """The state of a training; leaves have a leading axis of runs.

    Attributes:
      params: weights of the model.
      projections: ``[c, c]`` for each stage, of the features' distillation.
      log_vars: ``[tasks]`` logarithms of the tasks' variances, for the balance by uncertainty.
      moments: state of the optimiser.
      first: ``[tasks]`` losses of the first step.
      average: ``[tasks]`` running averages of the losses.
      step: steps done, those skipped included.
      skipped: steps whose loss or gradient was not finite.
      streak: how many of them came last, in a row.
    """

    params: Params
    projections: list[Array]
    log_vars: Array
    moments: Any
    first: Array
    average: Array
    step: Array
    skipped: Array
    streak: Array


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Returns AdamW with a warm-up and a cosine schedule to zero."""
    warm = min(max(1, config.steps // 10), config.steps - 1)
    schedule = optax.warmup_cosine_decay_schedule(0.0, config.rate, warm, config.steps)
    return optax.chain(optax.clip_by_global_norm(10.0), optax.adamw(schedule, weight_decay=config.decay))


def start(model: ModelConfig, train: TrainConfig, settings: list[Settings]) -> State:
    """Returns the states of some runs before the first step."""
    states = []
    for one in settings:
        key = jax.random.fold_in(jax.random.key(0), int(one.seed))
        params = nnx.state(ControllableModel(model, key), nnx.Param)
        tasks = len(model.targets)
        trained = (params, [jnp.eye(c) for c in model.channels], jnp.zeros(tasks))
        zero = jnp.zeros((), jnp.int32)
        moments = make_optimizer(train).init(trained)
        states.append(State(*trained, moments, jnp.ones(tasks), jnp.ones(tasks), zero, zero, zero))
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)


def draw_widths(key: Array, settings: Settings, table: Int[np.ndarray, "d k"], sampled: int) -> Int[Array, "n d"]:
    """Returns the width configurations of a step: the full one, the smallest, then random ones.

    Args:
      key: key of the step.
      settings: settings of the run.
      table: the widths of each position.
      sampled: how many configurations.
    """
    share = jax.random.uniform(key, (sampled, len(table)))
    share = jnp.where(settings.tied, share[:, :1], share)
    digits = settings.low + jnp.floor(share * (settings.high - settings.low + 1)).astype(jnp.int32)
    digits = jnp.minimum(digits, settings.high).at[0].set(settings.high)
    digits = digits.at[1:2].set(settings.low)
    return jnp.asarray(table)[np.arange(len(table)), digits]


def _total(
    trained: tuple[Params, list[Array], Array],
    state: State,
    settings: Settings,
    codes: Int[Array, "n d"],
    batch: tuple[Array, tuple[Array, ...]],
    *,
    model: ModelConfig,
    train: TrainConfig,
) -> tuple[Float[Array, ""], Float[Array, " tasks"]]:
    """Returns the loss of a step, and each task's loss at full width."""
    params, projections, log_vars = trained
    images, truths = batch
    dtype = _dtype(train.precision)
    network = nnx.merge(graph(model), jax.tree.map(lambda a: a.astype(dtype), params))
    images, stages = images.astype(dtype), model.stages

    def forward(widths: Array) -> tuple[list[Array], tuple[Array, ...]]:
        return network.run(images, widths, Statistics(), truths)

    features, outputs = jax.vmap(forward)(codes)
    losses, taught = [], []
    for target, found, truth in zip(model.targets, outputs, truths, strict=True):
        losses.append(jax.vmap(lambda out, target=target, truth=truth: task_loss(target, out, truth))(found))
        taught.append(jax.vmap(lambda out, target=target, found=found: imitation_loss(target, out, found[0]))(found))
    own, copied = jnp.stack(losses, axis=-1), jnp.stack(taught, axis=-1)  # [n, tasks]
    # The full width learns from the targets alone, the others also from its outputs.
    share = jnp.where(jnp.arange(len(codes)) > 0, settings.in_place, 0.0)[:, None]
    by_task = ((1 - share) * own + share * copied).sum(axis=0)
    if train.balance == "uncertainty":
        total = (jnp.exp(-log_vars) * by_task + len(codes) * log_vars).sum()
    else:
        pace = state.average / jnp.maximum(state.first, 1e-12)
        weights = pace / pace.mean() if train.balance == "rates" else jnp.ones_like(pace)
        total = (jax.lax.stop_gradient(weights) * by_task).sum()
    if len(codes) > 1:
        full = codes[:, :stages] == codes[0, :stages]
        near = jax.vmap(lambda x, full: feature_loss(x, [f[0] for f in features], projections, full))(features, full)
        total += settings.ci_kd * near[1:].sum()
    return total, own[0]


def _dtype(precision: str) -> Any:
    accelerated = jax.default_backend() != "cpu"
    return jnp.bfloat16 if precision == "bfloat16" or (precision == "auto" and accelerated) else jnp.float32


def _step(
    state: State, settings: Settings, data: tuple[Array, tuple[Array, ...]], *, model: ModelConfig, train: TrainConfig
) -> State:
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(1), settings.seed), state.step)
    rows_key, widths_key = jax.random.split(key)
    images, truths = data
    rows = jax.random.randint(rows_key, (train.batch,), 0, len(images))
    batch = _spread((images[rows], tuple(truth[rows] for truth in truths)), train.batch)
    codes = draw_widths(widths_key, settings, width_table(model), train.sampled)
    trained = (state.params, state.projections, state.log_vars)
    objective = functools.partial(_total, model=model, train=train)
    (total, losses), slope = jax.value_and_grad(objective, has_aux=True)(trained, state, settings, codes, batch)
    change, moments = make_optimizer(train).update(slope, state.moments, trained)
    good = jnp.isfinite(total) & jnp.isfinite(optax.tree.norm(slope))
    first = jnp.where(state.step == 0, losses, state.first)
    average = jnp.where(state.step == 0, losses, _MEMORY * state.average + (1 - _MEMORY) * losses)
    params, projections, log_vars = optax.apply_updates(trained, change)
    new = State(params, projections, log_vars, moments, first, average, state.step, state.skipped, state.streak * 0)
    bad = state._replace(skipped=state.skipped + 1, streak=state.streak + 1)
    kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, bad)
    return kept._replace(step=state.step + 1)


def _spread(batch: Any, size: int) -> Any:
    """Divides a batch among the local devices, where there are several: gradients are then summed between them."""
    devices = jax.local_devices()
    if len(devices) == 1 or size % len(devices):
        return batch
    where = NamedSharding(Mesh(np.array(devices), ("device",)), PartitionSpec("device"))
    return jax.lax.with_sharding_constraint(batch, where)


@functools.partial(jax.jit, static_argnames=("steps", "model", "train", "together"))
def advance(
    state: State,
    settings: Settings,
    data: tuple[Array, tuple[Array, ...]],
    *,
    steps: int,
    model: ModelConfig,
    train: TrainConfig,
    together: int,
) -> State:
    """Returns the states of some runs after a number of further steps.

    Args:
      state: states, leaves with a leading axis of runs.
      settings: settings of the runs, likewise.
      data: training images, and the targets of each task.
      steps: number of steps.
      model: sizes of the model.
      train: settings of the training; those in ``settings`` replace its own.
      together: runs that are vmapped at once.
    """

    def one(pair: tuple[State, Settings]) -> State:
        def step(state: State, _: None) -> tuple[State, None]:
            return _step(state, pair[1], data, model=model, train=train), None

        return jax.lax.scan(step, pair[0], None, length=steps)[0]

    return jax.lax.map(one, (state, settings), batch_size=together if together > 1 else None)
