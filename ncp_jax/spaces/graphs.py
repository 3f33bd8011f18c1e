"""Represents architectures as graphs of operations, the input of graph networks.

The nodes of a graph are operations. A link says that one operation reads what another returns; where operations lie on
the edges of a cell, this is the cell's line graph. The space fixes which operation may feed which: architectures differ
in the features of their nodes and in which nodes are live. Each space makes its own graphs (``Space.graphs``) from the
parts defined here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ncp_jax.pytrees import register_dataclass
from ncp_jax.types import Array, Float


@register_dataclass
@dataclass(frozen=True)
class ArchitectureGraphs:
    """Graphs of n architectures of one space, float32. See ``Space.graphs`` for the features.

    Attributes:
      nodes: features of each operation [n, v, f], zeros where it is not live.
      live: 1 where the operation lies on a path from input to output, else 0, [n, v].
      links: 1 where operation i feeds operation j, else 0, [v, v]; the same for all architectures of a space, i < j.
      attributes: features of the whole graph [n, g].
    """

    nodes: Float[Array, "n v f"]
    live: Float[Array, "n v"]
    links: Float[Array, "v v"]
    attributes: Float[Array, "n g"]


def join_features(
    features: Any, live: Any, links: Any, attributes: list[Any], *, places: Any = None
) -> ArchitectureGraphs:
    """Returns graphs from their parts, all NumPy arrays.

    Args:
      features: features of each node [n, v, k].
      live: whether each node is live [n, v]; features of other nodes become zeros.
      links: whether node i feeds node j [v, v].
      attributes: blocks [n, ...] of features of the whole graph, joined in this order.
      places: features of each node's place [v, p], appended to those of the node; a one-hot by default.
    """
    places = np.eye(live.shape[1]) if places is None else places
    split = features.shape[-1]
    nodes: Any = np.empty((*live.shape, split + places.shape[1]), np.float32)
    nodes[..., :split], nodes[..., split:] = features, places
    nodes *= live[..., None]
    whole: Any = np.concatenate(attributes, axis=1, dtype=np.float32)
    return ArchitectureGraphs(nodes, live.astype(np.float32), links.astype(np.float32), whole)


def position_graphs(values: tuple[tuple[int, ...], ...], codes: np.ndarray) -> ArchitectureGraphs:
    """Returns the graphs of codes [n, d] as chains of positions with these legal values; see ``Space.graphs``."""
    least = np.array([some[0] for some in values])
    span = np.array([some[-1] for some in values]) - least
    scaled = (codes - least) / np.maximum(span, 1)
    live = np.ones(codes.shape, bool)
    return join_features(scaled[..., None], live, chain(codes.shape[1]), [scaled, np.log(codes[:, least > 0])])


def one_hot(values: np.ndarray, letters: int) -> np.ndarray:
    """Returns one-hot vectors of 1..letters-1, float32 [..., letters - 1]; zeros for 0."""
    return (values[..., None] == np.arange(1, letters)).astype(np.float32)


def chain(length: int) -> np.ndarray:
    """Returns the links of nodes of which each feeds the next, [length, length]."""
    return np.eye(length, k=1)
