"""Measures time, memory and background load, from within a process."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def timed(run: Callable[[int], object], calls: int) -> float:
    """Returns seconds per call of ``calls`` calls in a row; ``run(calls)`` returns when the last has its result."""
    began = time.perf_counter()
    run(calls)
    return (time.perf_counter() - began) / calls


def calls_for(seconds: float, run: Callable[[int], object]) -> int:
    """Returns how many calls in a row last ``seconds``, by timing one call after a first that compiles."""
    run(1)
    return max(1, round(seconds / max(timed(run, 1), 1e-9)))


class BackgroundLoad:
    """Counts how many cores other processes keep busy, from when this object is made.

    Such load slows down what is measured meanwhile, most of all engines whose threads wait for each other.
    """

    def __init__(self) -> None:
        self._busy, self._own, self._began = _busy_seconds(), _own_seconds(), time.perf_counter()

    def busy_cores(self) -> float | None:
        """Returns busy cores on average, without this process and its ended children; None where it is not known."""
        busy, began = _busy_seconds(), self._began
        if busy is None or self._busy is None:
            return None
        return max(0.0, (busy - self._busy) - (_own_seconds() - self._own)) / (time.perf_counter() - began)


def _busy_seconds() -> float | None:
    """Returns the seconds that all cores were busy since the machine was started; None where it is not known."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _, _, interrupts, soft_interrupts = map(int, path.read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak_memory_mb() -> float:
    """Returns the peak resident memory of this process in MB (1e6 bytes).

    Linux counts ``ru_maxrss`` from before ``exec`` too, so that a child starts with its parent's memory; the kernel's
    VmHWM counts this program alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
