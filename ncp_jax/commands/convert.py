"""Converts codes between notations (``ncp-jax convert``)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tyro.conf import Positional

from ncp_jax import checks
from ncp_jax.commands.command import JsonCommand

if TYPE_CHECKING:
    import numpy as np

    from ncp_jax.spaces import Space
    from ncp_jax.types import Int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert(JsonCommand):
    """Convert codes between architecture strings and the integers of different publishers.

    Attributes:
      codes: Codes, each as an architecture string or as integers separated by commas.
      space: Space of the codes: nas-bench-mr, nas-bench-201, transnas-micro, transnas-macro.
      notation: What the given integers mean: ncp-jax, or naslib in nas-bench-201.
      to: Form to print: string, or the name of a notation for integers.
      json: Print a JSON list instead of one line per code.
    """

    codes: Positional[tuple[str, ...]]
    space: str
    notation: str = "ncp-jax"
    to: str = "string"

    def run(self) -> None:
        """Prints one line per code."""
        import numpy as np

        from ncp_jax.spaces import get_space

        space = get_space(self.space)
        checks.choose(f"notation of {space.name}", self.notation, space.notations)
        checks.choose("form to convert to", self.to, ("string", *space.notations))
        if not self.codes:
            raise checks.UsageError(expected="at least one code", got="none", remedy=f"for example '{space.example}'")
        codes = np.concatenate([_read(space, text, self.notation) for text in self.codes])
        if self.to == "string":
            strings = space.to_strings(codes)
            self.show(lambda: strings, lambda: "\n".join(strings))
        else:
            rows = space.to_integers(codes, self.to).tolist()
            self.show(lambda: rows, lambda: "\n".join(",".join(map(str, row)) for row in rows))


def _read(space: Space, text: str, notation: str) -> Int[np.ndarray, "1 d"]:
    """Returns the code that a text means."""
    import numpy as np

    parts = text.strip("()[] ").split(",")
    if len(parts) == 1:
        return space.from_string(text)[None]
    try:
        integers = np.array([int(part) for part in parts])
    except ValueError as error:
        raise checks.UsageError(
            expected=f"{space.length} integers with commas between them", got=repr(text), remedy=f"or {space.example}"
        ) from error
    return space.from_integers(integers, notation)
