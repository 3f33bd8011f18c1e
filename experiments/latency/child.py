"""Runs a measured process: ``python -m latency.child JOB``, with requests and answers as JSON lines on stdin, stdout.

The imports of a role are part of what is measured, so this module imports nothing heavy.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def _setup(job: dict[str, Any]) -> Any:
    from latency.inputs import Setup

    return Setup(job)


def _engine(job: dict[str, Any]) -> Any:
    from latency.engine import Engine

    return Engine(job)


def _torch(job: dict[str, Any]) -> Any:
    from latency.torch_baselines import TorchBaseline

    return TorchBaseline(job)


def _loop_jax(job: dict[str, Any]) -> Any:
    from latency.baselines import LoopBaseline

    return LoopBaseline(job)


ROLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "setup": _setup,
    "engine": _engine,
    "torch": _torch,
    "loop-jax": _loop_jax,
}
"""Makers of the objects that answer requests, by role: a request ``{"do": name, …}`` calls the method of that name."""


def main() -> None:
    """Answers requests until stdin ends."""
    # Output of libraries goes to stderr, so that it does not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.argv[1])
    target = ROLES[job["role"]](job)
    for line in sys.stdin:
        request = json.loads(line)
        reply = getattr(target, request.pop("do"))(**request)
        print(json.dumps(reply), file=answers, flush=True)


if __name__ == "__main__":
    main()
