"""Checks arguments, and defines the errors that users see: what was expected, what was found, what to do."""

from __future__ import annotations

import difflib
import importlib
import numbers
import sys
from collections.abc import Iterable
from typing import Any

MOST_NAMES, LONGEST_NAME = 1000, 200  # names that an error text lists, and how long they may be


class _ExplainedError(Exception):
    """An error whose text says what was expected, what was found, and what to do.

    Args:
      text: the whole text, where it comes from another error.
      expected: what was expected ("a budget of 2 or more").
      got: what was found ("1").
      remedy: what the user can do ("give a larger --budget").
    """

    def __init__(self, text: str = "", *, expected: str = "", got: str = "", remedy: str = "") -> None:
        super().__init__(text or message(expected, got, remedy))


class UsageError(_ExplainedError, ValueError):
    """The call itself is wrong: an unknown name, a number out of range. The command line exits with 2."""


class DataError(_ExplainedError, ValueError):
    """The input data is wrong: truncated, altered, contradictory. The command line exits with 1."""


class MissingError(_ExplainedError, FileNotFoundError):
    """A file or table is not on this machine. The command line exits with 1."""


def message(expected: str, got: str, remedy: str) -> str:
    """One line with the three things a user needs: ``expected …, got …; try …``."""
    return f"expected {expected}, got {got}; {remedy}"


def shorten(text: str) -> str:
    """Returns a text of at most ``LONGEST_NAME`` characters, for error texts about what a file holds."""
    return text if len(text) <= LONGEST_NAME else f"{text[: LONGEST_NAME - 1]}…"


def choose(kind: str, name: str, options: Iterable[str]) -> str:
    """Returns the option called ``name``; case does not matter.

    Args:
      kind: kind of the options ("task", "space"), for the error text.
      name: what the user wrote.
      options: valid names.

    Raises:
      UsageError: ``name`` is not among the options; the text lists the nearest ones.
    """
    names = list(options)
    by_lower = {option.lower(): option for option in names}
    wanted = str(name).lower()
    if wanted in by_lower:
        return by_lower[wanted]
    # A user's file may have any number of names, of any length: beyond some, looking for near ones takes minutes.
    likely = [option for option in by_lower if len(option) <= LONGEST_NAME][:MOST_NAMES]
    near = difflib.get_close_matches(wanted, likely, n=3, cutoff=0.4) if len(wanted) <= LONGEST_NAME else []
    listed = [shorten(option) for option in names[:MOST_NAMES]] + ["…"] * (len(names) > MOST_NAMES)
    hint = ", ".join(by_lower[n] for n in near) if near else ", ".join(listed)
    lead = "did you mean" if near else "choose from"
    raise UsageError(expected=f"a known {kind}", got=shorten(repr(name)), remedy=f"{lead}: {hint}")


def optional_module(name: str, *, what: str, extra: str, instead: str = "") -> Any:
    """Imports a module of a package that ncp-jax does without, and that one of its extras installs.

    Args:
      name: the module ("onnx").
      what: the package and what it serves, for the error text ("onnx, to write its files").
      extra: the extra that installs it.
      instead: what the user can do without the package, for the error text.

    Raises:
      UsageError: the package is not installed, or another one that it needs.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        install = f'pip install "ncp-jax[{extra}]"'
        raise UsageError(
            expected=what, got="none installed", remedy=f"{install}, or {instead}" if instead else install
        ) from error


def positive(name: str, value: float, *, zero: bool = False) -> None:
    """Raises UsageError unless ``value`` is a number above zero that float64 holds, or zero if ``zero`` is True."""
    ok = isinstance(value, (int, float)) and abs(value) <= sys.float_info.max
    if not ok or value < 0 or (value == 0 and not zero):
        bound = "a number >= 0" if zero else "a number > 0"
        raise UsageError(expected=f"{name} to be {bound}", got=repr(value), remedy=f"give another {name}")


def key(value: Any) -> Any:
    """Returns a JAX key: the given one (also in the older form of two words), or that of an integer seed.

    Raises:
      UsageError: neither a key nor an integer.
    """
    import jax

    if isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return jax.random.key(integer("a seed in place of a key", value, least=0, most=2**32 - 1))
    if isinstance(value, jax.Array) and not value.shape and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        return value
    if isinstance(value, jax.Array) and value.dtype == "uint32" and value.ndim == 1:
        return jax.random.wrap_key_data(value)
    raise UsageError(expected="a key or an integer seed", got=repr(value)[:60], remedy="try key=jax.random.key(0)")


def integer(name: str, value: object, *, least: int, most: int | None = None, remedy: str = "") -> int:
    """Returns ``value`` as an int. NumPy integers are accepted, booleans are not.

    Args:
      name: name of the number, for the error text ("--budget", "folds").
      value: what the user gave.
      least: smallest legal value.
      most: largest legal value, or None for no limit.
      remedy: what the user can do; by default, to give another value.

    Raises:
      UsageError: ``value`` is not an integer, or out of range.
    """
    # numbers.Integral covers NumPy's integers without importing NumPy.
    whole = int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else None
    if whole is None or whole < least or (most is not None and whole > most):
        legal = f"{least} or more" if most is None else f"in {least}..{most}"
        raise UsageError(
            expected=f"{name} to be an integer {legal}", got=repr(value), remedy=remedy or f"give another {name}"
        )
    return whole
