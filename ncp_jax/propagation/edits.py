"""Edits of several positions at once, made of the single edits whose scores are known."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np

from ncp_jax.types import Bool, Float, Int

SINGLES = 48  # single edits, the most promising ones, of which pairs are made


def joint_edits(
    here: Int[np.ndarray, "w d"],
    near: Int[np.ndarray, "w j d"],
    values: Float[np.ndarray, "w j"],
    value: Float[np.ndarray, " w"],
) -> Int[np.ndarray, "w i d"]:
    """The codes at the 2, 4, 8, … best rising edits at once: in a long code one of them replaces many rounds.

    Args:
      here: codes.
      near: their single edits.
      values: the scores of these.
      value: the scores of the codes.

    Returns:
      For each code i candidates; the code itself where fewer positions rise.
    """
    places = (near != here[:, None]).argmax(axis=-1)
    counts = [2**i for i in range(1, here.shape[1].bit_length())]
    joint = np.repeat(here[:, None], len(counts), axis=1)
    for row in np.flatnonzero((values > value[:, None]).any(axis=1)):
        rising = np.flatnonzero(values[row] > value[row])
        ranked = rising[np.argsort(-values[row, rising], kind="stable")]
        # Of each position its best edit, the positions by what that edit brings.
        _, first = np.unique(places[row, ranked], return_index=True)
        edits = ranked[np.sort(first)]
        for i, count in enumerate(counts):
            if len(edits) > count // 2:
                chosen = places[row, edits[:count]]
                joint[row, i, chosen] = near[row, edits[:count], chosen]
    return joint


def double_edits(
    here: Int[np.ndarray, "w d"],
    near: Int[np.ndarray, "w j d"],
    values: Float[np.ndarray, "w j"],
    value: Float[np.ndarray, " w"],
    wanted: Bool[np.ndarray, " w"],
    eligible: Callable[[Int[np.ndarray, "n d"]], Bool[np.ndarray, " n"]],
) -> Int[np.ndarray, "w i d"]:
    """Exchanges of two positions, and the pairs of single edits whose scores promise most.

    A pair promises the sum of what its edits change. An edit without a score, because alone it is illegal or not
    allowed, counts as no change: together with another it may be legal. The number of pairs is half that of the
    single edits.

    Args:
      here: codes.
      near: their single edits.
      values: the scores of these, -inf where there is none.
      value: the scores of the codes.
      wanted: which codes to make candidates for.
      eligible: True where a pair is worth a place among the candidates: it is legal and not a single edit, which is
        scored already. Called with one shape.

    Returns:
      For each code i candidates, legal or not; the code itself where nothing is wanted.
    """
    length = here.shape[1]
    exchanges = np.array(list(itertools.combinations(range(length), 2)), np.int32).reshape(-1, 2)
    pairs = near.shape[1] // 2
    edited = np.repeat(here[:, None], len(exchanges) + pairs, axis=1)
    for row in np.flatnonzero(wanted):
        swap = np.arange(len(exchanges))[:, None]
        edited[row, swap, exchanges] = here[row, exchanges[:, ::-1]]
        known = np.isfinite(values[row])
        gain = np.zeros(len(known))
        gain[known] = values[row, known] - value[row]
        possible = _pairs(here[row], near[row], gain)
        pairs_of_row = possible[eligible(possible)][:pairs]
        edited[row, len(exchanges) : len(exchanges) + len(pairs_of_row)] = pairs_of_row
    return edited


def _pairs(
    here: Int[np.ndarray, " d"], near: Int[np.ndarray, "j d"], gain: Float[np.ndarray, " j"]
) -> Int[np.ndarray, "p d"]:
    singles = np.argsort(-gain, kind="stable")[:SINGLES]
    first, second = (singles[part] for part in np.triu_indices(len(singles), 1))
    places = (near != here).argmax(axis=-1)
    order = np.argsort(-(gain[first] + gain[second]), kind="stable")
    first, second = first[order], second[order]
    edited = near[first].copy()
    rows = np.arange(len(edited))
    # Two edits of one position make the second alone. They stay, so that the number does not vary from code to code.
    edited[rows, places[second]] = near[second, places[second]]
    return edited
