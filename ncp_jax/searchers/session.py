"""Runs a searcher on the user's own measurements: it asks for architectures to train and is told the results."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.view import History, check_row_type, check_rows
from ncp_jax.jax_settings import package_settings
from ncp_jax.searchers.base import ArraySearcher, Searcher, State
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import run_keys, step_key
from ncp_jax.searchers.run import PATIENCE
from ncp_jax.types import Array, Bool, Float, Int

MOST = 1e30  # values told lie within ±MOST, far from the largest float32
FAILED = float(np.float32(-2 * MOST))  # what a searcher sees of a failed training: worse than every value
ENOUGH = 5  # values told before they are checked for differences that float32 loses
ROUNDING = 1e-12  # relative differences up to this are no differences
SMALLEST = float(np.finfo(np.float32).tiny)  # compiled programs take smaller numbers for 0


class SearchSession:
    """One run of a searcher, asked and told from the host (not jittable), for architectures that are really trained.

    With a table's values as answers, a run is the same as that of ``search`` with repeats "free". A failed training is
    told as None or NaN: it costs budget, and the searcher ranks it behind everything that was measured.

    Args:
      searcher: the searcher.
      candidates: the architectures that can be asked for.
      budget: largest number of architectures that will be trained.
      seed: random seed of the run.

    Raises:
      UsageError: a budget outside 1..n, or a ``HostSearcher``.
    """

    @package_settings
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
        self._different: set[float] = set()  # values told, before they are rounded
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
        """float32 [k], their values; of a failed training the worst value measured so far (see ``failed``), or 0."""
        told, failed = np.array(self._values, np.float32), self.failed
        told[failed] = told[~failed].min(initial=np.float32(np.inf)) if not failed.all() else 0.0
        return told

    @property
    def failed(self) -> Bool[np.ndarray, " k"]:
        """Bool [k], True for the architectures whose training failed."""
        return np.array([value == FAILED for value in self._values], bool)

    @package_settings
    def ask(self) -> Int[np.ndarray, "k d"]:
        """Returns the next architectures to train, int32 [k, d], all of them new; empty when the run is over.

        Asking again before ``tell`` returns the same architectures.
        """
        while not self._open and not self.over:
            self._step += 1
            key = step_key(self._stream, self._step)
            rows, self._state = _ask(self._searcher, self._candidates, self._state, self._history(), key)
            self._proposal = self._checked(np.asarray(rows))
            new = dict.fromkeys(int(row) for row in self._proposal if row >= 0 and int(row) not in self._known)
            self._open = list(new)[: self._budget - len(self._rows)]
            if not self._open:
                self._answer()
        return np.asarray(self._candidates.codes)[np.array(self._open, np.int32)]

    def _checked(self, rows: np.ndarray) -> np.ndarray:
        """Returns a proposal whose rows are there; UsageError for another."""
        check_row_type(rows)
        n = len(self._candidates)
        check_rows(rows[(rows < -1) | (rows >= n)][:1], n)
        return rows

    @package_settings
    def tell(self, values: Sequence[float | None] | Float[np.ndarray, " k"]) -> None:
        """Takes the values of the architectures last asked for.

        Args:
          values: float [k], higher is better, within ±1e30; None or NaN for a training that failed.

        Raises:
          UsageError: ``ask`` was not called before, the number of values is another one, a value is infinite, too large
            or no number, or values that differ by less than float32 can tell apart.
        """
        exact = [_told(value) for value in np.asarray(values, object).reshape(-1)]
        if len(exact) != len(self._open) or not exact:
            raise checks.UsageError(
                expected=f"{len(self._open)} values" if self._open else "a call of ask() first",
                got=f"{len(exact)} values",
                remedy="tell one value for each code asked",
            )
        told = [float(np.float32(value)) if abs(value) >= SMALLEST else 0.0 for value in exact]
        self._refuse_merged(exact, told)
        self._rows += self._open
        self._values += told
        self._known |= dict(zip(self._open, told, strict=True))
        self._open = []
        self._answer()

    def _refuse_merged(self, exact: Sequence[float], told: Sequence[float]) -> None:
        """Raises a UsageError if float32 makes half of the different values told so far equal, else remembers them."""
        different = self._different | {value for value in exact if value != FAILED}
        apart = len(different) >= ENOUGH and max(different) - min(different) > ROUNDING * max(map(abs, different))
        if apart and 2 * len({*self._values, *told} - {FAILED}) <= len(different):
            raise checks.UsageError(
                expected="values that differ in their first seven digits",
                got=f"{min(different)!r} to {max(different)!r}",
                remedy="subtract what all values share, or scale them, before you tell them",
            )
        self._different = different

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


def _told(value: Any) -> float:
    """Returns a value as a float, ``FAILED`` for None and NaN; UsageError for anything else but a number."""
    number: Any = value.item() if isinstance(value, np.generic | jax.Array) else value
    if number is None or (isinstance(number, float) and math.isnan(number)):
        return FAILED
    if not isinstance(number, numbers.Real) or isinstance(number, bool) or not abs(float(number)) <= MOST:
        raise checks.UsageError(
            expected=f"numbers within ±{MOST:g}, or None for a training that failed",
            got=repr(number),
            remedy="tell None or nan if there is no value, and a logarithm where values are larger",
        )
    return float(number)


@functools.cache
def _start(budget: int) -> Any:
    return jax.jit(lambda searcher, candidates, key: searcher.start(candidates, budget, key))


@jax.jit
def _ask(searcher: ArraySearcher, candidates: Candidates, state: State, history: History, key: Array) -> Any:
    return searcher.ask(candidates, state, history, key)


@jax.jit
def _tell(searcher: ArraySearcher, candidates: Candidates, state: State, rows: Array, values: Array) -> State:
    return searcher.tell(candidates, state, rows, values)
