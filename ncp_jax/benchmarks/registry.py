"""Tables by name. Nothing here uses the network: what is missing is named, with the command that fetches it."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Sequence

from ncp_jax import checks, files
from ncp_jax.benchmarks import store
from ncp_jax.benchmarks.arrays import TableArrays, join_arrays
from ncp_jax.benchmarks.catalogue import DIGITS, JOINT, MR_TASKS, RECIPES, SHIPPED, Recipe, choose_table, list_tables
from ncp_jax.benchmarks.convert import convert
from ncp_jax.benchmarks.digits import digits_arrays, join_digits
from ncp_jax.benchmarks.sources import all_sources
from ncp_jax.benchmarks.table import Table


def load_table(name: str) -> Table:
    """Loads one table onto the device.

    The first load converts the upstream file (a second or less); later ones read the converted copy in the cache
    (milliseconds). Upstream files are looked for in ``NCP_JAX_MIRROR`` and in the cache (see ``cache_path``).

    Args:
      name: one of ``list_tables()``, e.g. "nas-bench-mr/seg", "nas-bench-201/cifar10", "transnas-macro/jigsaw", or
        the task alone where one table alone has it ("seg"). "nas-bench-mr" has the metrics of all its tasks, named
        like "seg/mIoU", and one "flops" and one "params". "digits/class" and the other tasks of "digits" ship with the
        package. Case does not matter.

    Returns:
      The table, rows in ascending order of their codes, so that tables of one benchmark share their row numbers.

    Raises:
      UsageError: no such table; the text lists the nearest names.
      FileNotFoundError: its data is not on this machine; the text names the command that fetches it.
      DataError: the upstream file is altered or damaged.
    """
    return Table.from_host(load_arrays(name))


def load_arrays(name: str) -> TableArrays:
    """Loads one table as NumPy arrays, float64 as upstream publishes it; arguments and errors as ``load_table``."""
    chosen = choose_table(name)
    if chosen == JOINT:
        return join_arrays(JOINT, [_load(RECIPES[f"{JOINT}/{task}"]) for task in MR_TASKS])
    if chosen == DIGITS:
        return join_digits()
    if chosen in SHIPPED:
        return digits_arrays(chosen.partition("/")[2])
    return _load(RECIPES[chosen])


def _load(recipe: Recipe) -> TableArrays:
    """The converted table; made first if it is not there, is damaged, or no longer fits its source."""
    found = store.read_converted(recipe)
    if found is not None:
        return found
    source = all_sources()[recipe.file]
    npz, _ = store.converted_paths(recipe)
    with files.lock(npz.with_name(f".{npz.name}.lock")):
        found = store.read_converted(recipe)  # another process may have been faster
        if found is not None:
            return found
        arrays = convert(recipe, store.read_source(source, recipe.name), source.sha256)
        try:
            store.write_converted(recipe, arrays)
        except OSError as error:
            # The table is at hand; only the next load will be as slow again.
            reason = os.strerror(error.errno) if error.errno else str(error)
            _warn_once(f"{store.cache_path()} cannot be written ({reason})")
    return arrays


@functools.cache
def _warn_once(what: str) -> None:
    text = f"{what}: tables are converted anew at each load; {store.WRITE_REMEDY}"
    warnings.warn(text, RuntimeWarning, stacklevel=2)


FAMILIES = {"micro": "transnas-micro", "macro": "transnas-macro", "nas-bench-201": "nas-bench-201", "digits": "digits"}


def load_tasks(space: str, tasks: Sequence[str] = ()) -> tuple[Table, ...]:
    """The tables of a space's tasks; all of them where none is named.

    Raises:
      UsageError: an unknown space or task.
      FileNotFoundError: tables that are not here.
    """
    family = FAMILIES[checks.choose("space", space, FAMILIES)]
    every = [n.partition("/")[2] for n in list_tables() if n.startswith(f"{family}/") and not n.endswith("-ncp")]
    return tuple(load_table(f"{family}/{checks.choose('task', task, every)}") for task in tasks or every)
