"""Assembles the digits benchmark and its card from the records of trainings."""

from __future__ import annotations

from typing import Any

import numpy as np

from digits_benchmark.generate import Chunk, architectures
from ncp_jax import checks
from ncp_jax.benchmarks.catalogue import DIGITS_TASKS
from ncp_jax.benchmarks.digits import Digits
from ncp_jax.records.journal import Records
from ncp_jax.training.cells.tasks import split_rows


def assemble(records: Records, card: dict[str, Any]) -> Digits:
    """Returns the benchmark of all records; values that were not trained or that diverged are NaN.

    Raises:
      UsageError: there are no records.
    """
    if not len(records):
        raise checks.UsageError(expected="records of trainings", got="none", remedy="run experiments/make_benchmark.py")
    codes = architectures()
    chunks = [(Chunk(**record["cell"]), record["results"]) for record in records]
    seeds = 1 + max(chunk.seed for chunk, _ in chunks)
    epochs = len(chunks[0][1]["curve"][0])
    size = (len(DIGITS_TASKS), seeds, len(codes))
    final, best = (np.full((*size, 3), np.nan, np.float32) for _ in range(2))
    curve, epoch = np.full((*size, epochs), np.nan, np.float32), np.zeros(size, np.int32)
    paces: dict[str, list[float]] = {task: [] for task in DIGITS_TASKS}
    for chunk, found in chunks:
        place = (DIGITS_TASKS.index(chunk.task), chunk.seed, slice(chunk.start, chunk.stop))
        final[place], best[place] = np.array(found["final"], np.float32), np.array(found["best"], np.float32)
        curve[place], epoch[place] = np.array(found["curve"], np.float32), found["epoch"]
        paces[chunk.task].append(found["seconds"])
    return Digits(
        codes=codes,
        final=final,
        best=best,
        epoch=epoch,
        curve=curve,
        # The median, because the first chunk of a process compiles.
        seconds=np.array([np.median(paces[task]) if paces[task] else np.nan for task in DIGITS_TASKS], np.float32),
        card=card,
    )


def make_card(settings: dict[str, Any], versions: dict[str, Any]) -> dict[str, Any]:
    """Returns the card of the benchmark, with all that is needed to make it again: settings, splits, versions."""
    return {
        "what": "TransNAS-Bench-101 micro cells in small networks, trained on scikit-learn's digits by ncp-jax",
        "settings": settings,
        "images": {name: len(rows) for name, rows in split_rows().items()},
        "value": "a table's row holds the training from seed 0 of the code's isomorphism class",
        **versions,
    }
