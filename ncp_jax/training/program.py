"""Trains one network: pure functions over arrays, which the caller vmaps over runs.

A run is one network with its training rows, columns and key. Epochs and steps are scans. The caller's host loop
advances all runs of a chunk by one segment of epochs at a time; in between it can report progress and save the state.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ncp_jax.predictors.folded import log_features
from ncp_jax.predictors.kinds import KINDS, Layout
from ncp_jax.pytrees import register_dataclass
from ncp_jax.training.recipes import Recipe
from ncp_jax.types import Array, Bool, Float, Int, Key, Params, UInt


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Run:
    """The data of one run.

    Attributes:
      key: key of initial weights, batches and dropout.
      train: ``[n]`` True for the training rows of the table.
      columns: ``[m]`` columns of the metrics to learn; repeated columns pad groups to one shape.
      decay: strength of the weight decay.
    """

    key: Key
    train: Bool[Array, " n"]
    columns: Int[Array, " m"]
    decay: Float[Array, ""]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class State:
    """The state of one run between steps.

    Attributes:
      params: parameters of the network.
      statistics: statistics of its BatchNorm layers.
      optimizer: state of the optimizer.
      step: number of steps taken.
    """

    params: Params
    statistics: Params
    optimizer: optax.OptState
    step: Int[Array, ""]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Moments:
    """Means and standard deviations over the training rows.

    Attributes:
      x_mean, x_std: ``[i]`` of the network's inputs, raw units.
      y_mean, y_std: ``[m]`` of the targets, own units.
    """

    x_mean: Float[Array, " i"]
    x_std: Float[Array, " i"]
    y_mean: Float[Array, " m"]
    y_std: Float[Array, " m"]


@dataclasses.dataclass(frozen=True)
class Program:
    """The static part of a training: recipe and shapes. It is hashable, so jit can cache by it.

    Attributes:
      recipe: settings of network and training.
      features: f, length of the relaxed code.
      heads: number of metrics in each group: main metrics, other quality metrics, costs; some may be 0.
      rows: number of training rows of each run.
    """

    recipe: Recipe
    features: int
    heads: tuple[int, ...]
    rows: int

    @property
    def epochs(self) -> int:
        """Number of epochs of the whole training."""
        return self.recipe.epochs_for(self.rows)

    @property
    def segment(self) -> int:
        """Number of epochs per call of ``advance``: the largest divisor of ``epochs`` up to 20."""
        return max(d for d in range(1, 21) if self.epochs % d == 0)

    def network(self, rngs: nnx.Rngs) -> nnx.Module:
        """Returns a new network."""
        recipe = self.recipe
        layout = Layout(self.features, self.heads, recipe.widths, recipe.rates, recipe.log, recipe.precision)
        return KINDS[recipe.network].make(layout, rngs)

    def draws_needed(self) -> int:
        """Returns the number of random 32-bit integers per row that the network needs for dropout."""
        return sum(nnx.eval_shape(lambda: self.network(nnx.Rngs(0))).draws_needed)  # type: ignore[attr-defined]

    def inputs(self, relaxed: Float[Array, "n f"]) -> Float[Array, "n i"]:
        """Returns the network's inputs for relaxed codes, before standardisation."""
        return jnp.concatenate([relaxed, log_features(relaxed)], axis=-1) if self.recipe.log else relaxed

    def weights(self) -> Float[np.ndarray, " m"]:
        """Returns the loss weight of each column. Each group has weight 1, divided equally among its metrics."""
        return np.concatenate([np.full(n, 1.0 / n, np.float32) for n in self.heads if n])


def one_cycle(recipe: Recipe, steps: int) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """Returns learning rate and first-moment decay at each step of the cosine one-cycle policy.

    Source: Smith & Topin (arXiv 1708.07120), with PyTorch's conventions. The rate rises from 1/10 of its peak during
    the first ``warm`` share of the steps, then falls to 1e-5 of the peak. The momentum moves the opposite way.
    """

    def cosine(start: float, end: float, share: np.ndarray) -> np.ndarray:
        return end + (start - end) * (1 + np.cos(np.pi * share)) / 2

    # The share of each of the two phases that is over at each step; the peak of the rate lies between them.
    t = np.arange(steps, dtype=np.float64)
    peak = max(recipe.warm * steps - 1, 1e-9)
    warm_up = np.clip(t / peak, 0, 1)
    anneal = np.clip((t - peak) / max(steps - 1 - peak, 1e-9), 0, 1)

    top = recipe.learning_rate
    low, high = recipe.momentum
    rate = np.where(t <= peak, cosine(top / 10, top, warm_up), cosine(top, top / 1e5, anneal))
    momentum = np.where(t <= peak, cosine(high, low, warm_up), cosine(low, high, anneal))
    return rate.astype(np.float32), momentum.astype(np.float32)


def optimizer(
    recipe: Recipe, strength: Float[Array, ""], rate: Float[Array, ""], momentum: Float[Array, ""]
) -> optax.GradientTransformation:
    """Returns Adam with weight decay at one point of the schedule. It is made anew each step; its state is kept.

    As in PyTorch, the bias correction uses the momentum of the current step.
    """
    adam = optax.scale_by_adam(b1=momentum, b2=0.999, eps=1e-8)
    decay = optax.add_decayed_weights(strength, mask=_kernels if recipe.decay == "decoupled" else None)
    chain = (decay, adam) if recipe.decay == "l2" else (adam, decay)
    return optax.chain(*chain, optax.scale_by_learning_rate(rate))


def _kernels(params: Params) -> Params:
    """Returns True for weight matrices, so that decoupled decay leaves biases unchanged."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def moments(program: Program, run: Run, x: Float[Array, "n i"], y: Float[Array, "n c"]) -> Moments:
    """Returns means and standard deviations over the run's own training rows; held-out rows do not count."""
    share = run.train / run.train.sum()

    def of(values: Array) -> tuple[Array, Array]:
        mean = share @ values
        std = jnp.sqrt(share @ (values - mean) ** 2)
        # A feature that never varies is 0 after subtracting its mean; dividing it by 1 keeps it 0.
        return mean, jnp.where(std > 1e-6 * (1 + jnp.abs(mean)), std, 1.0)

    return Moments(*of(x), *of(y[:, run.columns]))


def _abstract(program: Program) -> tuple[nnx.GraphDef, nnx.State, nnx.State]:
    """Returns the network's structure, and the shapes of its parameters and of its other state."""
    graph, params, rest = nnx.split(nnx.eval_shape(lambda: program.network(nnx.Rngs(0))), nnx.Param, ...)  # type: ignore[misc]
    return graph, params, rest


def start(program: Program, run: Run) -> State:
    """Returns the state before the first step.

    Kernels are uniform within ±1/sqrt(inputs), PyTorch's default, for which the authors tuned their recipe. Biases and
    shifts are 0, scales and variances 1. All kernels come from a single draw, since each further draw would add a good
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
    """Returns the network with the given parameters and statistics."""
    graph, p, s = _abstract(program)
    nnx.replace_by_pure_dict(p, params)
    nnx.replace_by_pure_dict(s, statistics)
    return nnx.merge(graph, p, s, copy=True)


def advance(program: Program, run: Run, state: State, x: Float[Array, "n i"], y: Float[Array, "n c"]) -> State:
    """Trains one run for ``program.segment`` epochs.

    Args:
      program: the static part.
      run: rows, columns and key of the run.
      state: state before the segment.
      x: network inputs of all rows of the table, raw units.
      y: all metrics of all rows, own units.

    Returns:
      The state after the segment. Epoch e draws its batches from ``fold_in(key, 1 + e)``, so the result depends neither
      on the length of segments nor on interruptions.
    """
    chex.assert_rank([x, y, state.step], [2, 2, 0])
    chex.assert_shape(run.train, (len(x),))
    chex.assert_equal_shape_prefix([x, y], 1)
    chex.assert_shape(run.columns, (sum(program.heads),))
    scale = moments(program, run, x, y)
    x = (x - scale.x_mean) / scale.x_std
    y = (y[:, run.columns] - scale.y_mean) / scale.y_std
    steps, batch = program.recipe.batches(program.rows)
    rates, momenta = (jnp.asarray(a) for a in one_cycle(program.recipe, steps * program.epochs))

    per_row = program.draws_needed()

    def epoch(state: State, _: None) -> tuple[State, None]:
        # One draw gives the order of the rows and the dropout of all steps.
        key = jax.random.fold_in(run.key, 1 + state.step // steps)
        bits = jax.random.bits(key, (len(x) + steps * batch * per_row,), "uint32")
        # Sort the rows by random numbers whose highest bit is set for held-out rows: these come after all others.
        held_out = jnp.where(run.train, 0, jnp.uint32(2**31))
        order = jnp.argsort(bits[: len(x)] >> 1 | held_out)
        rows = order[: steps * batch].reshape(steps, batch)
        draws = bits[len(x) :].reshape(steps, batch, per_row) if per_row else None

        def step(state: State, item: tuple[Array, Array | None]) -> tuple[State, None]:
            chosen, step_draws = item
            rate, momentum = rates[state.step], momenta[state.step]
            transform = optimizer(program.recipe, run.decay, rate, momentum)
            return _step(program, state, x[chosen], y[chosen], step_draws, transform), None

        return jax.lax.scan(step, state, (rows, draws))

    return jax.lax.scan(epoch, state, None, length=program.segment)[0]


def _step(
    program: Program,
    state: State,
    x: Array,
    y: Array,
    draws: UInt[Array, "b w"] | None,
    transform: optax.GradientTransformation,
) -> State:
    """Takes one gradient step on the smooth L1 loss of a batch, divided by its threshold."""
    recipe, weights = program.recipe, jnp.asarray(program.weights())

    def loss(params: Params) -> tuple[Float[Array, ""], Params]:
        model = module(program, params, state.statistics)
        error = model(x, train=True, draws=draws) - y
        statistics = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        return optax.huber_loss(error, delta=recipe.huber).mean(axis=0) @ weights / recipe.huber, statistics

    gradient, statistics = jax.grad(loss, has_aux=True)(state.params)
    updates, optimizer_state = transform.update(gradient, state.optimizer, state.params)
    return State(optax.apply_updates(state.params, updates), statistics, optimizer_state, state.step + 1)
