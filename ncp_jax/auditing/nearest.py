"""Finds the measured architecture that is nearest to each code, by the number of positions in which they differ."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces import Space
from ncp_jax.types import Float, Int

PAIRS = 2**22  # codes compared at once


def nearest_rows(
    space: Space, codes: Int[np.ndarray, "n d"], fold: Int[np.ndarray, " n"], asked: Int[np.ndarray, "k d"]
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"], Int[np.ndarray, " n"]]:
    """Returns the nearest row of each code, and distances of codes and of held-out rows, in positions.

    Args:
      space: space of the codes.
      codes: the rows.
      fold: fold of each row.
      asked: further codes.

    Returns:
      ``(row, distance, held_out)``: of several rows at one distance, the nearest by relaxed codes in units of their
      range; ``held_out`` has for each row of the table the distance to the nearest row of another fold.
    """
    relaxed = _scaled(space, codes)
    row, distance = _nearest(codes, relaxed, asked, _scaled(space, asked))
    held_out = np.zeros(len(codes), int)
    for part in np.unique(fold):
        own, others = fold == part, fold != part
        held_out[own] = _nearest(codes[others], relaxed[others], codes[own], relaxed[own])[1]
    return row, distance, held_out


def _scaled(space: Space, codes: np.ndarray) -> Float[np.ndarray, "n f"]:
    width = np.where(space.upper > space.lower, space.upper - space.lower, 1.0)
    return np.asarray(space.encode(jnp.asarray(codes)), np.float64) / width


def _nearest(
    codes: np.ndarray, relaxed: np.ndarray, asked: np.ndarray, asked_relaxed: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    rows, distances = np.empty(len(asked), int), np.empty(len(asked), int)
    step = max(1, PAIRS // len(codes))
    norms = (relaxed**2).sum(axis=1)
    for first in range(0, len(asked), step):
        part = slice(first, first + step)
        different = np.zeros((len(asked[part]), len(codes)), np.int32)
        for position, own in zip(codes.T, asked[part].T, strict=True):
            different += own[:, None] != position
        least = different.min(axis=1)
        squares = norms - 2 * asked_relaxed[part] @ relaxed.T
        squares[different > least[:, None]] = np.inf
        rows[part], distances[part] = squares.argmin(axis=1), least
    return rows, distances
