"""Opens probe networks (Flax NNX modules or pure functions) and fits their heads to tasks."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ncp_jax import checks
from ncp_jax.types import Array, Float, Params

LIKELIHOODS = ("categorical", "gaussian")
ADAM = optax.scale_by_adam()
Probe: TypeAlias = nnx.Module | tuple[Callable[[Params, Array], Array], Params]


@dataclasses.dataclass(frozen=True)
class ApplyModule:
    """A module as a pure function. Modules of the same structure compare equal, so jit reuses the program."""

    graph: Any

    def __call__(self, params: Params, rest: Params, inputs: Array) -> Array:
        """Returns the outputs ``[n, ...]`` for inputs ``[n, ...]``."""
        return nnx.merge(self.graph, params, rest)(inputs)


@dataclasses.dataclass(frozen=True)
class ApplyPure:
    """A pure function of parameters and inputs, with the signature of ``ApplyModule``."""

    function: Callable[[Params, Array], Array]

    def __call__(self, params: Params, rest: Params, inputs: Array) -> Array:
        """Returns the outputs ``[n, ...]`` for inputs ``[n, ...]``. ``rest`` is empty."""
        del rest
        return self.function(params, inputs)


def open_probe(probe: Probe) -> tuple[ApplyModule | ApplyPure, Params, Params]:
    """Splits a probe into a pure function, its trainable parameters and the rest of its state. Does not change it.

    Args:
      probe: a Flax NNX module of ``inputs [n, ...]``, which is copied and set to evaluation mode (BatchNorm uses its
        statistics, dropout is off), or ``(apply, params)`` with ``apply(params, inputs [n, ...])``.

    Returns:
      ``apply(params, rest, inputs)``, ``params`` (nested dictionaries for a module), ``rest`` (held fixed).

    Raises:
      UsageError: the probe is neither.
    """
    if isinstance(probe, nnx.Module):
        copy = nnx.clone(probe)
        copy.eval()
        graph, params, *rest = nnx.split(copy, nnx.Param, ...)
        return ApplyModule(graph), nnx.to_pure_dict(params), nnx.to_pure_dict(rest[0])
    if isinstance(probe, tuple) and len(probe) == 2 and callable(probe[0]):
        return ApplyPure(probe[0]), jax.tree.map(jnp.asarray, probe[1]), ()
    raise checks.UsageError(
        expected="a Flax NNX module or (apply, params)",
        got=type(probe).__name__,
        remedy="apply takes params and inputs",
    )


def leaf_paths(params: Params) -> list[str]:
    """Returns the path of each leaf ("layers/0/kernel"), in the order of ``jax.tree.leaves``."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]


def choose_leaves(params: Params, keep: Callable[[str], bool] | None) -> tuple[bool, ...]:
    """Returns True for each leaf that the filter keeps (all if None); UsageError with the paths if it keeps none."""
    names = leaf_paths(params)
    kept = tuple(keep is None or bool(keep(name)) for name in names)
    if not any(kept):
        raise checks.UsageError(
            expected="a filter that keeps a parameter",
            got="one that keeps none",
            remedy=f"the paths: {', '.join(names)}",
        )
    return kept


def check_inputs(inputs: Array) -> Array:
    """Returns inputs ``[n, ...]`` as a device array; UsageError if there are none, DataError if one is not finite."""
    array = jnp.asarray(inputs)
    if array.ndim < 1 or array.size == 0:
        raise checks.UsageError(
            expected="inputs [n, ...] of n >= 1 examples",
            got=f"shape {list(array.shape)}",
            remedy="give the task's data, examples first",
        )
    if jnp.issubdtype(array.dtype, jnp.inexact) and not bool(jnp.isfinite(array).all()):
        raise checks.DataError(expected="finite inputs", got="NaN or infinity", remedy="leave out those examples")
    return array


def check_outputs(apply: ApplyModule | ApplyPure, params: Params, rest: Params, inputs: Array, likelihood: str) -> int:
    """Returns the number of outputs of an example; UsageError if their shape does not fit the likelihood."""
    shape = jax.eval_shape(apply, params, rest, inputs[:1]).shape
    if shape[:1] != (1,) or (likelihood == "categorical" and (len(shape) != 2 or shape[1] < 2)):
        wanted = "logits [n, classes >= 2]" if likelihood == "categorical" else "outputs [n, ...]"
        raise checks.UsageError(
            expected=f"a probe with {wanted}",
            got=f"{list(shape)} for inputs {[1, *inputs.shape[1:]]}",
            remedy="pool over positions, and write a single logit z as (0, z)",
        )
    return int(np.prod(shape))


def fit_head(
    probe: Probe,
    inputs: Float[Array, "n ..."],
    targets: Array,
    *,
    head: Callable[[str], bool],
    likelihood: str = "categorical",
    steps: int = 300,
    learning_rate: float = 0.05,
    decay: float = 1e-3,
) -> Probe:
    """Fits some parameters of a probe to a task, and returns it as a new probe. Runs on the host.

    It minimises the mean negative log-likelihood plus ``decay / 2`` times the squared norm of the fitted parameters, by
    full-batch Adam with a step size that falls to zero along a cosine. Without the penalty, the head of a separable
    task would grow without bound, and its Fisher information would fall to zero. If the head is a last linear layer,
    the problem is convex.

    Args:
      probe: as in ``fisher_diagonal``.
      inputs: ``[n, ...]`` data of the task.
      targets: ``[n]`` integer labels for "categorical", or numbers of the outputs' shape for "gaussian" (unit
        variance).
      head: filter of paths ("layers/2/kernel"), True for the parameters to fit.
      likelihood: "categorical" or "gaussian".
      steps: number of Adam steps, each over all data.
      learning_rate: initial step size.
      decay: strength of the penalty.

    Raises:
      UsageError: no data, targets that do not fit the outputs, an unknown likelihood, a head without parameters, or a
        setting out of range.
      DataError: an input or target is not finite.
    """
    kind = checks.choose("likelihood", likelihood, LIKELIHOODS)
    steps = checks.integer("steps", steps, least=1, remedy="300 is usual")
    checks.positive("learning_rate", learning_rate)
    checks.positive("decay", decay, zero=True)
    apply, params, rest = open_probe(probe)
    data = check_inputs(inputs)
    outputs = jax.eval_shape(apply, params, rest, data)
    check_outputs(apply, params, rest, data, kind)
    wanted = _check_targets(np.asarray(targets), outputs.shape, kind)
    chosen = choose_leaves(params, head)
    state = ADAM.init(list(itertools.compress(jax.tree.leaves(params), chosen)))
    fixed = (rest, data, wanted)
    # A host loop instead of a scan, in which XLA's convolutions on a CPU are several times slower.
    for number in range(steps):
        rate = learning_rate * (1 + math.cos(math.pi * number / steps)) / 2
        params, state = _step(params, state, fixed, rate, decay, apply=apply, chosen=chosen, likelihood=kind)
    if isinstance(probe, nnx.Module):
        result = nnx.clone(probe)
        trainable = nnx.state(result, nnx.Param)
        nnx.replace_by_pure_dict(trainable, params)
        nnx.update(result, trainable)
        return result
    return probe[0], params


def _check_targets(targets: np.ndarray, outputs: tuple[int, ...], likelihood: str) -> np.ndarray:
    """Returns the targets; UsageError if they do not fit outputs of this shape."""
    if likelihood == "categorical":
        n, classes = outputs
        integers = targets.shape == (n,) and targets.dtype.kind in "iu"
        if not integers or targets.min() < 0 or targets.max() >= classes:
            raise checks.UsageError(
                expected=f"integer labels [{n}] in 0..{classes - 1}",
                got=f"{targets.dtype} {list(targets.shape)}",
                remedy="number the classes of the task from 0",
            )
    elif targets.shape != outputs or targets.dtype.kind not in "fiu":
        raise checks.UsageError(
            expected=f"numbers {list(outputs)} as targets",
            got=f"{targets.dtype} {list(targets.shape)}",
            remedy="one target an output",
        )
    if targets.dtype.kind == "f" and not np.isfinite(targets).all():
        raise checks.DataError(expected="finite targets", got="NaN or infinity", remedy="leave out those examples")
    return targets


@functools.partial(jax.jit, static_argnames=("apply", "chosen", "likelihood"))
def _step(
    params: Params,
    state: optax.OptState,
    fixed: tuple[Params, Array, Array],
    rate: Float[Array, ""],
    decay: Float[Array, ""],
    *,
    apply: ApplyModule | ApplyPure,
    chosen: tuple[bool, ...],
    likelihood: str,
) -> tuple[Params, optax.OptState]:
    """Returns parameters and optimizer state after one step on the chosen leaves."""
    rest, inputs, targets = fixed
    leaves, tree = jax.tree.flatten(params)

    def join(free: list[Array]) -> Params:
        taken = iter(free)
        return jax.tree.unflatten(tree, [next(taken) if c else leaf for c, leaf in zip(chosen, leaves, strict=True)])

    def loss(free: list[Array]) -> Float[Array, ""]:
        outputs = apply(join(free), rest, inputs)
        if likelihood == "categorical":
            data = optax.softmax_cross_entropy_with_integer_labels(outputs, targets).mean()
        else:
            data = jnp.sum((outputs - targets) ** 2) / (2 * len(inputs))
        return data + decay / 2 * sum(jnp.sum(leaf**2) for leaf in free)

    free = list(itertools.compress(leaves, chosen))
    direction, state = ADAM.update(jax.grad(loss)(free), state)
    return join([leaf - rate * d for leaf, d in zip(free, direction, strict=True)]), state
