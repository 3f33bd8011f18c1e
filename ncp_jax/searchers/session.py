"""Runs a searcher on the user's own measurements: it asks for architectures to train and is told the results."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, Searcher, State
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import run_keys, step_key
from ncp_jax.searchers.run import PATIENCE
from ncp_jax.types import Array, Float, Int


class SearchSession:
    """One run of a searcher, asked and told from the host (not jittable), for architectures that are really trained.

    With a table's values as answers, a run is the same as that of ``search`` with repeats "free".

    Args:
      searcher: the searcher.
      candidates: the architectures that can be asked for.
      budget: largest number of architectures that will be trained.
      seed: random seed of the run.

    Raises:
      UsageError: a budget outside 1..n, or a ``HostSearcher``.
    """

    def __init__(self, searcher: Searcher, candidates: Candidates, *, budget: int, seed: int = 0) -> None:
        if not isinstance(searcher, ArraySearcher):
            raise checks.UsageError(
                expected="a searcher that is asked and told",
                got=f"{searcher.name}, which runs on the host",
                remedy="choose another searcher",
            )
        n = len(candidates)
        if not 1 <= budget <= n:
            raise checks.UsageError(expected=f"a budget in 1..{n}", got=str(budget), remedy=f"there are {n} candidates")
        (self._searcher,) = type(searcher).together([searcher])
        self._candidates, self._budget = candidates, budget
        first, self._stream = run_keys(seed)
        self._rows: list[int] = []
        self._values: list[float] = []
        self._known: dict[int, float] = {}
        self._asks, self._step = 0, 0
        self._proposal: np.ndarray | None = None
        self._open: list[int] = []
        self._state: State = _start(budget)(self._searcher, candidates, first)

    @property
    def over(self) -> bool:
        """Whether the budget is spent, or the searcher has asked only for known architectures for too long."""
        most = PATIENCE * -(-self._budget // self._searcher.batch)
        return len(self._rows) >= self._budget or self._step >= most

    @property
    def codes(self) -> Int[np.ndarray, "k d"]:
        """int32 [k, d], the architectures measured so far, in the order of asking."""
        return np.asarray(self._candidates.codes)[np.array(self._rows, np.int32)]

    @property
    def values(self) -> Float[np.ndarray, " k"]:
        """float32 [k], their values."""
        return np.array(self._values, np.float32)

    def ask(self) -> Int[np.ndarray, "k d"]:
        """Returns the next architectures to train, int32 [k, d], all of them new; empty when the run is over.

        Asking again before ``tell`` returns the same architectures.
        """
        while not self._open and not self.over:
            self._step += 1
            key = step_key(self._stream, self._step)
            rows, self._state = _ask(self._searcher, self._candidates, self._state, self._history(), key)
            self._proposal = np.asarray(rows)
            new = dict.fromkeys(int(row) for row in self._proposal if row >= 0 and int(row) not in self._known)
            self._open = list(new)[: self._budget - len(self._rows)]
            if not self._open:
                self._answer()
        return np.asarray(self._candidates.codes)[np.array(self._open, np.int32)]

    def tell(self, values: Sequence[float] | Float[np.ndarray, " k"]) -> None:
        """Takes the values of the architectures last asked for.

        Args:
          values: float [k], higher is better. Give a failed training the worst value that makes sense.

        Raises:
          UsageError: ``ask`` was not called before, the number of values is another one, or a value is not finite.
        """
        told = np.asarray(values, np.float32).reshape(-1)
        if len(told) != len(self._open) or not len(told) or not np.isfinite(told).all():
            raise checks.UsageError(
                expected=f"{len(self._open)} finite values" if self._open else "a call of ask() first",
                got=f"{told.tolist()}",
                remedy="tell one value for each code asked",
            )
        self._rows += self._open
        self._values += told.tolist()
        self._known |= dict(zip(self._open, told.tolist(), strict=True))
        self._open = []
        self._answer()

    def _answer(self) -> None:
        """Tells the searcher the values of its proposal, known architectures included."""
        assert self._proposal is not None
        answers = [self._known.get(int(row), np.nan) for row in self._proposal]
        self._asks += sum(not np.isnan(a) for a in answers)
        rows, values = jnp.asarray(self._proposal), jnp.asarray(np.array(answers, np.float32))
        self._state = _tell(self._searcher, self._candidates, self._state, rows, values)

    def _history(self) -> History:
        spare = self._budget - len(self._rows)
        return History(
            rows=jnp.asarray(np.array(self._rows + [-1] * spare, np.int32)),
            values=jnp.asarray(np.array(self._values + [-np.inf] * spare, np.float32)),
            count=jnp.asarray(len(self._rows), jnp.int32),
            asks=jnp.asarray(self._asks, jnp.int32),
            seconds=jnp.zeros((), jnp.float32),
            over=jnp.zeros((), bool),
        )


@functools.cache
def _start(budget: int) -> Any:
    return jax.jit(lambda searcher, candidates, key: searcher.start(candidates, budget, key))


@jax.jit
def _ask(searcher: ArraySearcher, candidates: Candidates, state: State, history: History, key: Array) -> Any:
    return searcher.ask(candidates, state, history, key)


@jax.jit
def _tell(searcher: ArraySearcher, candidates: Candidates, state: State, rows: Array, values: Array) -> State:
    return searcher.tell(candidates, state, rows, values)
