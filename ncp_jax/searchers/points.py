"""What the kernel of a space compares: features that are the same for all codes of a network, in blocks."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.searchers.candidates import Candidates
from ncp_jax.spaces import get_space
from ncp_jax.spaces.cells import CellSpace
from ncp_jax.spaces.graphs import PATHS
from ncp_jax.types import Array, Float, Int

LEAST_SPREAD = 1e-6  # features that vary by less are zeros


def kernel_points(candidates: Candidates) -> tuple[Float[Array, "n f"], tuple[int, ...]]:
    """Features of all candidates for a ``Kernel``, and the sizes of its blocks.

    The first block is ``Candidates.attributes`` (the relaxed codes where no attribute varies), in standard units. Cells
    have a second: ``path_words``, centred, all divided by one number. Codes of the same network get the mean of their
    features (attributes tell nodes apart that could change names), and networks, not codes, set centres and units.

    Returns:
      ``(points, blocks)``: float32 [n, f]; the mean square over each block and the networks is 1 where all varies.
    """
    n = len(candidates)
    plain = candidates.attributes if candidates.attributes.shape[1] else candidates.relaxed
    members = jnp.maximum(jax.ops.segment_sum(jnp.ones(n), candidates.classes, n), 1)
    weights = 1 / members[candidates.classes]
    weights = (weights / weights.sum())[:, None]
    attributes = (jax.ops.segment_sum(plain, candidates.classes, n) / members[:, None])[candidates.classes]
    attributes, squares = _centred(attributes, weights)
    parts = [attributes * _inverse(squares)]
    space = get_space(candidates.space)
    if isinstance(space, CellSpace):
        words, squares = _centred(path_words(space, candidates.codes), weights)
        parts.append(words * _inverse(squares.mean()))
    return jnp.concatenate(parts, axis=1), block_sizes(candidates)


def block_sizes(candidates: Candidates) -> tuple[int, ...]:
    """The sizes of the blocks of ``kernel_points``."""
    attributes, relaxed = candidates.attributes.shape[1], candidates.relaxed.shape[1]
    space = get_space(candidates.space)
    words = (len(_words(space)),) if isinstance(space, CellSpace) else ()
    return (attributes or relaxed, *words)


def path_words(space: CellSpace, codes: Int[Array, "n 6"]) -> Float[Array, "n w"]:
    """How often each sequence of operations lies on a path of a cell from input to output.

    A path holds its operations in order, skips left out; one with a "none" is no path. The words are those over the
    space's other operations, by length and then in the order of ``ops``: 40 in NAS-Bench-201, 15 in TransNAS micro.
    """
    words = _words(space)
    letters = {letter for word in words for letter in word}
    number = {word: place for place, word in enumerate(words)}
    counts = jnp.zeros((len(codes), len(words)))
    for path in PATHS:
        # -1, which is no column, for paths that an absent edge breaks.
        table = np.full((len(space.ops),) * len(path), -1)
        for steps in itertools.product(range(1, len(space.ops)), repeat=len(path)):
            table[steps] = number[tuple(step for step in steps if step in letters)]
        found = jnp.asarray(table)[tuple(codes[:, edge] for edge in path)]
        counts = counts + jax.nn.one_hot(found, len(words))
    return counts


def _words(space: CellSpace) -> list[tuple[int, ...]]:
    letters = [place for place, op in enumerate(space.ops) if op not in ("none", "skip_connect")]
    longest = max(len(path) for path in PATHS)
    return [word for k in range(longest + 1) for word in itertools.product(letters, repeat=k)]


def _centred(
    features: Float[Array, "n f"], weights: Float[Array, "n 1"]
) -> tuple[Float[Array, "n f"], Float[Array, " f"]]:
    """Features less their weighted mean, and the weighted mean squares of that."""
    centred = features - (features * weights).sum(axis=0)
    return centred, (centred**2 * weights).sum(axis=0)


def _inverse(squares: Array) -> Array:
    spread = jnp.sqrt(squares)
    return jnp.where(spread > LEAST_SPREAD, 1 / jnp.maximum(spread, LEAST_SPREAD), 0.0)
