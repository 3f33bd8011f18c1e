"""Runs a study: every combination of the searchers, settings, benchmarks and seeds of a grid file.

    python experiments/ablation.py grid.toml --out out/ablation
    python experiments/ablation.py grid.toml --out out/ablation --shard 3/8      # one job of an array
    python experiments/ablation.py grid.toml --out out/ablation --resume         # after an interruption

The grid file is explained in docs/studies.md.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import tyro
from harness.script import run_main

from ncp_jax import checks
from ncp_jax.commands.study import StudyOptions


@dataclasses.dataclass(frozen=True)
class Config(StudyOptions):
    """Options.

    Attributes:
      grid: TOML file with searchers, settings, benchmarks, seeds and budget.
      seeds: number of seeds of every cell, in place of the number in the grid; 0 keeps the latter.
    """

    grid: Annotated[Path, tyro.conf.Positional] = tyro.MISSING
    seeds: int = 0

    def __post_init__(self) -> None:
        checks.positive("--seeds", self.seeds, zero=True)


def run(config: Config) -> dict[str, Any]:
    """Runs the grid, writes records, report and summary.json, returns the summary."""
    from ncp_jax.commands.study import run_grid
    from ncp_jax.studies import read_grid

    grid = read_grid(config.grid)
    if config.seeds:
        grid = dataclasses.replace(grid, seeds=config.seeds)
    if config.smoke:
        grid = dataclasses.replace(grid, seeds=min(grid.seeds, 2), budget=min(grid.budget, 12))
    return run_grid(grid, config)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
