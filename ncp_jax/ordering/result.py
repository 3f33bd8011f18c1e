"""What the solver returns: the order, how good it is for certain, and the cycles that stand in the way."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Cycles:
    """Statistics of the cycles among the preferences (i before j where ``w[i, j] > w[j, i]``).

    Attributes:
      components: strongly connected components; n of them means that there is no cycle.
      largest_component: elements in the largest of them.
      triangles: directed cycles of three.
      reversed_pairs: pairs whose preference the order goes against.
      reversed_share: their number in all pairs that have a preference.
      dropped_edges: edges with weight > 0 that point backwards, ties and the weaker sides of pairs included.
      dropped_share: their weight in the weight of all edges.
    """

    components: int
    largest_component: int
    triangles: int
    reversed_pairs: int
    reversed_share: float
    dropped_edges: int
    dropped_share: float


@dataclasses.dataclass(frozen=True)
class Ordering:
    """An order of n elements, its weight, and a bound that no order exceeds.

    Attributes:
      order: ``[n]`` int32; ``order[0]`` comes first.
      weight: sum of ``w[i, j]`` over all i before j, in the weights' units.
      upper_bound: no order weighs more.
      status: "optimal" (proven), "work limit" (the deterministic budget was used up) or "time limit" (the clock
        ended it first: another run may differ).
      method: what the bound rests on: "acyclic", "exact", "linear program", "dual ascent", "cycle packing" or "pairs"
        (of components with several methods, the largest one's).
      seconds: what it took.
      component_sizes: sizes of the strongly connected components, in order.
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

    @property
    def gap(self) -> float:
        """``(upper_bound - weight) / upper_bound``; 0 where the bound is 0."""
        return (self.upper_bound - self.weight) / self.upper_bound if self.upper_bound > 0 else 0.0

    @functools.cached_property
    def dropped(self) -> np.ndarray:
        """``[k, 2]`` int32: the edges (i, j) with ``w[i, j] > 0`` although j comes before i. Without them: no cycle."""
        n = len(self.order)
        places = np.empty(n, np.int32)
        places[self.order] = np.arange(n, dtype=np.int32)
        rows = [np.nonzero((self._weights[i] > 0) & (places < places[i]))[0] for i in range(n)]
        sources = np.repeat(np.arange(n), [len(row) for row in rows])
        return np.stack([sources, np.concatenate(rows)], axis=1).astype(np.int32)

    @functools.cached_property
    def dropped_weights(self) -> np.ndarray:
        """``[k]`` float64: their weights."""
        return self._weights[self.dropped[:, 0], self.dropped[:, 1]]

    @functools.cached_property
    def cycles(self) -> Cycles:
        """Statistics of the cycles; counted when first asked for."""
        from ncp_jax.ordering.differences import backward_sum

        _, count, pairs = backward_sum(self._matrix, self.order)
        total = self._total
        return Cycles(
            components=len(self.component_sizes),
            largest_component=max(self.component_sizes),
            triangles=count_triangles(self._matrix),
            reversed_pairs=int(count),
            reversed_share=float(count / pairs) if pairs else 0.0,
            dropped_edges=len(self.dropped),
            dropped_share=max(0.0, (total - self.weight) / total) if total > 0 else 0.0,
        )

    def to_json(self) -> dict[str, Any]:
        """All but the edges, JSON-ready."""
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


def count_triangles(matrix: np.ndarray) -> int:
    """Returns the number of directed cycles of three in the digraph of positive entries.

    Where every pair has a preference, from the out-degrees alone (Kendall & Babington Smith 1940); otherwise a third
    of the trace of the adjacency matrix's cube, whose entries float32 holds exactly below 2**24.

    Args:
      matrix: ``[n, n]``, antisymmetric.
    """
    n = len(matrix)
    beats = matrix > 0
    if int(beats.sum()) == n * (n - 1) // 2:
        out = beats.sum(axis=1, dtype=object)
        return int(n * (n - 1) * (n - 2) // 6 - sum(d * (d - 1) // 2 for d in out))
    adjacency, total = beats.astype(np.float32), 0
    for start in range(0, n, 512):
        rows = adjacency[start : start + 512]
        paths = rows @ adjacency
        total += int((paths * adjacency[:, start : start + 512].T).sum(dtype=np.float64))
    return total // 3
