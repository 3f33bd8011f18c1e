"""Prints the version (``ncp-jax version``)."""

from __future__ import annotations

import dataclasses

from ncp_jax.commands.command import Command


@dataclasses.dataclass(frozen=True)
class Version(Command):
    """Print the version."""

    def run(self) -> None:
        """Prints the version."""
        from ncp_jax import __version__

        print(__version__)
