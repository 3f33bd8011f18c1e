"""Chooses the fastest of several implementations by timing them."""

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
    """Returns the name of the fastest candidate, and remembers it by ``key``.

    Each candidate runs once to compile and warm up, then ``repeats`` times, of which the shortest counts. A candidate
    that raises is left out, with a warning that says why.

    Args:
      candidates: functions that return when their work is done, hence with ``block_until_ready``.
      key: everything that the answer depends on, such as device, shapes and settings.
      repeats: number of timed runs per candidate.
      clock: function that returns seconds, from any origin.

    Raises:
      UsageError: there is no candidate or no timed run.
      Exception: all candidates failed; this is the last one's exception.
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
        except Exception as error:  # compilers and devices raise exceptions of many types
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
