"""Converts codes between notations (``ncp-jax convert``)."""

from __future__ import annotations

import dataclasses

from tyro.conf import Positional

from ncp_jax import checks
from ncp_jax.commands.command import JsonCommand


@dataclasses.dataclass(frozen=True, kw_only=True)
class Convert(JsonCommand):
    """Convert codes between architecture strings and the notations of different publishers.

    Attributes:
      codes: Codes, each as an architecture string or as integers or names separated by commas.
      space: Space of the codes: nas-bench-mr, nas-bench-201, transnas-micro, transnas-macro, nats-size; or a file
        (space.toml).
      notation: What given integers or names mean: ncp-jax, ops (names of operations, for cells); in nas-bench-201 also
        naslib or nats-index.
      to: Form to print: string, or the name of a notation.
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
        notation = checks.choose(f"notation of {space.name}", self.notation, space.notations)
        form = checks.choose("form to convert to", self.to, ("string", *space.notations))
        if not self.codes:
            raise checks.UsageError(expected="at least one code", got="none", remedy=f"for example '{space.example}'")
        codes = np.stack([space.read(text, notation) for text in self.codes])
        if form == "string":
            strings = space.to_strings(codes)
            self.show(lambda: strings, lambda: "\n".join(strings))
        else:
            rows = space.to_notation(codes, form).tolist()
            self.show(lambda: rows, lambda: "\n".join(",".join(map(str, row)) for row in rows))
