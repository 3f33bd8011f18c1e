"""How well predictors rank architectures that they have not seen: k-fold cross-validation with Kendall's tau."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import kendalltau

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import main_metrics
from ncp_jax.spaces import get_space
from ncp_jax.training import Columns, Recipe, fit_many
from ncp_jax.training.fitting import Progress
from ncp_jax.types import Bool


def fold_masks(rows: int, folds: int, seed: int) -> Bool[np.ndarray, "k n"]:
    """Returns which rows each fold trains on: all but a k-th part, drawn at random; the parts are disjoint.

    Raises:
      UsageError: fewer than two folds, or more than rows.
    """
    if not 2 <= folds <= rows // 2:
        raise checks.UsageError(expected=f"2 to {rows // 2} folds", got=str(folds), remedy="try 5")
    masks = np.ones((folds, rows), bool)
    for fold, part in enumerate(np.array_split(np.random.default_rng((0xF01D, seed)).permutation(rows), folds)):
        masks[fold, part] = False
    return masks


def cross_validate(
    table: Table,
    recipe: Recipe,
    *,
    folds: int = 5,
    members: int = 1,
    joint: bool,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Trains all folds (and tasks, and members) in one program and scores each on its unseen rows.

    The last state of training is scored; nothing is chosen by looking at the held-out rows.

    Args:
      table: metrics of one or several tasks.
      recipe: how to train.
      folds: k.
      members: networks whose mean prediction is scored.
      joint: one network learns all tasks, or each task has its own.
      seed: of the folds and of training.
      checkpoint: folder for unfinished training.
      progress: called with (epochs done, in all).

    Returns:
      JSON-ready: "tau" (task → mean over folds), "tau_folds" (task → list), "tau_single" (task → mean over folds and
      members of one network alone), "train_s" (wall seconds, compilation included), "networks", "predictors" (networks
      times the tasks that each serves).
    """
    tasks = list(dict.fromkeys(m.task for m in table.metrics if m.kind == "quality"))
    names = [m.name for m in main_metrics(table, tasks)]
    held = fold_masks(len(table), folds, seed)
    groups: list[str | None] = [None] if joint else list(tasks)
    layout = [(group, fold, member) for group in groups for fold in range(folds) for member in range(members)]
    if joint:
        columns = Columns.whole(table.metrics, len(layout))
    else:
        columns = Columns.by_task(table.metrics, [str(group) for group, _, _ in layout])
    root = jax.random.fold_in(jax.random.key(seed), 0x5EED)
    keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(len(layout)))
    train = held[[fold for _, fold, _ in layout]]
    began = time.perf_counter()
    fitted = fit_many(table, train, keys=keys, recipe=recipe, columns=columns, checkpoint=checkpoint, progress=progress)
    jax.block_until_ready(fitted.params)
    seconds = time.perf_counter() - began

    relaxed = get_space(table.space).encode(table.codes)
    tau: dict[str, list[float]] = {task: [] for task in tasks}
    single: dict[str, list[float]] = {task: [] for task in tasks}
    for group in groups:
        for fold in range(folds):
            runs = [i for i, (g, f, _) in enumerate(layout) if g == group and f == fold]
            predictor = fitted.predictor(runs)
            values = np.asarray(predictor.member_values(relaxed))
            for task, name in zip(tasks, names, strict=True):
                if group not in (None, task):
                    continue
                column = [m.name for m in predictor.metrics].index(name)
                truth = np.asarray(table.column(name))[~held[fold]]
                unseen = values[:, ~held[fold], column]
                tau[task].append(float(kendalltau(unseen.mean(axis=0), truth)[0]))
                single[task] += [float(kendalltau(one, truth)[0]) for one in unseen]
    return {
        "tau": {task: float(np.mean(t)) for task, t in tau.items()},
        "tau_folds": tau,
        "tau_single": {task: float(np.mean(t)) for task, t in single.items()},
        "train_s": seconds,
        "networks": len(layout),
        "predictors": len(layout) * (len(tasks) if joint else 1),
    }
