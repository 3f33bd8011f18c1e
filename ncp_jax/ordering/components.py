"""Finds the strongly connected components of the preferences, which an optimal order can solve one by one.

SciPy's ``connected_components`` needs a sparse copy of the matrix, which is dense here: with 4000 elements it takes
thirty times as long as the code below. It also returns the components in no defined order.
"""

from __future__ import annotations

import numpy as np
from numba import boolean, int32, int64
from numba.types import Tuple  # type: ignore[attr-defined]

from ncp_jax.ordering.compiled import compiled


@compiled(int64(int32[:, ::1], boolean, int64, boolean[::1], int32[::1], int64))
def _visit(differences, along, root, seen, finished, count):  # type: ignore[no-untyped-def]
    """Searches depth-first from ``root``, appends nodes to ``finished`` as they finish, and returns their new number.

    It follows preferences (entries > 0) with ``along``, else it follows them backwards. The matrix is antisymmetric, so
    both directions read rows.
    """
    n = differences.shape[0]
    stack, following = np.empty(n, np.int32), np.empty(n, np.int32)
    depth = 0
    stack[0], following[0] = root, n - 1
    seen[root] = True
    while depth >= 0:
        node = stack[depth]
        row = differences[node]
        k = following[depth]
        # Highest index first. The finishing order is reversed later, so that equals end up lowest index first.
        while k >= 0 and (seen[k] or (row[k] <= 0 if along else row[k] >= 0)):
            k -= 1
        following[depth] = k - 1
        if k >= 0:
            seen[k] = True
            depth += 1
            stack[depth], following[depth] = k, n - 1
        else:
            finished[count] = node
            count += 1
            depth -= 1
    return count


@compiled(Tuple((int32[::1], int32[::1]))(int32[:, ::1]))
def _kosaraju(differences):  # type: ignore[no-untyped-def]
    """Returns the nodes component by component, and the end of each component in that array."""
    n = differences.shape[0]
    # Search along the preferences for the order in which the nodes finish.
    seen, finished = np.zeros(n, np.bool_), np.empty(n, np.int32)
    count = int64(0)
    for root in range(n - 1, -1, -1):
        if not seen[root]:
            count = _visit(differences, True, root, seen, finished, count)
    # From the last finished node backwards, each search against the preferences reaches exactly one component.
    seen[:] = False
    members, ends = np.empty(n, np.int32), np.empty(n, np.int32)
    found, components = int64(0), 0
    for k in range(n - 1, -1, -1):
        if not seen[finished[k]]:
            found = _visit(differences, False, finished[k], seen, members, found)
            ends[components] = found
            components += 1
    return members, ends[:components].copy()


def strong_components(differences: np.ndarray) -> list[np.ndarray]:
    """Returns the strongly connected components of the digraph of positive entries, in topological order.

    All preferences between components point from an earlier one to a later one. Optimal orders of the components,
    joined, are therefore an optimal order of the whole. The method is Kosaraju's algorithm on the dense matrix, which
    reads every row twice.

    Args:
      differences: ``[n, n]`` int32, antisymmetric.

    Returns:
      int32 arrays of indices, each ascending.
    """
    members, ends = _kosaraju(differences)
    return [np.sort(part) for part in np.split(members, ends[:-1])]
