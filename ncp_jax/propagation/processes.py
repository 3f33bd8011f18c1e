"""Gathers the results of several processes under ``jax.distributed``."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from ncp_jax.propagation.found import Found, merge


def gather(found: Found, keep: int) -> Found:
    """Merges the results of all processes into the best ``keep`` architectures. Every process returns the same."""
    if jax.process_count() == 1:
        return found
    names = ("codes", "mean", "spread", "score")
    arrays = {name: getattr(found, name) for name in names} | {f"cost {n}": c for n, c in found.costs.items()}
    counts = _all(np.array([len(found), found.scored]))
    gathered: dict[str, Any] = {name: _all_rows(array, counts[:, 0]) for name, array in arrays.items()}
    portions = [
        dataclasses.replace(
            found,
            costs={n: gathered[f"cost {n}"][p] for n in found.costs},
            scored=int(scored),
            **{name: gathered[name][p] for name in names},
        )
        for p, (_, scored) in enumerate(counts)
    ]
    return merge(portions, keep)


def smallest(number: float) -> float:
    """Returns the smallest of the processes' numbers."""
    if jax.process_count() == 1:
        return number
    return float(np.concatenate(_all_rows(np.array([number]), np.ones(jax.process_count(), int))).min())


def _all_rows(array: np.ndarray, counts: np.ndarray) -> list[np.ndarray]:
    """Returns the array of each process. They are sent as bytes, since JAX would cut 64-bit numbers to 32 bits."""
    widest = int(counts.max())
    padded = np.zeros((widest, *array.shape[1:]), array.dtype)
    padded[: len(array)] = array
    sent = _all(np.frombuffer(padded.tobytes(), np.uint8))
    return [
        np.frombuffer(row.tobytes(), array.dtype).reshape(padded.shape)[:n] for row, n in zip(sent, counts, strict=True)
    ]


def _all(array: np.ndarray) -> np.ndarray:
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(array))
