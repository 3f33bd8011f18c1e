"""Kendall tau of predictors on unseen architectures: the authors' recipe against this project's.

python experiments/train_predictors.py --folds 5 --seeds 3 --out out/train_predictors
"""

from __future__ import annotations

import dataclasses
import shutil
from typing import Any

import numpy as np
from harness.script import ExperimentConfig, run_main

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      folds: cross-validation folds.
      recipes: which recipes to train.
      members: networks in the ensemble of the recipe "ensemble".
      tasks: of NAS-Bench-MR or of digits; without it all eight of NAS-Bench-MR, or digits where that is not downloaded.
    """

    folds: int = 5
    recipes: tuple[str, ...] = ("ncp", "ensemble")
    members: int = 8
    tasks: tuple[str, ...] = ()


def run(config: Config) -> dict[str, Any]:
    """Trains every (recipe, seed), writes records, a figure and summary.json, returns the summary."""
    from cross_validation.cross_validation import cross_validate
    from cross_validation.figure import bar_figure
    from harness.tables import is_here, joint_table

    from ncp_jax.analysis.intervals import mean_interval
    from ncp_jax.benchmarks.catalogue import JOINT
    from ncp_jax.records.journal import Records, cell_hash, write_json
    from ncp_jax.records.run_card import run_card
    from ncp_jax.training import get_recipe

    few = ("seg", "video") if config.smoke and is_here(JOINT) else ()
    table = joint_table(config.tasks or few)
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
    records = Records(config.out, settings, resume=config.resume)

    for name, recipe in recipes.items():
        for seed in range(config.seeds):
            cell = {"recipe": recipe.to_json(), "seed": seed}
            if records.get(cell) is not None:
                continue
            checkpoint = config.out / "checkpoints" / cell_hash(cell)
            with ProgressBar(f"{name}, seed {seed}") as bar:
                results = cross_validate(
                    table,
                    recipe,
                    folds=folds,
                    members=members if name == "ensemble" else 1,
                    joint=name == "ensemble",
                    seed=seed,
                    checkpoint=checkpoint,
                    progress=bar,
                )
            records.add(cell, results)
            shutil.rmtree(checkpoint, ignore_errors=True)

    by_recipe = {
        name: [records.get({"recipe": r.to_json(), "seed": s})["results"] for s in range(config.seeds)]  # type: ignore[index]
        for name, r in recipes.items()
    }
    tau = {
        name: {task: float(np.mean([r["tau"][task] for r in runs])) for task in runs[0]["tau"]}
        for name, runs in by_recipe.items()
    }
    summary = {
        "tau": tau,
        "tau_mean": {
            name: mean_interval([float(np.mean(list(r["tau"].values()))) for r in runs])
            for name, runs in by_recipe.items()
        },
        "tau_single": {
            name: float(np.mean([list(r["tau_single"].values()) for r in runs])) for name, runs in by_recipe.items()
        },
        "seconds_per_predictor": {
            name: sum(r["train_s"] for r in runs) / sum(r["predictors"] for r in runs)
            for name, runs in by_recipe.items()
        },
        "seconds_per_network": {
            name: sum(r["train_s"] for r in runs) / sum(r["networks"] for r in runs) for name, runs in by_recipe.items()
        },
        "config": settings,
        **run_card(),
    }
    bar_figure(tau, config.out / "tau.png", ylabel="Kendall tau on unseen architectures")
    write_json(config.out / "summary.json", summary)
    for name, interval in summary["tau_mean"].items():
        print(
            f"{name}: tau {interval['mean']:.4f} [{interval['low']:.4f}, {interval['high']:.4f}] "
            f"over {interval['n']} seeds, {summary['seconds_per_predictor'][name]:.2f} s a predictor"
        )
    return summary


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
