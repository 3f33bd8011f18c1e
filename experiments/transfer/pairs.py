"""Which tasks are sources of which targets, and what a search on a target found, as records hold it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.ranks import table_ranks
from ncp_jax.benchmarks import Table
from ncp_jax.types import Float, Int

ALL = "all"  # every source of a target together, as one more source
NONE = "none"  # the source of a search from scratch


@dataclasses.dataclass(frozen=True, eq=False)
class Tasks:
    """The tasks of one space, measured on the same architectures, and which of them are sources and targets.

    Attributes:
      tables: the table of each task, by its name.
      targets: tasks that are searched.
      given: tasks that may be sources; empty for every other task.
    """

    tables: dict[str, Table]
    targets: tuple[str, ...]
    given: tuple[str, ...] = ()

    @classmethod
    def choose(cls, tables: Sequence[Table], targets: Sequence[str], sources: Sequence[str]) -> Tasks:
        """Returns the tasks of a space; without targets or sources, all tasks that are not of the other kind.

        Raises:
          UsageError: an unknown task (the text lists the nearest), a source that is a target too, or no source.
        """
        by_name = {table.name.partition("/")[2]: table for table in tables}
        chosen, given = (
            tuple(dict.fromkeys(checks.choose(kind, name, by_name) for name in names))
            for kind, names in (("target", targets), ("source", sources))
        )
        both = [name for name in given if name in chosen]
        if both:
            raise checks.UsageError(
                expected="sources other than the targets", got=", ".join(both), remedy="leave it out of one of them"
            )
        tasks = cls(by_name, chosen or tuple(name for name in by_name if name not in given), given)
        alone = [target for target in tasks.targets if not tasks.sources(target)]
        if alone or not tasks.targets:
            raise checks.UsageError(
                expected="a source and a target", got=f"{len(by_name)} task(s)", remedy="take more tasks"
            )
        return tasks

    def sources(self, target: str) -> tuple[str, ...]:
        """Returns the sources of a target."""
        return tuple(name for name in self.given or self.tables if name != target)

    def cases(self, target: str) -> tuple[str, ...]:
        """Returns the sources of a target, and ``ALL`` where there are several."""
        sources = self.sources(target)
        return (*sources, ALL) if len(sources) > 1 else sources

    def groups(self, target: str) -> tuple[tuple[str, ...], ...]:
        """Returns the cases of a target apart by the number of tasks behind them."""
        sources, cases = self.sources(target), self.cases(target)
        return (sources, (ALL,)) if ALL in cases else (sources,)

    def members(self, target: str, source: str) -> tuple[str, ...]:
        """Returns the tasks behind the name of a source: the task itself, or those of ``ALL``."""
        return self.sources(target) if source == ALL else (source,)

    def values(self, names: Sequence[str]) -> Float[np.ndarray, "s n"]:
        """Returns the main metrics of some tasks, float32, higher is better."""
        return np.stack([np.asarray(self.tables[name].oriented(self.tables[name].main.name)) for name in names])

    @property
    def size(self) -> int:
        """Number of architectures."""
        return len(next(iter(self.tables.values())))


@dataclasses.dataclass(frozen=True)
class Found:
    """Ranks of the best architectures of r runs on one target, at the queries that improved them.

    Attributes:
      at: for each run the numbers of these queries, from 1.
      ranks: for each run the ranks in the target's table that they reached; 1 is the best.
    """

    at: list[list[int]]
    ranks: list[list[int]]

    @classmethod
    def of(cls, rows: Int[np.ndarray, "r b"], values: Float[np.ndarray, " n"]) -> Found:
        """Ranks the rows that each run has paid for, in the order of paying; -1 in unused slots.

        Args:
          rows: rows of the table.
          values: the target's metric of all architectures, higher is better.
        """
        ranks = np.append(table_ranks(values), len(values))
        best = np.minimum.accumulate(ranks[rows], axis=1)
        first = np.ones((len(rows), 1), bool)
        improved = np.concatenate([first, best[:, 1:] < best[:, :-1]], axis=1)
        at = [np.flatnonzero(line) for line in improved]
        return cls([(a + 1).tolist() for a in at], [line[a].tolist() for line, a in zip(best, at, strict=True)])

    def best(self, queries: int | Int[np.ndarray, " q"]) -> Int[np.ndarray, "r ..."]:
        """Returns the rank of the best after some numbers of queries, [r] or [r, q]."""
        return np.stack(
            [
                np.asarray(ranks)[np.searchsorted(at, queries, side="right") - 1]
                for at, ranks in zip(self.at, self.ranks, strict=True)
            ]
        )

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, JSON-ready."""
        return dataclasses.asdict(self)

    @classmethod
    def joined(cls, parts: Sequence[dict[str, Any]]) -> Found:
        """Puts the runs of several records together."""
        return cls([run for part in parts for run in part["at"]], [run for part in parts for run in part["ranks"]])
