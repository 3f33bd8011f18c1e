"""Defines ``WrittenCodes``: how codes are written, as architecture strings and in the notations of their publishers."""

from __future__ import annotations

import abc
import contextlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.typing import ArrayLike

from ncp_jax import checks
from ncp_jax.spaces.codes import CodeSet

OWN_NOTATION = "ncp-jax"
OPS_NOTATION = "ops"  # the operations by name
_PART = r"['\"]?-?\w++['\"]?"
_LIST = re.compile(rf"[\[(]?\s*+({_PART}(?:[\s,]++{_PART})*)\s*+,?\s*+[\])]?")


def _row(parts: Sequence[str], integers: bool) -> list[Any]:
    """Returns the parts of a list as integers or names; no notation has integers of ten digits."""
    return [int(part) if len(part) < 10 else 10**9 for part in parts] if integers else list(parts)


class WrittenCodes(CodeSet, abc.ABC):
    """A set of codes that have a string form, and maybe other notations."""

    def to_string(self, code: ArrayLike) -> str:
        """Returns the architecture string that the field uses for one code [d]."""
        return self._format(self.check(code)[0].tolist())

    def to_strings(self, codes: ArrayLike) -> list[str]:
        """Returns the architecture strings of codes [n, d]."""
        return [self._format(row) for row in self.check(codes).tolist()]

    def position_texts(self, code: ArrayLike) -> list[str]:
        """Returns how each position of one code [d] is written in a column of its own."""
        return [str(value) for value in self.check(code)[0].tolist()]

    def from_string(self, text: str) -> np.ndarray:
        """Returns the code, int32 [d], that an architecture string denotes.

        Raises:
          UsageError: the string does not denote a legal code; the text says why and gives a legal one.
        """
        try:
            code = np.asarray(self._parse(str(text).strip()), dtype=np.float64)
        except checks.UsageError:
            raise
        except (ValueError, LookupError, TypeError) as error:  # of a parser that says no more
            raise self._bad_string(text, f"({error})") from error
        if code.shape != (self.length,):
            raise self._bad_string(text, f"with {code.size} positions instead of {self.length}")
        if not self._is_valid(code):
            expected, got = self._fault(code)
            raise self._bad_string(text, f"with {got} where {expected}")
        return code.astype(np.int32)

    def from_strings(self, texts: Sequence[str]) -> np.ndarray:
        """Returns the codes, int32 [n, d], that architecture strings denote."""
        return np.array([self.from_string(text) for text in texts], dtype=np.int32).reshape(-1, self.length)

    @property
    def notations(self) -> tuple[str, ...]:
        """Names of the notations in which codes of this space are written beside strings; "ncp-jax" is its own."""
        return (OWN_NOTATION,)

    @property
    def written_lengths(self) -> tuple[int, ...]:
        """Numbers of integers that a written code may have in the space's own notation."""
        return (self.length,)

    def read(self, text: str, notation: str | None = OWN_NOTATION) -> np.ndarray:
        """Returns the legal code, int32 [d], that a user wrote: as a string, or as a list in one of ``notations``.

        A list has commas or spaces between its parts, and may have brackets around them: ``1,0,2``, ``(1, 0, 2)``.

        Args:
          text: what was written.
          notation: what the parts of a list mean. If None, they are read where they can mean only one architecture.

        Raises:
          UsageError: the text denotes no code of the space, or several, of which the text of the error shows all.
        """
        if notation is not None:
            notation = checks.choose(f"notation of {self.name}", notation, self.notations)
        found = _LIST.fullmatch(text.strip())
        parts = re.findall(r"-?\w+", found[1]) if found else []
        integers = bool(parts) and all(part.removeprefix("-").isdecimal() and part.isascii() for part in parts)
        named = OPS_NOTATION in self.notations and len(parts) > 1 and not any(map(str.isdecimal, parts))
        if not (integers or named):
            return self._read_string(text, notation)
        if notation is None:
            notation = self._only_notation(text, parts, integers)
        if integers == (notation == OPS_NOTATION):
            raise self._bad_list(text, notation)
        if notation == OWN_NOTATION:
            if len(parts) == 1 < self.length:
                return self._read_string(text, notation)
            if len(parts) in self.written_lengths:
                parts += ["0"] * (self.length - len(parts))
            return self.check(_row(parts, integers))[0]
        return self.from_notation([_row(parts, integers)], notation)[0]

    def _read_string(self, text: str, notation: str | None) -> np.ndarray:
        """Returns the code of a text that is no list; UsageError if it is no architecture string either."""
        try:
            return self.from_string(text)
        except checks.UsageError:
            if notation in (None, OWN_NOTATION) and "," not in text and not text.strip().isdecimal():
                raise
            raise self._bad_list(text, notation or OWN_NOTATION) from None

    def _bad_list(self, text: str, notation: str) -> checks.UsageError:
        others = ", ".join(name for name in self.notations if name != notation)
        if notation == OWN_NOTATION:
            expected = f"a code of {self.name}, {self.length} integers with commas between them"
            example = self.example
        else:
            expected = f"an architecture of {self.name} in the notation {notation}"
            example = ",".join(map(str, self.to_notation(self.from_string(self.example), notation)[0]))
        remedy = f"or its string: {example}" if notation == OWN_NOTATION else f"for example {example}"
        return checks.UsageError(
            expected=expected, got=repr(text), remedy=remedy + (f"; or state another notation: {others}" * bool(others))
        )

    def _only_notation(self, text: str, parts: Sequence[str], integers: bool) -> str:
        """Returns the one notation that a list without a stated one can have; UsageError if there are several."""
        options = [name for name in self.notations if (name == OPS_NOTATION) != integers]
        if options == [OWN_NOTATION]:
            return OWN_NOTATION
        row, readings = _row(parts, integers), {}
        for name in options:
            with contextlib.suppress(checks.UsageError):
                readings[name] = self.to_string(self.from_notation([row], name)[0])
        if not readings:
            return OWN_NOTATION if integers else OPS_NOTATION
        stated = " or ".join(f"--notation {name} (notation={name!r})" for name in readings)
        if len(row) == 1:
            readings["in the order of this library's codes"] = self.to_string(self.from_index(row[0]))
        meant = "; ".join(f"{name}: {reading}" for name, reading in readings.items())
        what = "integers" if integers else "operations"
        raise checks.UsageError(
            expected=f"the notation of {what} in {self.name}, which others "
            f"{'number' if integers else 'order'} differently",
            got=f"{text!r} without one ({meant})",
            remedy=f"state it: {stated}",
        )

    def from_notation(self, rows: Any, notation: str = OWN_NOTATION) -> np.ndarray:
        """Returns the codes, int32 [n, d], that rows [n, k] (or one row [k]) of a notation mean.

        Args:
          rows: integers; names of operations in "ops". Rows of one integer ("nats-index") may be a list [n].
          notation: one of ``notations``.

        Raises:
          UsageError: an unknown notation, or rows that are no codes in it.
        """
        notation = checks.choose(f"notation of {self.name}", notation, self.notations)
        return self.check(rows) if notation == OWN_NOTATION else self._from_notation(np.asarray(rows), notation)

    def to_notation(self, codes: ArrayLike, notation: str = OWN_NOTATION) -> np.ndarray:
        """Returns codes [n, d] (or [d]) as rows of a notation: int32 [n, k], or names of operations [n, k].

        Raises:
          UsageError: an unknown notation, or illegal codes.
        """
        notation = checks.choose(f"notation of {self.name}", notation, self.notations)
        legal = self.check(codes)
        return legal if notation == OWN_NOTATION else self._to_notation(legal, notation)

    # The hooks get checked codes.

    @abc.abstractmethod
    def _format(self, code: list[int]) -> str:
        """Returns the string of a legal code."""

    @abc.abstractmethod
    def _parse(self, text: str) -> list[int]:
        """Returns the code of the right length, legal or not, that a string denotes; raises ``_bad_string`` if none."""

    def _from_notation(self, rows: np.ndarray, notation: str) -> np.ndarray:
        """The codes [n, d] of rows in a notation that is not the space's own. For spaces that have one."""
        raise AssertionError(self.name)

    def _to_notation(self, codes: np.ndarray, notation: str) -> np.ndarray:
        """The inverse of ``_from_notation``."""
        raise AssertionError(self.name)

    def _numbers(self, text: str, parts: Sequence[str]) -> list[int]:
        for part in parts:
            if not (part.isascii() and part.isdigit() and len(part) < 9):
                raise self._bad_string(text, f"with {part!r} where a number belongs")
        return [int(part) for part in parts]

    def _bad_string(self, text: str, why: str) -> checks.UsageError:
        return checks.UsageError(
            expected=f"an architecture string of {self.name}",
            got=f"{text!r} {why}",
            remedy=f"a right one: {self.example}",
        )
