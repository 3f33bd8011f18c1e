"""A small table whose every code has neighbours, and isomorphs; and many runs of a searcher on it in one call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import pytest

from ncp_jax import MetricSpec, Table, get_space
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.searchers import ArraySearcher, Candidates, Runs, search

SPACE = get_space("transnas-micro")


@pytest.fixture(scope="session")
def small() -> Table:
    """243 codes of 144 networks: values are a sum over positions and much noise, so that climbs end in many places."""
    codes = np.array([(*code, 1) for code in itertools.product((0, 1, 2), repeat=5)], np.int32)
    rng = np.random.default_rng(0)
    worth = rng.normal(size=(6, 4))[np.arange(6), codes].sum(axis=1) + 1.5 * rng.normal(size=len(codes))
    metrics = [MetricSpec("acc"), MetricSpec("time", kind="cost", unit="s", direction="minimize")]
    values = np.stack([worth, rng.integers(1, 9, len(codes))], axis=1)
    return Table.from_arrays("small", space=SPACE, codes=codes, values=values, metrics=metrics)


@pytest.fixture(scope="session")
def candidates(small: Table) -> Candidates:
    return Candidates.of(small)


def stack(searchers: Sequence[ArraySearcher]) -> Any:
    """One searcher with a leading axis, sizes shared."""
    return jax.tree.map(lambda *leaves: np.asarray(leaves), *type(searchers[0]).together(list(searchers)))


@pytest.fixture(scope="session")
def run(candidates: Candidates) -> Callable[..., Runs]:
    """Runs searchers, each with its seed, on a view of the small table; the results are NumPy arrays."""

    def call(
        searchers: ArraySearcher | Sequence[ArraySearcher], seeds: Sequence[int] | np.ndarray, view: QueryView
    ) -> Runs:
        several = [searchers] * len(seeds) if isinstance(searchers, ArraySearcher) else searchers
        found = search(stack(several), np.asarray(seeds, np.int32), candidates, view)
        return jax.tree.map(np.asarray, found)

    return call
