"""What an experiment runs on when nobody says: the published tables where they are here, else the one that ships."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ncp_jax.benchmarks import Table, all_sources, join, load_table
from ncp_jax.benchmarks.catalogue import DIGITS, DIGITS_TASKS, JOINT, RECIPES
from ncp_jax.benchmarks.store import find_source, is_converted


def is_here(name: str) -> bool:
    """Whether the data of a table, or of all tables of a family, is on this machine; nothing is hashed or read."""
    recipes = [recipe for recipe in RECIPES.values() if name in (recipe.name, recipe.name.partition("/")[0])]
    return all(is_converted(r) or find_source(all_sources()[r.file]) is not None for r in recipes)


def or_digits(*names: str) -> tuple[str, ...]:
    """Returns those of the tables or families that are here, or the shipped "digits", and says so, if none is."""
    here = tuple(name for name in names if is_here(name))
    if not here:
        print(f"ncp-jax: {', '.join(names)} not downloaded (ncp-jax data fetch): using {DIGITS}", file=sys.stderr)
    return here or (DIGITS,)


def joint_table(tasks: Sequence[str] = ()) -> Table:
    """Returns one table of several tasks of NAS-Bench-MR, or of digits; of all that the first has where none is named.

    Args:
      tasks: tasks of one of the two.

    Raises:
      UsageError: a task that neither has.
      FileNotFoundError: tasks of NAS-Bench-MR that are not here.
    """
    if not tasks:
        return load_table(or_digits(JOINT)[0])
    family = DIGITS if set(tasks) <= set(DIGITS_TASKS) else JOINT
    return join([load_table(f"{family}/{task}") for task in tasks])
