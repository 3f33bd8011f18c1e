"""Cross-validates predictors: Kendall's tau on architectures that they were not trained on."""

from __future__ import annotations

import dataclasses
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
    """Returns the training rows of each fold: all but a random k-th of the rows. The left-out parts are disjoint.

    Raises:
      UsageError: fewer than two folds, or more than half as many as there are rows.
    """
    if not 2 <= folds <= rows // 2:
        raise checks.UsageError(expected=f"2 to {rows // 2} folds", got=str(folds), remedy="try 5")
    masks = np.ones((folds, rows), bool)
    for fold, part in enumerate(np.array_split(np.random.default_rng((0xF01D, seed)).permutation(rows), folds)):
        masks[fold, part] = False
    return masks


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """The scores of one cross-validation.

    Attributes:
      tau: Kendall's tau of the ensemble by task, mean over the folds.
      tau_folds: the same for each fold.
      tau_single: Kendall's tau of single networks by task, mean over folds and members.
      train_s: wall time of training in seconds, compilation included.
      networks: number of networks trained.
      predictors: number of networks times the tasks that each predicts.
    """

    tau: dict[str, float]
    tau_folds: dict[str, list[float]]
    tau_single: dict[str, float]
    train_s: float
    networks: int
    predictors: int

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as a record holds them."""
        return dataclasses.asdict(self)


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
) -> CrossValidation:
    """Trains all folds, tasks and members in one program and scores each predictor on its held-out rows.

    The networks are scored as training leaves them: no epoch is chosen by looking at the held-out rows.

    Args:
      table: metrics of one or several tasks.
      recipe: training recipe.
      folds: number of folds.
      members: number of networks whose mean prediction is scored.
      joint: whether one network learns all tasks; otherwise each task has its own.
      seed: random seed of folds and training.
      checkpoint: folder for the state of an unfinished training.
      progress: called with (epochs done, in all).
    """
    tasks = list(dict.fromkeys(m.task for m in table.metrics if m.kind == "quality"))
    names = [m.name for m in main_metrics(table, tasks)]
    trained = fold_masks(len(table), folds, seed)
    groups: list[str | None] = [None] if joint else list(tasks)
    layout = [(group, fold, member) for group in groups for fold in range(folds) for member in range(members)]
    if joint:
        columns = Columns.whole(table.metrics, len(layout))
    else:
        columns = Columns.by_task(table.metrics, [str(group) for group, _, _ in layout])
    root = jax.random.fold_in(jax.random.key(seed), 0x5EED)
    keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(len(layout)))
    train = trained[[fold for _, fold, _ in layout]]
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
                measured = np.asarray(table.column(name))[~trained[fold]]
                unseen = values[:, ~trained[fold], column]
                tau[task].append(float(kendalltau(unseen.mean(axis=0), measured)[0]))
                single[task] += [float(kendalltau(one, measured)[0]) for one in unseen]
    return CrossValidation(
        tau={task: float(np.mean(t)) for task, t in tau.items()},
        tau_folds=tau,
        tau_single={task: float(np.mean(t)) for task, t in single.items()},
        train_s=seconds,
        networks=len(layout),
        predictors=len(layout) * (len(tasks) if joint else 1),
    )
