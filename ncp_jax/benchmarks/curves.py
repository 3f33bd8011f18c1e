"""Serves the learning curves of tables: those of imported files, and those of the benchmark that ships."""

from __future__ import annotations

from ncp_jax import checks
from ncp_jax.benchmarks.catalogue import DIGITS, DIGITS_TASKS
from ncp_jax.benchmarks.digits import digits_arrays, digits_curves
from ncp_jax.benchmarks.imported import Curves, imported_curves, imported_names


def load_curves(table: str, column: str) -> Curves:
    """Returns the learning curves of a column of a table.

    Args:
      table: name of an imported table ("transnas-bench-101-micro/jigsaw") or of one of the shipped benchmark
        ("digits/class").
      column: name of the column ("valid_top1"; of digits the validation metric after the last epoch, "accuracy").

    Raises:
      UsageError: an unknown table or column, or one without curves; the text lists those that have some.
      DataError: a file of the cache is damaged.
    """
    shipped = {f"{DIGITS}/{task}": task for task in DIGITS_TASKS}
    imported = [name for name, (_, tables) in imported_names().items() if len(tables) == 1]
    name = checks.choose("table with learning curves", table, [*imported, *shipped])
    if name not in shipped:
        return imported_curves(name, column)
    arrays = digits_arrays(shipped[name])
    chosen = checks.choose(f"column of {name}", column, [metric.name for metric in arrays.metrics])
    metric = arrays.metrics[0]
    if chosen != metric.name:
        raise checks.UsageError(
            expected=f"a column of {name} with learning curves", got=chosen, remedy=f"choose {metric.name}"
        )
    return Curves(name, arrays.space, metric, arrays.codes, digits_curves(shipped[name], arrays))
