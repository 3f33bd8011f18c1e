"""Runs the shares of a study as jobs of a cluster, or as processes of this machine, through submitit."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ncp_jax import checks
from ncp_jax.console import ProgressBar, say
from ncp_jax.records.journal import read_json, write_json

CLUSTERS = ("slurm", "local")
SCHEMA = "jobs/1"
WAIT_S = 1.0  # seconds between two looks at the jobs
LAST_LINES = 3  # of what a failed job wrote on standard error


@dataclasses.dataclass(frozen=True)
class Launch:
    """The jobs of a study, one a share.

    Attributes:
      folder: folder of the study; the jobs' files are in ``jobs``, their list is ``jobs.json``.
      cluster: "slurm" or "local".
      command: what a job runs, without its share.
      grid: hash of the grid: other grids need other jobs.
      count: number of jobs.
      parameters: options of Slurm by name ("partition").
    """

    folder: Path
    cluster: str
    command: tuple[str, ...]
    grid: str
    count: int
    parameters: dict[str, str | int]

    def submit(self) -> list[Any]:
        """Submits each share that is neither at work nor done, and returns the jobs of all shares.

        Raises:
          UsageError: submitit is not installed, the cluster is not there, or other jobs of this folder are at work.
        """
        submitit = _submitit()
        path = self.folder / "jobs.json"
        before = read_json(path) if path.exists() else {}
        content = {
            "schema": SCHEMA,
            "cluster": self.cluster,
            "count": self.count,
            "command": list(self.command),
            "grid": self.grid,
        }
        same = all(before.get(key) == value for key, value in content.items())
        known = before.get("jobs", {})
        jobs = {share: self._known(submitit, known[share], before["cluster"]) for share in known}
        busy = [share for share, job in jobs.items() if is_alive(job)]
        if busy and not same:
            raise checks.UsageError(
                expected=f"jobs of the same command and number in {self.folder}",
                got=f"others at work ({', '.join(busy)})",
                remedy="wait for them, or choose another --out",
            )
        ids = {share: known[share] for share, job in jobs.items() if same and (share in busy or _succeeded(job))}
        shares = [f"{i}/{self.count}" for i in range(self.count)]
        missing = [share for share in shares if share not in ids]
        found = {share: jobs[share] for share in ids}
        if missing:
            executor = self._executor(submitit)
            for share in missing:
                function = submitit.helpers.CommandFunction([*self.command, "--shard", share], verbose=True)
                found[share] = executor.submit(function)
                ids[share] = found[share].job_id
                # After each, so that no job is forgotten when this process ends.
                write_json(path, content | {"jobs": ids})
            done = self.count - len(missing) - len(busy)
            say(f"{len(missing)} jobs submitted, {len(busy)} at work, {done} done before")
        return [found[share] for share in shares]

    def _executor(self, submitit: Any) -> Any:
        try:
            executor = submitit.AutoExecutor(folder=self.folder / "jobs", cluster=self.cluster)
            executor.update_parameters(**{f"slurm_{name}": value for name, value in self.parameters.items()})
        except (RuntimeError, NameError, ValueError) as error:
            raise checks.UsageError(
                expected=f"a cluster of {self.cluster} and options that submitit knows",
                got=checks.shorten(" ".join(str(error).split())),
                remedy="correct --slurm, or use --launch local",
            ) from error
        return executor

    def _known(self, submitit: Any, job_id: str, cluster: str) -> Any:
        kinds = {"slurm": submitit.SlurmJob, "local": submitit.LocalJob}
        return kinds[cluster](folder=self.folder / "jobs", job_id=job_id)


def wait(jobs: Sequence[Any]) -> None:
    """Waits until all jobs of submitit have ended.

    Raises:
      DataError: a job failed; the text has the end of what it wrote.
    """
    with ProgressBar("jobs") as bar:
        while True:
            ended = [job for job in jobs if not is_alive(job)]
            bar(len(ended), len(jobs))
            if len(ended) == len(jobs):
                break
            time.sleep(WAIT_S)
    failed = [job for job in jobs if not _succeeded(job)]
    if failed:
        lines = (failed[0].stderr() or "").strip().splitlines()[-LAST_LINES:]
        raise checks.DataError(
            expected=f"{len(jobs)} jobs that end well",
            got=f"{len(failed)} that failed, the first with: {checks.shorten(' | '.join(lines) or 'nothing written')}",
            remedy=f"see {failed[0].paths.stderr}; the same command submits them again",
        )


def is_alive(job: Any) -> bool:
    """Returns whether a job waits or runs, also one that another process submitted."""
    if job.paths.result_pickle.exists():
        return False
    if type(job).__name__ != "LocalJob":
        return not job.done(force_check=True)
    if getattr(job, "_process", None) is not None:
        return job.state == "RUNNING"
    # A local job's number is that of its process.
    try:
        os.kill(int(job.job_id), 0)
    except (ProcessLookupError, ValueError):
        return False
    return b"submitit" in Path(f"/proc/{job.job_id}/cmdline").read_bytes() if Path("/proc").is_dir() else True


def _succeeded(job: Any) -> bool:
    return job.paths.result_pickle.exists() and job.exception() is None


def _submitit() -> Any:
    # Else its import configures logging anew, which closes the handlers of everyone else.
    os.environ.setdefault("SUBMITIT_LOG_LEVEL", "NOCONFIG")
    try:
        import submitit
    except ImportError:
        raise checks.UsageError(
            expected="the package submitit for --launch", got="none", remedy='pip install "ncp-jax[slurm]"'
        ) from None
    return submitit


def python_command(*arguments: object) -> tuple[str, ...]:
    """Returns the command line of this package with some arguments."""
    return (sys.executable, "-m", "ncp_jax", *map(str, arguments))


def read_parameters(options: Sequence[str]) -> dict[str, str | int]:
    """Returns options "KEY=VALUE" by name, whole numbers as such.

    Raises:
      UsageError: an option of another form.
    """
    found: dict[str, str | int] = {}
    for option in options:
        name, sign, value = option.partition("=")
        if not sign or not name.isidentifier():
            raise checks.UsageError(
                expected="--slurm KEY=VALUE", got=repr(option), remedy="for example --slurm partition=gpu"
            )
        found[name] = int(value) if value.lstrip("-").isdecimal() else value
    return found
