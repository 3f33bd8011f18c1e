"""A table as a compiled search sees it: one column behind a counter, as pure functions of one run.

``QueryGuard`` does the same for methods on the host. Here the caller, who owns the view, hands a searcher nothing but
the answers: the searcher's functions never get the view.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.table import Table
from ncp_jax.spaces import get_space
from ncp_jax.types import Array, Bool, Float, Int

REPEATS = ("counted", "free", "free-isomorphs")


class History(NamedTuple):
    """What one run has paid for, in the order of asking.

    Attributes:
      rows: int32 [b], rows of the table; -1 in slots not used yet.
      values: float32 [b], their values, oriented so that higher is better; -inf in slots not used yet.
      count: int32 [], slots used.
      asks: int32 [], architectures asked for, repeats that cost nothing included.
      seconds: float32 [], simulated training seconds spent; 0 where the table has none.
      over: bool [], the run is over: its queries or its seconds are spent.
    """

    rows: Int[Array, " b"]
    values: Float[Array, " b"]
    count: Int[Array, ""]  # type: ignore[assignment]  # hides tuple.count
    asks: Int[Array, ""]
    seconds: Float[Array, ""]
    over: Bool[Array, ""]


class Account(NamedTuple):
    """The state of a view for one run: its history, and which network was paid for by which row.

    Attributes:
      history: what the run has paid for.
      known: where repeats are free, uint32 [n // 32 + 1]: a bit a row, set once it is paid for (a thousand runs in
        flight then fit a core's cache). Where those of isomorphs are too, int16 or int32 [n + 1]: 1 + the row that
        a network was first paid for, 0 where it was not; the last entry is for no network. Empty where repeats are
        counted: nothing needs to be remembered.
    """

    history: History
    known: Int[Array, " c"]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class QueryView:
    """One metric of a table behind a budget: a pytree, usable inside jit; make one with ``of``.

    Attributes:
      values: float32 [n], oriented so that higher is better.
      costs: float32 [n], simulated training seconds of each architecture; empty where there are none.
      classes: int32 [n], the network that a row stands for; empty where every row is its own.
      limit: float32 [], seconds that a run may spend.
      budget: queries that a run may pay for. Static, as are the following.
      repeats: what asking for a known architecture costs, one of ``REPEATS``.
    """

    values: Float[Array, " n"]
    costs: Float[Array, " n"]
    classes: Int[Array, " n"]
    limit: Float[Array, ""]
    budget: int = dataclasses.field(metadata={"static": True})
    repeats: str = dataclasses.field(metadata={"static": True})

    @staticmethod
    def of(
        table: Table,
        metric: str | None = None,
        *,
        budget: int,
        repeats: str = "free",
        seconds: float | None = None,
        seconds_column: str | None = None,
    ) -> QueryView:
        """Returns the view of one column (host-side).

        Args:
          table: the measured architectures.
          metric: the column that queries read; the main one if None. A column of the split "test" is refused: that one
            is for judging what a search has found.
          budget: the most queries a run may pay for.
          repeats: "counted": asking again costs again, as if nobody remembered; "free": an architecture that the run
            has paid for costs nothing more; "free-isomorphs": neither does another code of the same network
            (``Space.canonical``), which is answered with the value already paid for.
          seconds: simulated training seconds a run may spend; a query that no longer fits is not answered and ends the
            run. None: no such limit.
          seconds_column: the column of training seconds; the only one of unit "s" if None.

        Raises:
          UsageError: an unknown metric or repeats, a column of the test split, a budget below 1 or (unless repeats are
            counted) beyond the table's architectures, a budget in seconds without a column of seconds.
        """
        spec = table.metric(metric) if metric else table.main
        if spec.split == "test":
            raise checks.UsageError(
                expected="a training or validation column to search on",
                got=f"{spec.name} of the test split",
                remedy="search on another column, judge by this one",
            )
        repeats = checks.choose("repeats", repeats, REPEATS)
        classes = get_space(table.space).networks(table.codes) if repeats == "free-isomorphs" else np.zeros(0, np.int32)
        most = int(classes.max()) + 1 if len(classes) else len(table)
        whole = isinstance(budget, int | np.integer) and not isinstance(budget, bool)
        if not whole or budget < 1 or (repeats != "counted" and budget > most):
            bound = ">= 1" if repeats == "counted" else f"in 1..{most}"
            why = f"{table.name} has {most} {'networks' if len(classes) else 'architectures'}"
            raise checks.UsageError(expected=f"a budget of queries {bound}", got=repr(budget), remedy=why)
        costs = _seconds(table, seconds, seconds_column)
        if seconds is not None:
            checks.positive("the budget in seconds", seconds)
        return QueryView(
            values=jnp.asarray(table.oriented(spec.name)),
            costs=jax.device_put(costs),
            classes=jax.device_put(classes),
            limit=jnp.float32(np.inf if seconds is None else seconds),
            budget=int(budget),
            repeats=repeats,
        )

    def open(self) -> Account:
        """The account of a run that has asked for nothing yet."""
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
        if self.repeats == "counted":
            return Account(history, jnp.zeros(0, jnp.uint32))
        if self.repeats == "free":
            return Account(history, jnp.zeros(n // 32 + 1, jnp.uint32))
        return Account(history, jnp.zeros(n + 1, jnp.int16 if n < np.iinfo(np.int16).max else jnp.int32))

    def query(self, account: Account, rows: Int[Array, " k"]) -> tuple[Float[Array, " k"], Account]:
        """Answers what one run asks for.

        Slots count from left to right. Once a query does not fit the budget, neither it nor any later one is answered
        and the run is over; it is also over when its last query is spent.

        Args:
          account: the run's account.
          rows: int32 [k], rows of the table; -1 for no query.

        Returns:
          ``(values, account)``: float32 [k], higher is better, NaN where there was no query or no answer.
        """
        history, known = account
        asked = (rows >= 0) & ~history.over
        row = jnp.maximum(rows, 0)
        value = self.values[row]
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
        place = history.count + jnp.cumsum(new) - 1
        cost = jnp.where(new, self.costs[row], 0.0) if self.costs.size else jnp.zeros(len(rows))
        fits = ~new | ((place < self.budget) & (history.seconds + jnp.cumsum(cost) <= self.limit))
        answered = asked & ~jnp.cumsum(~fits).astype(bool)
        paid = new & answered
        slot = jnp.where(paid, place, self.budget)
        count = history.count + paid.sum(dtype=jnp.int32)
        if self.repeats == "free":
            # A sum sets bits here: what is paid for is new, and no row is new twice.
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
        return jnp.where(answered, value, jnp.nan), Account(history, known)


def _seconds(table: Table, seconds: float | None, column: str | None) -> np.ndarray:
    """Training seconds of each row; empty where the table has none and none are needed."""
    names = [column] if column else [m.name for m in table.metrics if m.unit == "s"]
    if len(names) == 1:
        costs = np.asarray(table.column(names[0]), np.float32)
        if (costs < 0).any():
            raise checks.DataError(
                expected=f"seconds >= 0 in {names[0]}", got=str(costs.min()), remedy=f"mend the column of {table.name}"
            )
        return costs
    if seconds is not None:
        raise checks.UsageError(
            expected="one column of training seconds (unit s)",
            got=f"{len(names)} of them in {table.name}",
            remedy="name it, or give the budget in queries",
        )
    return np.zeros(0, np.float32)
