"""Interrupts commands at random moments and checks that nothing finished is lost and that the result stays the same.

    python experiments/reliability.py --out out/reliability                    # kills, full disks, two writers
    python experiments/reliability.py --out out/reliability --resume --inputs 10000   # and the fuzz tests

Full disks are file systems in memory, which root may mount; for others the size of each file is limited instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from harness.script import ExperimentConfig, run_main, write_summary

from ncp_jax import checks
from ncp_jax.console import ProgressBar, format_table

COMMANDS = ("search", "rank", "study", "fit", "make_benchmark", "fetch")


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      kills: number of moments at which commands are killed, over all commands.
      disks: number of sizes of a full disk, over all commands.
      commands: the commands: search, rank, study, fit, make_benchmark, fetch (which needs a mirror, NCP_JAX_MIRROR).
      inputs: number of random inputs to each reader (pytest tests/fuzz); 0 leaves the fuzz tests out.
    """

    kills: int = 200
    disks: int = 50
    commands: tuple[str, ...] = COMMANDS
    inputs: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kills", "disks", "inputs"):
            checks.integer(f"--{name}", getattr(self, name), least=0)
        if self.smoke:
            for name, value in {"kills": 2, "disks": 1, "commands": self.commands[:1]}.items():
                object.__setattr__(self, name, value)

    def settings(self) -> dict[str, Any]:
        """Returns nothing: the moments are numbered, and how many there are changes none of them."""
        return {}


def run(config: Config) -> dict[str, Any]:
    """Disturbs every command, writes records and summary.json, returns the summary."""
    import numpy as np
    from interruptions.disturb import Workplace, can_mount
    from interruptions.fuzzing import fuzz
    from interruptions.jobs import available

    from ncp_jax.records.journal import Records

    jobs = {job.name: job for job in available(config.commands)}
    records = Records(config.out, config.settings(), resume=config.resume)
    place = Workplace(config.out / "work")
    mount = can_mount(place.folder)
    names = tuple(jobs)
    cells: list[dict[str, Any]] = [
        {"kind": kind, "command": names[number % len(names)], "number": number, "seed": seed}
        for seed in range(config.seeds)
        for kind, count in (("two_writers", len(names)), ("kill", config.kills), ("full_disk", config.disks))
        for number in range(count)
    ]
    if config.inputs:
        cells.append({"kind": "fuzz", "inputs": config.inputs})
    with ProgressBar("disturbances") as bar:
        for done, cell in enumerate(cells, 1):
            if records.get(cell) is None:
                if cell["kind"] == "fuzz":
                    records.add(cell, fuzz(config.inputs, place.folder))
                    continue
                job = jobs[cell["command"]]
                moment = float(np.random.default_rng([cell["seed"], cell["number"]]).random())
                if cell["kind"] == "kill":
                    outcome = place.kill(job, moment)
                elif cell["kind"] == "full_disk":
                    outcome = place.fill(job, moment, mount=mount)
                else:
                    outcome = place.write_twice(job)
                records.add(cell, {"moment": moment, **outcome.to_json()})
            bar(done, len(cells))
    results: dict[str, Any] = {
        name: {command: _summarise(records, kind, command) for command in names}
        for name, kind in (("kills", "kill"), ("full_disk", "full_disk"), ("two_writers", "two_writers"))
    }
    results["full_disk_by"] = "a file system in memory" if mount else "a limit on the size of files"
    results["fuzz"] = next((r["results"] for r in records if r["cell"]["kind"] == "fuzz"), None)
    print(_table(results, names))
    counts = {"kills": config.kills, "disks": config.disks, "commands": list(names), "inputs": config.inputs}
    return write_summary(config.out, "reliability", results, counts | {"seeds": config.seeds, "smoke": config.smoke})


def _summarise(records: Iterable[dict[str, Any]], kind: str, command: str) -> dict[str, Any]:
    cells = ((record["cell"], record["results"]) for record in records)
    outcomes = [results for cell, results in cells if (cell["kind"], cell.get("command")) == (kind, command)]
    return {
        "moments": len(outcomes),
        "struck": sum(outcome["struck"] for outcome in outcomes),
        "finished": sum(outcome["finished"] for outcome in outcomes),
        "lost": sum(outcome["lost"] for outcome in outcomes),
        "different": sum(outcome["different"] for outcome in outcomes),
        "faults": [outcome["fault"] for outcome in outcomes if outcome["fault"]],
    }


def _table(results: dict[str, Any], commands: Sequence[str]) -> str:
    counts = ("moments", "struck", "finished", "lost", "different")
    rows: list[tuple[str, ...]] = [("disturbance", "command", *counts, "faults")]
    for kind in ("kills", "full_disk", "two_writers"):
        for command in commands:
            row = results[kind][command]
            rows.append((kind, command, *(str(row[name]) for name in counts), str(len(row["faults"]))))
    return format_table(rows, "<<>>>>>>")


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
