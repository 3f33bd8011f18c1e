"""The guard against a dictionary per run, and what it must never show."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.benchmarks import BudgetExceeded, MetricSpec, QueryGuard, Table
from ncp_jax.checks import UsageError

N = 12
CODES = np.array([[a, b, 0, 0, 0, 0] for a in range(3) for b in range(4)], np.int32)
LOSS = np.linspace(0.15, 1.65, N)[np.random.default_rng(0).permutation(N)]
METRICS = (MetricSpec("top1", unit="%"), MetricSpec("loss", direction="minimize"))
TABLE = Table.from_arrays(
    "mine", space="transnas-micro", codes=CODES, values=np.stack([100 - LOSS, LOSS], axis=1), metrics=METRICS
)


def make(metric: str = "loss", **changes: Any) -> QueryGuard:
    return QueryGuard(TABLE, metric, **{"budget": 4, "runs": 2, **changes})


def test_a_column_of_the_test_split_has_to_be_allowed() -> None:
    tested = dataclasses.replace(TABLE, metrics=(METRICS[0], dataclasses.replace(METRICS[1], split="test")))
    text = (
        r"expected a training or validation column to search on, got loss of the test split; .*--on-test \(on_test=True"
    )
    with pytest.raises(UsageError, match=text):
        QueryGuard(tested, "loss", budget=4)
    assert QueryGuard(tested, "loss", budget=4, on_test=True).query(np.array([[0]]))[0, 0] == np.float32(-LOSS[0])
    QueryGuard(tested, "top1", budget=4)


def test_answers_are_oriented_counted_and_logged_in_the_order_of_asking() -> None:
    guard = make()
    answer = guard.query(np.array([[5, 2, -1], [7, -1, -1]]))
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, np.float32([[-LOSS[5], -LOSS[2], np.nan], [-LOSS[7], np.nan, np.nan]]))
    assert guard.remaining.tolist() == [2, 3]
    guard.query(np.array([[9], [5]]))
    assert guard.asked.tolist() == [[5, 2, 9, -1], [7, 5, -1, -1]]
    np.testing.assert_array_equal(guard.paid[:, :2], np.float32(-LOSS[[[5, 2], [7, 5]]]))
    assert np.isnan(guard.paid).tolist() == [[False, False, False, True], [False, False, True, True]]
    best = np.fmax.accumulate(guard.paid, axis=1)
    np.testing.assert_array_equal(best[1], -np.float32([LOSS[7], *[min(LOSS[7], LOSS[5])] * 3]))


def test_what_the_method_may_know() -> None:
    guard = make()
    np.testing.assert_array_equal(guard.codes, CODES)
    assert (guard.space, guard.metric, guard.direction, guard.budget) == ("transnas-micro", "loss", "minimize", 4)
    assert make("TOP1").direction == "maximize"
    np.testing.assert_array_equal(make("top1", runs=1).query(np.array([[3]])), np.float32([[100 - LOSS[3]]]))


def test_what_is_paid_for_is_kept_and_free() -> None:
    guard = make(budget=2)
    first = guard.query(np.array([[5, 5, 2], [1, -1, 1]]))
    assert guard.remaining.tolist() == [0, 1]
    again = guard.query(np.array([[5, 2, 5], [1, 1, -1]]))
    np.testing.assert_array_equal(again[0], first[0, [0, 2, 1]])
    assert guard.remaining.tolist() == [0, 1]
    assert guard.asked.tolist() == [[5, 2], [1, -1]]


def test_a_value_paid_by_one_run_is_not_free_for_another() -> None:
    guard = make(budget=1)
    guard.query(np.array([[5], [6]]))
    with pytest.raises(BudgetExceeded):
        guard.query(np.array([[-1], [5]]))


def test_a_run_over_its_budget_gets_nothing_and_nobody_pays() -> None:
    guard = make(budget=3)
    guard.query(np.array([[0, 1], [0, -1]]))
    before = guard.asked
    with pytest.raises(
        BudgetExceeded, match=r"at most 1 more architectures in run 0 \(budget 3\), got 2; see remaining"
    ):
        guard.query(np.array([[2, 3], [4, 5]]))
    np.testing.assert_array_equal(guard.asked, before)
    assert guard.remaining.tolist() == [1, 2]
    assert not np.isnan(guard.query(np.array([[2, 0], [4, 5]]))).any()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.lists(st.integers(-1, N - 1), min_size=3, max_size=3), min_size=2, max_size=2), max_size=6))
def test_it_equals_one_dictionary_a_run(calls: list[list[list[int]]]) -> None:
    guard, books = make(budget=5), [{}, {}]
    for rows in calls:
        asked = [[row for row in line if row >= 0] for line in rows]
        after = [dict.fromkeys([*book, *line]) for book, line in zip(books, asked, strict=True)]
        if max(map(len, after)) > 5:
            with pytest.raises(BudgetExceeded):
                guard.query(np.array(rows))
        else:
            books = after
            expected = [[-LOSS[row] if row >= 0 else np.nan for row in line] for line in rows]
            np.testing.assert_array_equal(guard.query(np.array(rows)), np.float32(expected))
    for line, book in zip(guard.asked.tolist(), books, strict=True):
        assert line == [*book] + [-1] * (5 - len(book))


def reachable(thing: Any, depth: int = 3) -> list[Any]:
    """What attributes, items and methods without arguments lead to."""
    found = [thing]
    if depth == 0 or isinstance(thing, str | int | float | type):
        return found
    if isinstance(thing, dict | list | tuple):
        parts = [*thing.values()] if isinstance(thing, dict) else [*thing]
    elif isinstance(thing, np.ndarray):
        parts = [thing.base]
    else:
        parts = [getattr(thing, name) for name in dir(thing) if not name.startswith("__")]
    return found + [one for part in parts for one in reachable(part, depth - 1)]


def test_no_attribute_leads_to_a_value_that_was_not_paid_for() -> None:
    guard = make()
    guard.query(np.array([[5], [5]]))
    numbers = [np.ravel(one) for one in reachable(guard) if isinstance(one, np.ndarray | np.generic | float)]
    seen = np.concatenate([one.astype(float) for one in numbers])
    hidden = np.float32(np.delete(LOSS, 5))
    assert np.isin(np.float32(-LOSS[5]), np.float32(seen))
    assert not np.isin(hidden, np.abs(np.float32(seen))).any()
    assert not any(isinstance(one, Table) for one in reachable(guard))
    with pytest.raises(TypeError):
        vars(guard)


def test_the_text_names_no_value() -> None:
    guard = make()
    guard.query(np.array([[5], [-1]]))
    assert repr(guard) == "QueryGuard('mine', 'loss', budget=4, runs=2, paid for 1)"


@pytest.mark.parametrize("copier", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_guard_is_neither_pickled_nor_copied(copier: Any) -> None:
    with pytest.raises(UsageError, match="expected a guard to stay where it was made, got a request to pickle or copy"):
        copier(make())


@pytest.mark.parametrize("name", ["budget", "asked", "paid", "remaining", "codes", "metric"])
def test_nothing_can_be_assigned(name: str) -> None:
    with pytest.raises(AttributeError):
        setattr(make(), name, 100)


def test_logs_are_copies_and_codes_read_only() -> None:
    guard = make()
    guard.query(np.array([[5], [5]]))
    guard.asked[:] = -1
    guard.paid[:] = 0
    assert guard.remaining.tolist() == [3, 3]
    np.testing.assert_array_equal(guard.paid[:, 0], np.float32(-LOSS[[5, 5]]))
    with pytest.raises(ValueError, match="read-only"):
        guard.codes[:] = 0


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"metric": "los"}, "expected a known metric, got 'los'; did you mean: loss"),
        ({"budget": 0}, r"expected budget to be an integer in 1\.\.12, got 0; mine has 12 architectures"),
        ({"budget": 13}, r"expected budget to be an integer in 1\.\.12, got 13"),
        ({"budget": 2.0}, r"expected budget to be an integer in 1\.\.12, got 2\.0"),
        ({"budget": True}, "got True"),
        ({"runs": 0}, "expected runs to be an integer 1 or more, got 0; one run is one seed"),
        ({"runs": "2"}, "expected runs to be an integer 1 or more, got '2'"),
    ],
)
def test_wrong_guards(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make(**changes)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([1, 2], r"expected integer rows \[2, k\], one line per run, got int64 \[2\]; fill lines"),
        ([[1], [2], [3]], r"got int64 \[3, 1\]"),
        ([[1.0], [2.0]], r"got float64 \[2, 1\]"),
        ([[True], [False]], r"got bool \[2, 1\]"),
        ([[0], [12]], r"expected rows 0\.\.11 of mine, or -1 for no query, got 12; a query is a row"),
        ([[0], [-2]], "got -2"),
        ([[0], [2**32]], "got 4294967296"),
    ],
)
def test_wrong_queries(rows: Any, text: str) -> None:
    guard = make()
    with pytest.raises(UsageError, match=text):
        guard.query(rows)
    assert guard.remaining.tolist() == [4, 4]


def test_no_slot_is_no_query() -> None:
    guard = make()
    assert guard.query(np.zeros((2, 0), int)).shape == (2, 0)
    assert guard.remaining.tolist() == [4, 4]
