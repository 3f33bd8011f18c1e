"""Argument checks and the errors that users see: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(ValueError):
    """The call itself is wrong: an unknown name, a number out of range. The command line exits with 2."""


class DataError(ValueError):
    """The input data is wrong: truncated, altered, contradictory. The command line exits with 1."""


def message(expected: str, got: str, remedy: str) -> str:
    """One line with the three things a user needs: ``expected …, got …; try …``."""
    return f"expected {expected}, got {got}; {remedy}"


def choose(kind: str, name: str, options: Iterable[str]) -> str:
    """Returns the option that ``name`` means (case does not matter).

    Args:
      kind: what is chosen ("task", "space"), for the error text.
      name: what the user wrote.
      options: the valid names.

    Raises:
      UsageError: ``name`` is none of the options; the text lists the nearest ones.
    """
    names = list(options)
    by_lower = {option.lower(): option for option in names}
    if str(name).lower() in by_lower:
        return by_lower[str(name).lower()]
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=3, cutoff=0.4)
    hint = ", ".join(by_lower[n] for n in near) if near else ", ".join(names)
    lead = "did you mean" if near else "choose from"
    raise UsageError(message(f"a known {kind}", repr(name), f"{lead}: {hint}"))


def positive(name: str, value: float, *, zero: bool = False) -> None:
    """Raises UsageError unless ``value`` is a finite number above zero (or zero, where allowed)."""
    ok = isinstance(value, (int, float)) and value == value and abs(value) != float("inf")
    if not ok or value < 0 or (value == 0 and not zero):
        bound = "a number >= 0" if zero else "a number > 0"
        raise UsageError(message(f"{name} to be {bound}", repr(value), f"give another {name}"))
