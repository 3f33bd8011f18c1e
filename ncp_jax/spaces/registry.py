"""Registers spaces by name, and finds the space that a name or a code means."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from ncp_jax import checks
from ncp_jax.files import user_path
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.constrained import make_space
from ncp_jax.spaces.described import DescribedSpace
from ncp_jax.spaces.description import CostFunction, SpaceDescription
from ncp_jax.spaces.fbnet import FBNET
from ncp_jax.spaces.notation import OWN_NOTATION
from ncp_jax.spaces.positions import Position
from ncp_jax.text_tables import read_toml

S = TypeVar("S", bound=Space)
SPACES: dict[str, Space] = {}
DESCRIPTIONS = {FBNET.name: FBNET}
"""Described spaces that ship: registered when they are first named, so that no code is looked for in them before."""
ALIASES: dict[str, str] = {}  # other names, and the name that each stands for


def register(space: S) -> S:
    """Adds a space to the registry under its name and aliases, and returns it.

    Raises:
      UsageError: another space has one of these names.
    """
    known = {name.lower() for name in (*SPACES, *ALIASES)}
    shipped = DESCRIPTIONS.get(space.name.lower())
    if shipped is None or not isinstance(space, DescribedSpace) or space.description != shipped:
        known |= DESCRIPTIONS.keys()
    taken = [name for name in (space.name, *space.aliases) if name.lower() in known]
    if taken and SPACES.get(space.name) != space:
        again = ", or start anew with its new description" if isinstance(SPACES.get(space.name), DescribedSpace) else ""
        raise checks.UsageError(
            expected="a name that no other space has",
            got=", ".join(sorted(taken)),
            remedy=f"rename the space{again}",
        )
    SPACES[space.name] = space
    ALIASES.update(dict.fromkeys(space.aliases, space.name))
    return space


def get_space(name: str | os.PathLike[str] | Space) -> Space:
    """Returns the space of a name or alias (case does not matter), or of the path of a description (".toml").

    A space is returned as it is.

    Raises:
      UsageError: there is no such space; the text lists the nearest names.
      FileNotFoundError, DataError: as ``load_space``, for a path.
    """
    if isinstance(name, Space):
        return name
    text = os.fspath(name)
    if text.lower().endswith(".toml"):
        return load_space(text)
    known = checks.choose("space", text, list(dict.fromkeys([*SPACES, *ALIASES, *DESCRIPTIONS])))
    if known in DESCRIPTIONS and known not in SPACES:
        return register_description(DESCRIPTIONS[known])
    return SPACES[ALIASES.get(known, known)]


def describe_space(
    name: str, positions: Sequence[Position], *, forbid: Sequence[str] = (), costs: Sequence[CostFunction] = ()
) -> DescribedSpace:
    """Makes a space from its positions, and registers it under its name.

    Examples:
      >>> import ncp_jax as ncp
      >>> depth = ncp.Position("depth", values=(2, 3, 4))
      >>> kernel = ncp.Position("kernel", choices=("3x3", "5x5"), only_if="depth >= 3")
      >>> ncp.describe_space("stacks-of-two-kernels", [depth, kernel]).size
      5

    Args:
      name: name of the space, by which tables and predictors refer to it.
      positions: the positions, in the order of the code.
      forbid: expressions; a code for which one of them is true does not belong to the space.
      costs: costs that functions know.

    Returns:
      The space. The same description again returns the same space.

    Raises:
      UsageError: a description that makes no space, or a name that another space has.
    """
    return register_description(SpaceDescription(name, tuple(positions), tuple(forbid), tuple(costs)))


def load_space(path: str | os.PathLike[str]) -> DescribedSpace:
    """Reads the description of a space from a TOML file, and registers the space under its name.

    Args:
      path: the file; ``docs/spaces-of-your-own.md`` has its form.

    Returns:
      The space. The same description again returns the same space.

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: the file is not TOML, or what it describes is no space.
      UsageError: another space of this process has the name.
    """
    content = read_toml(path, kind="the description of a space", remedy="see docs/spaces-of-your-own.md")
    try:
        description = SpaceDescription.from_toml(content)
        space = make_space(description)
    except checks.UsageError as error:
        raise checks.DataError(f"{user_path(path)}: {error}") from error
    return _registered(space)


def register_description(description: SpaceDescription) -> DescribedSpace:
    """Returns the space of a description, registered under its name; see ``describe_space``."""
    return _registered(make_space(description))


def _registered(space: DescribedSpace) -> DescribedSpace:
    known = SPACES.get(space.name)
    if known == space and isinstance(known, DescribedSpace):
        return known
    return register(space)


def check_digest(name: str, digest: str, where: str) -> None:
    """Raises DataError if a file's codes are of another description than that of the space with this name.

    Args:
      name: name of the space, known or not.
      digest: ``Space.digest`` of the space that the codes are of.
      where: the file or object, for the error.
    """
    space = SPACES.get(name)
    if space is not None and space.digest != digest:
        raise checks.DataError(
            expected=f"codes of the space {name} in {where} as it is described here",
            got="another description of that name",
            remedy="load the description that it was made with, in a process of its own",
        )


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
