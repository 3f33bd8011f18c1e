"""Reads tables of which only a part is measured: the others' cells are blank."""

from __future__ import annotations

import dataclasses
import os
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.benchmarks.csv_table import read_csv
from ncp_jax.benchmarks.table import Table
from ncp_jax.jax_settings import package_settings
from ncp_jax.types import Float


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
    arrays = read_csv(path, blanks=True, **options)
    missing = np.isnan(arrays.values)
    filled = np.stack([_filled(column) for column in arrays.values.T], axis=1)
    table = Table.from_host(dataclasses.replace(arrays, values=filled))
    return dataclasses.replace(table, values=jnp.where(jax.device_put(missing), jnp.nan, table.values))


def _filled(column: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Returns a column without NaN that is stored in the unit that suits its measured values."""
    missing, known = np.isnan(column), np.unique(column[~np.isnan(column)])
    if len(known) > 1:
        return np.where(missing, known[0], column)
    # One value or none: any other values will do.
    first = known[0] if len(known) else 0.0
    return np.where(missing, first + np.arange(1, len(column) + 1) * max(1.0, abs(first)), column)
