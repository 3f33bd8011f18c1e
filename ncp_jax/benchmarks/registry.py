"""Loads tables by name. It never uses the network; errors name the command that fetches missing files."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Sequence

from ncp_jax import checks, files
from ncp_jax.benchmarks import store
from ncp_jax.benchmarks.arrays import TableArrays, join_arrays
from ncp_jax.benchmarks.catalogue import (
    DIGITS,
    JOINT,
    MR_TASKS,
    RECIPES,
    SHIPPED,
    Recipe,
    choose_table,
    tables_of_family,
)
from ncp_jax.benchmarks.convert import convert
from ncp_jax.benchmarks.digits import digits_arrays, join_digits
from ncp_jax.benchmarks.imported import read_imported
from ncp_jax.benchmarks.latency import convert_latency
from ncp_jax.benchmarks.sources import all_sources
from ncp_jax.benchmarks.table import Table

# Short names of the benchmarks of cells, with the names that their tables begin with.
FAMILIES = {"micro": "transnas-micro", "macro": "transnas-macro", "nas-bench-201": "nas-bench-201", "digits": "digits"}


def load_table(name: str) -> Table:
    """Loads one table onto the device.

    The first call converts the upstream file (up to a second). Later calls read the converted copy in the cache
    (milliseconds). Upstream files are searched for in ``NCP_JAX_MIRROR`` and in the cache (see ``cache_path``).

    Args:
      name: one of ``list_tables()``, e.g. "nas-bench-mr/seg", "nas-bench-201/cifar10", "transnas-macro/jigsaw", or
        the task if only one table has it ("seg"). "nas-bench-mr" has the metrics of all its tasks, named like
        "seg/mIoU", and "flops" and "params" once. "digits/class" and the other tasks of "digits" ship with the package.
        Case does not matter. Imported tables are loaded alike (see ``import_tables``); their values are NaN where the
        files have none.

    Returns:
      The table, with rows in ascending order of their codes; tables of one benchmark share their row numbers.

    Raises:
      UsageError: the table is unknown; the text lists the nearest names.
      FileNotFoundError: its data is not on this machine; the text names the command that fetches it.
      DataError: the upstream file is altered or damaged.
    """
    return Table.from_host(load_arrays(name))


def load_arrays(name: str) -> TableArrays:
    """Loads one table as NumPy arrays, with values in float64 as published. See ``load_table``."""
    chosen = choose_table(name)
    if chosen == JOINT:
        return join_arrays(JOINT, [_load(RECIPES[f"{JOINT}/{task}"]) for task in MR_TASKS])
    if chosen == DIGITS:
        return join_digits()
    if chosen in SHIPPED:
        return digits_arrays(chosen.partition("/")[2])
    return _load(RECIPES[chosen]) if chosen in RECIPES else read_imported(chosen)


def _load(recipe: Recipe) -> TableArrays:
    """Returns the converted table. Converts it first if the copy is absent, damaged, or of another source."""
    found = store.read_converted(recipe)
    if found is not None:
        return found
    npz, _ = store.converted_paths(recipe)
    with files.lock(npz.with_name(f".{npz.name}.lock")):
        found = store.read_converted(recipe)  # another process may have converted it meanwhile
        if found is not None:
            return found
        content, *order = [store.read_source(all_sources()[key], recipe.name) for key in recipe.files]
        if order:
            arrays = convert_latency(recipe, content, *order)
        else:
            arrays = convert(recipe, content, all_sources()[recipe.file].digest)
        try:
            store.write_converted(recipe, arrays)
        except OSError as error:
            # The table is usable; the next load will just be as slow again.
            reason = os.strerror(error.errno) if error.errno else str(error)
            _warn_once(f"{store.cache_path()} cannot be written ({reason})")
    return arrays


@functools.cache
def _warn_once(what: str) -> None:
    text = f"{what}: tables are converted anew at each load; {store.WRITE_REMEDY}"
    warnings.warn(text, RuntimeWarning, stacklevel=2)


def load_tasks(space: str, tasks: Sequence[str] = ()) -> tuple[Table, ...]:
    """Loads the tables of several tasks of one benchmark of cells.

    Args:
      space: short name of the benchmark, a key of ``FAMILIES``.
      tasks: names of the tasks; all tasks of the benchmark if empty.

    Raises:
      UsageError: an unknown benchmark or task.
      FileNotFoundError: the data is not on this machine.
    """
    family = FAMILIES[checks.choose("space", space, FAMILIES)]
    every = [name.partition("/")[2] for name in tables_of_family(family)]
    return tuple(load_table(f"{family}/{checks.choose('task', task, every)}") for task in tasks or every)
