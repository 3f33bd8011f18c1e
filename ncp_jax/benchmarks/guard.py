"""What a search method gets in place of a table: it answers paid queries, counts them and refuses the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.table import Table
from ncp_jax.types import Float, Int

Ask = Callable[[np.ndarray], np.ndarray]


class BudgetExceeded(checks.UsageError):
    """A run asked for more architectures than its budget pays for. Nothing was revealed, nothing counted."""


class QueryGuard:
    """One metric of a table behind a budget, for several independent runs (seeds) of a search method (host-side).

    A query stands for training one architecture on the target task. The method knows the candidates and whether higher
    or lower is better; it never sees a value it did not pay for, and so neither the metric's range nor its best.
    A value once paid for is kept by its run: asking again is free. Runs share nothing.

    It keeps an honest method honest: values are in no attribute, and a guard is neither pickled nor copied, but nothing
    in Python stops code that takes the guard apart.

    Args:
      table: the measured architectures.
      metric: the column that is asked for.
      budget: the most architectures a run may ask for, 1..n.
      runs: number of independent runs.

    Raises:
      UsageError: an unknown metric; a budget that is no integer in 1..n; runs no integer from 1.
    """

    __slots__ = ("__ask", "__asked", "__budget", "__codes", "__metric", "__name", "__paid", "__sign", "__space")

    def __init__(self, table: Table, metric: str, *, budget: int, runs: int = 1) -> None:
        spec = table.metric(metric)
        self.__budget = _whole("budget", budget, most=len(table), why=f"{table.name} has {len(table)} architectures")
        shape = (_whole("runs", runs, why="one run is one seed of the method"), self.__budget)
        self.__name, self.__space, self.__metric, self.__sign = table.name, table.space, spec.name, spec.sign
        self.__codes = np.array(table.codes)
        self.__codes.flags.writeable = False
        self.__asked = np.full(shape, -1, np.int32)
        self.__paid = np.full(shape, np.nan, np.float32)
        self.__ask = _closed(np.array(table.oriented(spec.name)), self.__asked, self.__paid)

    @property
    def space(self) -> str:
        """The name of the space that the codes belong to."""
        return self.__space

    @property
    def codes(self) -> Int[np.ndarray, "n d"]:
        """int32 [n, d], the candidates, read-only; a query is a row number of this array."""
        return self.__codes

    @property
    def metric(self) -> str:
        """The name of the metric."""
        return self.__metric

    @property
    def direction(self) -> str:
        """The metric's own direction, "maximize" or "minimize"; answers are oriented, higher better, in both cases."""
        return "maximize" if self.__sign > 0 else "minimize"

    @property
    def budget(self) -> int:
        """How many different architectures each run may ask for."""
        return self.__budget

    @property
    def remaining(self) -> Int[np.ndarray, " runs"]:
        """int64 [runs], how many more each run may ask for."""
        return (self.__asked < 0).sum(axis=1)

    @property
    def asked(self) -> Int[np.ndarray, "runs budget"]:
        """int32 [runs, budget], the rows each run paid for in the order of asking, then -1. A copy."""
        return self.__asked.copy()

    @property
    def paid(self) -> Float[np.ndarray, "runs budget"]:
        """float32 [runs, budget], the oriented values of ``asked``, then NaN. A copy.

        ``np.fmax.accumulate(guard.paid, axis=1)`` is the best value after 1, 2, … queries.
        """
        return self.__paid.copy()

    def query(self, rows: Int[np.ndarray, "runs k"]) -> Float[np.ndarray, "runs k"]:
        """Returns the values of some architectures, in the metric's unit and oriented so that higher is better.

        Within a call, slots count from left to right; a row that stands there twice is paid once. A call either
        answers all runs or, where one of them would exceed its budget, none.

        Args:
          rows: integers [runs, k], rows of ``codes`` that each run asks for; -1 for "no query in this slot".

        Returns:
          float32 [runs, k], negated where the metric's direction is "minimize"; NaN where the row is -1.

        Raises:
          BudgetExceeded: a run would pay for more than ``budget`` architectures.
          UsageError: another shape, not integers, or a row outside -1..n-1.
        """
        wanted, last = np.asarray(rows), len(self.__codes) - 1
        runs = len(self.__asked)
        if wanted.ndim != 2 or len(wanted) != runs or not np.issubdtype(wanted.dtype, np.integer):
            raise checks.UsageError(
                expected=f"integer rows [{runs}, k], one line a run",
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
        """Refuses: what a pickle or a copy would need is the values.

        Raises:
          UsageError: always.
        """
        raise checks.UsageError(
            expected="a guard to stay where it was made",
            got="a request to pickle or copy it",
            remedy="make it anew from its table",
        )


def _closed(values: np.ndarray, asked: np.ndarray, paid: np.ndarray) -> Ask:
    """Returns the only way to ``values``: a function that answers rows [runs, k] and enters them into the two logs."""
    known = np.zeros((len(asked), len(values)), bool)
    budget = asked.shape[1]

    def ask(rows: np.ndarray) -> np.ndarray:
        run, slot = np.nonzero(rows >= 0)
        row = rows[run, slot]
        first = np.zeros(len(row), bool)
        first[np.unique(run * len(values) + row, return_index=True)[1]] = True
        new = first & ~known[run, row]
        new_run, new_row = run[new], row[new]
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
        # np.nonzero goes run by run, so a run's new rows stand together: their places follow on from those before.
        place = before[new_run] + np.arange(len(new_run)) - (np.cumsum(more) - more)[new_run]
        asked[new_run, place], paid[new_run, place] = new_row, values[new_row]
        answer = np.full(rows.shape, np.nan, np.float32)
        answer[run, slot] = values[row]
        return answer

    return ask


def _whole(name: str, value: int, *, why: str, most: int | None = None) -> int:
    """Returns an integer from 1 to ``most``; UsageError otherwise."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1 or (most is not None and value > most):
        bound = ">= 1" if most is None else f"in 1..{most}"
        raise checks.UsageError(expected=f"{name} to be an integer {bound}", got=repr(value), remedy=why)
    return int(value)
