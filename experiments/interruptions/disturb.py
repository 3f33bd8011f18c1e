"""Disturbs a command, lets it finish undisturbed, and compares the result with that of an undisturbed run."""

from __future__ import annotations

import dataclasses
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interruptions.jobs import Job, Pieces, write_inputs
from ncp_jax import checks

PATIENCE = 600.0  # seconds after which an undisturbed command counts as hanging
ROOM = 64 * 2**20  # bytes of a disk with room
PAGE = 4096  # bytes by which the size of a disk in memory can differ


@dataclasses.dataclass(frozen=True)
class Undisturbed:
    """What a command does when it is left alone.

    Attributes:
      pieces: what it finishes.
      seconds: how long it takes, compiled programs being cached.
      bytes: size of its files on the disk.
      largest: size of its largest file.
    """

    pieces: Pieces
    seconds: float
    bytes: int
    largest: int


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a disturbed command ended, and what a second call made of it.

    Attributes:
      finished: number of pieces that were finished when it ended.
      lost: finished pieces that the second call lost.
      different: pieces of the final result that differ from the undisturbed run's.
      fault: what went wrong otherwise: half a file, a traceback, a status, …; "" for nothing.
      struck: whether the disturbance ended the command; it may have been done before.
    """

    finished: int
    lost: int
    different: int
    fault: str = ""
    struck: bool = True

    def to_json(self) -> dict[str, Any]:
        """Returns the fields."""
        return dataclasses.asdict(self)


class Workplace:
    """Runs jobs in folders of its own, with a cache of compiled programs that all of them share.

    Args:
      folder: where the jobs write; their folders are removed afterwards.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.inputs = self.folder / "inputs"
        write_inputs(self.inputs)
        self._reference: dict[str, Undisturbed] = {}

    def launch(self, job: Job, arguments: Sequence[str], folder: Path, limit: int | None = None) -> subprocess.Popen:
        """Starts a call of a job in a process group of its own; ``limit`` is the largest size of a file in bytes."""
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": str(self.folder / "xla")}
        environment |= {job.variable: str(folder)} if job.variable else {}

        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            start_new_session=True,
        )
        if limit is not None:
            resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (limit, limit))
        return process

    def complete(self, job: Job, arguments: Sequence[str], folder: Path) -> str:
        """Runs a call of a job to its end; returns what it says about a failure, "" for success."""
        process = self.launch(job, arguments, folder)
        _, err = process.communicate(timeout=PATIENCE)
        return "" if process.returncode == 0 else f"status {process.returncode}: {err[-400:]}"

    def undisturbed(self, job: Job) -> Undisturbed:
        """Returns the result of a job that is left alone. It runs twice: the first time it compiles.

        Raises:
          DataError: the job fails, or two runs of it differ.
        """
        if job.name in self._reference:
            return self._reference[job.name]
        found = []
        for _ in range(2):
            with self._fresh(job) as folder:
                began = time.perf_counter()
                fault = self.complete(job, job.start(self.inputs, folder), folder)
                seconds = time.perf_counter() - began
                if fault:
                    raise checks.DataError(expected=f"{job.name} to run", got=fault, remedy="mend it first")
                files = [path.stat() for path in folder.rglob("*") if path.is_file()]
                size = sum(-(-stat.st_size // PAGE) * PAGE for stat in files)
                found.append(Undisturbed(job.read(folder), seconds, size, max(stat.st_size for stat in files)))
        if different(found[0].pieces, found[1].pieces):
            raise checks.DataError(
                expected=f"two equal runs of {job.name}", got="different ones", remedy="mend it first"
            )
        self._reference[job.name] = found[1]
        return found[1]

    @contextmanager
    def _fresh(self, job: Job) -> Iterator[Path]:
        folder = self.folder / job.name / "out"
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield folder
        shutil.rmtree(folder, ignore_errors=True)

    def kill(self, job: Job, moment: float) -> Outcome:
        """Kills a job with SIGKILL at a moment between its start (0) and its end (1), then lets it go on."""
        whole = self.undisturbed(job)
        with self._fresh(job) as folder:
            process = self.launch(job, job.start(self.inputs, folder), folder)
            try:
                process.communicate(timeout=moment * whole.seconds)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate()
            struck = process.returncode == -signal.SIGKILL
            return dataclasses.replace(self._second_call(job, folder), struck=struck)

    def fill(self, job: Job, share: float, *, mount: bool) -> Outcome:
        """Runs a job on a disk that has room for a share of its files, then lets it go on with room for all.

        Args:
          job: the job.
          share: size of the disk as a share of what the job needs.
          mount: whether the disk is a file system in memory, which takes root; else the size of each file is limited.
        """
        whole = self.undisturbed(job)
        with self._fresh(job) as disk:
            folder = disk / "out" if mount else disk
            if mount:
                pages = max(1, round(share * whole.bytes / PAGE))
                disk.mkdir()
                _system("mount", "-t", "tmpfs", "-o", f"size={pages * PAGE}", "tmpfs", str(disk))
            try:
                limit = None if mount else round(share * whole.largest)
                process = self.launch(job, job.start(self.inputs, folder), folder, limit)
                _, err = process.communicate(timeout=PATIENCE)
                fault = _unclear(process.returncode, err)
                if mount:
                    _system("mount", "-o", f"remount,size={ROOM}", str(disk))
                outcome = self._second_call(job, folder)
                return dataclasses.replace(outcome, fault=fault or outcome.fault, struck=process.returncode != 0)
            finally:
                if mount:
                    _system("umount", str(disk))

    def write_twice(self, job: Job) -> Outcome:
        """Starts a job twice on one folder, the second time when the first has begun to write.

        Where a second one is refused, the first pauses meanwhile: it could be done before the second gets there.
        """
        whole = self.undisturbed(job)
        with self._fresh(job) as folder:
            first = self.launch(job, job.start(self.inputs, folder), folder)
            while first.poll() is None and not (folder.is_dir() and any(folder.iterdir())):
                time.sleep(0.01)
            if job.one_writer:
                time.sleep(0.2)  # it makes the lock's file before it takes the lock
                os.killpg(first.pid, signal.SIGSTOP)
            second = self.launch(job, job.again(self.inputs, folder), folder)
            second_err = second.communicate(timeout=PATIENCE)[1]
            if job.one_writer:
                os.killpg(first.pid, signal.SIGCONT)
            first_err = first.communicate(timeout=PATIENCE)[1]
            fault = "" if first.returncode == 0 else f"the first: status {first.returncode}: {first_err[-400:]}"
            wanted = 2 if job.one_writer else 0
            if not fault and second.returncode != wanted:
                fault = f"the second: status {second.returncode}: {second_err[-400:]}"
            pieces = job.read(folder)
            return Outcome(len(pieces), 0, different(pieces, whole.pieces), fault)

    def _second_call(self, job: Job, folder: Path) -> Outcome:
        try:
            before = job.read(folder)
        except Exception as error:  # what a half-written file raises depends on its format
            return Outcome(0, 0, 0, f"{type(error).__name__}: {error}")
        wanted = self.undisturbed(job).pieces
        wrong = sum(before[name][1] != wanted[name][1] for name in before if name in wanted)
        fault = self.complete(job, job.again(self.inputs, folder), folder)
        after = {} if fault else job.read(folder)
        # A record moves to another file when a study is complete; its line stays the same.
        lost = sum(name not in after or after[name][0] != before[name][0] for name in before if _is_kept(job, name))
        return Outcome(len(before), lost, wrong + different(after, wanted), fault)


def _is_kept(job: Job, name: str) -> bool:
    """Whether a finished piece stays as it is. Summaries are written anew by every call."""
    return job.keeps and (name.startswith("record ") or job.variable != "" or job.name == "fit")


def different(pieces: Pieces, wanted: Pieces) -> int:
    """Returns the number of pieces that are missing, too many, or have another result."""
    names = {*pieces, *wanted}
    return sum(name not in pieces or name not in wanted or pieces[name][1] != wanted[name][1] for name in names)


def _unclear(status: int, err: str) -> str:
    """Returns what is wrong with the end of a command on a full disk; "" for one clear message, or success."""
    lines = [line for line in err.splitlines() if "error" in line.lower() or "Traceback" in line]
    if status == 0 and not lines:
        return ""
    clear = status == 1 and len(lines) == 1 and lines[0].startswith("ncp-jax: error:") and "unexpected" not in lines[0]
    return "" if clear else f"status {status}: {err[-400:]}"


def can_mount(folder: Path) -> bool:
    """Returns whether this process may mount a file system in memory."""
    place = folder / "mount"
    place.mkdir(parents=True, exist_ok=True)
    try:
        _system("mount", "-t", "tmpfs", "-o", f"size={PAGE}", "tmpfs", str(place))
        _system("umount", str(place))
    except (OSError, subprocess.CalledProcessError):
        return False
    finally:
        place.rmdir()
    return True


def _system(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
