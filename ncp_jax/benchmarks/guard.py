"""Guards a table from a search method: answers and counts its queries, up to a budget."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.table import Table
from ncp_jax.metrics import check_split
from ncp_jax.types import Float, Int

Ask = Callable[[np.ndarray], np.ndarray]


class BudgetExceeded(checks.UsageError):
    """A run asked for more architectures than its budget allows. No value was revealed and no query counted."""


class QueryGuard:
    """One metric of a table with a budget, for several independent runs (seeds) of a search method. Runs on the host.

    A query stands for training one architecture on the target task. The method knows the candidates and the metric's
    direction. It sees only values that it has paid for, hence neither the metric's range nor its best value. A value
    stays paid for: asking again is free. Runs share nothing.

    The guard prevents accidents, not fraud: no attribute has the values, and a guard cannot be pickled or copied, but
    Python cannot stop code that takes it apart.

    Args:
      table: the measured architectures.
      metric: column that queries read.
      budget: maximum number of different architectures of a run, 1..n.
      runs: number of independent runs.
      on_test: whether the metric may be of the test split, which is for the evaluation of a search's result.

    Raises:
      UsageError: an unknown metric, one of the test split that is not allowed, or a budget or number of runs that is no
        integer or out of range.
    """

    __slots__ = ("__ask", "__asked", "__budget", "__codes", "__metric", "__name", "__paid", "__sign", "__space")

    def __init__(self, table: Table, metric: str, *, budget: int, runs: int = 1, on_test: bool = False) -> None:
        spec = table.metric(metric)
        check_split(spec, on_test=on_test)
        why = f"{table.name} has {len(table)} architectures"
        self.__budget = checks.integer("budget", budget, least=1, most=len(table), remedy=why)
        runs = checks.integer("runs", runs, least=1, remedy="one run is one seed of the method")
        shape = (runs, self.__budget)
        self.__name, self.__space, self.__metric, self.__sign = table.name, table.space, spec.name, spec.sign
        self.__codes = np.array(table.codes)
        self.__codes.flags.writeable = False
        self.__asked = np.full(shape, -1, np.int32)
        self.__paid = np.full(shape, np.nan, np.float32)
        self.__ask = _closed(np.array(table.oriented(spec.name)), self.__asked, self.__paid)

    @property
    def space(self) -> str:
        """Name of the space of the codes."""
        return self.__space

    @property
    def codes(self) -> Int[np.ndarray, "n d"]:
        """``[n, d]`` candidates, int32, read-only. A query is a row number of this array."""
        return self.__codes

    @property
    def metric(self) -> str:
        """Name of the metric."""
        return self.__metric

    @property
    def direction(self) -> str:
        """Direction of the metric, "maximize" or "minimize". Answers are oriented so that higher is better."""
        return "maximize" if self.__sign > 0 else "minimize"

    @property
    def budget(self) -> int:
        """Maximum number of different architectures of each run."""
        return self.__budget

    @property
    def remaining(self) -> Int[np.ndarray, " runs"]:
        """``[runs]`` number of architectures that each run may still ask for, int64."""
        return (self.__asked < 0).sum(axis=1)

    @property
    def asked(self) -> Int[np.ndarray, "runs budget"]:
        """``[runs, budget]`` rows that each run paid for, in order, then -1, int32. A copy."""
        return self.__asked.copy()

    @property
    def paid(self) -> Float[np.ndarray, "runs budget"]:
        """``[runs, budget]`` oriented values of ``asked``, then NaN, float32. A copy.

        ``np.fmax.accumulate(guard.paid, axis=1)`` is the best value after 1, 2, … queries.
        """
        return self.__paid.copy()

    def query(self, rows: Int[np.ndarray, "runs k"]) -> Float[np.ndarray, "runs k"]:
        """Returns the values of some architectures, in the metric's stored unit, oriented so that higher is better.

        Queries are paid from left to right; a repeated row is paid once. A call answers all runs, or none if one
        of them would exceed its budget.

        Args:
          rows: ``[runs, k]`` rows of ``codes`` that each run asks for, integers; -1 for no query.

        Returns:
          float32 ``[runs, k]``, negated if the metric's direction is "minimize"; NaN where the row is -1.

        Raises:
          BudgetExceeded: a run would pay for more than ``budget`` architectures.
          UsageError: another shape, not integers, or a row outside -1..n-1.
        """
        wanted, last = np.asarray(rows), len(self.__codes) - 1
        runs = len(self.__asked)
        if wanted.ndim != 2 or len(wanted) != runs or not np.issubdtype(wanted.dtype, np.integer):
            raise checks.UsageError(
                expected=f"integer rows [{runs}, k], one line per run",
                got=f"{wanted.dtype} {list(wanted.shape)}",
                remedy="fill lines that ask for less with -1",
            )
        wrong = wanted[(wanted < -1) | (wanted > last)]
        if len(wrong):
            raise checks.UsageError(
                expected=f"rows 0..{last} of {self.__name}, or -1 for no query",
                got=str(wrong[0]),
                remedy="a query is a row number of guard.codes",
            )
        return self.__ask(wanted.astype(np.int32))

    def __repr__(self) -> str:
        runs, count = len(self.__asked), int((self.__asked >= 0).sum())
        return f"QueryGuard({self.__name!r}, {self.__metric!r}, budget={self.__budget}, runs={runs}, paid for {count})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuses to be pickled or copied, which would reveal the values.

        Raises:
          UsageError: always.
        """
        raise checks.UsageError(
            expected="a guard to stay where it was made",
            got="a request to pickle or copy it",
            remedy="make it anew from its table",
        )


def _closed(values: np.ndarray, asked: np.ndarray, paid: np.ndarray) -> Ask:
    """Returns a function that answers rows [runs, k] and logs them. No other code can reach ``values``."""
    known = np.zeros((len(asked), len(values)), bool)
    budget = asked.shape[1]

    def ask(rows: np.ndarray) -> np.ndarray:
        run, slot = np.nonzero(rows >= 0)
        row = rows[run, slot]
        # New queries: the first of each (run, row) in this call, and not known from an earlier one.
        first = np.zeros(len(row), bool)
        first[np.unique(run * len(values) + row, return_index=True)[1]] = True
        new = first & ~known[run, row]
        new_run, new_row = run[new], row[new]
        # Refuse the whole call before anything is logged if it exceeds the budget of a run.
        before, more = (asked >= 0).sum(axis=1), np.bincount(new_run, minlength=len(asked))
        over = np.flatnonzero(before + more > budget)
        if len(over):
            worst = over[0]
            raise BudgetExceeded(
                expected=f"at most {budget - before[worst]} more architectures in run {worst} (budget {budget})",
                got=str(more[worst]),
                remedy="see remaining; nothing was counted",
            )
        known[new_run, new_row] = True
        # np.nonzero goes run by run, so the new rows of a run are contiguous, and follow its rows from earlier calls.
        place = before[new_run] + np.arange(len(new_run)) - (np.cumsum(more) - more)[new_run]
        asked[new_run, place], paid[new_run, place] = new_row, values[new_row]
        answer = np.full(rows.shape, np.nan, np.float32)
        answer[run, slot] = values[row]
        return answer

    return ask
