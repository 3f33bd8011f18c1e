"""Holds the settings of ``ncp.rank`` and ``ncp-jax rank``."""

from __future__ import annotations

import dataclasses

from ncp_jax import checks

PROCESS, NETWORK = "gaussian-process", "network"  # heads


@dataclasses.dataclass(frozen=True)
class RankConfig:
    """What to rank, and from which measurements.

    Attributes:
      table: Table (transnas-micro/jigsaw, see `ncp-jax data list`) or CSV file of the target task. Each query reads one
        of its values. Where cells of a CSV file are blank, all other values are used, and the result names the
        architectures to train next.
      sources: Table or CSV file of another task; "all" for the benchmark's other tasks, or "none". May be repeated.
      source_budget: Number of measurements used of each source; by default all.
      space: Space of the CSV files: its name, or a description (space.toml).
      architecture: Column of the architectures in the CSV files; by default the one called architecture, else the
        first. May be repeated for one column per position of the code; * and ? are wildcards: x*.
      seeds: Lines of a CSV file that repeat an architecture with other values: refuse, or mean (one row with their
        mean).
      notation: How architectures in the CSV files are written, where they are no strings: ncp-jax, ops (names of
        operations); in nas-bench-201 also naslib or nats-index. Needed for names, and for integers in nas-bench-201.
      maximize: Metric of the tables, higher is better. Needed for CSV files; of other tables by default the main one.
      minimize: Metric of the tables, lower is better.
      budget: Number of architectures measured on the table; with blank cells, those that are measured already count.
      head: What learns from the measurements: a Gaussian process ("gaussian-process"), which finds better architectures
        with as many of them, or the network of the paper ("network").
      batch: Number of architectures measured between two rankings, or named to be trained next. By default 4, and with
        a Gaussian process on a complete table one in 25 of those that are measured.
      seed: Random seed of the search.
      on_test: Allow test values (NAS-Bench-201) to be queried, or to be sources; the result says so.
    """

    table: str
    sources: tuple[str, ...] = ()
    source_budget: int | None = None
    space: str | None = None
    architecture: tuple[str, ...] = ()
    seeds: str = "refuse"
    notation: str | None = None
    maximize: str | None = None
    minimize: str | None = None
    budget: int = 50
    head: str = PROCESS
    batch: int | None = None
    seed: int = 0
    on_test: bool = False

    def __post_init__(self) -> None:
        checks.integer("--budget", self.budget, least=2, remedy="relations need pairs")
        checks.choose("head", self.head, (PROCESS, NETWORK))
        if self.batch is not None:
            checks.integer("--batch", self.batch, least=1, remedy="try --batch 4")
        checks.integer("--seed", self.seed, least=0, most=2**32 - 1, remedy="try --seed 0")
        checks.choose("rule for --seeds", self.seeds, ("refuse", "mean"))
        if self.source_budget is not None and set(self.sources) <= {"none"}:
            raise checks.UsageError(expected="--sources with --source-budget", got="none", remedy="name some, or all")
        if self.maximize and self.minimize:
            raise checks.UsageError(
                expected="one of --maximize and --minimize", got="both", remedy="a ranking has one metric"
            )
