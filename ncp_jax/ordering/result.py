"""Holds the solver's results: the order, its certificate, and statistics of the cycles."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from ncp_jax.console import short_repr

COUNTED = 3000
"""Largest number of elements for which the cycles of three are counted where some pairs have no preference."""


@dataclasses.dataclass(frozen=True)
class Cycles:
    """Statistics of the cycles among the preferences (i before j where ``w[i, j] > w[j, i]``).

    Attributes:
      components: number of strongly connected components; n if there is no cycle.
      largest_component: number of elements in the largest component.
      triangles: number of directed cycles of three; None where counting them would take minutes: above
        ``COUNTED`` elements of which some pairs have no preference.
      reversed_pairs: number of pairs whose preference the order goes against.
      reversed_share: share of these among all pairs with a preference.
      dropped_edges: number of edges with weight > 0 that point backwards, including ties and the weaker sides of pairs.
      dropped_share: share of their weight in the weight of all edges.
    """

    components: int
    largest_component: int
    triangles: int | None
    reversed_pairs: int
    reversed_share: float
    dropped_edges: int
    dropped_share: float


@dataclasses.dataclass(frozen=True)
class Ordering:
    """An order of n elements, its weight, and an upper bound on the weight of every order.

    Attributes:
      order: ``[n]`` elements, int32; ``order[0]`` comes first.
      weight: sum of ``w[i, j]`` over all i before j, in the weights' units, rounded to float64 once.
      upper_bound: upper bound on the weight of every order, same units, rounded up.
      status: "optimal" (proven: no order is better by more than ``gap``, which is 0 for integers), "work limit" (the
        deterministic budget was used up) or "time limit" (the clock ended the search first, so another run may differ).
      method: method of the bound: "acyclic", "exact", "linear program", "dual ascent", "cycle packing" or "pairs"; that
        of the largest component if there are several.
      seconds: time of the solution.
      component_sizes: sizes of the strongly connected components, in the order of the components.
    """

    order: np.ndarray
    weight: float
    upper_bound: float
    status: str
    method: str
    seconds: float
    component_sizes: tuple[int, ...]
    _total: float = dataclasses.field(repr=False, compare=False)
    _weights: np.ndarray = dataclasses.field(repr=False, compare=False)
    _matrix: np.ndarray = dataclasses.field(repr=False, compare=False)

    __repr__ = short_repr

    @property
    def gap(self) -> float:
        """``(upper_bound - weight) / upper_bound``; 0 if the bound is 0."""
        return (self.upper_bound - self.weight) / self.upper_bound if self.upper_bound > 0 else 0.0

    @functools.cached_property
    def dropped(self) -> np.ndarray:
        """``[k, 2]`` edges (i, j) with ``w[i, j] > 0`` and j before i, int32. Without them there is no cycle."""
        edges = np.empty((self.dropped_count, 2), np.int32)
        end = 0
        for i, row in enumerate(self._dropped_rows()):
            begin, end = end, end + int(np.count_nonzero(row))
            edges[begin:end, 0], edges[begin:end, 1] = i, np.flatnonzero(row)
        return edges

    def _dropped_rows(self) -> Iterator[np.ndarray]:
        """Yields the mask ``[n]`` of each element's dropped edges: a matrix of 10,000 has 50 million of them."""
        places = np.empty(len(self.order), np.int32)
        places[self.order] = np.arange(len(self.order), dtype=np.int32)
        for weights, place in zip(self._weights, places, strict=True):
            yield (weights > 0) & (places < place)

    @functools.cached_property
    def dropped_count(self) -> int:
        """Number of dropped edges."""
        return sum(int(np.count_nonzero(row)) for row in self._dropped_rows())

    def heaviest_dropped(self, most: int) -> list[tuple[int, int, float]]:
        """Returns (i, j, weight) of the ``most`` heaviest dropped edges; of equals, the lowest indices first."""
        edges, heaviest = np.empty((0, 2), np.int64), np.empty(0)
        for i, row in enumerate(self._dropped_rows()):
            weights = self._weights[i]
            above = np.flatnonzero(row & (weights > heaviest[-1]) if len(heaviest) == most else row)
            if len(above):
                new = np.stack([np.full(len(above), i), above], axis=1)
                edges, heaviest = np.concatenate([edges, new]), np.concatenate([heaviest, weights[above]])
                kept = np.argsort(-heaviest, kind="stable")[:most]
                edges, heaviest = edges[kept], heaviest[kept]
        return [(int(i), int(j), float(weight)) for (i, j), weight in zip(edges, heaviest, strict=True)]

    @functools.cached_property
    def dropped_weights(self) -> np.ndarray:
        """``[k]`` weights of the dropped edges, float64."""
        return self._weights[self.dropped[:, 0], self.dropped[:, 1]]

    @functools.cached_property
    def cycles(self) -> Cycles:
        """Statistics of the cycles, computed on first use."""
        from ncp_jax.ordering.differences import backward_sum

        _, count, pairs = backward_sum(self._matrix, self.order)
        total = self._total
        return Cycles(
            components=len(self.component_sizes),
            largest_component=max(self.component_sizes),
            triangles=count_triangles(self._matrix),
            reversed_pairs=int(count),
            reversed_share=float(count / pairs) if pairs else 0.0,
            dropped_edges=self.dropped_count,
            dropped_share=max(0.0, (total - self.weight) / total) if total > 0 else 0.0,
        )

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the edges as JSON-ready values."""
        return {
            "n": len(self.order),
            "weight": self.weight,
            "upper_bound": self.upper_bound,
            "gap": self.gap,
            "status": self.status,
            "method": self.method,
            "seconds": self.seconds,
            "order": self.order.tolist(),
            "cycles": dataclasses.asdict(self.cycles),
        }


def count_triangles(matrix: np.ndarray) -> int | None:
    """Returns the number of directed cycles of three in the digraph of positive entries.

    If every pair has a preference, the out-degrees determine it (Kendall & Babington Smith 1940). Otherwise it is a
    third of the trace of the adjacency matrix's cube. float32 holds the products' entries exactly, below 2**24. The
    cube is not computed for more than ``COUNTED`` elements: None.

    Args:
      matrix: ``[n, n]``, antisymmetric.
    """
    n = len(matrix)
    beats = matrix > 0
    if int(beats.sum()) == n * (n - 1) // 2:
        return n * (n - 1) * (n - 2) // 6 - sum(d * (d - 1) // 2 for d in beats.sum(axis=1).tolist())
    if n > COUNTED:
        return None
    adjacency, total = beats.astype(np.float32), 0
    for start in range(0, n, 512):
        rows = adjacency[start : start + 512]
        paths = rows @ adjacency
        total += int((paths * adjacency[:, start : start + 512].T).sum(dtype=np.float64))
    return total // 3
