"""Registers spaces by name, and finds the space that a name or a code means."""

from __future__ import annotations

import contextlib
from typing import TypeVar

import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.notation import OWN_NOTATION

S = TypeVar("S", bound=Space)
SPACES: dict[str, Space] = {}
ALIASES: dict[str, str] = {}  # other names, and the name that each stands for


def register(space: S) -> S:
    """Adds a space to the registry under its name and aliases, and returns it.

    Raises:
      UsageError: another space has one of these names.
    """
    taken = ({*SPACES, *ALIASES} & {space.name, *space.aliases}) if SPACES.get(space.name) != space else set()
    if taken:
        raise checks.UsageError(
            expected="a name that no other space has", got=", ".join(sorted(taken)), remedy="rename the space"
        )
    SPACES[space.name] = space
    ALIASES.update(dict.fromkeys(space.aliases, space.name))
    return space


def get_space(name: str | Space) -> Space:
    """Returns the space of a name or alias (case does not matter); a space is returned as it is.

    Raises:
      UsageError: there is no such space; the text lists the nearest names.
    """
    if isinstance(name, Space):
        return name
    known = checks.choose("space", name, [*SPACES, *ALIASES])
    return SPACES[ALIASES.get(known, known)]


def find_code(text: str, notation: str = OWN_NOTATION) -> tuple[Space, np.ndarray]:
    """Returns the one space in which a text is a code, and the code, int32 [d].

    Args:
      text: an architecture string, or a list with commas between its parts; see ``Space.read``.
      notation: what the parts of a list mean. Only spaces that have this notation are looked at.

    Raises:
      UsageError: the text is a code of no space, or of more than one; or no space has the notation.
    """
    known = dict.fromkeys(name for space in SPACES.values() for name in space.notations)
    notation = checks.choose("notation", notation, list(known))
    fits: list[tuple[Space, np.ndarray]] = []
    for space in SPACES.values():
        if notation in space.notations:
            with contextlib.suppress(checks.UsageError):
                fits.append((space, space.read(text, notation)))
    if len(fits) == 1:
        return fits[0]
    if fits:
        names = ", ".join(space.name for space, _ in fits)
        raise checks.UsageError(
            expected="a code of one space", got=f"{text!r}, a code of {names}", remedy="give --space"
        )
    if notation != OWN_NOTATION:
        names = ", ".join(space.name for space in SPACES.values() if notation in space.notations)
        raise checks.UsageError(
            expected=f"a code in the notation {notation}",
            got=repr(text),
            remedy=f"with --space ({names}) the error says what is wrong",
        )
    if "," in text:
        lengths = ", ".join(f"{space.length} of {space.name}" for space in SPACES.values())
        raise checks.UsageError(
            expected=f"a code's integers with commas between them ({lengths})",
            got=repr(text),
            remedy="with --space the error says what is wrong",
        )
    for space in reversed(SPACES.values()):
        if space.mark and space.mark in text:
            space.from_string(text)  # raises the error of the space that the text was meant for
    examples = "; ".join(space.example for space in SPACES.values())
    raise checks.UsageError(expected="an architecture string", got=repr(text), remedy=f"right ones: {examples}")
