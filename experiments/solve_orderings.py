"""Runs the ordering solver on a folder of matrices: weights, bounds, seconds, and gaps to the best known weights.

    python experiments/solve_orderings.py --folder lolib/io --time-limit 10 --out out/orderings

Best known weights are read from ``FOLDER_best_known.txt`` beside the folder, if there is such a file: one name and
weight per line.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
from harness.script import ExperimentConfig, run_main, write_summary

from ncp_jax import checks
from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      folder: folder of LOLIB text, .npy or .csv files; --smoke alone draws random matrices.
      time_limit: seconds per matrix.
      limit: number of files to solve, in the order of their names; all by default.
    """

    folder: Path | None = None
    time_limit: float = 10.0
    limit: int | None = None


def run(config: Config) -> dict[str, Any]:
    """Orders every (seed, file), writes records and summary.json, returns the summary."""
    from orderings.order_benchmark import (
        Solved,
        best_known,
        hash_files,
        load_folder,
        random_matrices,
        summarise_solved,
    )

    from ncp_jax.ordering import order
    from ncp_jax.records.journal import Records, cell_hash

    checks.positive("--time-limit", config.time_limit, zero=True)
    if config.folder is None and not config.smoke:
        raise checks.UsageError(expected="a folder of matrices", got="none", remedy="give --folder DIR, or --smoke")
    if config.folder is None:
        matrices, known = random_matrices((5, 15, 40)), {}
        time_limit = min(config.time_limit, 0.2)
    else:
        matrices, known = load_folder(config.folder), best_known(config.folder)
        time_limit = config.time_limit
    names = sorted(matrices)[: config.limit]
    settings = config.settings() | {"matrices": hash_files(config.folder) if config.folder else {}}
    settings["best_known"] = cell_hash(known)
    # Where the folder lies does not matter, its content does.
    records = Records(config.out, settings, resume=config.resume, selects=("seeds", "limit", "folder"))
    cells: list[dict[str, Any]] = [{"seed": seed, "matrix": name} for seed in range(config.seeds) for name in names]
    order(np.eye(15), time_limit=0)  # loads the compiled code before the first measurement

    with ProgressBar("matrices") as bar:
        for done, cell in enumerate(cells, 1):
            if records.get(cell) is None:
                name = cell["matrix"]
                found = order(matrices[name](), time_limit=time_limit, seed=cell["seed"])
                best = known.get(name)
                gap = None if not best else (best - found.weight) / best
                records.add(cell, {**found.to_json(), "best_known": best, "gap_to_best_known": gap})
            bar(done, len(cells))

    totals = summarise_solved([Solved.from_json(record["results"]) for record in records.of(cells)])
    print(
        f"{totals.optimal} of {totals.matrices} proven optimal, "
        f"mean gap to the bound {totals.mean_gap:.4%}, at most {totals.max_seconds:.2f} s"
    )
    if totals.mean_gap_to_best_known is not None:
        print(f"mean gap to the best known {totals.mean_gap_to_best_known:.4%}")
    return write_summary(config.out, "solve_orderings", totals.to_json(), settings)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
