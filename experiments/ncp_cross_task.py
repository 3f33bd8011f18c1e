"""Codes found for one task on every other task, and what labels of a target transfer saves.

    python experiments/ncp_cross_task.py --seeds 20 --out out/ncp_cross_task

NAS-Bench-MR has no complete table: an ensemble trained on other rows than the proposer scores its codes. On complete
tables codes are looked up, and predictors are trained on 10 to 500 random labels of a target and inverted: from
scratch, from starts that were found for another task, and with another task's networks.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      seeds: number of runs on complete tables, with seeds 0, 1, ….
      spaces: nas-bench-mr, micro, macro (TransNAS-Bench-101), nas-bench-201 or digits; by default all that are on this
        machine (nas-bench-201 with --on-test), and digits.
      targets: tasks that are searched; by default all, but for those that are only sources.
      sources: tasks that are sources; by default all others of a target.
      labels: numbers of labels of the target, from 10 to 500.
      source_budget: number of architectures that a search of a source pays for, whose codes are starts.
      source_labels: number of random labels that a source's networks learn; 0 for its complete table.
      ensembles: number of pairs of ensembles on nas-bench-mr, with seeds 0, 1, ….
      members: networks of each of these ensembles.
      codes: starts of each inversion on nas-bench-mr.
      on_test: allow tables of test values (nas-bench-201); records say so.
    """

    seeds: int = 20
    spaces: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    labels: tuple[int, ...] = (10, 20, 50, 100, 200, 500)
    source_budget: int = 100
    source_labels: int = 0
    ensembles: int = 5
    members: int = 4
    codes: int = 1024
    on_test: bool = False


def run(config: Config) -> dict[str, Any]:
    """Runs every matrix and every inversion; writes records, figures and summary.json; returns the summary."""
    from transfer.cross_cells import Cells
    from transfer.cross_figures import matrix_figure, saving_figure
    from transfer.cross_study import told

    from ncp_jax.records.journal import Records

    cells = Cells.of(config)
    settings = config.settings() | {"tables": cells.hashes()}
    records = Records(config.out, settings, resume=config.resume, selects=("seeds", "ensembles", "labels"))
    wanted = cells.every()
    with ProgressBar("cells") as bar, compiled_fast(config.smoke):
        for place, cell in enumerate(wanted):
            if records.get(cell) is None:
                records.add(cell, cells.run(cell))
            bar(place + 1, len(wanted))
    results = cells.summary(records)
    matrix_figure(results["matrix"], config.out / "matrix.png")
    if results["transfer"]:
        saving_figure(results["transfer"], config.out / "labels.png")
    print("\n".join(told(results)))
    return write_summary(config.out, "ncp_cross_task", results, settings)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
