"""What a searcher must provide, and the registry of searchers.

A searcher is one search method with its settings. Those that are array programs (``ArraySearcher``) are pure functions
of one run, of which thousands run in one compiled call; the others (``HostSearcher``) run on the host.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import QueryGuard
from ncp_jax.benchmarks.view import History
from ncp_jax.pytrees import register_dataclass
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.types import Array, Float, Int, Key

if TYPE_CHECKING:
    from ncp_jax.searchers.arch_graph.sources import SourceTasks

State = Any
S = TypeVar("S", bound="Searcher")


def number(default: float, what: str, *, least: float, most: float = np.inf, whole: bool = False) -> Any:
    """A numeric setting: an array in the pytree of its searcher, so that a sweep over it is a vmap.

    Args:
      default: default value; an integer where ``whole`` is set.
      what: one line that describes the setting, for error texts and documentation.
      least: smallest legal value.
      most: largest legal value.
      whole: whether only integers are legal.
    """
    return dataclasses.field(default=default, metadata={"what": what, "least": least, "most": most, "whole": whole})


def choice(
    default: Any, what: str, *, options: tuple[Any, ...] | None = None, least: int = 1, later: bool = False
) -> Any:
    """A static setting: a size or a name. A program is compiled for each of its values.

    Args:
      default: default value.
      what: one line that describes the setting, for error texts and documentation.
      options: legal values; if None, the legal values are the integers from ``least`` on.
      least: smallest legal integer.
      later: whether the setting came after studies had been recorded without it. ``settings`` lists it only where it is
        not the default, so that the hashes of these studies stay.
    """
    meta = {"static": True, "what": what, "options": options, "least": least, "later": later}
    return dataclasses.field(default=default, metadata=meta)


@dataclasses.dataclass(frozen=True)
class Searcher(abc.ABC):
    """One search method with its settings, which are ``number`` and ``choice`` fields.

    Subclasses derive from ``ArraySearcher`` or ``HostSearcher`` and are decorated with ``@register``.

    Attributes:
      name: name of the method in a grid.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def program(self) -> Hashable:
        """A value that is equal for searchers whose runs can share a call."""

    @classmethod
    def together(cls: type[S], group: list[S]) -> list[S]:
        """Returns the same searchers with static sizes that all of them share, so that one program runs them all.

        Results must not depend on it. By default the searchers stay as they are.
        """
        return group

    def settings(self) -> dict[str, Any]:
        """Name → JSON-ready value of every setting, except for those added ``later`` that have their default."""
        values = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.metadata.get("what") and not (field.metadata.get("later") and value == field.default):
                values[field.name] = value if isinstance(value, str | bool) else np.asarray(value).item()
        return values


@dataclasses.dataclass(frozen=True)
class ArraySearcher(Searcher):
    """A searcher that is an array program: a pytree whose leaves are the numeric settings.

    Its functions ``start``, ``ask`` and ``tell`` are pure and know one run. They see the candidates and what the run
    has paid for (``History``), never the table. They are called in turn until the budget is spent; what they return
    after that is discarded.
    """

    @property
    @abc.abstractmethod
    def batch(self) -> int:
        """Number of architectures asked for at once, k. Static."""

    @abc.abstractmethod
    def start(self, candidates: Candidates, budget: int, key: Key) -> State:
        """Returns the state before the first question: a pytree of arrays whose shapes never change.

        Args:
          candidates: architectures that can be asked for.
          budget: number of queries that the run may pay for. Static.
          key: key of this call.
        """

    @abc.abstractmethod
    def ask(self, candidates: Candidates, state: State, history: History, key: Key) -> tuple[Int[Array, " k"], State]:
        """Returns the next question and the state after asking.

        A question is k rows of the candidates; -1 leaves a slot empty.
        """

    def tell(self, candidates: Candidates, state: State, rows: Int[Array, " k"], values: Float[Array, " k"]) -> State:
        """Returns the state after the answers: higher is better, NaN where there was no answer.

        By default the state stays as it is.
        """
        del candidates, rows, values
        return state

    def memory(self, candidates: Candidates, budget: int) -> int:
        """Approximate bytes that a run needs besides its account and state; limits the runs of one call."""
        del candidates, budget
        return 0

    def lanes(self, candidates: Candidates, budget: int) -> int:
        """Number of runs in one call above which more runs do not make it faster, but only delay the first records."""
        del candidates, budget
        return 2**20

    def program(self) -> Hashable:
        """The structure of the pytree: searchers that differ in numeric settings alone share a call."""
        return jax.tree.structure(self)


class Predictions(NamedTuple):
    """What r runs predict for all n architectures after their last query.

    Attributes:
      scores: float32 [r, n], higher is better. Only their order has a meaning.
      utilities: float32 [r, members, n]: the sigmoid of the difference of two utilities is the probability that the
        first architecture is better. None for a searcher that learns no relations.
    """

    scores: Float[np.ndarray, "r n"]
    utilities: Float[np.ndarray, "r m n"] | None = None


@dataclasses.dataclass(frozen=True)
class HostSearcher(Searcher):
    """A searcher that runs on the host, around jitted programs of its own.

    Attributes:
      needs_sources: whether it cannot run without source tasks.
      runs_per_call: most runs of one call. A study always searches the same runs in one call, whatever its shares,
        devices and memory: rounding may depend on which runs are searched together.
    """

    runs_per_call: ClassVar[int]
    needs_sources: ClassVar[bool] = False

    @abc.abstractmethod
    def run(self, guard: QueryGuard, seeds: Sequence[int], sources: SourceTasks | None = None) -> Predictions | None:
        """Searches one target; the result is what the guard has recorded.

        Args:
          guard: answers queries of each run, up to its budget.
          seeds: the seed of each run of the guard. A run's draws depend on its seed alone.
          sources: what is known about other tasks; None in a study without source tasks.

        Returns:
          What the runs predict for all architectures, if ``sources`` are given and the searcher predicts something.
        """

    def program(self) -> Hashable:
        """The searcher itself: each one has calls of its own."""
        return self


SEARCHERS: dict[str, type[Searcher]] = {}
"""Name → registered searcher class."""


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, number, choice))
def searcher_class(cls: type[S]) -> type[S]:
    """Class decorator for base classes: makes a frozen dataclass, and a pytree of an ``ArraySearcher``.

    The numeric settings are the leaves of the pytree; the others are static.
    """
    made = dataclasses.dataclass(frozen=True)(cls)
    return register_dataclass(made) if issubclass(made, ArraySearcher) else made


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, number, choice))
def register(cls: type[S]) -> type[S]:
    """Class decorator: makes a ``searcher_class`` and enters it into the registry under its ``name``."""
    made = searcher_class(cls)
    SEARCHERS[made.name] = made
    return made


def make_searcher(name: str, **settings: Any) -> Searcher:
    """Returns a registered searcher with checked settings; settings that are not given have their defaults.

    Raises:
      UsageError: an unknown searcher or setting (the text lists the nearest), or an illegal value.
    """
    return make(SEARCHERS[checks.choose("searcher", name, SEARCHERS)], settings)


def make(cls: type[S], settings: dict[str, Any]) -> S:
    """Returns a searcher of a class with checked settings.

    Raises:
      UsageError: an unknown setting (the text lists the nearest), or an illegal value.
    """
    fields = {f.name: f for f in dataclasses.fields(cls) if f.metadata.get("what")}
    checked = {}
    for given, value in settings.items():
        name = checks.choose(f"setting of {cls.name}", given, fields)
        checked[name] = _legal(cls.name, fields[name], value)
    return cls(**checked)


def _legal(searcher: str, field: dataclasses.Field, value: Any) -> Any:
    meta = field.metadata
    where = f"{field.name} of {searcher} ({meta['what']})"
    options = meta.get("options")
    if options is not None:
        if isinstance(options[0], str):
            return checks.choose(f"{field.name} of {searcher}", str(value), options)
        if value not in options:
            raise checks.UsageError(
                expected=f"{where} to be one of {options}", got=repr(value), remedy="choose one of them"
            )
        return value
    whole = meta.get("whole", True)
    numeric = isinstance(value, int | float | np.number) and not isinstance(value, bool) and -(2**31) < value < 2**31
    if numeric and whole and float(value) == int(value):
        value = int(value)
    least, most = meta["least"], meta.get("most", np.inf)
    if not numeric or (whole and not isinstance(value, int)) or not least <= value <= most:
        kind = "an integer" if whole else "a number"
        bound = f">= {least}" if most == np.inf else f"in {least}..{most}"
        raise checks.UsageError(expected=f"{where} to be {kind} {bound}", got=repr(value), remedy="give another value")
    return value if whole else float(value)
