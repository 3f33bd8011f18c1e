"""The quickest of several ways to compute the same thing, found by running them."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Hashable, Mapping

from ncp_jax import checks

_chosen: dict[Hashable, str] = {}


def fastest(
    candidates: Mapping[str, Callable[[], object]],
    *,
    key: Hashable,
    repeats: int = 3,
    clock: Callable[[], float] = time.perf_counter,
) -> str:
    """Returns the name of the candidate that takes the least time; the same key is answered from memory.

    Each candidate runs once to compile and warm up, then ``repeats`` times, of which the shortest counts. One that
    raises is slower than all others, and a warning says why.

    Args:
      candidates: functions that return when their work is done, so with ``block_until_ready``.
      key: what the answer depends on, such as device, shapes and settings.
      repeats: measured runs of each.
      clock: seconds, from any origin.

    Raises:
      UsageError: no candidate, or no measured run.
      Exception: what the last candidate raised, where all of them failed.
    """
    if not candidates or repeats < 1:
        raise checks.UsageError(
            expected="at least one candidate and one repeat",
            got=f"{len(candidates)} and {repeats}",
            remedy="try repeats=3",
        )
    if key in _chosen:
        return _chosen[key]
    seconds, failure = {}, None
    for name, run in candidates.items():
        try:
            seconds[name] = _shortest(run, repeats, clock)
        except Exception as error:  # whatever a compiler or a device may raise
            failure = error
            warnings.warn(f"{name} failed and is not used: {type(error).__name__}: {error}", stacklevel=2)
    if not seconds and failure is not None:
        raise failure
    _chosen[key] = min(seconds, key=lambda name: seconds[name])
    return _chosen[key]


def _shortest(run: Callable[[], object], repeats: int, clock: Callable[[], float]) -> float:
    run()
    best = math.inf
    for _ in range(repeats):
        begin = clock()
        run()
        best = min(best, clock() - begin)
    return best
