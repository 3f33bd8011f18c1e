"""Defines the description of a space: its positions, forbidden combinations and costs, in Python or from TOML."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ncp_jax import checks
from ncp_jax.spaces.positions import POSITION_KEYS, Position, check_text

MOST_POSITIONS, MOST_IN_ALL = 1000, 20_000  # positions, and values of all of them together
_SPACE_NAME = re.compile(r"\w[\w.+-]*")


@dataclasses.dataclass(frozen=True)
class CostFunction:
    """A cost that a function knows for every code.

    Attributes:
      name: name of the cost ("latency_ms").
      function: a function, or where to find it, "package.module:function". It gets a dictionary of arrays [n], one for
        each position by name (numbers; places of choices; booleans), and returns finite numbers [n]. NumPy or JAX.
      unit: unit of the cost, "" for none.
    """

    name: str
    function: str | Callable[[dict[str, Any]], Any]
    unit: str = ""

    def __post_init__(self) -> None:
        check_text("name of a cost", self.name)
        if not isinstance(self.unit, str):
            raise checks.UsageError(
                expected=f"text for the unit of {self.name}", got=repr(self.unit), remedy="quote it"
            )
        written = isinstance(self.function, str) and re.fullmatch(r"\w+(\.\w+)*:\w+(\.\w+)*", self.function)
        if not written and not callable(self.function):
            raise checks.UsageError(
                expected=f'"package.module:function" for the cost {self.name}',
                got=repr(self.function),
                remedy="correct it",
            )


@dataclasses.dataclass(frozen=True)
class SpaceDescription:
    """What a space consists of.

    Attributes:
      name: name of the space.
      positions: the positions, in the order of the code.
      forbid: expressions; a code for which one of them is true does not belong to the space.
      costs: costs that functions know.

    Raises:
      UsageError: no positions, too many of them, or a name that occurs twice.
    """

    name: str
    positions: tuple[Position, ...]
    forbid: tuple[str, ...] = ()
    costs: tuple[CostFunction, ...] = ()

    def __post_init__(self) -> None:
        check_text("name of a space", self.name)
        if not _SPACE_NAME.fullmatch(self.name) or self.name.lower().endswith(".toml"):
            raise checks.UsageError(
                expected="a space's name of letters, digits, _, ., + and -", got=repr(self.name), remedy="rename it"
            )
        count, values = len(self.positions), sum(len(position.grid) for position in self.positions)
        if not 1 <= count <= MOST_POSITIONS or values > MOST_IN_ALL:
            raise checks.UsageError(
                expected=f"1 to {MOST_POSITIONS} positions with at most {MOST_IN_ALL} values in all",
                got=f"{count} positions with {values} values in {self.name}",
                remedy="add positions" if not count else "leave some out",
            )
        for kind, names in (("position", [p.name for p in self.positions]), ("cost", [c.name for c in self.costs])):
            lower = [name.lower() for name in names]
            repeated = next((name for place, name in enumerate(names) if name.lower() in lower[:place]), None)
            if repeated is not None:
                raise checks.UsageError(
                    expected=f"{kind}s of different names in {self.name} (case does not count)",
                    got=f"{repeated!r} twice",
                    remedy="rename one",
                )

    @classmethod
    def from_toml(cls, content: Mapping[str, Any]) -> SpaceDescription:
        """Returns the description that the content of a TOML file gives.

        Raises:
          UsageError: unknown keys, a missing name, values of another type; all that positions and costs refuse.
        """
        given = _known("a space", content, ("name", "position", "forbid", "cost"))
        for key in ("name", "position"):
            if key not in given:
                remedy = "write [[position]] tables" if key == "position" else 'write name = "mine" at the top'
                raise checks.UsageError(expected=f"{key} in the description of a space", got="none", remedy=remedy)
        positions = tuple(Position(**_named("position", table, POSITION_KEYS)) for table in _tables("position", given))
        costs = tuple(CostFunction(**_named("cost", table, COST_KEYS)) for table in _tables("cost", given))
        forbid = []
        for table in _tables("forbid", given):
            where = _known("a forbidden combination", table, ("where",)).get("where")
            if not isinstance(where, str):
                raise checks.UsageError(
                    expected="text for where of [[forbid]]", got=repr(where), remedy="write the expression in quotes"
                )
            forbid.append(where)
        return cls(given["name"], positions, tuple(forbid), costs)

    def to_json(self) -> dict[str, Any]:
        """Returns the description as the tables of the TOML form; functions by their names."""
        costs = [{**dataclasses.asdict(cost), "function": _where(cost.function)} for cost in self.costs]
        return {
            "name": self.name,
            "position": [position.to_json() for position in self.positions],
            "forbid": [{"where": text} for text in self.forbid],
            "cost": costs,
        }

    @property
    def digest(self) -> str:
        """SHA-256 (hexadecimal) of what decides the meaning of codes: positions, values and what is forbidden."""
        positions = [[p.name, list(p.grid), p.ordered, p.only_if] for p in self.positions]
        return hashlib.sha256(json.dumps([positions, self.forbid]).encode()).hexdigest()


COST_KEYS = tuple(field.name for field in dataclasses.fields(CostFunction))


def _where(function: str | Callable[..., Any]) -> str:
    if isinstance(function, str):
        return function
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return f"{getattr(function, '__module__', '')}:{name}"


def _known(kind: str, table: Any, keys: Sequence[str]) -> dict[str, Any]:
    """Returns a table whose keys are all known; an unknown one is an error with the nearest."""
    if not isinstance(table, Mapping):
        raise checks.UsageError(
            expected=f"a table for {kind}", got=repr(table)[:60], remedy="see the docs for its form"
        )
    for key in table:
        if key not in keys:
            checks.choose(f"key of {kind}", key, [known for known in keys if known != str(key).lower()])
    return dict(table)


def _named(kind: str, table: Any, keys: Sequence[str]) -> dict[str, Any]:
    given = _known(f"a {kind}", table, keys)
    missing = next((key for key in ("name", *(["function"] if kind == "cost" else [])) if key not in given), None)
    if missing is not None:
        raise checks.UsageError(
            expected=f"{missing} in every [[{kind}]]", got=repr(given)[:120], remedy=f"add {missing} = ..."
        )
    return given


def _tables(kind: str, given: Mapping[str, Any]) -> list[Any]:
    tables = given.get(kind, [])
    if not isinstance(tables, list):
        raise checks.UsageError(
            expected=f"[[{kind}]] tables", got=repr(tables)[:60], remedy=f"write [[{kind}]] with two brackets"
        )
    return tables
