"""Measures how similar tasks are by their embeddings and by their rankings of architectures, and whether both agree."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau, rankdata

from ncp_jax import checks
from ncp_jax.types import Float


def similarity(embeddings: Float[np.ndarray, "t k"], *, kind: str = "cosine") -> Float[np.ndarray, "t t"]:
    """Returns the similarity of each pair of tasks by their embeddings. Runs on the host.

    - "cosine": the cosine of the two embeddings, in [-1, 1]. For fingerprints of the same architectures without gaps,
      it is Spearman's rank correlation of the tasks on these.
    - "task2vec": the cosine of F_a / (F_a + F_b) and F_b / (F_a + F_b), in [0, 1]. One minus it is the symmetric
      distance of Achille et al. (ICCV 2019, arXiv 1902.03545, section on distances between tasks), in which parameters
      with large and small Fisher information count equally. Entries that are 0 in both tasks are left out.

    Args:
      embeddings: ``[t, k]``, one row per task; for "task2vec" Fisher information >= 0.
      kind: "cosine" or "task2vec".

    Returns:
      float64 ``[t, t]``, symmetric, 1 on the diagonal. The similarity of an embedding of zeros (nothing is known of the
      task) to any other is 0.

    Raises:
      UsageError: embeddings that are not numbers [t, k], an unknown kind, or a negative entry with kind "task2vec".
      DataError: an entry is not finite.
    """
    tasks = _rows("embeddings", embeddings)
    if checks.choose("similarity", kind, ("cosine", "task2vec")) == "cosine":
        # Scale the largest entry to 1 first, since squares of Fisher information would underflow.
        scaled = _ratio(tasks, np.abs(tasks).max(axis=1, keepdims=True))
        units = _ratio(scaled, np.linalg.norm(scaled, axis=1, keepdims=True))
        result = np.clip(units @ units.T, -1.0, 1.0)
    else:
        if (tasks < 0).any():
            raise checks.UsageError(
                expected="Fisher information, >= 0",
                got="a negative entry",
                remedy='kind="cosine" takes any embedding',
            )
        result = np.stack([_normalised_cosines(task, tasks) for task in tasks])
    result = (result + result.T) / 2
    np.fill_diagonal(result, 1.0)
    return result


def rank_correlations(values: Float[np.ndarray, "t n"], *, kind: str = "kendall") -> Float[np.ndarray, "t t"]:
    """Returns the rank correlation of each pair of tasks over the same n architectures. Runs on the host.

    Args:
      values: ``[t, n]``, one row per task; higher is better for all tasks, or lower is better for all.
      kind: "kendall" (tau-b) or "spearman".

    Returns:
      float64 ``[t, t]`` in [-1, 1], symmetric, 1 on the diagonal; 0 between a task with constant values and any other.

    Raises:
      UsageError: values that are not numbers [t, n], fewer than two architectures, or an unknown kind.
      DataError: a value is not finite.
    """
    tasks = _rows("values", values)
    if tasks.shape[1] < 2:
        raise checks.UsageError(
            expected="values of at least two architectures", got="one", remedy="one architecture has no order"
        )
    if checks.choose("rank correlation", kind, ("kendall", "spearman")) == "spearman":
        ranks = rankdata(tasks, axis=1)
        return similarity(ranks - ranks.mean(axis=1, keepdims=True))
    result = np.eye(len(tasks))
    for a, b in zip(*np.triu_indices(len(tasks), 1), strict=True):
        tau = kendalltau(tasks[a], tasks[b]).statistic
        result[a, b] = result[b, a] = 0.0 if np.isnan(tau) else tau
    return result


def agreement(similarities: Float[np.ndarray, "t t"], correlations: Float[np.ndarray, "t t"]) -> float:
    """Returns how well the similarities of tasks agree with their rank correlations. Runs on the host.

    It is Spearman's rank correlation of the off-diagonal entries, in [-1, 1], or 0 if these are constant in either
    matrix. The t (t - 1) / 2 pairs share tasks, so a significance test for independent pairs does not apply.

    Args:
      similarities: ``[t, t]``, from ``similarity``.
      correlations: ``[t, t]``, from ``rank_correlations``.

    Raises:
      UsageError: not two square matrices of one size, or fewer than three tasks (two have one pair).
      DataError: an entry is not finite.
    """
    first, second = _rows("similarities", similarities), _rows("correlations", correlations)
    tasks = len(first)
    if first.shape != (tasks, tasks) or second.shape != first.shape or tasks < 3:
        raise checks.UsageError(
            expected="two matrices [t, t] of t >= 3 tasks",
            got=f"{list(first.shape)} and {list(second.shape)}",
            remedy="give similarity(...) and rank_correlations(...)",
        )
    apart = ~np.eye(tasks, dtype=bool)
    return float(rank_correlations(np.stack([first[apart], second[apart]]), kind="spearman")[0, 1])


def _normalised_cosines(task: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Returns the cosines ``[t]`` of F_a / (F_a + F_b) and F_b / (F_a + F_b) for one a and all b."""
    both = task + others
    mine, theirs = _ratio(np.broadcast_to(task, others.shape), both), _ratio(others, both)
    norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    return _ratio((mine * theirs).sum(axis=1), norms)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns the quotient, 0 where the denominator is 0."""
    denominator = np.broadcast_to(denominator, numerator.shape)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def _rows(name: str, values: np.ndarray) -> np.ndarray:
    """Returns values as float64 ``[t, k]``; raises an error unless they are finite numbers and t, k >= 1."""
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiu":
        raise checks.UsageError(
            expected=f"{name} to be numbers, one row per task",
            got=f"{array.dtype} {list(array.shape)}",
            remedy="stack the tasks' vectors",
        )
    if not np.isfinite(array).all():
        remedy = "leave out what was not measured in all tasks"
        raise checks.DataError(expected=f"finite {name}", got="NaN or infinity", remedy=remedy)
    return array.astype(np.float64)
