"""The entry of a measured process: ``python -m latency.child JOB`` with JSON lines on stdin, stdout.

Nothing heavy is imported here: what a role imports is part of what is measured.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from typing import Any


def _setup(job: dict[str, Any]) -> Any:
    from latency.subject import Setup

    return Setup(job)


def _engine(job: dict[str, Any]) -> Any:
    from latency.engine import Engine

    return Engine(job)


def _torch(job: dict[str, Any]) -> Any:
    from latency.torch_rivals import TorchRival

    return TorchRival(job)


def _loop_jax(job: dict[str, Any]) -> Any:
    from latency.rivals import LoopRival

    return LoopRival(job)


ROLES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "setup": _setup,
    "engine": _engine,
    "torch": _torch,
    "loop-jax": _loop_jax,
}
"""Role → what answers its requests: a request ``{"do": name, …}`` calls the method of that name."""


def main() -> None:
    """Answers requests until there are no more."""
    # Whatever a library prints must not get between the answers.
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
