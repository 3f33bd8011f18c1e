"""Codes as people write them: an architecture string, or integers with commas."""

from __future__ import annotations

import numpy as np

from ncp_jax import checks
from ncp_jax.spaces import SPACES, Space, get_space

# What only the strings of one space hold.
_MARKS = (("~", "nas-bench-201"), ("41414", "transnas-micro"), ("basic", "transnas-macro"), ("_", "nas-bench-mr"))


def read_code(text: str, space: str | None = None) -> tuple[Space, np.ndarray]:
    """Returns the space and the code, int32 [d], that a text means.

    Args:
      text: an architecture string, or a code's integers with commas between them ("1,0,2,3,0,3").
      space: the space's name; without it, the one space in which the text is a code.

    Raises:
      UsageError: the text is no code of the space, or of none or several without it.
    """
    parts = [part.strip() for part in text.strip().strip("[]()").split(",")]
    integers = [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 9]
    is_list = len(parts) > 1
    if is_list and len(integers) != len(parts):
        expected = "a code's integers with commas between them"
        raise checks.UsageError(checks.message(expected, repr(text), "for example 1,0,2,3,0,3"))
    if space is not None:
        known = get_space(space)
        return known, known.check(integers)[0] if is_list else known.from_string(text)
    fits: list[tuple[Space, np.ndarray]] = []
    for candidate in SPACES.values():
        try:
            code = candidate.check(integers)[0] if is_list else candidate.from_string(text)
        except checks.UsageError:
            continue
        fits.append((candidate, code))
    if len(fits) == 1:
        return fits[0]
    if fits:
        names = ", ".join(candidate.name for candidate, _ in fits)
        raise checks.UsageError(checks.message("a code of one space", f"{text!r}, a code of {names}", "give --space"))
    if is_list:
        lengths = ", ".join(f"{candidate.length} of {candidate.name}" for candidate in SPACES.values())
        expected = f"integers that are a code ({lengths})"
        raise checks.UsageError(checks.message(expected, repr(text), "--space says what is wrong with it"))
    for mark, name in _MARKS:
        if mark in text:
            get_space(name).from_string(text)  # raises: the error of the space that the text was meant for
    examples = "; ".join(candidate.example for candidate in SPACES.values())
    raise checks.UsageError(checks.message("an architecture string", repr(text), f"right ones: {examples}"))
