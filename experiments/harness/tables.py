"""Chooses the tables of an experiment: the published ones where they are downloaded, else the shipped "digits"."""

from __future__ import annotations

from collections.abc import Sequence

from ncp_jax.benchmarks import Table, all_sources, join, list_tables, load_table
from ncp_jax.benchmarks.catalogue import DIGITS, DIGITS_TASKS, JOINT, RECIPES, tables_of_family
from ncp_jax.benchmarks.registry import load_tasks
from ncp_jax.benchmarks.sources import sha256
from ncp_jax.benchmarks.store import find_source, is_converted
from ncp_jax.console import say
from ncp_jax.files import shipped_folder
from ncp_jax.predictors.shipped import SHIPPED


def is_here(name: str) -> bool:
    """Returns whether a table, or every table of a family, is on this machine; no file is read or hashed."""
    recipes = [RECIPES[table] for table in ((name,) if name in RECIPES else tables_of_family(name)) if table in RECIPES]
    return all(is_converted(r) or find_source(all_sources()[r.file]) is not None for r in recipes)


def or_digits(*names: str) -> tuple[str, ...]:
    """Returns the tables or families that are on this machine; where none is, "digits", with a line on stderr."""
    here = tuple(name for name in names if is_here(name))
    if not here:
        say(f"{', '.join(names)} not downloaded (ncp-jax data fetch): using {DIGITS}")
    return here or (DIGITS,)


def shipped_hash() -> str:
    """Returns the SHA-256 of the shipped predictor's file, on which results with it depend."""
    return sha256((shipped_folder() / SHIPPED[JOINT]).read_bytes())


def searchable(names: Sequence[str], *, on_test: bool) -> tuple[str, ...]:
    """Returns the published benchmarks that may be searched: those of test values (NAS-Bench-201) only if allowed."""
    tested = {recipe.name.partition("/")[0] for recipe in RECIPES.values() if recipe.metrics[0].split == "test"}
    return tuple(name for name in names if on_test or name not in tested)


def joint_table(tasks: Sequence[str] = ()) -> Table:
    """Returns several tasks of NAS-Bench-MR, or of digits, as one table.

    Args:
      tasks: tasks of one of the two benchmarks; empty for all tasks of NAS-Bench-MR, or of digits where that is not
        downloaded.

    Raises:
      UsageError: neither benchmark has such a task.
      FileNotFoundError: the tasks are of NAS-Bench-MR, which is not on this machine.
    """
    if not tasks:
        return load_table(or_digits(JOINT)[0])
    family = DIGITS if set(tasks) <= set(DIGITS_TASKS) else JOINT
    return join([load_table(f"{family}/{task}") for task in tasks])


def all_tasks(benchmark: str) -> Table:
    """Returns all tasks of a benchmark as one table.

    Args:
      benchmark: nas-bench-201, nas-bench-mr, digits, or micro and macro of TransNAS-Bench-101 (also transnas-micro and
        transnas-macro).

    Raises:
      UsageError: an unknown benchmark.
      FileNotFoundError: its files are not on this machine.
    """
    if benchmark in list_tables():
        return load_table(benchmark)
    return join(load_tasks(benchmark.removeprefix("transnas-")), name=benchmark)
