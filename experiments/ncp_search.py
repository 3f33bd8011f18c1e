"""Architectures proposed by NCP against the table's best at equal or lower GFLOPs, before a held-out judge.

    python experiments/ncp_search.py --seeds 3 --out out/ncp_search

Proposer and judge are ensembles trained on disjoint halves of the table with different seeds.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import numpy as np
from harness.script import ExperimentConfig, run_main

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      tasks: of NAS-Bench-MR or of digits; without it all eight of NAS-Bench-MR, or digits where that is not downloaded.
      codes: starts of each search.
      steps: iterations of each search.
      members: networks in each ensemble.
      quantiles: GFLOPs limits, as quantiles of the table's GFLOPs; a search without a limit is always added.
    """

    tasks: tuple[str, ...] = ()
    codes: int = 4096
    steps: int = 70
    members: int = 8
    quantiles: tuple[float, ...] = (0.25, 0.5, 0.75)


def run(config: Config) -> dict[str, Any]:
    """Runs every (seed, task), writes records, a figure and summary.json, returns the summary."""
    from harness.tables import joint_table
    from proposals.figure import margin_figure
    from proposals.held_out import contest, gflops_limits, train_opponents

    from ncp_jax.analysis.intervals import mean_interval
    from ncp_jax.benchmarks.table import tasks_of
    from ncp_jax.records.journal import Records, write_json
    from ncp_jax.records.run_card import run_card
    from ncp_jax.training import get_recipe

    table = joint_table(config.tasks)
    tasks = config.tasks or tasks_of(table)[: 1 if config.smoke else None]
    recipe = get_recipe("ensemble")
    codes, steps, members, quantiles = config.codes, config.steps, config.members, config.quantiles
    if config.smoke:
        recipe = dataclasses.replace(recipe, widths=(16, 16), epochs=3, min_steps=0)
        codes, steps, members, quantiles = 64, 5, 2, (0.5,)
    settings = config.settings() | {"table": table.content_hash(), "recipe": recipe.to_json()}
    records = Records(config.out, settings, resume=config.resume)
    limits = gflops_limits(table, quantiles)

    with ProgressBar("contests") as bar:
        for seed in range(config.seeds):
            opponents = functools.cache(lambda seed=seed: train_opponents(table, recipe, members=members, seed=seed))
            for task in tasks:
                cell = {"seed": seed, "task": task}
                if records.get(cell) is None:
                    contests = [
                        contest(opponents(), table, task, limit=limit, codes=codes, steps=steps, seed=seed)
                        for limit in limits
                    ]
                    records.add(cell, {"contests": contests})
                bar(len(records), config.seeds * len(tasks))

    by_task: dict[str, list[dict[str, Any]]] = {task: [] for task in tasks}
    for record in records:
        by_task[record["cell"]["task"]] += [c for c in record["results"]["contests"] if c["beats"] is not None]
    decided = [c for contests in by_task.values() for c in contests]
    summary = {
        "win_rate": float(np.mean([c["beats"] for c in decided])) if decided else None,
        "contests": len(decided),
        "tasks": {
            task: {
                "win_rate": float(np.mean([c["beats"] for c in contests])),
                "margin": mean_interval([c["margin"] for c in contests]),
                "margin_std": mean_interval([c["margin_std"] for c in contests]),
                "margin_measured": mean_interval([c["margin_measured"] for c in contests]),
            }
            for task, contests in by_task.items()
            if contests
        },
        "config": settings,
        **run_card(),
    }
    margin_figure(by_task, config.out / "margins.png")
    write_json(config.out / "summary.json", summary)
    for task, row in summary["tasks"].items():
        margin = row["margin"]
        print(
            f"{task}: wins {row['win_rate']:.0%}, margin {margin['mean']:+.2f} "
            f"[{margin['low']:+.2f}, {margin['high']:+.2f}] points, "
            f"against the rival's measured value {row['margin_measured']['mean']:+.2f}"
        )
    print(f"wins {summary['win_rate']:.1%} of {summary['contests']} contests")
    return summary


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
