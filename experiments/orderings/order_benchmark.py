"""A folder of weight matrices, solved: what ``experiments/solve_orderings.py`` reads and sums up."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.ordering.matrix_files import read_weights

Loader = Callable[[], np.ndarray]


def load_folder(folder: Path) -> dict[str, Loader]:
    """Returns a loader for each file of a folder, hidden ones left out.

    Raises:
      DataError: it has no files.
      FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise checks.MissingError(
            expected="a folder of matrices", got=f"nothing at {folder}", remedy="give another --folder"
        )
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    if not files:
        raise checks.DataError(expected=f"matrices in {folder}", got="no files", remedy="give another --folder")
    return {path.name: functools.partial(_weights, path) for path in files}


def _weights(path: Path) -> np.ndarray:
    return read_weights(path).weights


def best_known(folder: Path) -> dict[str, float]:
    """Returns the best known weights by file name, from ``FOLDER_best_known.txt`` beside the folder; {} without it.

    Raises:
      DataError: a line is not a name and a number.
    """
    folder = folder.absolute()
    path = folder.with_name(folder.name + "_best_known.txt")
    if not path.is_file():
        return {}
    known = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.strip():
            continue
        try:
            name, value = line.split()
            known[name] = float(value)
        except ValueError as error:
            raise checks.DataError(
                expected=f"a name and a weight a line in {path}", got=repr(line), remedy="mend it"
            ) from error
    return known


def random_matrices(sizes: Sequence[int], *, seed: int = 0) -> dict[str, Loader]:
    """Returns loaders of integer matrices, uniform in 0 … 99, of the given sizes."""
    return {
        f"random-{n}": functools.partial(
            lambda n: np.random.default_rng([seed, n]).integers(0, 100, (n, n)).astype(float), n
        )
        for n in sizes
    }


def overview(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums up records of solved matrices: how many are proven, gaps (relative), seconds."""
    known = [r["gap_to_best_known"] for r in results if r["gap_to_best_known"] is not None]
    gaps, seconds = [r["gap"] for r in results], [r["seconds"] for r in results]
    return {
        "matrices": len(results),
        "optimal": sum(r["status"] == "optimal" for r in results),
        "cut_by_the_clock": sum(r["status"] == "time limit" for r in results),
        "mean_gap": float(np.mean(gaps)),
        "max_gap": float(np.max(gaps)),
        "mean_gap_to_best_known": float(np.mean(known)) if known else None,
        "max_gap_to_best_known": float(np.max(known)) if known else None,
        "mean_seconds": float(np.mean(seconds)),
        "max_seconds": float(np.max(seconds)),
    }
