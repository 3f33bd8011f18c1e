"""Measures how well predictors rank unseen architectures: Kendall's tau of the authors' recipe and this project's.

python experiments/train_predictors.py --folds 5 --seeds 3 --out out/train_predictors
"""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
from harness.script import ExperimentConfig, run_main, write_summary

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      folds: number of cross-validation folds.
      recipes: recipes to train: ncp (the authors') and ensemble (this project's).
      members: networks in the ensemble of the recipe "ensemble".
      tasks: tasks of NAS-Bench-MR or of digits; by default all of NAS-Bench-MR, or of digits where that is not
        downloaded.
    """

    folds: int = 5
    recipes: tuple[str, ...] = ("ncp", "ensemble")
    members: int = 8
    tasks: tuple[str, ...] = ()


def run(config: Config) -> dict[str, Any]:
    """Trains every (recipe, seed), writes records, a figure and summary.json, returns the summary."""
    from cross_validation.cross_validation import CrossValidation, cross_validate
    from cross_validation.figure import bar_figure
    from harness.tables import is_here, joint_table

    from ncp_jax.analysis.intervals import mean_interval
    from ncp_jax.benchmarks.catalogue import JOINT
    from ncp_jax.records.journal import Records, cell_hash
    from ncp_jax.training import get_recipe

    smoke_tasks = ("seg", "video") if config.smoke and is_here(JOINT) else ()
    table = joint_table(config.tasks or smoke_tasks)
    if config.smoke:
        table = table.select(np.arange(200))
    recipes = {name: get_recipe(name) for name in config.recipes}
    if config.smoke:
        small: dict[str, dict[str, Any]] = {
            "ncp": {"widths": (16, 8)},
            "ensemble": {"widths": (16, 16), "min_steps": 0},
        }
        recipes = {
            name: dataclasses.replace(recipe, epochs=3, **small.get(name, {})) for name, recipe in recipes.items()
        }
    folds, members = (2, 2) if config.smoke else (config.folds, config.members)
    settings = config.settings() | {"table": table.content_hash()}
    records = Records(config.out, settings, resume=config.resume, selects=("seeds",))

    for name, recipe in recipes.items():
        for seed in range(config.seeds):
            cell = {"recipe": recipe.to_json(), "seed": seed}
            if records.get(cell) is not None:
                continue
            checkpoint = config.out / "checkpoints" / cell_hash(cell)
            with ProgressBar(f"{name}, seed {seed}") as bar:
                scores = cross_validate(
                    table,
                    recipe,
                    folds=folds,
                    members=members if name == "ensemble" else 1,
                    joint=name == "ensemble",
                    seed=seed,
                    checkpoint=checkpoint,
                    progress=bar,
                )
            records.add(cell, scores.to_json())
            shutil.rmtree(checkpoint, ignore_errors=True)

    by_recipe = {
        name: [
            CrossValidation(**records.get({"recipe": r.to_json(), "seed": s})["results"])  # type: ignore[index]
            for s in range(config.seeds)
        ]
        for name, r in recipes.items()
    }
    tau = {
        name: {task: float(np.mean([r.tau[task] for r in runs])) for task in runs[0].tau}
        for name, runs in by_recipe.items()
    }
    results = {
        "tau": tau,
        "tau_mean": {
            name: mean_interval([float(np.mean(list(r.tau.values()))) for r in runs])
            for name, runs in by_recipe.items()
        },
        "tau_single": {
            name: float(np.mean([list(r.tau_single.values()) for r in runs])) for name, runs in by_recipe.items()
        },
        "seconds_per_predictor": {
            name: sum(r.train_s for r in runs) / sum(r.predictors for r in runs) for name, runs in by_recipe.items()
        },
        "seconds_per_network": {
            name: sum(r.train_s for r in runs) / sum(r.networks for r in runs) for name, runs in by_recipe.items()
        },
    }
    bar_figure(tau, config.out / "tau.png", ylabel="Kendall tau on unseen architectures")
    summary = write_summary(config.out, "train_predictors", results, settings)
    for name, interval in summary["tau_mean"].items():
        print(
            f"{name}: tau {interval['mean']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}] "
            f"over {interval['n']} seeds, {summary['seconds_per_predictor'][name]:.2f} s per predictor"
        )
    return summary


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
