"""Embeds a task by its fingerprint: the ranks of a few architectures that all tasks have measured."""

from __future__ import annotations

import jax
import numpy as np
from scipy.stats import rankdata

from ncp_jax import checks
from ncp_jax.types import Float, Int, Key


def fingerprint(values: Float[np.ndarray, "... k"]) -> Float[np.ndarray, "... k"]:
    """Returns the embedding of tasks by their metrics on k common architectures. Runs on the host.

    It consists of the ranks (ties get their mean rank), centred and divided by their norm, so it does not depend on the
    metrics' units and scales. The inner product of the fingerprints of two tasks that measured all architectures is
    Spearman's rank correlation.

    Args:
      values: ``[k]`` metric of one task, or ``[..., k]`` of several, higher is better (``Table.oriented``). The
        architectures are the same, in the same order, for all tasks; NaN where one was not measured.

    Returns:
      float32 ``[..., k]`` of norm 1, with entries in [-1, 1]; 0 for architectures that were not measured, as for the
      middle rank. All zeros if there is no order: fewer than two measured, or all equal.

    Raises:
      UsageError: fewer than two architectures, or values that are not numbers.
      DataError: an infinite value.
    """
    metrics = np.asarray(values)
    real = np.issubdtype(metrics.dtype, np.floating) or np.issubdtype(metrics.dtype, np.integer)
    if not real or metrics.ndim < 1 or metrics.shape[-1] < 2:
        raise checks.UsageError(
            expected="numbers [..., k] of k >= 2 architectures",
            got=f"{metrics.dtype} {list(metrics.shape)}",
            remedy="give each task's metrics of the anchors as one line",
        )
    if np.isinf(metrics).any():
        raise checks.DataError(
            expected="finite values or NaN", got="an infinite one", remedy="use NaN for 'not measured'"
        )
    measured = ~np.isnan(metrics)
    ranks = np.where(measured, rankdata(metrics, axis=-1, nan_policy="omit"), 0.0)
    middle = (measured.sum(axis=-1, keepdims=True) + 1) / 2
    centred = np.where(measured, ranks - middle, 0.0)
    norm = np.linalg.norm(centred, axis=-1, keepdims=True)
    return np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0).astype(np.float32)


def choose_anchors(codes: Int[np.ndarray, "n d"], k: int, *, key: Key) -> Int[np.ndarray, " k"]:
    """Chooses k architectures spread over a table, by farthest-point traversal from a random start. Runs on the host.

    Each next architecture has the largest Hamming distance (number of different positions) to the nearest chosen one
    (Gonzalez, 1985; within a factor of two of the best covering). Ties, of which there are many, are broken at random.

    Args:
      codes: ``[n, d]`` integers.
      k: number of architectures, 1..n.
      key: key of start and ties. A larger k with the same key extends the choice.

    Returns:
      int32 ``[k]`` rows of ``codes``, all different, in the order of choice.

    Raises:
      UsageError: codes of another shape or not integers, or k outside 1..n.
    """
    table = np.asarray(codes)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.integer):
        raise checks.UsageError(
            expected="integer codes [n, d]",
            got=f"{table.dtype} {list(table.shape)}",
            remedy="give the codes of a table, table.codes",
        )
    k = checks.integer("k", k, least=1, most=len(table), remedy="a fingerprint needs at least two anchors")
    order = np.asarray(jax.random.permutation(key, len(table)))
    shuffled = table[order]
    chosen, distance = [0], np.full(len(table), table.shape[1] + 1)
    while len(chosen) < k:
        distance = np.minimum(distance, (shuffled != shuffled[chosen[-1]]).sum(axis=1))
        # Chosen rows get -1, below the distance 0 of a row that repeats a chosen code.
        distance[chosen[-1]] = -1
        chosen.append(int(distance.argmax()))
    return order[chosen].astype(np.int32)
