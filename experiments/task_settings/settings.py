"""Architectures found for one setting, judged on the others; mean normalised gradients by position."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import main_metrics
from ncp_jax.predictors import Predictor
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation import PropagationConfig, propagate
from ncp_jax.propagation.objective import default_objective
from ncp_jax.spaces import get_space
from ncp_jax.types import Array, Float, Int

AT_ONCE = 256  # codes whose gradients are computed together
GROUPS = {
    "classification": ("cls-50-1000", "cls-50-100", "cls-10-1000", "cls-10c"),
    "segmentation": ("seg", "seg-4x"),
    "video": ("video", "video-p"),
}
"""Settings of the same task in NAS-Bench-MR: other numbers of classes, images, sizes, or without pre-training."""


@dataclasses.dataclass(frozen=True)
class SettingResult:
    """What was found for one setting.

    Attributes:
      codes: proposals, the proposer's best first.
      judged: setting → mean over the proposals of the evaluator's prediction, in standard deviations of the table,
        higher is better.
      gradient: mean over held-out architectures of the normalised gradient of the setting's metric, by position.
      shift: mean of the proposals minus that of the table, in the table's standard deviations, by position.
    """

    codes: list[list[int]]
    judged: dict[str, float]
    gradient: list[float]
    shift: list[float]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as records hold them."""
        return dataclasses.asdict(self)


def find_for(
    table: Table,
    proposer: Predictor,
    evaluator: Predictor,
    task: str,
    settings: Sequence[str],
    *,
    limit: float,
    codes: int,
    config: PropagationConfig,
    top: int,
    seed: int,
    held_out: Int[np.ndarray, " k"],
) -> SettingResult:
    """Inverts the proposer for one setting and judges what it proposes on all settings.

    Args:
      table: all settings.
      proposer: ensemble that is inverted, of all settings.
      evaluator: ensemble trained on other rows.
      task: the setting.
      settings: settings on which the proposals are judged.
      limit: GFLOPs allowed.
      codes: starts of the inversion.
      config: its settings.
      top: number of proposals that are judged.
      seed: seed of the starts, the same for all settings.
      held_out: rows that the proposer has not learned from, at which gradients are taken.
    """
    of_task = for_task(proposer, task)
    goal = default_objective(of_task.metrics, limited=True)
    key = jax.random.fold_in(jax.random.key(seed), 17)
    found = propagate(of_task, goal, codes=codes, key=key, config=config, max_gflops=limit).top(top)
    slopes = mean_gradients(proposer, table, (task,), np.asarray(table.codes)[held_out])
    all_codes = np.asarray(table.codes, np.float64)
    spread = all_codes.std(axis=0)
    shift = (found.codes.mean(axis=0) - all_codes.mean(axis=0)) / np.where(spread > 0, spread, 1.0)
    return SettingResult(
        found.codes.tolist(), judge(table, evaluator, found.codes, settings), slopes[0].tolist(), shift.tolist()
    )


def judge(
    table: Table, evaluator: Predictor, codes: Int[np.ndarray, "k d"], settings: Sequence[str]
) -> dict[str, float]:
    """Returns the evaluator's mean prediction of some codes by setting, in the table's standard deviations."""
    mean, _ = evaluator(get_space(table.space).encode(jnp.asarray(codes)))
    names = [metric.name for metric in evaluator.metrics]
    found = {}
    for metric, setting in zip(main_metrics(table, list(settings)), settings, strict=True):
        measured = np.asarray(table.oriented(metric.name), np.float64)
        predicted = metric.sign * np.asarray(mean, np.float64)[:, names.index(metric.name)]
        found[setting] = float((predicted.mean() - measured.mean()) / measured.std())
    return found


def mean_gradients(
    predictor: Predictor, table: Table, settings: Sequence[str], codes: Int[np.ndarray, "k d"]
) -> Float[np.ndarray, "t d"]:
    """Returns the mean over codes of the gradient of each setting's main metric, normalised to length 1 per code.

    A positive entry raises the metric with the position. Both are in standard units. A categorical position has the
    length of its features' gradients, which has no sign.
    """
    names = [metric.name for metric in predictor.metrics]
    metrics = main_metrics(table, list(settings))
    places = jnp.array([names.index(metric.name) for metric in metrics])
    signs = jnp.array([metric.sign for metric in metrics], jnp.float32)
    slopes = np.asarray(_gradients(predictor, jnp.asarray(codes), places, signs))
    space = get_space(table.space)
    if space.features == space.length:
        return slopes.mean(axis=0)
    blocks = np.linalg.norm(slopes.reshape(*slopes.shape[:2], space.length, -1), axis=-1)
    return blocks.mean(axis=0)


@jax.jit
def _gradients(
    predictor: Predictor, codes: Int[Array, "k d"], places: Int[Array, " t"], signs: Float[Array, " t"]
) -> Float[Array, "k t f"]:
    def values(x: Float[Array, " f"]) -> Float[Array, " t"]:
        members = jax.vmap(predictor.apply, in_axes=(0, None))(predictor.params, x)
        return members.mean(axis=0)[places] * signs

    x = predictor.scale.standard_x(get_space(predictor.space).encode(codes))
    slopes = jax.lax.map(jax.jacrev(values), x, batch_size=AT_ONCE)
    return slopes / jnp.maximum(jnp.linalg.norm(slopes, axis=-1, keepdims=True), 1e-12)
