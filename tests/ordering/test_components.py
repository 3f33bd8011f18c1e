"""Strongly connected components against SciPy's."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse

from ncp_jax.ordering.components import strong_components


@pytest.mark.parametrize("density", [0.0, 0.02, 0.05, 0.1, 0.5, 1.0])
def test_components_are_scipys_and_in_topological_order(density: float) -> None:
    rng = np.random.default_rng(int(100 * density))
    for n in (1, 2, 7, 60):
        upper = np.triu(rng.integers(-9, 10, (n, n)) * (rng.random((n, n)) < density), 1)
        matrix = (upper - upper.T).astype(np.int32)
        parts = strong_components(matrix)
        count, labels = scipy.sparse.csgraph.connected_components(matrix > 0, directed=True, connection="strong")
        assert len(parts) == count
        assert sorted(np.concatenate(parts).tolist()) == list(range(n))
        for part in parts:
            assert len(set(labels[part])) == 1
            assert (np.diff(part) > 0).all()
        for later in range(count):
            for earlier in range(later):
                assert (matrix[np.ix_(parts[earlier], parts[later])] >= 0).all()


def test_without_preferences_every_index_is_alone_and_in_its_place() -> None:
    assert [part.tolist() for part in strong_components(np.zeros((4, 4), np.int32))] == [[0], [1], [2], [3]]
