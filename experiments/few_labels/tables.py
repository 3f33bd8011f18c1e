"""Loads complete tables by name."""

from __future__ import annotations

from collections.abc import Sequence

from ncp_jax import checks
from ncp_jax.benchmarks import Table, load_table
from ncp_jax.benchmarks.catalogue import choose_table, tables_of_family
from ncp_jax.metrics import check_split
from ncp_jax.searchers import Candidates
from ncp_jax.spaces import get_space


def complete_tables(names: Sequence[str], paid: int, *, on_test: bool, smoke: bool = False) -> dict[str, Table]:
    """Returns tables by name, after checking that each is complete, large enough, and may be searched.

    Args:
      names: tables and families.
      paid: number of architectures that a run measures.
      on_test: whether columns of the test split may be searched.
      smoke: whether the first table is enough.

    Raises:
      UsageError: an unknown name, test values without ``on_test``, a table that lacks architectures of its space, or
        more measurements than networks.
    """
    known = list(dict.fromkeys(table for name in names for table in (tables_of_family(name) or (choose_table(name),))))
    found = {}
    for name in known[:1] if smoke else known:
        table = load_table(name)
        check_split(table.only_main(), on_test=on_test)
        size = get_space(table.space).size
        if len(table) != size:
            raise checks.UsageError(
                expected="a table that holds every architecture of its space",
                got=f"{name} with {len(table)} of {size}",
                remedy="take nas-bench-201, transnas-micro, transnas-macro or digits",
            )
        networks = int(Candidates.of(table).classes.max()) + 1
        checks.integer("labels and queries", paid, least=2, most=networks, remedy=f"{name} has {networks} networks")
        found[name] = table
    return found
