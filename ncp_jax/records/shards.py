"""Reads which share of the work a process does."""

from __future__ import annotations

import jax

from ncp_jax import checks


def read_shard(text: str) -> tuple[int, int]:
    """(share, number of shares) from "i/N".

    Raises:
      UsageError: anything else.
    """
    if not text:
        return jax.process_index(), jax.process_count()
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and int(count) >= 1 and int(index) <= int(count)):
        raise checks.UsageError(
            expected="--shard i/N with N >= 1 and i in 0..N-1 (or 1..N)",
            got=repr(text),
            remedy="try --shard 0/8 … --shard 7/8",
        )
    return int(index) % int(count), int(count)
