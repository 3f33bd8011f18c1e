"""Runs searchers of learning curves, and counts what they spend in the unit of the other searchers.

A query pays for as many epochs as a whole training has. A searcher sees the epochs that it paid for, so an architecture
that it would return may not be trained to the end. It counts from the query on that also pays for the rest of its
training: at each number of queries, a run stands for what it would return, trained to the end, if that were the budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ncp_jax.benchmarks import EpochGuard, Table
from ncp_jax.benchmarks.curves import Curves
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.searchers.base import Predictions
from ncp_jax.searchers.curve_searchers import CurveSearcher
from ncp_jax.searchers.run import Leaders, Runs
from ncp_jax.searchers.rungs import leaders
from ncp_jax.types import Float, Int


class Bill(NamedTuple):
    """What one run has paid for.

    Attributes:
      rows: int64 [q], the row that the run would return after 1, 2, … queries.
      seconds: float64 [q], simulated training seconds until it would be trained to the end.
      epochs: epochs paid for, the rest of the last one's training included.
      spent: simulated training seconds for them.
      whole: rows that were trained to the end.
      begun: number of architectures that were trained at all.
    """

    rows: Int[np.ndarray, " q"]
    seconds: Float[np.ndarray, " q"]
    epochs: int
    spent: float
    whole: list[int]
    begun: int


def bill(
    steps: Sequence[tuple[int, int]],
    values: Sequence[float],
    *,
    epochs: int,
    queries: int,
    costs: Float[np.ndarray, " n"],
    limit: float = np.inf,
) -> Bill:
    """Counts what the steps of a run cost, and when what it would return is paid for.

    Args:
      steps: (row, epochs that it was trained for after the step), in order.
      values: the value seen at each step, higher is better.
      epochs: epochs of a whole training.
      queries: budget, in whole trainings.
      costs: simulated seconds of a whole training of each row, or empty. Each epoch takes an equal part of them.
      limit: budget of simulated seconds. The run ends before the first step that does not fit.
    """
    reached: dict[int, int] = {}
    prices = []
    for row, until in steps:
        prices.append(until - reached.get(row, 0))
        reached[row] = until
    rows = np.array([row for row, _ in steps], np.int64)
    each = np.asarray(costs, np.float64)[rows] / epochs if len(costs) else np.zeros(len(rows))
    spent, seconds = np.cumsum(prices), np.cumsum(prices * each)
    kept = int((seconds <= limit).sum())
    found = leaders(steps[:kept], values[:kept])
    place = np.searchsorted(spent, [leader.spent for leader in found])
    rest = np.array([epochs - leader.epochs for leader in found], np.int64)
    # A later leader may need less than an earlier one only in seconds, where its epochs are shorter.
    due = np.maximum.accumulate(spent[place] + rest)
    times = np.maximum.accumulate(seconds[place] + rest * each[place])
    paid = (due <= queries * epochs) & (times <= limit)
    due, times, found = due[paid], times[paid], list(itertools.compress(found, paid))
    total = max(int(spent[kept - 1]) if kept else 0, int(due[-1]) if found else 0)
    # The last leader whose training is paid for by then.
    last = np.searchsorted(due, epochs * np.arange(1, -(-total // epochs) + 1), side="right") - 1
    last = last[last >= 0]
    whole = [row for row, until in steps[:kept] if until == epochs] or [leader.row for leader in found[-1:]]
    return Bill(
        rows=np.array([leader.row for leader in found], np.int64)[last],
        seconds=times[last],
        epochs=total,
        spent=max(float(seconds[kept - 1]) if kept else 0.0, float(times[-1]) if found else 0.0),
        whole=whole,
        begun=len({row for row, _ in steps[:kept]}),
    )


def search_on_curves(
    searcher: CurveSearcher,
    seeds: Sequence[int],
    table: Table,
    view: QueryView,
    curves: Curves,
    *,
    predict: bool = False,
) -> Runs:
    """Runs a searcher of learning curves on one table; the result has the form that ``search`` returns.

    Args:
      searcher: the searcher. It never gets the table, nor epochs that its run has not paid for.
      seeds: the seed of each run.
      table: the measured architectures.
      view: the budgets, and the seconds of each architecture. The rule about repeats does not matter.
      curves: the curves of the searched column, in the table's order of rows (see ``curves_of``).
      predict: whether the runs hold what the searcher predicts in the end.

    Returns:
      The runs, on the host: ``rows`` and ``values`` of the architectures that were trained to the end, ``count`` of the
      queries paid for, ``asks`` of the architectures begun, and ``leaders``.

    Raises:
      UsageError: settings that do not fit the length of the curves.
    """
    oriented = curves.metric.sign * np.asarray(curves.values)
    finals = np.asarray(table.oriented(curves.metric.name))
    epochs, shape = oriented.shape[1], (len(seeds), view.budget)
    searcher.check(epochs)
    rows, returned = np.full(shape, -1, np.int32), np.full(shape, -1, np.int32)
    values, times = np.full(shape, -np.inf, np.float32), np.zeros(shape)
    bills, scores = [], []
    for run, seed in enumerate(seeds):
        guard = EpochGuard(oriented, codes=curves.codes, space=curves.space, budget=view.budget * epochs)
        scores.append(searcher.spend(guard, seed, predict=predict))
        steps = guard.steps
        paid = bill(
            steps,
            [float(oriented[row, until - 1]) for row, until in steps],
            epochs=epochs,
            queries=view.budget,
            costs=np.asarray(view.costs),
            limit=float(view.limit),
        )
        rows[run, : len(paid.whole)], values[run, : len(paid.whole)] = paid.whole, finals[paid.whole]
        returned[run, : len(paid.rows)], times[run, : len(paid.rows)] = paid.rows, paid.seconds
        bills.append(paid)
    known = [score for score in scores if score is not None]
    predictions = Predictions(np.stack(known).astype(np.float32)) if len(known) == len(seeds) else None
    count = np.array([-(-one.epochs // epochs) for one in bills], np.int32)
    begun, seconds = np.array([one.begun for one in bills], np.int32), np.array([one.spent for one in bills])
    leading = Leaders(returned, times, np.array([one.epochs for one in bills], np.int64), seconds)
    found = Runs(rows, values, count, begun, seconds.astype(np.float32), predictions)  # type: ignore[arg-type]
    return found._replace(leaders=leading)
