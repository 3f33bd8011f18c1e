"""How alike tasks are: by their embeddings, by how they rank architectures, and whether the two agree."""

from __future__ import annotations

import numpy as np
from scipy.stats import kendalltau, rankdata

from ncp_jax import checks
from ncp_jax.types import Float


def similarity(embeddings: Float[np.ndarray, "t k"], *, kind: str = "cosine") -> Float[np.ndarray, "t t"]:
    """Returns how alike each two tasks are by their embeddings (host-side).

    - "cosine": the cosine of the two embeddings, in [-1, 1]. Of fingerprints of the same anchors without gaps it is
      Spearman's rank correlation of the tasks on the anchors.
    - "task2vec": the cosine of F_a / (F_a + F_b) and F_b / (F_a + F_b), in [0, 1]; one minus it is the symmetric
      distance of Achille et al. (ICCV 2019, arXiv 1902.03545, section on distances between tasks), in which parameters
      with large and with small Fisher information count alike. Entries that are 0 in both tasks are left out.

    Args:
      embeddings: [t, k], one line a task; for "task2vec" Fisher information, not negative.
      kind: "cosine" or "task2vec".

    Returns:
      float64 [t, t], symmetric, 1 on the diagonal. Between a task whose embedding is all zeros (nothing is known of
      it) and another one: 0.

    Raises:
      UsageError: not numbers [t, k]; an unknown kind; a negative entry where kind is "task2vec".
      DataError: an entry is not finite.
    """
    tasks = _lines("embeddings", embeddings)
    if checks.choose("similarity", kind, ("cosine", "task2vec")) == "cosine":
        # Largest entry 1 first: squares of Fisher information would underflow.
        scaled = _ratio(tasks, np.abs(tasks).max(axis=1, keepdims=True))
        units = _ratio(scaled, np.linalg.norm(scaled, axis=1, keepdims=True))
        result = np.clip(units @ units.T, -1.0, 1.0)
    else:
        if (tasks < 0).any():
            text = checks.message("Fisher information, >= 0", "a negative entry", 'kind="cosine" takes any embedding')
            raise checks.UsageError(text)
        result = np.stack([_normalised_cosines(task, tasks) for task in tasks])
    result = (result + result.T) / 2
    np.fill_diagonal(result, 1.0)
    return result


def rank_correlations(values: Float[np.ndarray, "t n"], *, kind: str = "kendall") -> Float[np.ndarray, "t t"]:
    """Returns how alike each two tasks rank the same n architectures (host-side).

    Args:
      values: [t, n], one line a task, all with higher better or all with lower better.
      kind: "kendall" (tau-b) or "spearman".

    Returns:
      float64 [t, t] in [-1, 1], symmetric, 1 on the diagonal; 0 between a task with all values alike and another one.

    Raises:
      UsageError: not numbers [t, n]; fewer than two architectures; an unknown kind.
      DataError: a value is not finite.
    """
    tasks = _lines("values", values)
    if tasks.shape[1] < 2:
        text = checks.message("values of at least two architectures", "one", "one architecture has no order")
        raise checks.UsageError(text)
    if checks.choose("rank correlation", kind, ("kendall", "spearman")) == "spearman":
        ranks = rankdata(tasks, axis=1)
        return similarity(ranks - ranks.mean(axis=1, keepdims=True))
    result = np.eye(len(tasks))
    for a, b in zip(*np.triu_indices(len(tasks), 1), strict=True):
        tau = kendalltau(tasks[a], tasks[b]).statistic
        result[a, b] = result[b, a] = 0.0 if np.isnan(tau) else tau
    return result


def agreement(similarities: Float[np.ndarray, "t t"], correlations: Float[np.ndarray, "t t"]) -> float:
    """Returns whether embeddings call those tasks alike that rank architectures alike (host-side).

    Spearman's rank correlation of the off-diagonal entries, in [-1, 1]; 0 where either matrix has all of them alike.
    The t (t - 1) / 2 pairs share tasks, so the usual significance of that many independent pairs does not hold.

    Args:
      similarities: [t, t], from ``similarity``.
      correlations: [t, t], from ``rank_correlations``.

    Raises:
      UsageError: not two square matrices of one size; fewer than three tasks (two have one pair).
      DataError: an entry is not finite.
    """
    first, second = _lines("similarities", similarities), _lines("correlations", correlations)
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
    """Returns [t]: the cosine of F_a / (F_a + F_b) and F_b / (F_a + F_b) for one a and all b."""
    both = task + others
    mine, theirs = _ratio(np.broadcast_to(task, others.shape), both), _ratio(others, both)
    norms = np.linalg.norm(mine, axis=1) * np.linalg.norm(theirs, axis=1)
    return _ratio((mine * theirs).sum(axis=1), norms)


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Returns the quotient, 0 where the denominator is 0."""
    denominator = np.broadcast_to(denominator, numerator.shape)
    return np.divide(numerator, denominator, out=np.zeros(numerator.shape), where=denominator != 0)


def _lines(name: str, values: np.ndarray) -> np.ndarray:
    """Returns float64 [t, k] after checking that these are finite numbers with at least one task and one entry."""
    array = np.asarray(values)
    if array.ndim != 2 or 0 in array.shape or array.dtype.kind not in "fiu":
        raise checks.UsageError(
            expected=f"{name} to be numbers, one line a task",
            got=f"{array.dtype} {list(array.shape)}",
            remedy="stack the tasks' vectors",
        )
    if not np.isfinite(array).all():
        text = checks.message(f"finite {name}", "NaN or infinity", "leave out what was not measured in all tasks")
        raise checks.DataError(text)
    return array.astype(np.float64)
