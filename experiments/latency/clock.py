"""Times and memory of the process that asks."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path


def timed(run: Callable[[int], object], calls: int) -> float:
    """Seconds a call, of ``calls`` calls in a row; ``run(calls)`` returns when the last has its result."""
    began = time.perf_counter()
    run(calls)
    return (time.perf_counter() - began) / calls


def calls_for(seconds: float, run: Callable[[int], object]) -> int:
    """How many calls in a row last ``seconds``, found by timing one; also the warm-up, so compilation is over."""
    run(1)
    return max(1, round(seconds / max(timed(run, 1), 1e-9)))


class Others:
    """How much of the machine others use, from when this is made.

    Their noise is in what is measured meanwhile, and engines whose threads wait for each other suffer most.
    """

    def __init__(self) -> None:
        self._busy, self._own, self._began = _busy_seconds(), _own_seconds(), time.perf_counter()

    def busy_cores(self) -> float | None:
        """Cores at work, on average, but for this process and its children that have ended; None if nothing tells."""
        busy, began = _busy_seconds(), self._began
        if busy is None or self._busy is None:
            return None
        return max(0.0, (busy - self._busy) - (_own_seconds() - self._own)) / (time.perf_counter() - began)


def _busy_seconds() -> float | None:
    """Seconds of work of all cores since the machine was started."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    user, nice, system, _, _, interrupts, soft_interrupts = map(int, path.read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")


def _own_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def peak_memory_mb() -> float:
    """The largest resident memory that this process has had, in MB (1e6 bytes).

    Linux counts ``ru_maxrss`` from before ``exec`` too, so that a child starts with its parent's memory; the kernel's
    own high-water mark is of this program alone.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
