"""Codes as people write them: an architecture string, or integers with commas."""

from __future__ import annotations

import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.base import Space

# What only the strings of one space hold.
_MARKS = (("~", "nas-bench-201"), ("41414", "transnas-micro"), ("basic", "transnas-macro"), ("_", "nas-bench-mr"))


def read_code(space: Space, text: str) -> np.ndarray:
    """A legal code, int32 [d], from its string or from its integers with commas between them.

    Raises:
      UsageError: neither, or a code that is not of the space.
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1:
        return space.from_string(text)
    if not all(part.removeprefix("-").isdecimal() and part.isascii() and len(part) < 12 for part in parts):
        raise checks.UsageError(
            expected=f"a code of {space.name}, {space.length} integers with commas between them",
            got=repr(text),
            remedy=f"or its string: {space.example}",
        )
    return space.check([int(part) for part in parts])[0]


def find_code(text: str, spaces: dict[str, Space]) -> tuple[Space, np.ndarray]:
    """The one of several spaces in which a text is a code, and the code, int32 [d].

    Args:
      text: as in ``read_code``.
      spaces: the spaces by name.

    Raises:
      UsageError: the text is a code of no space, or of more than one.
    """
    fits: list[tuple[Space, np.ndarray]] = []
    for space in spaces.values():
        try:
            fits.append((space, read_code(space, text)))
        except checks.UsageError:
            continue
    if len(fits) == 1:
        return fits[0]
    if fits:
        names = ", ".join(space.name for space, _ in fits)
        raise checks.UsageError(
            expected="a code of one space", got=f"{text!r}, a code of {names}", remedy="give --space"
        )
    if "," in text:
        lengths = ", ".join(f"{space.length} of {space.name}" for space in spaces.values())
        raise checks.UsageError(
            expected=f"a code's integers with commas between them ({lengths})",
            got=repr(text),
            remedy="with --space the error says what is wrong",
        )
    for mark, name in _MARKS:
        if mark in text and name in spaces:
            spaces[name].from_string(text)  # raises: the error of the space that the text was meant for
    examples = "; ".join(space.example for space in spaces.values())
    raise checks.UsageError(expected="an architecture string", got=repr(text), remedy=f"right ones: {examples}")
