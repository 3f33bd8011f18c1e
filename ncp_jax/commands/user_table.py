"""Reads the text tables that users give to commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ncp_jax.benchmarks import Table


class TableOptions(Protocol):
    """The options of a command that say how its text tables are read; see ``Table.from_csv``."""

    @property
    def space(self) -> str | None:
        """Space of the architectures."""

    @property
    def architecture(self) -> tuple[str, ...]:
        """Columns of the architectures."""

    @property
    def seeds(self) -> str:
        """Rule for lines that repeat an architecture."""

    @property
    def notation(self) -> str | None:
        """Meaning of integers."""


def read_user_table(
    path: Path,
    options: TableOptions,
    *,
    maximize: Sequence[str],
    minimize: Sequence[str],
    notify: Callable[[str], None],
    blanks: bool = False,
) -> Table:
    """Reads a text table with the options of a command, which has checked that there is a space.

    With ``blanks``, cells of metrics may be blank: their values are NaN.

    Raises:
      UsageError, DataError, FileNotFoundError: as ``Table.from_csv``.
    """
    from ncp_jax.benchmarks import Table
    from ncp_jax.benchmarks.open_table import read_open_table

    assert options.space is not None
    return (read_open_table if blanks else Table.from_csv)(
        path,
        space=options.space,
        maximize=maximize,
        minimize=minimize,
        architecture=options.architecture,
        seeds=options.seeds,
        notation=options.notation,
        notify=notify,
    )
