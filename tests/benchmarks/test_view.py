"""The view of a compiled search against a plain account, and what it never answers."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.benchmarks import MetricSpec, Table
from ncp_jax.benchmarks.view import REPEATS, Account, QueryView, check_rows
from ncp_jax.checks import DataError, UsageError
from ncp_jax.spaces import get_space

SPACE = get_space("transnas-micro")
ALL = np.asarray(SPACE.all_codes())
_, CLASS = np.unique(np.asarray(SPACE.canonical(ALL)), axis=0, return_inverse=True)
CLASS = CLASS.ravel()
FIRST = np.unique(CLASS, return_index=True)[1]
BIG = np.flatnonzero(np.bincount(CLASS) >= 3)[:2]
# Rows 0, 3 and 6 are codes of one network, 1 and 4 of another; beyond, every row is a network of its own.
SAME = {0: 0, 3: 0, 6: 0, 1: 1, 4: 1}
N = 40
CODES = ALL[np.delete(FIRST, BIG)[:N]]
CODES[[0, 3, 6]] = ALL[np.flatnonzero(BIG[0] == CLASS)[:3]]
CODES[[1, 4]] = ALL[np.flatnonzero(BIG[1] == CLASS)[:2]]
LOSS = np.linspace(0.15, 4.05, N)[np.random.default_rng(0).permutation(N)].astype(np.float32)
SECONDS = np.random.default_rng(1).integers(1, 9, N).astype(np.float32)
METRICS = (
    MetricSpec("loss", direction="minimize", split="validation"),
    MetricSpec("top1", unit="%", split="test"),
    MetricSpec("time", unit="s", kind="cost", direction="minimize"),
)
TABLE = Table.from_arrays(
    "mine", space=SPACE, codes=CODES, values=np.stack([LOSS, 100 - LOSS, SECONDS], axis=1), metrics=METRICS
)
PLAIN = Table.from_arrays("plain", space=SPACE, codes=CODES, values=LOSS[:, None], metrics=METRICS[:1])
query = jax.jit(lambda view, account, rows: view.query(account, rows))
NAN = float("nan")


class Book:
    """One run's account as one would keep it on paper."""

    def __init__(self, budget: int, repeats: str, limit: float = math.inf) -> None:
        self.budget, self.repeats, self.limit = budget, repeats, limit
        self.paid: list[tuple[int, float]] = []
        self.known: dict[int, float] = {}
        self.asks, self.seconds, self.over = 0, 0.0, False

    def query(self, rows: list[int]) -> list[float]:
        answers, refused = [], self.over
        for row in rows:
            network = SAME.get(row, row) if self.repeats == "free-isomorphs" else row
            if row < 0 or refused:
                answers.append(NAN)
                continue
            if self.repeats != "counted" and network in self.known:
                answers.append(self.known[network])
            elif len(self.paid) == self.budget or self.seconds + SECONDS[row] > self.limit:
                answers.append(NAN)
                refused = True
                continue
            else:
                answers.append(-float(LOSS[row]))
                self.known[network] = answers[-1]
                self.paid.append((row, answers[-1]))
                self.seconds += float(SECONDS[row])
            self.asks += 1
        self.over = refused or len(self.paid) == self.budget
        return answers


def check(account: Account, book: Book) -> None:
    history, spare = account.history, book.budget - len(book.paid)
    assert history.rows.tolist() == [row for row, _ in book.paid] + [-1] * spare
    np.testing.assert_array_equal(history.values, np.float32([value for _, value in book.paid] + [-np.inf] * spare))
    assert (int(history.count), int(history.asks)) == (len(book.paid), book.asks)
    assert (float(history.seconds), bool(history.over)) == (book.seconds, book.over)


def ask(view: QueryView, *questions: list[int]) -> tuple[list[list[float]], Account]:
    account, answers = view.open(), []
    for rows in questions:
        found, account = query(view, account, jnp.array(rows, jnp.int32))
        answers.append(found.tolist())
    return answers, account


def show(values: list[float]) -> list[Any]:
    return [None if math.isnan(value) else round(value, 5) for value in values]


def losses(*rows: int | None) -> list[Any]:
    return [None if row is None else round(-float(LOSS[row]), 5) for row in rows]


calls = st.lists(
    st.lists(st.one_of(st.integers(-1, 6), st.integers(-1, N - 1)), min_size=4, max_size=4), min_size=1, max_size=6
)


@pytest.mark.parametrize("limit", [None, 17.0])
@pytest.mark.parametrize("repeats", REPEATS)
@settings(max_examples=60, deadline=None)
@given(calls=calls)
def test_it_equals_an_account_on_paper(repeats: str, limit: float | None, calls: list[list[int]]) -> None:
    view = QueryView.of(TABLE, budget=5, repeats=repeats, seconds=limit)
    book, account = Book(5, repeats, math.inf if limit is None else limit), view.open()
    check(account, book)
    for rows in calls:
        answers, account = query(view, account, jnp.array(rows, jnp.int32))
        np.testing.assert_array_equal(answers, np.float32(book.query(rows)))
        check(account, book)


def test_counted_repeats_cost_as_if_they_were_new() -> None:
    answers, account = ask(QueryView.of(TABLE, budget=4, repeats="counted"), [5, 5], [5, 2])
    assert [show(line) for line in answers] == [losses(5, 5), losses(5, 2)]
    assert account.history.rows.tolist() == [5, 5, 5, 2]
    assert (int(account.history.count), int(account.history.asks), bool(account.history.over)) == (4, 4, True)
    assert account.known.size == 0


def test_free_repeats_are_answered_and_paid_once_within_a_question_and_later() -> None:
    answers, account = ask(QueryView.of(TABLE, budget=4), [5, -1, 5], [2, 5, 2])
    assert [show(line) for line in answers] == [losses(5, None, 5), losses(2, 5, 2)]
    assert account.history.rows.tolist() == [5, 2, -1, -1]
    assert (int(account.history.count), int(account.history.asks)) == (2, 5)
    np.testing.assert_array_equal(account.history.values, np.float32([-LOSS[5], -LOSS[2], -np.inf, -np.inf]))


def test_isomorphs_are_answered_with_the_value_paid_for() -> None:
    view = QueryView.of(TABLE, budget=3, repeats="free-isomorphs")
    answers, account = ask(view, [3, 0, 1], [6, 4, 3])
    assert [show(line) for line in answers] == [losses(3, 3, 1), losses(3, 1, 3)]
    assert account.history.rows.tolist() == [3, 1, -1]
    answers, account = ask(QueryView.of(TABLE, budget=3), [3, 0, 1], [6, 4, 3])
    assert [show(line) for line in answers] == [losses(3, 0, 1), losses(None, None, None)]


@pytest.mark.parametrize("repeats", ["free", "free-isomorphs"])
def test_nothing_is_answered_from_the_first_query_on_that_does_not_fit(repeats: str) -> None:
    view = QueryView.of(TABLE, budget=2, repeats=repeats)
    answers, account = ask(view, [7, -1, 7, 8], [7, 8, 7, -1])
    # With its last query spent a run is over: not even what it knows is answered.
    assert [show(line) for line in answers] == [losses(7, None, 7, 8), losses(None, None, None, None)]
    answers, account = ask(view, [7, 8, 7, 9])
    assert show(answers[0]) == losses(7, 8, 7, None)
    assert (bool(account.history.over), int(account.history.asks)) == (True, 3)
    answers, account = ask(view, [7, 8, 9, 7])
    assert show(answers[0]) == losses(7, 8, None, None)
    assert int(account.history.asks) == 2


def test_a_budget_is_over_with_its_last_query() -> None:
    _, account = ask(QueryView.of(TABLE, budget=2), [1, -1])
    assert not bool(account.history.over)
    _, account = ask(QueryView.of(TABLE, budget=2), [1, 2])
    assert bool(account.history.over)


@pytest.mark.parametrize("repeats", REPEATS)
def test_the_whole_table_can_be_asked(repeats: str) -> None:
    most = N - 3 if repeats == "free-isomorphs" else N
    view = QueryView.of(TABLE, budget=most, repeats=repeats)
    _, account = ask(view, list(range(N)))
    assert (int(account.history.count), bool(account.history.over)) == (most, True)


@pytest.mark.parametrize("repeats", REPEATS)
def test_rows_beyond_sixteen_bits(repeats: str) -> None:
    n = 70_000
    classes = jnp.arange(n) // 2 if repeats == "free-isomorphs" else jnp.zeros(0, jnp.int32)
    numbers = jnp.arange(n, dtype=jnp.float32)
    view = QueryView(numbers, numbers[:0], classes, jnp.float32(jnp.inf), budget=6, repeats=repeats)
    answers, account = ask(view, [n - 1, 32_767, 65_535], [n - 1, n - 2, 32_765])
    rows = {
        "counted": [n - 1, 32_767, 65_535, n - 1, n - 2, 32_765],
        "free": [n - 1, 32_767, 65_535, n - 2, 32_765, -1],
        "free-isomorphs": [n - 1, 32_767, 65_535, 32_765, -1, -1],
    }[repeats]
    assert account.history.rows.tolist() == rows
    assert answers[1] == [n - 1, n - 1 if repeats == "free-isomorphs" else n - 2, 32_765]


def test_seconds_end_a_run_and_free_repeats_take_none() -> None:
    rows = [int(np.flatnonzero(s == SECONDS)[0]) for s in (3, 4, 5)]
    view = QueryView.of(TABLE, budget=9, seconds=7)
    answers, account = ask(view, [rows[0], rows[0]], [rows[1], rows[1]])
    assert (float(account.history.seconds), bool(account.history.over)) == (7.0, False)  # to the last second
    assert show(answers[1]) == losses(rows[1], rows[1])
    answers, account = ask(view, [rows[0], rows[2]], [rows[1], -1])
    assert [show(line) for line in answers] == [losses(rows[0], None), losses(None, None)]
    assert (float(account.history.seconds), bool(account.history.over)) == (3.0, True)


def test_seconds_are_counted_without_a_limit_where_the_table_has_them() -> None:
    _, account = ask(QueryView.of(TABLE, budget=3), [2, 9])
    assert float(account.history.seconds) == SECONDS[2] + SECONDS[9]
    view = QueryView.of(PLAIN, budget=3)
    _, account = ask(view, [2, 9])
    assert (float(account.history.seconds), view.costs.size) == (0.0, 0)


def test_seconds_from_a_named_column() -> None:
    two = (*METRICS, MetricSpec("slow", unit="s", kind="cost", direction="minimize"))
    values = np.stack([LOSS, 100 - LOSS, SECONDS, 10 * SECONDS], axis=1)
    table = Table.from_arrays("two", space=SPACE, codes=CODES, values=values, metrics=two)
    _, account = ask(QueryView.of(table, budget=3, seconds=1e9, seconds_column="slow"), [2])
    assert float(account.history.seconds) == 10 * SECONDS[2]
    assert QueryView.of(table, budget=3).costs.size == 0  # which of the two is meant, nobody said
    with pytest.raises(UsageError, match=r"expected one column of training seconds \(unit s\), got 2 of them in two"):
        QueryView.of(table, budget=3, seconds=10)


def test_runs_in_one_call_are_the_runs_alone() -> None:
    rng = np.random.default_rng(2)
    for repeats in REPEATS:
        view = QueryView.of(TABLE, budget=6, repeats=repeats, seconds=30)
        questions = rng.integers(-1, 12, (4, 7, 3)).astype(np.int32)
        accounts = jax.vmap(lambda _, view=view: view.open())(jnp.arange(7))
        alone = [view.open() for _ in range(7)]
        for rows in questions:
            answers, accounts = jax.jit(jax.vmap(view.query))(accounts, rows)
            for i in range(7):
                answer, alone[i] = query(view, alone[i], rows[i])
                np.testing.assert_array_equal(answer, answers[i])
        jax.tree.map(np.testing.assert_array_equal, accounts, jax.tree.map(lambda *x: jnp.stack(x), *alone))


def test_views_of_one_shape_share_a_program() -> None:
    ask(QueryView.of(TABLE, budget=6, seconds=30), [1, 2, 3])
    compiled = query._cache_size()
    ask(QueryView.of(TABLE, budget=6, seconds=3), [4, 5, 6])
    assert query._cache_size() == compiled


def test_answers_are_oriented_and_default_to_the_main_metric() -> None:
    np.testing.assert_array_equal(QueryView.of(TABLE, budget=1).values, -LOSS)
    np.testing.assert_array_equal(QueryView.of(TABLE, "LOSS", budget=1).values, -LOSS)
    np.testing.assert_array_equal(QueryView.of(TABLE, "time", budget=1).values, -SECONDS)
    free = MetricSpec("top1", unit="%")
    table = Table.from_arrays("t", space=SPACE, codes=CODES, values=100 - LOSS[:, None], metrics=[free])
    np.testing.assert_array_equal(QueryView.of(table, budget=1).values, 100 - LOSS)


def test_names_of_repeats_are_read_without_case() -> None:
    assert QueryView.of(TABLE, budget=1, repeats="Free-Isomorphs").repeats == "free-isomorphs"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"metric": "top1"},
            r"expected a training or validation column to search on, got top1 of the test split",
        ),
        ({"metric": "los"}, r"expected a known metric, got 'los'; did you mean: loss"),
        ({"repeats": "fre"}, r"expected a known repeats, got 'fre'; did you mean: free"),
        ({"budget": 0}, r"expected a budget of queries to be an integer in 1\.\.40, got 0; mine has 40 architectures"),
        ({"budget": 41}, r"in 1\.\.40, got 41"),
        ({"budget": 38, "repeats": "free-isomorphs"}, r"in 1\.\.37, got 38; mine has 37 networks"),
        ({"budget": 0, "repeats": "counted"}, r"expected a budget of queries to be an integer 1 or more, got 0"),
        ({"budget": 2.0}, r"got 2\.0"),
        ({"budget": True}, r"got True"),
        ({"budget": "3"}, r"got '3'"),
        ({"seconds": 0}, r"expected the budget in seconds to be a number > 0, got 0"),
        ({"seconds": float("nan")}, r"got nan"),
        ({"seconds": float("inf")}, r"got inf"),
        ({"seconds": 5, "seconds_column": "tim"}, r"expected a known metric, got 'tim'; did you mean: time"),
    ],
)
def test_wrong_views(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        QueryView.of(TABLE, **{"budget": 4, **changes})


def test_a_column_of_the_test_split_has_to_be_allowed() -> None:
    with pytest.raises(
        UsageError, match=r"got top1 of the test split; .*; or allow it with --on-test \(on_test=True\)"
    ):
        QueryView.of(TABLE, "top1", budget=3)
    view = QueryView.of(TABLE, "top1", budget=3, on_test=True)
    np.testing.assert_array_equal(view.values, TABLE.column("top1"))
    assert (view.on_test, QueryView.of(TABLE, budget=3).on_test) == (True, False)


@pytest.mark.parametrize("wrong", [N, N + 1, -2, 2**31 - 1, -(2**31)])
def test_a_row_that_is_not_there_is_not_answered_and_ends_the_run(wrong: int) -> None:
    for repeats in REPEATS:
        view = QueryView.of(TABLE, budget=5, repeats=repeats)
        _, account = ask(view, [3, 4])
        assert int(account.wrong) == -1
        for rows in ([wrong, 5], [5, wrong], [5, 5, wrong]):
            answers, after = view.query(account, np.array(rows, np.int32))
            assert np.isnan(answers).all()
            assert int(after.wrong) == wrong
            assert bool(after.history.over)
            assert after.history.rows.tolist() == account.history.rows.tolist()
            # The first one stays, and nothing is answered later.
            answers, later = view.query(after, np.array([6, N + 7], np.int32))
            assert np.isnan(answers).all()
            assert int(later.wrong) == wrong
        with pytest.raises(UsageError, match=rf"expected rows 0\.\.{N - 1} from a searcher, .*, got {wrong}; a query"):
            check_rows(np.array([-1, wrong]), N)
    check_rows(np.array([-1, -1]), N)


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int16, np.int64, np.uint32])
def test_rows_of_any_integer_type(kind: Any) -> None:
    view = QueryView.of(TABLE, budget=5)
    answers, account = view.query(view.open(), jnp.asarray(np.array([3, 7], kind)))
    np.testing.assert_array_equal(answers, -LOSS[[3, 7]])
    _, account = view.query(account, jnp.asarray(np.array([3, N], kind)))
    assert int(account.wrong) == N


@pytest.mark.parametrize("rows", [np.zeros(2), np.zeros(2, bool), np.zeros((2, 2), int), np.int32(3)])
def test_rows_are_a_line_of_integers(rows: np.ndarray) -> None:
    view = QueryView.of(TABLE, budget=5)
    with pytest.raises(UsageError, match=r"expected integer rows \[k\] from a searcher, got"):
        view.query(view.open(), rows)


def test_seconds_need_a_column() -> None:
    with pytest.raises(UsageError, match=r"got 0 of them in plain; name it, or give the budget in queries"):
        QueryView.of(PLAIN, budget=3, seconds=10)
    values = np.stack([LOSS, 100 - LOSS, SECONDS - 2], axis=1)
    table = Table.from_arrays("odd", space=SPACE, codes=CODES, values=values, metrics=METRICS)
    with pytest.raises(DataError, match=r"expected seconds >= 0 in time, got -1\.0; mend the column of odd"):
        QueryView.of(table, budget=3)


def test_a_counted_budget_may_exceed_the_table() -> None:
    assert QueryView.of(TABLE, budget=3 * N, repeats="counted").open().history.rows.shape == (3 * N,)
