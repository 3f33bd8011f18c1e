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


def is_name(table: str | Path, space: str | None = None) -> bool:
    """Returns whether --table means a table by its name: names have no ending, and their space is known."""
    return space is None and not Path(table).suffix


def known_part(whole: Table, columns: Sequence[str], *, notify: Callable[[str], None]) -> Table:
    """Returns some columns of a published or imported table, and the architectures that have values in all of them.

    Args:
      whole: the table.
      columns: the columns; the main one if none.
      notify: is told how many architectures are left out.

    Raises:
      UsageError: an unknown column, or no column where the table has one for each seed.
      DataError: no architecture has values.
    """
    names = [whole.metric(column).name for column in columns] or [whole.only_main().name]
    table = whole.with_columns(names).known(names)
    if len(table) < len(whole):
        notify(
            f"{whole.name}: {len(whole) - len(table)} of {len(whole)} architectures have no value of "
            f"{', '.join(names)} and are left out"
        )
    return table


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
