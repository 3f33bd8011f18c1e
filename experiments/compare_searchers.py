"""Compares searchers with equal budgets of queries over many seeds: curves, tests, a critical-difference diagram.

    python experiments/compare_searchers.py --benchmark nas-bench-201 --on-test --seeds 100 --out out/compare
    python experiments/compare_searchers.py --benchmark nas-bench-201/cifar100 --on-test --searchers evolution \
        --budget 500 --seeds 1000 --against python --out out/speed

A searcher sees the codes, and only those values of the table that it queries.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.script import compiled_fast, run_main

from ncp_jax.commands.command import Verbosity
from ncp_jax.commands.study import StudyOptions


@dataclasses.dataclass(frozen=True)
class Config(Verbosity, StudyOptions):
    """Options.

    Attributes:
      seeds: number of runs of each searcher on each table.
      benchmark: tables, or families of tables (nas-bench-201, transnas-micro, transnas-macro, nas-bench-mr, digits); by
        default transnas-micro (with --on-test nas-bench-201), or digits where that is not downloaded.
      searchers: random, evolution, local-search, bayesian, neural-ensemble, ncp, arch-graph; all by default.
      budget: queries of each run.
      seconds: simulated training seconds of each run, where the table has training times.
      repeats: cost of querying a known architecture again: free, counted or free-isomorphs.
      same_network: rule by which two codes are the same network, where repeats ask for it: isomorphism; for
        nas-bench-201 also topology or function.
      first_seed: seed of the first run; the others have those that follow.
      on_test: allow tables of test values (nas-bench-201) to be searched; records and report say so.
      against: python also times Python loops of the same searches.
    """

    seeds: int = 100
    benchmark: tuple[str, ...] = ()
    searchers: tuple[str, ...] = ()
    budget: int = 200
    seconds: float | None = None
    repeats: str = "free"
    same_network: str = "isomorphism"
    first_seed: int = 0
    on_test: bool = False
    against: str | None = None


def run(config: Config) -> None:
    """Runs the searches; writes records, report and summary.json; prints the report's main table and the speeds."""
    from harness.tables import or_digits
    from references.speed import measure_speed

    from ncp_jax import checks, list_tables
    from ncp_jax.commands.study import run_grid
    from ncp_jax.console import say
    from ncp_jax.searchers import SEARCHERS, CurveSearcher, SourceSearcher
    from ncp_jax.studies import Grid

    if config.against is not None:
        checks.choose("rival", config.against, ("python",))
    # The baselines of studies with source tasks are no part of a comparison without them; most tables have no curves.
    every = [name for name, searcher in SEARCHERS.items() if not issubclass(searcher, SourceSearcher | CurveSearcher)]
    searchers = names(config.searchers) or tuple(every)
    family = or_digits("nas-bench-201" if config.on_test else "transnas-micro")
    if config.smoke:  # two tables, since each of seven takes ten seconds
        family = tuple(table for table in list_tables() if table.partition("/")[0] in family)[:2]
    grid = Grid(
        searchers={checks.choose("searcher", name, SEARCHERS): [{}] for name in searchers},
        benchmarks=names(config.benchmark) or family,
        budget=min(config.budget, 20) if config.smoke else config.budget,
        seeds=min(config.seeds, 3) if config.smoke else config.seeds,
        first_seed=config.first_seed,
        repeats=config.repeats,
        same_network=config.same_network,
        seconds=config.seconds,
        on_test=config.on_test,
    )
    speeds: dict[str, Any] = {}

    def timing() -> dict[str, Any]:
        say("timing against plain Python")
        speeds.update(measure_speed(grid, memory_mb=config.memory_mb))
        return {"speed": speeds}

    with compiled_fast(config.smoke):
        run_grid(grid, config, timing if config.against else None)
    for label, speed in speeds.items():
        against = f", {speed['ratio']:.1f} times plain Python" if "ratio" in speed else ""
        print(f"{label}: {speed['queries_per_s']:,.0f} queries/s{against}")


def names(values: tuple[str, ...]) -> tuple[str, ...]:
    """Returns names that were given with spaces or commas between them."""
    return tuple(part for value in values for part in value.split(",") if part)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
