"""Compares architectures proposed by NCP with the table's best at equal or lower GFLOPs, by a held-out evaluator.

    python experiments/ncp_search.py --seeds 3 --out out/ncp_search

The proposer, which is inverted, and the evaluator, which scores the result, are ensembles trained on disjoint halves of
the table with different seeds.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from harness.script import ExperimentConfig, run_main, write_summary

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      tasks: tasks of NAS-Bench-MR or of digits; by default all of NAS-Bench-MR, or of digits where that is not
        downloaded.
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
    from harness.scoring import fit_pair
    from harness.tables import joint_table
    from proposals.comparison import Comparison, compare_with_table, gflops_limits, win_rates
    from proposals.figure import margin_figure

    from ncp_jax.benchmarks.table import tasks_of
    from ncp_jax.propagation import PropagationConfig
    from ncp_jax.records.journal import Records
    from ncp_jax.training import get_recipe

    table = joint_table(config.tasks)
    tasks = config.tasks or tasks_of(table)[: 1 if config.smoke else None]
    recipe = get_recipe("ensemble")
    codes, steps, members, quantiles = config.codes, config.steps, config.members, config.quantiles
    if config.smoke:
        recipe = dataclasses.replace(recipe, widths=(16, 16), epochs=3, min_steps=0)
        codes, steps, members, quantiles = 64, 5, 2, (0.5,)
    settings = config.settings() | {"table": table.content_hash(), "recipe": recipe.to_json()}
    records = Records(config.out, settings, resume=config.resume, selects=("seeds",))
    limits, inversion = gflops_limits(table, quantiles), PropagationConfig(steps=steps)
    cells = [{"seed": seed, "task": task} for seed in range(config.seeds) for task in tasks]

    with ProgressBar("comparisons") as bar:
        for seed in range(config.seeds):
            # Trained at the first task that is not on record.
            pair = functools.cache(lambda seed=seed: fit_pair(table, recipe=recipe, members=members, seed=seed))
            for task in tasks:
                cell = {"seed": seed, "task": task}
                if records.get(cell) is None:
                    proposer, evaluator = pair()
                    found = [
                        compare_with_table(
                            *(proposer, evaluator.predictor, table, task),
                            limit=limit,
                            codes=codes,
                            config=inversion,
                            seed=seed,
                        )
                        for limit in limits
                    ]
                    records.add(cell, {"contests": [comparison.to_json() for comparison in found]})
                bar(len(records.of(cells)), len(cells))

    by_task: dict[str, list[tuple[int, Comparison]]] = {task: [] for task in tasks}
    for record in records.of(cells):
        seed, task = record["cell"]["seed"], record["cell"]["task"]
        by_task[task] += [(seed, Comparison.from_json(c)) for c in record["results"]["contests"]]
    margin_figure({task: [c for _, c in some] for task, some in by_task.items()}, config.out / "margins.png")
    summary = write_summary(config.out, "ncp_search", win_rates(by_task), settings)
    for task, row in summary["tasks"].items():
        margin = row["margin"]
        print(
            f"{task}: wins {row['win_rate']:.0%}, margin {margin['mean']:+.2f} "
            f"[{margin['low']:+.2f}, {margin['high']:+.2f}] points, "
            f"against the baseline's measured value {row['margin_measured']['mean']:+.2f}"
        )
    if summary["win_rate"] is None:
        print("no architecture of the table has as few GFLOPs as the proposals: nothing to compare")
    else:
        print(f"wins {summary['win_rate']:.1%} of {summary['contests']} comparisons")
    return summary


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
