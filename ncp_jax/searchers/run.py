"""Runs searchers: a compiled loop that asks, answers from the table and tells, for many runs at once."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.benchmarks import QueryGuard, Table
from ncp_jax.benchmarks.view import Account, QueryView, check_rows
from ncp_jax.searchers.base import ArraySearcher, HostSearcher, Predictions, State
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import run_keys, step_key
from ncp_jax.types import Array, Float, Int

if TYPE_CHECKING:
    from ncp_jax.searchers.arch_graph.sources import SourceTasks

PATIENCE = 50  # a run ends after this many times the steps that its budget needs, if it only asks for free repeats
TOGETHER = 256  # runs that advance together on CPU: more would fill the caches, and more would wait for the slowest


class Leaders(NamedTuple):
    """What r runs on learning curves would return, which need not be the best of what was trained to the end.

    Attributes:
      rows: int32 [r, b], the row that each run would return after 1, 2, … queries; -1 after the last one.
      seconds: float64 [r, b], simulated training seconds spent until it would be trained to the end.
      epochs: int64 [r], epochs paid for.
      spent: float64 [r], simulated training seconds for them.
    """

    rows: Int[np.ndarray, "r b"]
    seconds: Float[np.ndarray, "r b"]
    epochs: Int[np.ndarray, " r"]
    spent: Float[np.ndarray, " r"]


class Runs(NamedTuple):
    """The queries of r runs.

    Attributes:
      rows: int32 [r, b], rows of the architectures paid for, in the order of asking; -1 in unused slots.
      values: float32 [r, b], their values, oriented so that higher is better; -inf in unused slots.
      count: int32 [r], number of queries paid for. It is below the budget where the seconds ran out, or where a
        searcher asked only for known architectures for too long.
      asks: int32 [r], number of architectures asked for, free repeats included.
      seconds: float32 [r], simulated training seconds spent.
      predictions: what the runs predict in the end; None where it was not asked for.
      wrong: int32 [r], a row asked for that is not there, -1 if there is none (see ``check_rows``); None from the host.
      state: the searcher's state after the last answers, leaves [r, ...]; None where it was not asked for.
      leaders: what runs on learning curves would return; None for all others, which return the best of ``values``.
    """

    rows: Int[Array, "r b"]
    values: Float[Array, "r b"]
    count: Int[Array, " r"]  # type: ignore[assignment]  # hides tuple.count
    asks: Int[Array, " r"]
    seconds: Float[Array, " r"]
    predictions: Predictions | None = None
    wrong: Int[Array, " r"] | None = None
    state: State | None = None
    leaders: Leaders | None = None


def search(
    searchers: ArraySearcher,
    seeds: Int[Array, " r"],
    candidates: Candidates,
    view: QueryView,
    *,
    keep_state: bool = False,
) -> Runs:
    """Runs searches until their budgets are spent, all in one program.

    Args:
      searchers: one searcher whose numeric settings have a leading axis [r].
      seeds: seed of each run, at least 0. A run depends on its seed and settings alone.
      candidates: the architectures that can be asked for.
      view: answers the queries. The searcher's functions never see it.
      keep_state: whether the runs hold what the searcher has learned, such as a policy for another task.

    Returns:
      The runs.

    Raises:
      UsageError: a searcher asks for a row that is not there. Inside another jit there is no error: check
        ``Runs.wrong`` afterwards.
    """
    found = search_compiled(searchers, seeds, candidates, view, keep_state=keep_state)
    if not isinstance(found.wrong, jax.core.Tracer):
        check_rows(np.asarray(found.wrong), len(view.values))
    return found


@functools.partial(jax.jit, static_argnames="keep_state")
def search_compiled(
    searchers: ArraySearcher,
    seeds: Int[Array, " r"],
    candidates: Candidates,
    view: QueryView,
    *,
    keep_state: bool = False,
) -> Runs:
    """``search`` without the check of ``Runs.wrong``."""
    runs, together = len(seeds), functools.partial(_portion, candidates=candidates, view=view, keep_state=keep_state)
    if jax.default_backend() != "cpu" or runs <= TOGETHER:
        return together(searchers, seeds)
    portions = -(-runs // TOGETHER)
    size = -(-runs // portions)
    # The last portion is filled up by repeating the last run.
    places = jnp.minimum(jnp.arange(portions * size), runs - 1).reshape(portions, size)
    found = jax.lax.map(
        lambda at: together(jax.tree.map(lambda leaf: jnp.asarray(leaf)[at], searchers), seeds[at]), places
    )
    return jax.tree.map(lambda leaf: leaf.reshape(portions * size, *leaf.shape[2:])[:runs], found)


def _portion(
    searchers: ArraySearcher, seeds: Int[Array, " r"], candidates: Candidates, view: QueryView, keep_state: bool
) -> Runs:
    """Advances runs together, step by step; runs that are over wait for the others."""
    first, stream = jax.vmap(run_keys)(seeds)

    def begin(searcher: ArraySearcher, key: Array) -> tuple[object, Account]:
        return searcher.start(candidates, view.budget, key), view.open()

    def turn(
        searcher: ArraySearcher, key: Array, step: Array, state: object, account: Account
    ) -> tuple[object, Account]:
        rows, state = searcher.ask(candidates, state, account.history, step_key(key, step))
        values, account = view.query(account, rows)
        return searcher.tell(candidates, state, rows, values), account

    most = PATIENCE * -(-view.budget // searchers.batch)

    def unfinished(carry: tuple[Array, object, Account]) -> Array:
        step, _, account = carry
        return (step <= most) & ~account.history.over.all()

    def advance(carry: tuple[Array, object, Account]) -> tuple[Array, object, Account]:
        step, state, account = carry
        state, account = jax.vmap(turn, in_axes=(0, 0, None, 0, 0))(searchers, stream, step, state, account)
        return step + 1, state, account

    state, account = jax.vmap(begin)(searchers, first)
    _, state, account = jax.lax.while_loop(unfinished, advance, (jnp.ones((), jnp.int32), state, account))
    history = account.history
    found = Runs(history.rows, history.values, history.count, history.asks, history.seconds, wrong=account.wrong)
    return found._replace(state=state) if keep_state else found


def search_on_host(
    searcher: HostSearcher,
    seeds: Sequence[int],
    table: Table,
    metric: str,
    view: QueryView,
    sources: SourceTasks | None = None,
) -> Runs:
    """Runs a host searcher on one table; the result has the form that ``search`` returns.

    A host searcher only knows its budget of queries. Where the budget of seconds is smaller, each run ends before the
    first query that no longer fits, as if it had been stopped then.

    Args:
      searcher: the searcher.
      seeds: the seed of each run.
      table: the measured architectures. The searcher never gets it.
      metric: the column that is searched.
      view: the budgets, and the seconds of each architecture.
      sources: what is known about other tasks, in a study with source tasks.

    Returns:
      The runs, on the host.
    """
    guard = QueryGuard(table, metric, budget=view.budget, runs=len(seeds), on_test=view.on_test)
    predictions = searcher.run(guard, seeds, sources)
    paid = guard.asked >= 0
    seconds = np.zeros(len(seeds), np.float32)
    if view.costs.size:
        spent = np.cumsum(np.asarray(view.costs, np.float64)[np.maximum(guard.asked, 0)], axis=1)
        paid = paid & (spent <= float(view.limit))
        seconds = np.where(paid, spent, 0).max(axis=1).astype(np.float32)
    count = paid.sum(axis=1).astype(np.int32)
    rows, values = np.where(paid, guard.asked, -1), np.where(paid, guard.paid, -np.inf)
    return Runs(rows, values, count, count, seconds, predictions)  # type: ignore[arg-type]
