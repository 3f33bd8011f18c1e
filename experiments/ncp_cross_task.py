"""Codes found for one task on every other task, and what labels of a target transfer saves.

    python experiments/ncp_cross_task.py --seeds 20 --out out/ncp_cross_task

NAS-Bench-MR has no complete table: an ensemble trained on other rows than the proposer scores its codes. On complete
tables codes are looked up, and predictors are trained on 10 to 500 random labels of a target and inverted: from
scratch, from starts that were found for another task, and with another task's networks.
"""

from __future__ import annotations

from typing import Any

from harness.script import compiled_fast, run_main, write_summary
from transfer.cross_config import Config

from ncp_jax.console import ProgressBar


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
