"""What the experiments over grids share: options of the runner, the processes of a job, the summary in the end."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ncp_jax import checks
from ncp_jax.console import ProgressBar, say
from ncp_jax.records.journal import write_json
from ncp_jax.records.run_card import run_card
from ncp_jax.records.shards import read_shard
from ncp_jax.studies.grid import Grid
from ncp_jax.studies.runner import RunnerOptions, run_study

LONGEST_WAIT_MS = 7 * 24 * 3600 * 1000  # for the slowest process; that one is alive is watched besides


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """Where and how a grid runs.

    Attributes:
      out: folder for the study: study.json, records.jsonl, report, summary.json.
      resume: continue an interrupted study in ``out``.
      smoke: a version that ends within seconds; its figures mean nothing.
      shard: i/N: only this share of the runs; shares may run anywhere at any time, the last one makes the summary.
      devices: local devices that share the work; all of them without it.
      memory_mb: device memory that one call may use.
      coordinator: HOST:PORT of the process of share 0 where the N processes of --shard i/N form one job of
        jax.distributed, or "auto" on a cluster that JAX knows (then without --shard).
    """

    out: Path = Path("out")
    resume: bool = False
    smoke: bool = False
    shard: str = ""
    devices: int | None = None
    memory_mb: float | None = None
    coordinator: str | None = None


def run_grid(grid: Grid, config: StudyOptions, extra: Callable[[], dict[str, Any]] | None = None) -> dict[str, Any]:
    """Runs this process's share of a grid; with the last share, reports (files, and a table on standard output).

    Args:
      grid: what to run.
      config: where and how.
      extra: called where the summary is made; makes what goes into summary.json besides.

    Returns:
      The summary; empty where other shares are not finished, or where process 0 writes it.
    """
    from ncp_jax.reports import describe, write_report

    grid.methods()  # what is wrong in the grid alone is said before processes wait for each other
    _join(config)
    with ProgressBar("runs") as bar:
        options = RunnerOptions(config.shard, config.devices, config.memory_mb, config.resume, bar, say)
        finished = run_study(grid, config.out, options)
    if jax.process_count() > 1:
        from orbax.checkpoint import multihost

        # Shares end hours apart: JAX's own barrier is a computation on all devices, which gives up after 30 s.
        multihost.get_barrier_sync_fn()(key="study", timeout_ms=LONGEST_WAIT_MS)
        if jax.process_index() > 0:
            return {}
        finished = run_study(
            grid, config.out, RunnerOptions(config.shard, config.devices, config.memory_mb, resume=True)
        )
    if not finished:
        say(f"this share is done; the summary comes with the last one, in {config.out}")
        return {}
    report = write_report(config.out)
    more = extra() if extra else {}
    summary = {**report.summary, **more, "config": grid.to_json() | {"smoke": config.smoke}, **run_card()}
    write_json(config.out / "summary.json", summary)
    print(describe(report))
    return summary


def names(values: tuple[str, ...]) -> tuple[str, ...]:
    """Names given with spaces or commas between them."""
    return tuple(part for value in values for part in value.split(",") if part)


def _join(config: StudyOptions) -> None:
    if config.coordinator is None:
        return
    if config.coordinator == "auto":
        jax.distributed.initialize()
        return
    if not config.shard:
        raise checks.UsageError(
            expected="--shard i/N with --coordinator HOST:PORT",
            got="no --shard",
            remedy="give each process its --shard",
        )
    index, count = read_shard(config.shard)
    jax.distributed.initialize(config.coordinator, count, index)
