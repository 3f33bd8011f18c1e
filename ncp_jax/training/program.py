"""The training program of one run: pure functions over arrays, vmapped over runs by the caller.

A run is one network: its training rows, its columns, its key. Scan inside: the caller's host loop advances all runs
of a chunk by a segment of epochs at a time, so that progress can be shown and the state saved in between.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ncp_jax.predictors import mlp, ncp
from ncp_jax.predictors.folded import log_features
from ncp_jax.training.recipes import Recipe
from ncp_jax.types import Array, Bool, Float, Int, Key, Params, UInt


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Run:
    """The data of one run.

    Attributes:
      key: for initial weights, batches and dropout.
      train: ``[n]`` which rows of the table it may see.
      columns: ``[m]`` which metrics it learns (a metric may stand twice, where groups are padded to one shape).
      decay: strength of its weight decay.
    """

    key: Key
    train: Bool[Array, " n"]
    columns: Int[Array, " m"]
    decay: Float[Array, ""]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The state of one run between steps: parameters, BatchNorm statistics, optimizer state, step count."""

    params: Params
    statistics: Params
    optimizer: optax.OptState
    step: Int[Array, ""]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """Mean and standard deviation over the training rows: of the inputs ``[i]`` and of the targets ``[m]``."""

    x_mean: Float[Array, " i"]
    x_std: Float[Array, " i"]
    y_mean: Float[Array, " m"]
    y_std: Float[Array, " m"]


@dataclasses.dataclass(frozen=True)
class Program:
    """What is static in training: recipe, shapes, number of epochs. Hashable, so jit caches by it.

    Attributes:
      recipe: the settings.
      features: f, length of the relaxed code.
      heads: number of metrics in each group: main, other qualities, costs; some may be 0.
      rows: training rows of each run.
    """

    recipe: Recipe
    features: int
    heads: tuple[int, ...]
    rows: int

    @property
    def epochs(self) -> int:
        """Epochs of the whole training."""
        return self.recipe.epochs_for(self.rows)

    @property
    def segment(self) -> int:
        """Epochs that one call of ``advance`` trains: the largest divisor of ``epochs`` up to 20."""
        return max(d for d in range(1, 21) if self.epochs % d == 0)

    def network(self, rngs: nnx.Rngs) -> nnx.Module:
        """A fresh network."""
        recipe = self.recipe
        if recipe.network == "ncp":
            width, head_width = recipe.widths
            trunk_rate, *rates = recipe.rates
            groups = [(n, rate) for n, rate in zip(self.heads, rates, strict=True) if n]
            return ncp.NCPPredictor(
                self.features,
                tuple(n for n, _ in groups),
                width=width,
                head_width=head_width,
                rates=(trunk_rate, *(rate for _, rate in groups)),
                precision=recipe.precision,
                rngs=rngs,
            )
        return mlp.MLPPredictor(
            self.features * (2 if recipe.log else 1),
            sum(self.heads),
            widths=recipe.widths,
            rate=recipe.rates[0],
            precision=recipe.precision,
            rngs=rngs,
        )

    def network_words(self) -> tuple[int, ...]:
        """Random words a row that the network's layers need for dropout."""
        return nnx.eval_shape(lambda: self.network(nnx.Rngs(0))).words  # type: ignore[attr-defined]

    def inputs(self, relaxed: Float[Array, "n f"]) -> Float[Array, "n i"]:
        """What the network reads of a relaxed code, before standardisation."""
        return jnp.concatenate([relaxed, log_features(relaxed)], axis=-1) if self.recipe.log else relaxed

    def weights(self) -> Float[np.ndarray, " m"]:
        """Loss weight of each column: every group counts as one, shared evenly by its metrics."""
        return np.concatenate([np.full(n, 1.0 / n, np.float32) for n in self.heads if n])


def one_cycle(recipe: Recipe, steps: int) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Returns learning rate and first-moment decay at each step.

    Cosine one-cycle policy (Smith & Topin, arXiv 1708.07120) with PyTorch's conventions: the rate rises from
    1/10 of its peak for the first ``warm`` share, then falls to 1e-5 of the peak; the momentum mirrors it.
    """
    t = np.arange(steps, dtype=np.float64)
    peak = max(recipe.warm * steps - 1, 1e-9)
    rise, fall = np.clip(t / peak, 0, 1), np.clip((t - peak) / max(steps - 1 - peak, 1e-9), 0, 1)

    def between(start: float, end: float, share: np.ndarray) -> np.ndarray:
        return end + (start - end) * (1 + np.cos(np.pi * share)) / 2

    low, high = recipe.momentum
    top = recipe.learning_rate
    warming = t <= peak
    rate = np.where(warming, between(top / 10, top, rise), between(top, top / 1e5, fall))
    momentum = np.where(warming, between(high, low, rise), between(low, high, fall))
    return rate.astype(np.float32), momentum.astype(np.float32)


def optimizer(
    recipe: Recipe, strength: Float[Array, ""], rate: Float[Array, ""], momentum: Float[Array, ""]
) -> optax.GradientTransformation:
    """Adam with decay at one point of the schedule; made anew each step, its state carries over.

    Like PyTorch's, the bias correction uses the momentum of the current step.
    """
    adam = optax.scale_by_adam(b1=momentum, b2=0.999, eps=1e-8)
    decay = optax.add_decayed_weights(strength, mask=_kernels if recipe.decay == "decoupled" else None)
    chain = (decay, adam) if recipe.decay == "l2" else (adam, decay)
    return optax.chain(*chain, optax.scale_by_learning_rate(rate))


def _kernels(params: Params) -> Params:
    """True for weight matrices: decoupled decay leaves biases alone."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def moments(program: Program, run: Run, x: Float[Array, "n i"], y: Float[Array, "n c"]) -> Moments:
    """Means and deviations over the run's own training rows: nothing of the held-out rows enters."""
    share = run.train / run.train.sum()

    def of(values: Array) -> tuple[Array, Array]:
        mean = share @ values
        std = jnp.sqrt(share @ (values - mean) ** 2)
        # A feature that never varies tells nothing; dividing by one leaves it at zero.
        return mean, jnp.where(std > 1e-6 * (1 + jnp.abs(mean)), std, 1.0)

    return Moments(*of(x), *of(y[:, run.columns]))


def _abstract(program: Program) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """The network's structure, its parameters and its other state, as shapes."""
    graph, params, rest = nnx.split(nnx.eval_shape(lambda: program.network(nnx.Rngs(0))), nnx.Param, ...)  # type: ignore[misc]
    return graph, params, rest


def start(program: Program, run: Run) -> State:
    """The state before the first step.

    Kernels are uniform within 1/sqrt(inputs), PyTorch's default that the authors' recipe was tuned with; biases and
    shifts are 0, scales and variances 1. All kernels are cut from one draw: every further draw would add a good
    fraction of a second of compilation.
    """
    _, params, statistics = _abstract(program)
    flat = nnx.to_pure_dict(params)
    size = sum(leaf.size for path, leaf in jax.tree.leaves_with_path(flat) if path[-1].key == "kernel")
    drawn = jax.random.uniform(jax.random.fold_in(run.key, 0), (size,), minval=-1.0, maxval=1.0)
    taken = 0

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> Array:
        nonlocal taken
        if path[-1].key == "kernel":
            part = drawn[taken : taken + leaf.size].reshape(leaf.shape)
            taken += leaf.size
            return part / np.sqrt(leaf.shape[0])
        return jnp.full(leaf.shape, float(path[-1].key in ("scale", "var")), jnp.float32)

    params = jax.tree_util.tree_map_with_path(fill, flat)
    statistics = jax.tree_util.tree_map_with_path(fill, nnx.to_pure_dict(statistics))
    state = optimizer(program.recipe, run.decay, jnp.zeros(()), jnp.zeros(())).init(params)
    return State(params, statistics, state, jnp.zeros((), jnp.int32))


def module(program: Program, params: Params, statistics: Params) -> nnx.Module:
    """The network with these parameters and statistics."""
    graph, p, s = _abstract(program)
    nnx.replace_by_pure_dict(p, params)
    nnx.replace_by_pure_dict(s, statistics)
    return nnx.merge(graph, p, s, copy=True)


def advance(program: Program, run: Run, state: State, x: Float[Array, "n i"], y: Float[Array, "n c"]) -> State:
    """Trains one run for ``program.segment`` epochs.

    Args:
      program: the static part.
      run: rows, columns, key.
      state: where the run stands.
      x: network inputs of all rows of the table, raw units.
      y: all metrics of all rows, own units.

    Returns:
      The state after the segment. Epoch e draws its batches from ``fold_in(key, 1 + e)``, so where segments begin
      and whether the run was interrupted changes nothing.
    """
    scale = moments(program, run, x, y)
    x = (x - scale.x_mean) / scale.x_std
    y = (y[:, run.columns] - scale.y_mean) / scale.y_std
    steps, batch = program.recipe.batches(program.rows)
    rates, momenta = (jnp.asarray(a) for a in one_cycle(program.recipe, steps * program.epochs))

    words = sum(program.network_words())

    def epoch(state: State, _: None) -> tuple[State, None]:
        key = jax.random.fold_in(run.key, 1 + state.step // steps)
        bits = jax.random.bits(key, (len(x) + steps * batch * words,), "uint32")
        # A random order in which held-out rows stand behind all training rows.
        held_out = jnp.where(run.train, 0, jnp.uint32(2**31))
        order = jnp.argsort(bits[: len(x)] >> 1 | held_out)
        rows = order[: steps * batch].reshape(steps, batch)
        masks = bits[len(x) :].reshape(steps, batch, words) if words else None

        def step(state: State, item: tuple[Array, Array | None]) -> tuple[State, None]:
            chosen, mask = item
            rate, momentum = rates[state.step], momenta[state.step]
            change = optimizer(program.recipe, run.decay, rate, momentum)
            return _step(program, state, x[chosen], y[chosen], mask, change), None

        return jax.lax.scan(step, state, (rows, masks))

    return jax.lax.scan(epoch, state, None, length=program.segment)[0]


def _step(
    program: Program,
    state: State,
    x: Array,
    y: Array,
    words: UInt[Array, "b w"] | None,
    change: optax.GradientTransformation,
) -> State:
    recipe, weights = program.recipe, jnp.asarray(program.weights())

    def loss(params: Params) -> tuple[Float[Array, ""], Params]:
        model = module(program, params, state.statistics)
        error = model(x, train=True, words=words) - y
        statistics = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return optax.huber_loss(error, delta=recipe.huber).mean(axis=0) @ weights / recipe.huber, statistics

    gradient, statistics = jax.grad(loss, has_aux=True)(state.params)
    updates, optimizer_state = change.update(gradient, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), statistics, optimizer_state, state.step + 1)
