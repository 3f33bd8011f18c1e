"""Architectures as graphs of operations, the input of graph networks.

The nodes of a graph are operations, and a link says that one operation reads what another returns; where operations
lie on the edges of a cell, this is the cell's line graph. The space fixes which operation may feed which: what
distinguishes architectures is the features of the nodes, and which nodes are live.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from ncp_jax.spaces.base import Space
from ncp_jax.spaces.cells import EDGES, CellSpace
from ncp_jax.spaces.macro import MODULES, MacroSpace, doubles, halves
from ncp_jax.types import Array, Float, Int

PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))  # from input to output of a cell, as places in EDGES
CONVOLUTIONS = {"nor_conv_1x1": 1, "nor_conv_3x3": 9}  # weights a pair of channels
_ON_PATH = np.array([[edge in path for edge in range(len(EDGES))] for path in PATHS])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class ArchitectureGraphs:
    """The graphs of n architectures of one space, float32. See ``architecture_graphs`` for the features.

    Attributes:
      nodes: the features of each operation [n, v, f], zeros where it is not live.
      live: 1 where the operation lies on a path from input to output, else 0, [n, v].
      links: 1 where operation i feeds operation j, else 0, [v, v]; the same for all architectures of a space, i < j.
      attributes: features of the whole graph [n, g].
    """

    nodes: Float[Array, "n v f"]
    live: Float[Array, "n v"]
    links: Float[Array, "v v"]
    attributes: Float[Array, "n g"]


def architecture_graphs(space: Space | str, codes: Int[Array | np.ndarray, "n d"]) -> ArchitectureGraphs:
    """The graphs of codes, as NumPy arrays on the host.

    Cells (v = 6, the operations on the edges): a node has a one-hot of its operation ("none" left out) and one of its
    edge. An operation is live if it is not "none" and some path from input to output holds it and no "none"; what is
    not live changes nothing. Attributes: live operations of each kind; live operations; the most convolutions on one
    path; the most 3x3 convolutions on one path; log(1 + 9 x live 3x3 + live 1x1 convolutions); and for each of the
    paths 0-3, 0-1-3, 0-2-3, 0-1-2-3 whether it is whole.

    Macro (v = 6, a chain of modules): a node has a one-hot of its module, log2 of its output's channels over those of
    the first module's input, log2 of its output's side over that of the input, and its place / 5. Absent modules are
    not live. Attributes: modules; log2 of multiply-adds and of parameters (two basic blocks a module; in units of base
    channels squared, multiply-adds also of input pixels); the log2 channels after each place, then the log2 sides
    (where a module is absent, those before it); the means of both.

    Other spaces (v = d, a chain of positions): a node has its value, scaled to 0..1 between the least and the largest
    legal value, and a one-hot of its place. All are live. Attributes: the scaled values, then the natural logarithms of
    the values at the positions whose values are all positive.

    Args:
      space: a space, its name or its alias.
      codes: legal codes; a single code is one row. Codes of isomorphic architectures are not made equal.

    Raises:
      UsageError: unknown space; wrong shape or an illegal value, as by ``Space.check``.
    """
    if isinstance(space, str):
        from ncp_jax.spaces import get_space

        space = get_space(space)
    rows = space.check(codes)
    if isinstance(space, CellSpace):
        return _cell_graphs(space, rows)
    if isinstance(space, MacroSpace):
        return _macro_graphs(rows)
    return _position_graphs(space, rows)


def _cell_graphs(space: CellSpace, codes: np.ndarray) -> ArchitectureGraphs:
    whole = ((codes != 0)[:, None] | ~_ON_PATH).all(axis=-1)
    live = (whole[..., None] & _ON_PATH).any(axis=1)
    kinds = _one_hot(np.where(live, codes, 0), len(space.ops))
    weights = np.array([CONVOLUTIONS.get(op, 0) for op in space.ops])[codes] * live
    on_path = _ON_PATH.T.astype(np.float32)

    def longest(counted: np.ndarray) -> np.ndarray:
        return np.where(whole, counted.astype(np.float32) @ on_path, 0.0).max(axis=1)

    wide = weights == CONVOLUTIONS["nor_conv_3x3"]
    scalars = (live.sum(axis=1), longest(weights > 0), longest(wide), np.log1p(weights.sum(axis=1)))
    links = np.array([[source[1] == target[0] for target in EDGES] for source in EDGES])
    return _graphs(kinds, live, links, [kinds.sum(axis=1), np.stack(scalars, axis=1), whole])


def _macro_graphs(codes: np.ndarray) -> ArchitectureGraphs:
    length, live = codes.shape[1], codes > 0
    wider, coarser = doubles(codes), halves(codes)
    channels, sides = wider.cumsum(axis=1), -coarser.cumsum(axis=1)
    outputs = np.exp2(channels)
    inputs = outputs / (1 + wider)
    # A block is two 3x3 convolutions; the first of the module's four reads the input, as does the 1x1 projection.
    weights = 9 * inputs * outputs + 27 * outputs**2 + (wider | coarser) * inputs * outputs
    multiply_adds = np.exp2(2 * sides) * weights
    costs = [np.log2((cost * live).sum(axis=1)) for cost in (multiply_adds, weights)]
    scalars = np.stack([live.sum(axis=1), *costs], axis=1)
    trails = [channels, sides, channels.mean(axis=1, keepdims=True), sides.mean(axis=1, keepdims=True)]
    nodes = [_one_hot(codes, len(MODULES)), np.stack([channels, sides], axis=-1)]
    return _graphs(np.concatenate(nodes, axis=-1), live, _chain(length), [scalars, *trails], places=_steps(length))


def _position_graphs(space: Space, codes: np.ndarray) -> ArchitectureGraphs:
    least = np.array([values[0] for values in space.values])
    span = np.array([values[-1] for values in space.values]) - least
    scaled = (codes - least) / np.maximum(span, 1)
    live = np.ones(codes.shape, bool)
    return _graphs(scaled[..., None], live, _chain(codes.shape[1]), [scaled, np.log(codes[:, least > 0])])


def _graphs(features: Any, live: Any, links: Any, attributes: list[Any], *, places: Any = None) -> ArchitectureGraphs:
    """Joins the features of nodes [n, v, k] with those of their places [v, p], a one-hot by default."""
    places = np.eye(live.shape[1]) if places is None else places
    split = features.shape[-1]
    nodes: Any = np.empty((*live.shape, split + places.shape[1]), np.float32)
    nodes[..., :split], nodes[..., split:] = features, places
    nodes *= live[..., None]
    whole: Any = np.concatenate(attributes, axis=1, dtype=np.float32)
    return ArchitectureGraphs(nodes, live.astype(np.float32), links.astype(np.float32), whole)


def _one_hot(values: np.ndarray, letters: int) -> np.ndarray:
    """One-hot vectors of 1..letters-1, float32 [..., letters - 1]; zeros for 0."""
    return (values[..., None] == np.arange(1, letters)).astype(np.float32)


def _chain(length: int) -> np.ndarray:
    return np.eye(length, k=1)


def _steps(length: int) -> np.ndarray:
    """0..1 in equal steps [length, 1]."""
    return np.linspace(0, 1, length)[:, None]
