"""Answers and counts the queries of a compiled search on one column of a table, as pure functions of one run.

``QueryGuard`` does the same for methods on the host. Here the caller keeps the view and passes only the answers to a
searcher, whose functions never get the view.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.table import Table
from ncp_jax.console import short_repr
from ncp_jax.metrics import check_split
from ncp_jax.pytrees import register_dataclass
from ncp_jax.spaces import get_space
from ncp_jax.spaces.codes import ISOMORPHISM
from ncp_jax.types import Array, Bool, Float, Int

REPEATS = ("counted", "free", "free-isomorphs")
MOST_SECONDS = 1e15  # a sum of many such costs is far from overflowing float32
MOST = 2**31 - 1  # rows are int32


class History(NamedTuple):
    """The paid queries of one run, in order.

    Attributes:
      rows: ``[b]`` rows of the table, int32; -1 in unused slots.
      values: ``[b]`` values of these rows, float32, oriented so that higher is better; -inf in unused slots.
      count: number of used slots, int32.
      asks: number of answered queries, including free repeats, int32.
      seconds: simulated training seconds spent, float32; 0 if the table has none.
      over: True once the budget of queries or of seconds is used up.
    """

    rows: Int[Array, " b"]
    values: Float[Array, " b"]
    count: Int[Array, ""]  # type: ignore[assignment]  # hides tuple.count
    asks: Int[Array, ""]
    seconds: Float[Array, ""]
    over: Bool[Array, ""]


class Account(NamedTuple):
    """The state of a view for one run.

    Attributes:
      history: paid queries of the run.
      wrong: the first row asked for that is none of the table's, and not -1 either, int32; -1 if there is none. It is
        not answered and ends the run.
      known: architectures paid for. With ``repeats`` "free": uint32 ``[n // 32 + 1]``, one bit per row (so that a
        thousand runs fit a core's cache). With "free-isomorphs": int16 or int32 ``[n + 1]``, for each network 1 + the
        row that it was first paid for, or 0; the last entry is a dummy. With "counted": empty.
    """

    history: History
    wrong: Int[Array, ""]
    known: Int[Array, " c"]


@register_dataclass
@dataclasses.dataclass(frozen=True)
class QueryView:
    """One metric of a table with a budget of queries, a pytree for use inside jit. Create it with ``of``.

    Attributes:
      values: ``[n]`` metric in its stored unit, float32, oriented so that higher is better.
      costs: ``[n]`` simulated training seconds of each architecture, float32; empty if there are none.
      classes: ``[n]`` network that each row denotes, int32; empty if every row is a network of its own.
      limit: maximum seconds of a run, float32.
      budget: maximum number of paid queries of a run. Static, like ``repeats``.
      repeats: rule for repeated queries, one of ``REPEATS``.
      on_test: whether the metric may be of the test split. Static.
    """

    values: Float[Array, " n"]
    costs: Float[Array, " n"]
    classes: Int[Array, " n"]
    limit: Float[Array, ""]
    budget: int = dataclasses.field(metadata={"static": True})
    repeats: str = dataclasses.field(metadata={"static": True})
    on_test: bool = dataclasses.field(default=False, metadata={"static": True})

    __repr__ = short_repr

    @staticmethod
    def of(
        table: Table,
        metric: str | None = None,
        *,
        budget: int,
        repeats: str = "free",
        same_network: str = ISOMORPHISM,
        seconds: float | None = None,
        seconds_column: str | None = None,
        on_test: bool = False,
    ) -> QueryView:
        """Returns the view of one column. Runs on the host.

        Args:
          table: the measured architectures.
          metric: column that queries read; the main metric if None, where it is one of no seed.
          budget: maximum number of paid queries of a run.
          repeats: rule for repeated queries. "counted": they cost like new ones. "free": an architecture that the run
            has paid for costs nothing. "free-isomorphs": nor does another code of the same network
            (``Space.canonical``); its answer is the value already paid for.
          same_network: rule for the same network, one of the space's ``same_networks``.
          seconds: maximum simulated training seconds of a run, or None. A query that exceeds it is not answered and
            ends the run.
          seconds_column: column of training seconds; the only one of unit "s" if None.
          on_test: whether the metric may be of the split "test". Such columns are for the evaluation of a search's
            result, and refused without this.

        Raises:
          UsageError: an unknown metric or rule, a column of the test split, a budget below 1 or (unless repeats are
            counted) above the number of architectures, or a budget in seconds without a column of seconds.
        """
        spec = table.metric(metric) if metric else table.only_main()
        check_split(spec, on_test=on_test)
        repeats = checks.choose("repeats", repeats, REPEATS)
        space, classes = get_space(table.space), np.zeros(0, np.int32)
        space.check_same_network(same_network)
        if repeats == "free-isomorphs":
            classes = space.networks(table.codes, same_network)
        most = int(classes.max()) + 1 if len(classes) else len(table)
        why = f"{table.name} has {most} {'networks' if len(classes) else 'architectures'}"
        limit = None if repeats == "counted" else most
        budget = checks.integer("a budget of queries", budget, least=1, most=limit, remedy=why)
        costs = _seconds(table, seconds, seconds_column)
        if seconds is not None:
            checks.positive("the budget in seconds", seconds)
        return QueryView(
            values=jnp.asarray(table.oriented(spec.name)),
            costs=jax.device_put(costs),
            classes=jax.device_put(classes),
            limit=jnp.float32(np.inf if seconds is None else seconds),
            budget=budget,
            repeats=repeats,
            on_test=on_test,
        )

    def open(self) -> Account:
        """Returns the account of a new run."""
        n = len(self.values)
        zero = jnp.zeros((), jnp.int32)
        history = History(
            rows=jnp.full(self.budget, -1, jnp.int32),
            values=jnp.full(self.budget, -jnp.inf, jnp.float32),
            count=zero,
            asks=zero,
            seconds=jnp.zeros((), jnp.float32),
            over=jnp.zeros((), bool),
        )
        none = jnp.full((), -1, jnp.int32)
        if self.repeats == "counted":
            return Account(history, none, jnp.zeros(0, jnp.uint32))
        if self.repeats == "free":
            return Account(history, none, jnp.zeros(n // 32 + 1, jnp.uint32))
        return Account(history, none, jnp.zeros(n + 1, jnp.int16 if n < np.iinfo(np.int16).max else jnp.int32))

    def query(self, account: Account, rows: Int[Array, " k"]) -> tuple[Float[Array, " k"], Account]:
        """Answers the queries of one run.

        Queries are paid from left to right. The first one that does not fit the budget ends the run; it and all later
        ones are not answered. The run also ends when its last query is paid, and with a call that has a row outside
        -1..n-1, of which nothing is answered: see ``Account.wrong`` and ``check_rows``.

        Args:
          account: account of the run.
          rows: ``[k]`` rows of the table, integers; -1 for no query.

        Returns:
          (values, account): float32 ``[k]``, higher is better, NaN for no query or no answer.

        Raises:
          UsageError: rows of another shape, or not integers.
        """
        check_row_type(rows)
        history, wrong, known = account
        if np.iinfo(rows.dtype).max > MOST:  # larger integers must not wrap around to rows that are there
            rows = jnp.clip(rows, max(np.iinfo(rows.dtype).min, -MOST), MOST)
        rows = rows.astype(jnp.int32)
        outside = ((rows < -1) | (rows >= len(self.values))) & ~history.over
        wrong = jnp.where(outside.any() & (wrong == -1), rows[jnp.argmax(outside)], wrong)
        history = history._replace(over=history.over | outside.any())
        rows = jnp.where(outside, -1, rows)
        asked = (rows >= 0) & ~history.over
        row = jnp.maximum(rows, 0)
        value = self.values[row]

        # Find the new architectures: not paid for before, and not repeated from further left.
        new = asked
        if self.repeats != "counted":
            network = self.classes[row] if self.classes.size else row
            earlier = jnp.triu((network[:, None] == network) & asked[:, None], 1)
            repeated = earlier.any(axis=0)
            if self.classes.size:
                payer = known[network].astype(jnp.int32) - 1
                remembered = payer >= 0
                twin = jnp.where(repeated, row[earlier.argmax(axis=0)], row)
                value = self.values[jnp.where(remembered, payer, twin)]
            else:
                word, bit = row >> 5, jnp.uint32(1) << (row & 31).astype(jnp.uint32)
                remembered = (known[word] & bit) > 0
            new = asked & ~remembered & ~repeated

        # Pay for the new ones from left to right, until one does not fit the budget of queries or seconds.
        place = history.count + jnp.cumsum(new) - 1
        cost = jnp.where(new, self.costs[row], 0.0) if self.costs.size else jnp.zeros(len(rows))
        fits = ~new | ((place < self.budget) & (history.seconds + jnp.cumsum(cost) <= self.limit))
        answered = asked & ~jnp.cumsum(~fits).astype(bool)
        paid = new & answered
        slot = jnp.where(paid, place, self.budget)
        count = history.count + paid.sum(dtype=jnp.int32)

        # Remember them.
        if self.repeats == "free":
            # Adding a bit sets it, since a paid row is new and so its bit is still 0.
            known = known.at[word].add(jnp.where(paid, bit, 0))
        elif self.repeats == "free-isomorphs":
            network = jnp.where(paid, network, len(known) - 1)
            known = known.at[network].set((row + 1).astype(known.dtype))
        history = History(
            rows=history.rows.at[slot].set(row, mode="drop"),
            values=history.values.at[slot].set(value, mode="drop"),
            count=count,
            asks=history.asks + answered.sum(dtype=jnp.int32),
            seconds=history.seconds + jnp.where(paid, cost, 0.0).sum(),
            over=history.over | (asked & ~answered).any() | (count >= self.budget),
        )
        return jnp.where(answered, value, jnp.nan), Account(history, wrong, known)


def check_row_type(rows: Int[Array, " k"] | Int[np.ndarray, " k"]) -> None:
    """Checks that rows are integers ``[k]``; UsageError for anything else."""
    if rows.ndim != 1 or not np.issubdtype(rows.dtype, np.integer):
        raise checks.UsageError(
            expected="integer rows [k] from a searcher",
            got=f"{rows.dtype} {list(rows.shape)}",
            remedy="fill empty slots with -1",
        )


def check_rows(wrong: Int[np.ndarray, " r"], n: int) -> None:
    """Checks that no run has asked for a row that is not there. Runs on the host.

    Args:
      wrong: ``Account.wrong`` of each run.
      n: number of rows of the table.

    Raises:
      UsageError: a run has.
    """
    found = np.flatnonzero(np.asarray(wrong) != -1)
    if len(found):
        raise checks.UsageError(
            expected=f"rows 0..{n - 1} from a searcher, or -1 for no query",
            got=str(np.asarray(wrong)[found[0]]),
            remedy="a query is a row number of candidates.codes",
        )


def _seconds(table: Table, seconds: float | None, column: str | None) -> np.ndarray:
    """Returns the training seconds of each row; empty if the table has none and none are needed."""
    names = [column] if column else [m.name for m in table.metrics if m.unit == "s"]
    if len(names) == 1:
        costs = table.measured(names[0])
        for legal, wrong in ((">= 0", costs[costs < 0]), (f"<= {MOST_SECONDS:g}", costs[costs > MOST_SECONDS])):
            if len(wrong):
                raise checks.DataError(
                    expected=f"seconds {legal} in {names[0]}",
                    got=str(wrong.min() if legal == ">= 0" else wrong.max()),
                    remedy=f"mend the column of {table.name}",
                )
        return costs.astype(np.float32)
    if seconds is not None:
        raise checks.UsageError(
            expected="one column of training seconds (unit s)",
            got=f"{len(names)} of them in {table.name}",
            remedy="name it, or give the budget in queries",
        )
    return np.zeros(0, np.float32)
