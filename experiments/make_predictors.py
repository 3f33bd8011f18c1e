"""Trains the predictors that ship in benchmarks_data/ on the published tables.

    python experiments/train_predictors.py --folds 5 --seeds 3 --out out/train_predictors
    python experiments/make_predictors.py --quality out/train_predictors/summary.json --out benchmarks_data/predictors

The card states the cross-validated quality, since the shipped networks are trained on all rows.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from harness.script import ExperimentConfig, run_main

from ncp_jax import checks
from ncp_jax.console import ProgressBar

FOLDS = 5  # of the cross-validation whose errors go into the card


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      quality: summary.json of train_predictors.py, whose tau goes into the card.
      members: number of networks in the ensemble.
    """

    quality: Path | None = None
    members: int = 8


def run(config: Config) -> dict[str, Any]:
    """Trains the joint ensemble on all rows, writes it and its card, returns the card.

    The files are nas-bench-mr.npz and .json; a smoke run without that table writes digits.npz and .json. Until they are
    written, ``training-NAME`` beside them holds the state of the training, from which ``--resume`` continues.
    """
    import jax
    from harness.tables import joint_table

    from ncp_jax import fit, load_table, save_predictor
    from ncp_jax.benchmarks.catalogue import JOINT
    from ncp_jax.records.journal import Records, write_json
    from ncp_jax.records.run_card import run_card
    from ncp_jax.training import get_recipe, held_out_errors

    table = joint_table() if config.smoke else load_table(JOINT)
    recipe, members = get_recipe("ensemble"), config.members
    if config.smoke:
        table, members = table.select(np.arange(200)), 2
        recipe = dataclasses.replace(recipe, widths=(16, 16), epochs=3, min_steps=0)
    tau: dict[str, float] = {}
    if config.quality is not None:
        summary = json.loads(config.quality.read_text())
        if "ensemble" not in summary.get("tau", {}):
            raise checks.DataError(
                expected="a summary.json with tau of the ensemble",
                got=str(config.quality),
                remedy="run train_predictors.py",
            )
        tau = summary["tau"]["ensemble"]
    training = config.out / f"training-{table.name}"
    # There is one training, whose state is its record: the folder has the lock of any experiment, and its checks.
    settings = config.settings() | {"table": table.content_hash(), "recipe": recipe.to_json()}
    records = Records(training, settings, resume=config.resume, selects=("seeds", "quality"))
    with ProgressBar("training") as bar:
        predictor = fit(
            table,
            recipe=recipe,
            members=members,
            key=jax.random.key(0),
            checkpoint=training / "checkpoints",
            progress=bar,
        )
    with ProgressBar("cross-validation") as bar:
        errors = held_out_errors(
            table, recipe=recipe, folds=FOLDS, members=members, key=jax.random.key(0), progress=bar
        )
    card = {
        "what": f"joint predictor of all {'NAS-Bench-MR' if table.name == JOINT else table.name} tasks",
        "trained_on": {"table": table.name, "rows": len(table), "files": dict(table.hashes)},
        "recipe": recipe.to_json(),
        "members": members,
        "seed": 0,
        "held_out": {name: error.to_json() for name, error in errors.items()},
        "held_out_means": f"errors on unseen folds, {FOLDS}-fold cross-validation: HeldOutError by metric",
        "tau": tau,
        "tau_means": "Kendall tau of the ensemble on unseen folds, 5-fold cross-validation, mean over seeds",
        **run_card(),
    }
    path = save_predictor(config.out / f"{table.name}.npz", predictor, card=card, half=True)
    write_json(config.out / f"{table.name}.json", card)
    shutil.rmtree(training, ignore_errors=True)
    records.close()
    print(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB)")
    return card


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
