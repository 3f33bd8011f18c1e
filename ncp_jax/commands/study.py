"""Runs a grid of searches and reports on it (``ncp-jax study``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from ncp_jax import checks
from ncp_jax.commands.command import Command, has_work
from ncp_jax.console import ProgressBar, prepare_jax, say

if TYPE_CHECKING:
    from ncp_jax.studies import Grid

# How long a process waits for the slowest one; whether that one is still alive is checked separately.
LONGEST_WAIT_MS = 7 * 24 * 3600 * 1000
SMOKE_SEEDS, SMOKE_BUDGET = 2, 12


@dataclasses.dataclass(frozen=True)
class StudyOptions:
    """Where and how a grid runs. None of it changes a result, except ``smoke``.

    Attributes:
      out: Folder of the study: study.json, records.jsonl, report, summary.json.
      resume: Continue the study in --out after an interruption, or with a grid that has more or fewer seeds, methods or
        benchmarks, or another budget. Records of before are kept.
      smoke: Run a version that ends within seconds; its figures mean nothing.
      shard: Share i/N of the runs. Shares may run anywhere and at any time; the last one writes the summary.
      devices: Number of local devices that share the work; by default all.
      memory_mb: Device memory that one call may use, in MB.
      coordinator: HOST:PORT of the process of share 0, where the N processes of --shard i/N form one job of
        jax.distributed; or "auto" on a cluster that JAX knows (then without --shard).
    """

    out: Path = Path("out")
    resume: bool = False
    smoke: bool = False
    shard: str = ""
    devices: int | None = None
    memory_mb: float | None = None
    coordinator: str | None = None


def run_grid(grid: Grid, options: StudyOptions, extra: Callable[[], Mapping[str, Any]] | None = None) -> None:
    """Runs this process's share of a grid. With the last share, writes the report and prints its main table.

    Args:
      grid: what to run.
      options: where and how.
      extra: called when the summary is made; returns what else goes into summary.json. Its "config" adds to the grid's,
        and its "schema" replaces that of a study.
    """
    import jax

    from ncp_jax.records.journal import write_json
    from ncp_jax.records.run_card import run_card
    from ncp_jax.reports import describe, write_report
    from ncp_jax.studies import RunnerOptions, run_study

    grid.methods()  # errors of the grid alone are raised before processes wait for each other
    _join_processes(options)
    with ProgressBar("runs") as bar:
        runner = RunnerOptions(options.shard, options.devices, options.memory_mb, options.resume, bar, say)
        finished = run_study(grid, options.out, runner).finished
    if jax.process_count() > 1:
        from orbax.checkpoint import multihost

        # Shares end hours apart: JAX's own barrier is a computation on all devices, which gives up after 30 s.
        multihost.get_barrier_sync_fn()(key="study", timeout_ms=LONGEST_WAIT_MS)
        if jax.process_index() > 0:
            return
        # All shares are done now: this call runs nothing, it puts their records together.
        runner = RunnerOptions(options.shard, options.devices, options.memory_mb, resume=True)
        finished = run_study(grid, options.out, runner).finished
    if not finished:
        say(f"this share is done; the summary comes with the last one, in {options.out}")
        return
    report = write_report(options.out)
    more = extra() if extra else {}
    config = grid.to_json() | {"smoke": options.smoke} | more.get("config", {})
    # The schema of the report stands first; the summary has its own.
    summary = report.to_json() | {"schema": "study/1", **more, "config": config, **run_card()}
    write_json(options.out / "summary.json", summary)
    print(describe(report))


def _join_processes(options: StudyOptions) -> None:
    """Joins the job of ``jax.distributed`` that the options describe, if any."""
    if options.coordinator is None:
        return
    import jax

    from ncp_jax.records.shards import read_shard

    if options.coordinator == "auto":
        jax.distributed.initialize()
        return
    if not options.shard:
        raise checks.UsageError(
            expected="--shard i/N with --coordinator HOST:PORT",
            got="no --shard",
            remedy="give each process its --shard",
        )
    index, count = read_shard(options.shard)
    jax.distributed.initialize(options.coordinator, count, index)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Study(Command, StudyOptions):
    """Run every combination of searchers, settings, benchmarks and seeds of a grid file, and report on them.

    The grid file is explained in docs/studies.md. With --resume an interrupted study continues, and a finished one is
    extended; --shard i/N runs one share of it, for example one job of an array.

    Attributes:
      grid: TOML file with searchers, settings, benchmarks, seeds and budget.
      seeds: Number of seeds of every cell, in place of the grid's; 0 keeps the grid's.
      launch: Submit the shares as jobs: "slurm", or "local" for processes of this machine. The same command again
        shows where they are, and submits those that failed.
      jobs: Number of jobs of --launch.
      slurm: Option of Slurm as KEY=VALUE, such as partition=gpu or time=120; may be repeated.
      detach: Return once the jobs are submitted, instead of waiting for them.
    """

    grid: Positional[Path]
    seeds: int = 0
    launch: str = ""
    jobs: int = 4
    slurm: tuple[str, ...] = ()
    detach: bool = False

    def keeps_work(self) -> bool:
        """Returns whether runs are on record."""
        return has_work(self.out)

    def run(self) -> None:
        """Runs the grid and writes records, report and summary.json."""
        from ncp_jax.studies import read_grid

        prepare_jax()
        checks.integer("--seeds", self.seeds, least=0)
        grid = read_grid(self.grid)
        if self.seeds:
            grid = dataclasses.replace(grid, seeds=self.seeds)
        if self.smoke:
            seeds, budget = min(grid.seeds, SMOKE_SEEDS), min(grid.budget, SMOKE_BUDGET)
            grid = dataclasses.replace(grid, seeds=seeds, budget=budget)
        if self.launch:
            self._launch(grid)
        else:
            if self.slurm or self.detach:
                raise checks.UsageError(
                    expected="--launch with --slurm and --detach", got="no --launch", remedy="add --launch slurm"
                )
            run_grid(grid, self)

    def _launch(self, grid: Grid) -> None:
        """Submits the shares as jobs, and waits for them unless the command shall return."""
        from ncp_jax.commands.launch import CLUSTERS, Launch, python_command, read_parameters, wait
        from ncp_jax.files import make_folder
        from ncp_jax.records.journal import cell_hash
        from ncp_jax.reports import describe, write_report

        checks.choose("cluster", self.launch, CLUSTERS)
        checks.integer("--jobs", self.jobs, least=1, remedy="try --jobs 4")
        if self.shard or self.coordinator:
            raise checks.UsageError(
                expected="--launch without --shard and --coordinator",
                got=f"--shard {self.shard}" if self.shard else f"--coordinator {self.coordinator}",
                remedy="leave it out: each job has a share of its own",
            )
        if self.slurm and self.launch != "slurm":
            raise checks.UsageError(expected="--slurm with --launch slurm", got="another", remedy="leave --slurm out")
        grid.methods()  # errors of the grid are raised here, not in each job
        folder = make_folder(self.out, remedy="choose another --out").resolve()
        command = python_command("study", self.grid.resolve(), "--out", folder, "--resume")
        for name in ("seeds", "devices", "memory_mb"):
            if getattr(self, name):
                command += (f"--{name.replace('_', '-')}", str(getattr(self, name)))
        command += ("--smoke",) if self.smoke else ()
        launch = Launch(folder, self.launch, command, cell_hash(grid.to_json()), self.jobs, read_parameters(self.slurm))
        jobs = launch.submit()
        if self.detach:
            say(f"the jobs write to {folder}; the same command without --detach waits for them")
            return
        wait(jobs)
        print(describe(write_report(folder)))
