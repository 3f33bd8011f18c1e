"""Trains and measures a rival, a model whose weights a small network makes from the preference.

The method is that of Navon et al., "Learning the Pareto front with hypernetworks", ICLR 2021. A small network maps the
preference and the ratio of all widths to a change of the scales and shifts of all normalisations. Each step draws a
preference for each width configuration from a Dirichlet distribution, and weights the tasks' losses by it.

Deviations from the paper: there, all weights are made, which takes a network many times larger than the model; and the
model has one width. Here the ratios of a step are those of ``shared_width``, so that every budget is served.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.losses import task_loss, task_score
from ncp_jax.controllable.model import ControllableModel, graph
from ncp_jax.controllable.program import Settings, TrainConfig, draw_widths, make_optimizer
from ncp_jax.controllable.tasks import Examples
from ncp_jax.controllable.widths import exact_costs, width_table
from ncp_jax.jax_settings import package_settings
from ncp_jax.types import Array, Float, Int, Params
from width_control.asked import Asked

HIDDEN = 32  # units of the small network


def _is_norm(path: Any) -> bool:
    return any(getattr(step, "key", getattr(step, "name", None)) == "norm" for step in path)


def start(model: ModelConfig, seed: int) -> dict[str, Any]:
    """Returns the weights before the first step: those of the model, of the small network, and of the losses."""
    first, second = jax.random.split(jax.random.fold_in(jax.random.key(0), seed))
    params = nnx.state(ControllableModel(model, first), nnx.Param)
    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    outputs, tasks = sum(leaf.size for path, leaf in leaves if _is_norm(path)), len(model.targets)
    return {
        "model": params,
        "first": jax.random.normal(second, (tasks + 1, HIDDEN)) / np.sqrt(tasks + 1),
        "bias": jnp.zeros(HIDDEN),
        "second": jnp.zeros((HIDDEN, outputs)),
        "log_vars": jnp.zeros(tasks),
    }


def made_weights(weights: Any, ray: Float[Array, " t"], share: Float[Array, ""]) -> Params:
    """Returns the model's weights for a preference, and for a ratio, given as share of the last channels."""
    inputs = jnp.concatenate([len(ray) * ray - 1, share[None]])
    change = jnp.tanh(inputs @ weights["first"] + weights["bias"]) @ weights["second"]
    leaves, structure = jax.tree_util.tree_flatten_with_path(weights["model"])
    made, used = [], 0
    for path, leaf in leaves:
        if _is_norm(path):
            leaf, used = leaf + change[used : used + leaf.size].reshape(leaf.shape), used + leaf.size
        made.append(leaf)
    return jax.tree.unflatten(structure, made)


def _outputs(weights: Any, images: Array, widths: Int[Array, " d"], ray: Array, model: ModelConfig) -> Any:
    share = widths[-1] / model.decoder
    return nnx.merge(graph(model), made_weights(weights, ray, share))(images, widths)


def _total(weights: Any, rays: Array, codes: Array, batch: Any, model: ModelConfig) -> Float[Array, ""]:
    images, truths = batch

    def losses(widths: Array, ray: Array) -> Array:
        outputs = _outputs(weights, images, widths, ray, model)
        return jnp.stack([task_loss(*row) for row in zip(model.targets, outputs, truths, strict=True)])

    each = len(model.targets) * rays * jax.vmap(losses)(codes, rays)
    # The balance of the other methods, so that preferences of one size mean the same for all tasks.
    return (jnp.exp(-weights["log_vars"]) * each + weights["log_vars"]).sum()


@functools.partial(jax.jit, static_argnames=("model", "train"))
def _trained(weights: Any, settings: Settings, data: Any, *, model: ModelConfig, train: TrainConfig) -> Any:
    optimizer = optax.apply_if_finite(make_optimizer(train), train.patience)
    images, truths = data

    def step(carry: Any, number: Array) -> tuple[Any, None]:
        weights, moments = carry
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(2), settings.seed), number)
        rows_key, widths_key, rays_key = jax.random.split(key, 3)
        rows = jax.random.randint(rows_key, (train.batch,), 0, len(images))
        codes = draw_widths(widths_key, settings, width_table(model), train.sampled)
        rays = jax.random.dirichlet(rays_key, jnp.ones(len(model.targets)), (train.sampled,))
        batch = (images[rows], tuple(truth[rows] for truth in truths))
        slope = jax.grad(_total)(weights, rays, codes, batch, model)
        change, moments = optimizer.update(slope, moments, weights)
        return (optax.apply_updates(weights, change), moments), None

    (weights, moments), _ = jax.lax.scan(step, (weights, optimizer.init(weights)), jnp.arange(train.steps))
    return weights, moments.total_notfinite


@package_settings
def train_hypernetwork(model: ModelConfig, examples: Examples, train: TrainConfig, seed: int) -> tuple[Any, int]:
    """Returns the weights of one run, and how many steps were skipped since they were not finite."""
    images, truths = examples.part("train")
    data = (jnp.asarray(images), tuple(map(jnp.asarray, truths)))
    settings = Settings.make(model, train, seed=seed, tied=True)
    weights, skipped = _trained(start(model, seed), settings, data, model=model, train=train)
    return weights, int(skipped)


@functools.partial(jax.jit, static_argnames=("model",))
def _scores(weights: Any, codes: Array, rays: Array, data: Any, *, model: ModelConfig) -> Float[Array, "k n t"]:
    images, truths = data

    def one(pair: tuple[Array, Array]) -> Array:
        outputs = _outputs(weights, images, pair[1], pair[0], model)
        return jnp.stack([task_score(*row) for row in zip(model.targets, outputs, truths, strict=True)])

    pairs = (jnp.repeat(rays, len(codes), axis=0), jnp.tile(codes, (len(rays), 1)))
    return jax.lax.map(one, pairs).reshape(len(rays), len(codes), -1)


@package_settings
def measure_hypernetwork(model: ModelConfig, weights: Any, examples: Examples, asked: Asked) -> dict[str, Any]:
    """Returns what one run reaches, JSON-ready, as ``methods.measure_run`` does.

    Of the ratios within a budget, the one whose validation metrics are best by the preference is taken.
    """
    codes = width_table(model).T
    equal = np.full((1, len(model.targets)), 1 / len(model.targets))
    rays = np.concatenate([asked.rays, equal]).astype(np.float32)
    scores = {}
    for split in ("validation", "test"):
        images, truths = examples.part(split)
        data = (jnp.asarray(images), tuple(map(jnp.asarray, truths)))
        scores[split] = np.asarray(_scores(weights, codes, rays, data, model=model), np.float64)
    objective = (scores["validation"] * rays[:, None]).sum(axis=-1)[:-1]
    costs, points = exact_costs(model, codes)["flops"], []
    for budget in asked.budgets:
        fits = costs <= budget
        chosen = np.where(fits, objective, -np.inf).argmax(axis=1)
        points.append(scores["test"][np.arange(len(chosen)), chosen].tolist() if fits.any() else None)
    return {"points": points, "ratios": scores["test"][-1].tolist()}
