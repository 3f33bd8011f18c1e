"""What every searcher that runs on the host must keep to."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import Table
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.checks import UsageError
from ncp_jax.searchers import (
    SEARCHERS,
    Candidates,
    CurveSearcher,
    HostSearcher,
    Runs,
    SearchSession,
    make_searcher,
    search_on_host,
)

BUDGET = 12
SEEDS = (3, 4, 5)
# Settings that compile and fit quickly; an empty dictionary is the defaults.
SMALL = {"arch-graph": {"first": 4, "batch": 4, "members": 2, "steps": 5}}
# Those that need more than a table, sources or learning curves, have tests of their own.
every = pytest.mark.parametrize(
    "name",
    [
        name
        for name, cls in SEARCHERS.items()
        if issubclass(cls, HostSearcher) and not cls.needs_sources and not issubclass(cls, CurveSearcher)
    ],
)


def run(name: str, table: Table, seeds: tuple[int, ...] = SEEDS, *, seconds: float | None = None) -> Runs:
    searcher = make_searcher(name, **SMALL.get(name, {}))
    assert isinstance(searcher, HostSearcher)
    return search_on_host(searcher, seeds, table, "acc", QueryView.of(table, budget=BUDGET, seconds=seconds))


@every
def test_budget_and_records(name: str, small: Table) -> None:
    runs = run(name, small)
    assert runs.count.tolist() == runs.asks.tolist() == [BUDGET] * len(SEEDS)
    assert all(len(set(rows)) == BUDGET for rows in runs.rows.tolist())
    np.testing.assert_array_equal(runs.values, np.asarray(small.column("acc"))[runs.rows])
    np.testing.assert_array_equal(runs.seconds, np.asarray(small.column("time"))[runs.rows].sum(axis=1))


@every
def test_a_run_depends_on_its_seed(name: str, small: Table) -> None:
    runs = run(name, small)
    np.testing.assert_array_equal(run(name, small).rows, runs.rows)
    assert len({tuple(rows) for rows in runs.rows.tolist()}) == len(SEEDS)
    # Later queries may differ by the rounding of fits that are made together.
    np.testing.assert_array_equal(run(name, small, SEEDS[::-1]).rows[::-1, :4], runs.rows[:, :4])


@every
def test_a_budget_of_seconds(name: str, small: Table) -> None:
    whole, runs = run(name, small), run(name, small, seconds=20)
    for i, count in enumerate(runs.count):
        assert 0 < count < BUDGET
        np.testing.assert_array_equal(runs.rows[i, :count], whole.rows[i, :count])
        assert (runs.rows[i, count:] == -1).all()
        assert np.isneginf(runs.values[i, count:]).all()
    assert ((runs.seconds <= 20) & (runs.seconds > 12)).all()  # a query takes at most 8


@every
def test_what_was_not_paid_for_changes_nothing(name: str, small: Table) -> None:
    before = run(name, small)
    paid = np.zeros(len(small), bool)
    paid[before.rows] = True
    values = jnp.where(paid[:, None], small.values, jnp.float32(1e6))
    after = run(name, dataclasses.replace(small, values=values))
    np.testing.assert_array_equal(after.rows, before.rows)
    np.testing.assert_array_equal(after.values, before.values)


@every
def test_it_is_not_asked_and_told(name: str, candidates: Candidates) -> None:
    with pytest.raises(UsageError, match=rf"expected a searcher that is asked and told, got {name}, which runs on"):
        SearchSession(make_searcher(name), candidates, budget=5)
