"""Holds what all readers of official files share: the tables that they fill, settings and notices."""

from __future__ import annotations

from collections.abc import Callable

from ncp_jax.benchmarks.official.collected import Collected
from ncp_jax.benchmarks.pickles import MEMORY
from ncp_jax.console import say

SEEDS = ("each", "mean")


class Reading:
    """One import: the tables that are being filled.

    Args:
      name: name of the import, with which the names of its tables begin.
      seeds: "each" for a column of each seed, "mean" for the mean over the seeds of an architecture.
      memory: maximum bytes of the objects of one file.
      notify: receives one-line notices.
      progress: is told how many files or architectures are read, and how many there are.
    """

    def __init__(
        self,
        name: str,
        *,
        seeds: str = "each",
        memory: float = MEMORY,
        notify: Callable[[str], None] = say,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.name, self.seeds, self.memory = name, seeds, memory
        self.progress = progress or (lambda done, whole: None)
        self.tables: dict[str, Collected] = {}
        self.notices: list[str] = []
        self._notify = notify

    def table(self, name: str, space: str) -> Collected:
        """Returns the table of a name, new or begun."""
        if name not in self.tables:
            self.tables[name] = Collected(name, space)
        return self.tables[name]

    def notice(self, text: str) -> None:
        """Tells the user something in one line."""
        self.notices.append(text)
        self._notify(text)

    def partial(self, what: str, found: int, whole: int) -> None:
        """Says how much of a benchmark is there, where it is not all."""
        if found < whole:
            self.notice(f"{what}: {found} of {whole} architectures are there")
