"""Reads a folder of weight matrices and summarises how well the ordering solver did on them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.sources import sha256
from ncp_jax.ordering.matrix_files import read_weights

Loader = Callable[[], np.ndarray]


def load_folder(folder: Path) -> dict[str, Loader]:
    """Returns one loader per file of a folder, by file name; hidden files are left out.

    Raises:
      DataError: the folder has no files.
      FileNotFoundError: there is no such folder.
    """
    if not folder.is_dir():
        raise checks.MissingError(
            expected="a folder of matrices", got=f"nothing at {folder}", remedy="give another --folder"
        )
    files = _files(folder)
    if not files:
        raise checks.DataError(expected=f"matrices in {folder}", got="no files", remedy="give another --folder")
    return {path.name: functools.partial(_weights, path) for path in files}


def hash_files(folder: Path) -> dict[str, str]:
    """Returns the SHA-256 of each file that ``load_folder`` reads."""
    return {path.name: sha256(path.read_bytes()) for path in _files(folder)}


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _weights(path: Path) -> np.ndarray:
    return read_weights(path).weights


def best_known(folder: Path) -> dict[str, float]:
    """Returns the best known weights by file name, read from ``FOLDER_best_known.txt`` beside the folder.

    Without that file the result is empty.

    Raises:
      DataError: a line of the file is not a name and a number.
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
                expected=f"one name and weight per line in {path}", got=repr(line), remedy="correct the line"
            ) from error
    return known


def random_matrices(sizes: Sequence[int], *, seed: int = 0) -> dict[str, Loader]:
    """Returns loaders of square matrices of the given sizes, with integers drawn uniformly from 0 … 99."""
    return {
        f"random-{n}": functools.partial(
            lambda n: np.random.default_rng([seed, n]).integers(0, 100, (n, n)).astype(float), n
        )
        for n in sizes
    }


@dataclasses.dataclass(frozen=True)
class Solved:
    """The numbers of one solved matrix that the summary needs.

    Attributes:
      status: what ended the solver, see ``ordering.Ordering``.
      gap: relative gap between weight and bound.
      seconds: wall time.
      gap_to_best_known: relative gap to the best known weight; None where none is known.
    """

    status: str
    gap: float
    seconds: float
    gap_to_best_known: float | None

    @classmethod
    def from_json(cls, results: Mapping[str, Any]) -> Solved:
        """Reads the results of a record."""
        return cls(**{field.name: results[field.name] for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class OrderingSummary:
    """Totals over solved matrices.

    Attributes:
      matrices: number of matrices.
      optimal: number proven optimal.
      cut_by_the_clock: number that ended at the time limit.
      mean_gap: mean relative gap to the bound.
      max_gap: largest relative gap to the bound.
      mean_gap_to_best_known: mean relative gap to the best known weight; None where none is known.
      max_gap_to_best_known: largest such gap, or None.
      mean_seconds: mean wall time per matrix.
      max_seconds: longest wall time.
    """

    matrices: int
    optimal: int
    cut_by_the_clock: int
    mean_gap: float
    max_gap: float
    mean_gap_to_best_known: float | None
    max_gap_to_best_known: float | None
    mean_seconds: float
    max_seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the fields."""
        return dataclasses.asdict(self)


def summarise_solved(results: Sequence[Solved]) -> OrderingSummary:
    """Counts proven optima and averages gaps and seconds over solved matrices."""
    known = [r.gap_to_best_known for r in results if r.gap_to_best_known is not None]
    gaps, seconds = [r.gap for r in results], [r.seconds for r in results]
    return OrderingSummary(
        matrices=len(results),
        optimal=sum(r.status == "optimal" for r in results),
        cut_by_the_clock=sum(r.status == "time limit" for r in results),
        mean_gap=float(np.mean(gaps)),
        max_gap=float(np.max(gaps)),
        mean_gap_to_best_known=float(np.mean(known)) if known else None,
        max_gap_to_best_known=float(np.max(known)) if known else None,
        mean_seconds=float(np.mean(seconds)),
        max_seconds=float(np.max(seconds)),
    )
