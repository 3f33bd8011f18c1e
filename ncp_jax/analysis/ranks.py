"""Scores finished searches against the whole table: ranks, percentiles, regrets, Kendall's tau."""

from __future__ import annotations

import numpy as np

from ncp_jax import checks
from ncp_jax.types import Float, Int


def table_ranks(values: Float[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Returns the rank of every architecture in its table.

    Args:
      values: the metric of all n architectures, oriented so that higher is better.

    Returns:
      int64 [n] in 1..n: 1 plus the number of architectures strictly better, so 1 is the best and ties share the better
      rank.

    Raises:
      UsageError: values that are not finite numbers [n].
    """
    y = _finite(values)
    return len(y) - np.searchsorted(np.sort(y), y, side="right") + 1


def best_ranks(asked: Int[np.ndarray, "runs k"], values: Float[np.ndarray, " n"]) -> Int[np.ndarray, "runs k"]:
    """Returns the rank in the table of the best of the first 1, 2, …, k queries of each run.

    Args:
      asked: rows 0..n-1 of the table in the order of the queries.
      values: the metric of all n architectures, oriented so that higher is better.

    Returns:
      int64 [runs, k] in 1..n, see ``table_ranks``; it never rises along a run.

    Raises:
      UsageError: rows that are not integers [runs, k] in 0..n-1, or values that are not finite numbers [n].
    """
    rows, y = _checked(asked, values)
    return np.minimum.accumulate(table_ranks(y)[rows], axis=1)


def percentiles(ranks: Int[np.ndarray, "..."], n: int) -> Float[np.ndarray, "..."]:
    """Converts ranks among n architectures to percentages, 100 · rank / n: lower is better, the best is 100 / n.

    Raises:
      UsageError: a rank outside 1..n.
    """
    numbers = np.asarray(ranks)
    if numbers.size and not (numbers.min() >= 1 and numbers.max() <= n):
        raise checks.UsageError(
            expected=f"ranks in 1..{n}",
            got=f"{numbers.min()}..{numbers.max()}",
            remedy="give the size of the table that was ranked",
        )
    return 100.0 * numbers / n


def regret(asked: Int[np.ndarray, "runs k"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, "runs k"]:
    """Returns how much worse the best of the first 1, 2, …, k queries is than the table's best, in the metric's unit.

    Args:
      asked: rows 0..n-1 of the table in the order of the queries.
      values: the metric of all n architectures, oriented so that higher is better.

    Returns:
      float64 [runs, k], 0 or more; it never rises along a run.

    Raises:
      UsageError: as in ``best_ranks``.
    """
    rows, y = _checked(asked, values)
    return y.max() - np.maximum.accumulate(y[rows], axis=1)


def kendall_tau(scores: Float[np.ndarray, "runs n"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " runs"]:
    """Returns Kendall's tau-b between each run's final scores and the measured values over the whole table.

    Args:
      scores: scores of all n architectures by each run.
      values: the metric of all n architectures.

    Returns:
      float64 [runs] in -1..1, higher is better; NaN if a run's scores, or the values, are all equal.

    Raises:
      UsageError: scores that are not [runs, n] or contain NaN, or values that are not finite numbers [n].
    """
    from scipy.stats import kendalltau

    predicted, measured = np.asarray(scores), _finite(values)
    if predicted.ndim != 2 or predicted.shape[1] != len(measured) or np.isnan(predicted).any():
        raise checks.UsageError(
            expected=f"scores [runs, {len(measured)}] without NaN",
            got=f"{predicted.dtype} {list(predicted.shape)}",
            remedy="one score for each architecture of the table",
        )
    return np.array([kendalltau(row, measured).statistic for row in predicted], float)


def expected_random_rank(n: int, k: int) -> float:
    """Returns the expected best rank of k architectures drawn uniformly without replacement from n, (n + 1) / (k + 1).

    This is the mean of the smallest of k numbers drawn from 1..n, exact if no two architectures have the same value.

    Raises:
      UsageError: k outside 1..n.
    """
    if not 1 <= k <= n:
        raise checks.UsageError(expected=f"k in 1..{n} draws", got=str(k), remedy=f"there are {n} architectures")
    return (n + 1) / (k + 1)


def _checked(asked: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns rows [runs, k] and values [n] as float64; UsageError if they do not fit."""
    rows, y = np.asarray(asked), _finite(values)
    whole = rows.ndim == 2 and np.issubdtype(rows.dtype, np.integer)
    if not whole or (rows.size and not (rows.min() >= 0 and rows.max() < len(y))):
        expected, got = f"integer rows [runs, k] in 0..{len(y) - 1}", f"{rows.dtype} {list(rows.shape)}"
        if whole:
            got += f" from {rows.min()} to {rows.max()}"
        raise checks.UsageError(
            expected=expected, got=got, remedy="spend the whole budget, or cut the slots left empty"
        )
    return rows, y


def _finite(values: np.ndarray) -> np.ndarray:
    """Returns values [n] as float64; UsageError if they are empty or not finite."""
    y = np.asarray(values, float)
    if y.ndim != 1 or not len(y) or not np.isfinite(y).all():
        raise checks.UsageError(
            expected="finite values [n]", got=f"{list(y.shape)}", remedy="give one oriented column of the table"
        )
    return y
