"""What a searcher is: pure functions of one run; whoever runs it keeps the account and batches over runs."""

from __future__ import annotations

import abc
import dataclasses
from typing import Any, ClassVar, TypeVar, dataclass_transform

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.types import Array, Float, Int, Key

State = Any
S = TypeVar("S", bound="Searcher")


def number(default: float, what: str, *, least: float, most: float = np.inf, whole: bool = False) -> Any:
    """A numeric setting: an array in the pytree of its searcher, so that a sweep over it is a vmap.

    Args:
      default: its value where nobody gives one; an integer where ``whole``.
      what: one line for error texts and documentation.
      least: smallest legal value.
      most: largest legal value.
      whole: only integers.
    """
    return dataclasses.field(default=default, metadata={"what": what, "least": least, "most": most, "whole": whole})


def choice(default: Any, what: str, *, options: tuple[Any, ...] | None = None, least: int = 1) -> Any:
    """A static setting: a size, or one of some names; every value is compiled on its own.

    Args:
      default: its value where nobody gives one.
      what: one line for error texts and documentation.
      options: the legal values; without them an integer of at least ``least``.
      least: smallest legal integer.
    """
    return dataclasses.field(
        default=default, metadata={"static": True, "what": what, "options": options, "least": least}
    )


@dataclasses.dataclass(frozen=True)
class Searcher(abc.ABC):
    """One search method with its settings: a pytree whose leaves are the numeric settings.

    A subclass is a frozen dataclass of ``number`` and ``choice`` fields. Its three functions are pure and know one run;
    they get what is free (``Candidates``) and what the run has paid for (``History``), and no table. They are called in
    turn until the budget is spent; what they do after that is discarded.
    """

    name: ClassVar[str]

    @property
    @abc.abstractmethod
    def batch(self) -> int:
        """Architectures asked for at once, k. Static."""

    @abc.abstractmethod
    def start(self, candidates: Candidates, budget: int, key: Key) -> State:
        """The state before the first question: a pytree of arrays whose shapes never change.

        Args:
          candidates: what is free.
          budget: queries that the run may pay for. Static.
          key: of this call alone.
        """

    @abc.abstractmethod
    def ask(self, candidates: Candidates, state: State, history: History, key: Key) -> tuple[Int[Array, " k"], State]:
        """What to ask next: rows of the candidates, -1 for "nothing in this slot", and the state after asking."""

    def tell(self, candidates: Candidates, state: State, rows: Int[Array, " k"], values: Float[Array, " k"]) -> State:
        """Takes the answers, higher better, NaN where there was none; the state by default stays as it is."""
        del candidates, rows, values
        return state

    def memory(self, candidates: Candidates, budget: int) -> int:
        """Bytes that a run needs besides its account and state, roughly; decides how many go into one call."""
        del candidates, budget
        return 0

    def lanes(self, candidates: Candidates, budget: int) -> int:
        """The most runs in one call that make it faster a run; more only delay the first records."""
        del candidates, budget
        return 2**20

    @classmethod
    def together(cls: type[S], group: list[S]) -> list[S]:
        """The same searchers with static sizes that all of them share, so that one program runs them all.

        Results must not depend on it. By default they stay as they are.
        """
        return group

    def settings(self) -> dict[str, Any]:
        """Name → plain value of every setting, JSON-ready."""
        plain = {}
        for field in dataclasses.fields(self):
            if field.metadata.get("what"):
                value = getattr(self, field.name)
                plain[field.name] = value if isinstance(value, str | bool) else np.asarray(value).item()
        return plain


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, number, choice))
def register(cls: type[S]) -> type[S]:
    """Class decorator: a frozen dataclass that is a pytree, numeric settings as leaves, the others static."""
    return jax.tree_util.register_dataclass(dataclasses.dataclass(frozen=True)(cls))


def make(cls: type[S], settings: dict[str, Any]) -> S:
    """A searcher with checked settings.

    Raises:
      UsageError: an unknown setting (the text lists the nearest), or a value that is not legal.
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
