"""The contract of array searchers: a run depends on its seed, its settings and what it paid for, on nothing else."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import Table
from ncp_jax.benchmarks.view import REPEATS, QueryView
from ncp_jax.checks import UsageError
from ncp_jax.searchers import (
    SEARCHERS,
    ArraySearcher,
    Candidates,
    Evolution,
    RandomSearch,
    Runs,
    SearchSession,
    make,
    search,
)
from ncp_jax.searchers.base import searcher_class
from ncp_jax.searchers.run import PATIENCE, search_compiled

BUDGET = 12
# As many runs in nearly all tests: they share one compiled program for each searcher and way to count repeats.
SEEDS = (3, 4, 5, 6, 7)
# Settings that do something within a dozen queries, and others to sweep over; an empty dictionary is the defaults.
SMALL: dict[str, dict[str, Any]] = {
    "evolution": {"population": 4, "tournament": 2},
    "reinforce": {"draws": 4, "width": 8, "rate": 0.3, "entropy": 1.0},
    "bayesian": {"initial": 4},
}
OTHERS = {
    "evolution": [{"population": 3, "tournament": 1}, {"population": 9, "tournament": 30}, {"population": 1}],
    "reinforce": [{"rate": 0.0}, {"rate": 0.1}, {"entropy": 50}],
    "bayesian": [{"freedom": 0.1}, {"freedom": 0.5}, {"freedom": 1.0}, {"freedom": 6.0}],
}
# Searchers that train. The others compute with whole numbers: optimising cannot change what they return.
ROUNDED = ("reinforce", "bayesian", "neural-ensemble", "ncp")
every = pytest.mark.parametrize("name", [name for name, cls in SEARCHERS.items() if issubclass(cls, ArraySearcher)])
Run = Callable[..., Runs]


def small_searcher(name: str, **settings: object) -> ArraySearcher:
    return make(SEARCHERS[name], SMALL.get(name, {}) | settings)  # type: ignore[return-value]


def assert_same(one: Runs, other: Runs) -> None:
    for field, a, b in zip(Runs._fields, one, other, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=field)


def part(runs: Runs, which: slice | list[int]) -> Runs:
    return jax.tree.map(lambda leaf: leaf[which], runs)


@every
@pytest.mark.parametrize("repeats", REPEATS)
def test_budget_and_records(name: str, repeats: str, run: Run, small: Table, candidates: Candidates) -> None:
    runs = run(small_searcher(name), SEEDS, QueryView.of(small, budget=BUDGET, repeats=repeats))
    assert (runs.count == BUDGET).all()
    assert (runs.asks >= BUDGET).all()
    assert runs.state is None
    assert ((runs.rows >= 0) & (runs.rows < len(small))).all()
    np.testing.assert_array_equal(runs.values, np.asarray(small.column("acc"))[runs.rows])
    # Seconds are whole numbers here: their sums are exact.
    np.testing.assert_array_equal(runs.seconds, np.asarray(small.column("time"))[runs.rows].sum(axis=1))
    if repeats == "counted":
        np.testing.assert_array_equal(runs.asks, runs.count)
    names = np.asarray(candidates.classes)[runs.rows] if repeats == "free-isomorphs" else runs.rows
    if repeats != "counted":
        assert all(len(set(line)) == BUDGET for line in names.tolist())


@every
def test_a_budget_of_seconds(name: str, run: Run, small: Table) -> None:
    runs = run(small_searcher(name), SEEDS, QueryView.of(small, budget=BUDGET, seconds=20))
    spent = np.where(runs.rows >= 0, np.asarray(small.column("time"))[np.maximum(runs.rows, 0)], 0).sum(axis=1)
    np.testing.assert_array_equal(runs.seconds, spent)
    assert ((runs.seconds <= 20) & (runs.seconds > 12)).all()  # what did not fit took at most 8
    assert ((runs.count < BUDGET) & (runs.count == (runs.rows >= 0).sum(axis=1))).all()
    assert np.isneginf(runs.values[runs.rows < 0]).all()
    whole = run(small_searcher(name), SEEDS, QueryView.of(small, budget=BUDGET))
    for i, count in enumerate(runs.count):
        np.testing.assert_array_equal(runs.rows[i, :count], whole.rows[i, :count])


@every
@pytest.mark.parametrize("poison", [np.nan, 1e30, -1e30])
def test_what_was_not_paid_for_changes_nothing(name: str, poison: float, run: Run, small: Table) -> None:
    view, searcher, seeds = QueryView.of(small, budget=BUDGET), small_searcher(name), [1] * len(SEEDS)
    before = run(searcher, seeds, view)
    paid = np.zeros(len(small), bool)
    paid[before.rows[0]] = True
    values = jnp.where(paid, view.values, jnp.float32(poison))
    assert_same(run(searcher, seeds, dataclasses.replace(view, values=values)), before)


@every
def test_an_isomorph_is_answered_without_its_own_value(
    name: str, run: Run, small: Table, candidates: Candidates
) -> None:
    view = QueryView.of(small, budget=BUDGET, repeats="free-isomorphs")
    before = run(small_searcher(name), [2] * len(SEEDS), view)
    paid = np.zeros(len(small), bool)
    paid[before.rows[0]] = True
    values = jnp.where(paid, view.values, jnp.nan)
    assert_same(run(small_searcher(name), [2] * len(SEEDS), dataclasses.replace(view, values=values)), before)


@every
def test_a_sweep_over_settings_is_the_runs_of_each(name: str, run: Run, small: Table) -> None:
    view = QueryView.of(small, budget=BUDGET)
    swept = [small_searcher(name), *(small_searcher(name, **settings) for settings in OTHERS.get(name, []))]
    seeds = [7] * len(SEEDS)
    together = run([*swept, *swept[:1] * (len(SEEDS) - len(swept))], seeds, view)
    for i, searcher in enumerate(swept):
        assert_same(part(run(searcher, seeds, view), [0]), part(together, [i]))
    assert len({tuple(rows) for rows in together.rows.tolist()}) == len(swept)


@every
def test_seeds_values_and_numeric_settings_share_a_program(name: str, run: Run, small: Table) -> None:
    view = QueryView.of(small, budget=BUDGET)
    run(small_searcher(name), SEEDS, view)
    compiled = search_compiled._cache_size()
    run(small_searcher(name), [8, 9, 10, 11, 12], dataclasses.replace(view, values=-view.values))
    assert search_compiled._cache_size() == compiled


@every
def test_higher_is_better(name: str, run: Run, small: Table) -> None:
    """With the values turned round a search finds the other end; random search finds both."""
    view = QueryView.of(small, budget=BUDGET)
    views = (view, dataclasses.replace(view, values=-view.values))
    up, down = ([run(small_searcher(name), range(s, s + 5), each) for s in range(0, 40, 5)] for each in views)
    top, bottom = np.mean([runs.values for runs in up]), -np.mean([runs.values for runs in down])
    if name == "random":
        np.testing.assert_array_equal([runs.rows for runs in up], [runs.rows for runs in down])
    else:
        assert top > bottom + 0.1


def test_a_whole_table_is_searched(run: Run, small: Table) -> None:
    runs = run(RandomSearch(), [0], QueryView.of(small, budget=len(small)))
    assert sorted(runs.rows[0].tolist()) == list(range(len(small)))


@searcher_class
class Asking(RandomSearch):
    """Asks for rows 1 and 2, then for what it is told to."""

    name: ClassVar[str] = "asking"

    rows: Any = ()

    def ask(self, candidates, state, history, key):
        del candidates, state, key
        good = jnp.asarray([1, 1, 2], self.rows.dtype)
        return jnp.where(history.count == 0, good, self.rows), ()


@pytest.mark.parametrize("repeats", REPEATS)
def test_a_row_that_is_not_there_is_an_error(small: Table, run: Run, candidates: Any, repeats: str) -> None:
    view = QueryView.of(small, budget=BUDGET, repeats=repeats)
    for wrong in (243, 244, -2, -243, 2**31 - 1, -(2**31)):
        text = rf"expected rows 0\.\.242 from a searcher, or -1 for no query, got {wrong}; a query is a row number"
        for rows in ((3, wrong, 4), (wrong, wrong, wrong)):
            searcher = Asking(np.array(rows, np.int32))
            with pytest.raises(UsageError, match=text):
                run([Asking(np.array([3, 4, 5], np.int32)), searcher], [0, 1], view)
        session = SearchSession(searcher, candidates, budget=BUDGET)
        session.tell([0.5] * len(session.ask()))
        with pytest.raises(UsageError, match=text):
            session.ask()


def test_rows_that_are_no_integers_are_an_error(small: Table, run: Run) -> None:
    view = QueryView.of(small, budget=BUDGET)
    for kind in ("float32", "bool"):
        with pytest.raises(UsageError, match=rf"expected integer rows \[k\] from a searcher, got {kind} \[3\]; fill"):
            run(Asking(np.array([1, 2, 3], kind)), [0], view)
    # A row that is asked for twice in a batch costs one query.
    assert run(Asking(np.array([2, 3, 3], np.int32)), [0], view).rows[0].tolist() == [1, 2, 3] + [-1] * (BUDGET - 3)
    # Numbers that 32 bits cannot hold do not wrap around to rows that are there.
    with pytest.raises(UsageError, match=r"expected rows 0\.\.242"):
        run(Asking(np.array([1, 2, 2**32 - 1], np.uint32)), [0], view)


@searcher_class
class Stuck(RandomSearch):
    """Asks for row 5 eight times, for ever."""

    name: ClassVar[str] = "stuck"

    def ask(self, candidates, state, history, key):
        del candidates, history, key
        return jnp.full(8, 5, jnp.int32), state


def test_patience_ends_a_run_that_asks_for_nothing_new(run: Run, small: Table) -> None:
    runs = run(Stuck(), [0, 1], QueryView.of(small, budget=BUDGET))
    assert runs.count.tolist() == [1, 1]
    assert runs.asks.tolist() == [PATIENCE * 8 * -(-BUDGET // 8)] * 2
    assert runs.rows[0].tolist() == [5] + [-1] * (BUDGET - 1)
    counted = run(Stuck(), [0], QueryView.of(small, budget=BUDGET, repeats="counted"))
    assert (counted.count.tolist(), counted.asks.tolist()) == ([BUDGET], [BUDGET])


def test_slots_of_a_population_change_nothing(small: Table, candidates: Candidates) -> None:
    view, seeds = QueryView.of(small, budget=BUDGET), np.arange(3, dtype=np.int32)
    (tight,) = Evolution.together([make(Evolution, SMALL["evolution"])])
    roomy = dataclasses.replace(tight, capacity=50, competitors=20)
    runs = [search(jax.tree.map(lambda x: np.full(3, x), s), seeds, candidates, view) for s in (tight, roomy)]
    assert_same(*runs)


def test_a_population_needs_slots(small: Table, candidates: Candidates) -> None:
    searcher = jax.tree.map(lambda x: np.full(1, x), make(Evolution, {}))
    with pytest.raises(ValueError, match=r"expected slots for members and competitors, got 0 and 0; search with Evolu"):
        search(searcher, np.arange(1), candidates, QueryView.of(small, budget=3))


@every
def test_a_run_is_the_same_alone_among_others_and_in_portions(
    name: str, run: Run, small: Table, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    # The last of this file: it forgets the compiled programs.
    if name in ROUNDED:
        request.getfixturevalue("optimised")
    view, searcher = QueryView.of(small, budget=BUDGET), small_searcher(name)
    together = run(searcher, SEEDS, view)
    # Those that train, alone: the eight devices of tests/studies/test_runner.py, in optimised code of its own.
    if name not in ROUNDED:
        assert_same(run(searcher, [5], view), part(together, [2]))
    assert_same(run(searcher, SEEDS[::-1], view), part(together, slice(None, None, -1)))
    assert_same(run(searcher, SEEDS, view), together)
    assert len({tuple(rows) for rows in together.rows.tolist()}) == len(SEEDS)
    monkeypatch.setattr(sys.modules[search_compiled.__module__], "TOGETHER", 2)
    search_compiled.clear_cache()
    assert_same(run(searcher, SEEDS, view), together)
    search_compiled.clear_cache()
