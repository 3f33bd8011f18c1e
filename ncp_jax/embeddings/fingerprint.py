"""A task's fingerprint: how it ranks a few architectures that all tasks have measured."""

from __future__ import annotations

import jax
import numpy as np
from scipy.stats import rankdata

from ncp_jax import checks
from ncp_jax.types import Float, Int, Key


def fingerprint(values: Float[np.ndarray, "... k"]) -> Float[np.ndarray, "... k"]:
    """Returns the embedding of a task by its metric on k common architectures (host-side).

    Ranks (ties share their average), centred and divided by their norm, so units and scales of metrics do not matter:
    of two tasks that measured all anchors, the inner product of fingerprints is Spearman's rank correlation.

    Args:
      values: [k] of one task or [..., k] of several, higher is better (``Table.oriented``), the same architectures in
        the same order for all; NaN where one was not measured.

    Returns:
      float32 [..., k] of norm 1, in [-1, 1], 0 where nothing was measured (as for an architecture in the middle).
      All zeros where there is no order: fewer than two measured, or all alike.

    Raises:
      UsageError: fewer than two architectures, or no numbers.
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
    """Returns k architectures spread over all: farthest-point traversal from a random start (host-side).

    Each next one has the largest Hamming distance (number of positions that differ) to the nearest of those chosen
    (Gonzalez, 1985, within a factor two of the best covering); ties, which are many, go by a random order.

    Args:
      codes: integers [n, d].
      k: how many, 1..n.
      key: decides start and ties; the first of two choices with one key are alike, whatever their k.

    Returns:
      int32 [k], rows of ``codes``, all different, in the order of choice.

    Raises:
      UsageError: codes of another shape or no integers; k outside 1..n.
    """
    table = np.asarray(codes)
    if table.ndim != 2 or not np.issubdtype(table.dtype, np.integer):
        raise checks.UsageError(
            expected="integer codes [n, d]",
            got=f"{table.dtype} {list(table.shape)}",
            remedy="give the codes of a table, table.codes",
        )
    if not isinstance(k, int | np.integer) or not 1 <= k <= len(table):
        raise checks.UsageError(
            expected=f"k to be an integer in 1..{len(table)}",
            got=repr(k),
            remedy="a fingerprint needs at least two anchors",
        )
    order = np.asarray(jax.random.permutation(key, len(table)))
    shuffled = table[order]
    chosen, distance = [0], np.full(len(table), table.shape[1] + 1)
    while len(chosen) < k:
        distance = np.minimum(distance, (shuffled != shuffled[chosen[-1]]).sum(axis=1))
        # Below the zero of a code that repeats a chosen one.
        distance[chosen[-1]] = -1
        chosen.append(int(distance.argmax()))
    return order[chosen].astype(np.int32)
