"""Reads tables of which only a part is measured: the others' cells are blank."""

from __future__ import annotations

import os
from typing import Any

from ncp_jax.benchmarks.csv_table import read_csv
from ncp_jax.benchmarks.table import Table
from ncp_jax.jax_settings import package_settings


@package_settings
def read_open_table(path: str | os.PathLike[str], **options: Any) -> Table:
    """Reads a text table in which the metrics of some architectures are blank, since nobody has measured them yet.

    Args:
      path: the file.
      **options: as of ``Table.from_csv``.

    Returns:
      The table, with NaN where a cell is blank.

    Raises:
      UsageError, DataError, FileNotFoundError: as ``Table.from_csv``.
    """
    return Table.from_host(read_csv(path, blanks=True, **options))
