"""Combines scored single edits of codes into candidates that edit several positions at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from ncp_jax.types import Bool, Float, Int

SINGLES = 48  # number of single edits, the most promising ones, that pairs are made of


def joint_edits(
    codes: Int[np.ndarray, "w d"],
    neighbours: Int[np.ndarray, "w j d"],
    neighbour_scores: Float[np.ndarray, "w j"],
    scores: Float[np.ndarray, " w"],
) -> Int[np.ndarray, "w i d"]:
    """Applies the 2, 4, 8, … best improving edits of each code together.

    In a long code one such step replaces many rounds of single edits.

    Args:
      codes: w codes.
      neighbours: the j single edits of each code.
      neighbour_scores: scores of the single edits.
      scores: scores of the codes.

    Returns:
      i candidates per code; the code itself where fewer positions have an improving edit.
    """
    positions = (neighbours != codes[:, None]).argmax(axis=-1)
    counts = [2**i for i in range(1, codes.shape[1].bit_length())]
    joint = np.repeat(codes[:, None], len(counts), axis=1)
    for row in np.flatnonzero((neighbour_scores > scores[:, None]).any(axis=1)):
        improving = np.flatnonzero(neighbour_scores[row] > scores[row])
        ranked = improving[np.argsort(-neighbour_scores[row, improving], kind="stable")]
        # Keep the best edit of each position, the positions in the order of these edits' scores.
        _, first = np.unique(positions[row, ranked], return_index=True)
        edits = ranked[np.sort(first)]
        for i, count in enumerate(counts):
            # Otherwise a smaller candidate, or a single edit, has applied all of these edits already.
            if len(edits) > count // 2:
                edited = positions[row, edits[:count]]
                joint[row, i, edited] = neighbours[row, edits[:count], edited]
    return joint


def double_edits(
    codes: Int[np.ndarray, "w d"],
    neighbours: Int[np.ndarray, "w j d"],
    neighbour_scores: Float[np.ndarray, "w j"],
    scores: Float[np.ndarray, " w"],
    wanted: Bool[np.ndarray, " w"],
    eligible: Callable[[Int[np.ndarray, "n d"]], Bool[np.ndarray, " n"]],
) -> Int[np.ndarray, "w i d"]:
    """Returns exchanges of two positions, and the pairs of single edits with the largest estimated gain.

    The estimated gain of a pair is the sum of its edits' gains. An edit without a score, because alone it is illegal
    or not allowed, counts as no gain: together with another it may be legal. There are half as many pairs as single
    edits.

    Args:
      codes: w codes.
      neighbours: the j single edits of each code.
      neighbour_scores: scores of the single edits, -inf where there is none.
      scores: scores of the codes.
      wanted: True for the codes that get candidates.
      eligible: ``[n, d]`` → ``[n]``, True where a pair should be a candidate: it is legal and has no score yet (two
        edits can make a single edit). Every call has the same shape.

    Returns:
      i candidates per code, legal or not; copies of the code where it is not wanted.
    """
    length = codes.shape[1]
    exchanges = np.array(list(itertools.combinations(range(length), 2)), np.int32).reshape(-1, 2)
    pairs = neighbours.shape[1] // 2
    edited = np.repeat(codes[:, None], len(exchanges) + pairs, axis=1)
    for row in np.flatnonzero(wanted):
        swap = np.arange(len(exchanges))[:, None]
        edited[row, swap, exchanges] = codes[row, exchanges[:, ::-1]]
        known = np.isfinite(neighbour_scores[row])
        gain = np.zeros(len(known))
        gain[known] = neighbour_scores[row, known] - scores[row]
        possible = _pairs(codes[row], neighbours[row], gain)
        pairs_of_row = possible[eligible(possible)][:pairs]
        edited[row, len(exchanges) : len(exchanges) + len(pairs_of_row)] = pairs_of_row
    return edited


def _pairs(
    code: Int[np.ndarray, " d"], neighbours: Int[np.ndarray, "j d"], gain: Float[np.ndarray, " j"]
) -> Int[np.ndarray, "p d"]:
    """Returns all pairs of the most promising single edits of one code, by descending estimated gain."""
    singles = np.argsort(-gain, kind="stable")[:SINGLES]
    first, second = (singles[part] for part in np.triu_indices(len(singles), 1))
    positions = (neighbours != code).argmax(axis=-1)
    order = np.argsort(-(gain[first] + gain[second]), kind="stable")
    first, second = first[order], second[order]
    edited = neighbours[first].copy()
    rows = np.arange(len(edited))
    # Of two edits of one position the second alone remains. Such pairs stay, so that the shape is always the same.
    edited[rows, positions[second]] = neighbours[second, positions[second]]
    return edited
