"""Reads and writes the benchmark that ships with the package: TransNAS micro cells trained on five tasks of digits.

One file has the whole benchmark. One code of each isomorphism class (1948) was trained, some from several seeds. Its
tables have all 4096 codes as rows, each with the values of its class. See ``benchmarks_data/digits.md``.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks, files
from ncp_jax.array_files import header_array, read_headed_npz, write_npz
from ncp_jax.benchmarks.arrays import TableArrays, join_arrays
from ncp_jax.benchmarks.catalogue import DIGITS, DIGITS_TASKS
from ncp_jax.console import short_repr
from ncp_jax.metrics import MetricSpec
from ncp_jax.spaces.costs import cost_model
from ncp_jax.spaces.costs.model import UNITS
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO
from ncp_jax.types import Float, Int

FORMAT = "ncp-jax digits 1"
SPLITS = ("train", "validation", "test")
FILE = "digits.npz"
_ARRAYS = ("codes", "final", "best", "epoch", "curve", "seconds")


@dataclasses.dataclass(frozen=True, eq=False)
class Digits:
    """All trainings of the benchmark, on the host. Scores are NaN where a training diverged or was not done.

    Attributes:
      codes: ``[n, 6]`` canonical code of each class, int32.
      final: ``[tasks, seeds, n, 3]`` metric on train, validation and test after the last epoch, float32, in percent;
        higher is better.
      best: ``[tasks, seeds, n, 3]`` the same after the epoch of the best validation value.
      epoch: ``[tasks, seeds, n]`` number of that epoch, int32, counted from 1; 0 if there is none.
      curve: ``[tasks, seeds, n, epochs]`` validation metric after each epoch, float32, to three digits.
      seconds: ``[tasks]`` seconds of one training, float32, when many run at once.
      card: JSON-ready facts on how the benchmark was made: settings, versions.
    """

    codes: Int[np.ndarray, "n 6"]
    final: Float[np.ndarray, "t s n 3"]
    best: Float[np.ndarray, "t s n 3"]
    epoch: Int[np.ndarray, "t s n"]
    curve: Float[np.ndarray, "t s n e"]
    seconds: Float[np.ndarray, " t"]
    card: dict[str, Any]

    __repr__ = short_repr


def digits_path() -> Path:
    """Returns the path of the shipped file, in the installed package or in ``benchmarks_data/`` of a checkout."""
    return files.shipped_folder() / FILE


def write_digits(path: str | Path, digits: Digits) -> Path:
    """Writes the benchmark to one npz file without pickles, atomically. Equal content gives equal bytes."""
    arrays: dict[str, Any] = {
        "codes": digits.codes.astype(np.int8),
        "final": digits.final.astype(np.float32),
        "best": digits.best.astype(np.float32),
        "epoch": digits.epoch.astype(np.int8),
        "curve": digits.curve.astype(np.float16),
        "seconds": digits.seconds.astype(np.float32),
        "header": header_array(FORMAT, {"card": digits.card}),
    }
    return write_npz(path, arrays, compressed=True)


def read_digits(path: str | Path | None = None) -> Digits:
    """Reads the benchmark, by default the shipped one. Nothing in the file is executed.

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: the file is truncated, altered, or of another format.
    """
    place = digits_path() if path is None else Path(path)
    try:
        header, stored = read_headed_npz(place.read_bytes(), FORMAT)
        arrays = {name: stored[name] for name in _ARRAYS}
        _check_shapes(arrays)
        card = dict(header["card"])
    except FileNotFoundError as error:
        raise checks.MissingError(
            expected=f"the digits benchmark at {place}",
            got="no such file",
            remedy="reinstall ncp-jax, or make it with experiments/make_benchmark.py",
        ) from error
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise checks.DataError(
            expected=f"a file of format {FORMAT} at {place}",
            got=f"something else ({error})",
            remedy="reinstall ncp-jax, or make it anew",
        ) from error
    wide = {name: a.astype(np.int32 if a.dtype.kind == "i" else np.float32) for name, a in arrays.items()}
    return Digits(**wide, card=card)


def _check_shapes(arrays: Mapping[str, np.ndarray]) -> None:
    """Raises ValueError where the shapes of the arrays do not belong together, or the codes are none."""
    tasks, final = len(DIGITS_TASKS), arrays["final"].shape
    if arrays["codes"].ndim != 2 or len(final) != 4 or 0 in final or final[::2] != (tasks, len(arrays["codes"])):
        raise ValueError(f"{final} scores for codes {arrays['codes'].shape} on {tasks} tasks")
    shapes = {"final": (*final[:3], len(SPLITS)), "best": final, "epoch": final[:3], "seconds": (tasks,)}
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{name} {arrays[name].shape} instead of {shape}")
    if arrays["curve"].ndim != 4 or arrays["curve"].shape[:3] != final[:3]:
        raise ValueError(f"curve {arrays['curve'].shape} instead of {(*final[:3], 'epochs')}")
    TRANSNAS_MICRO.check(arrays["codes"])


@functools.cache
def _shipped() -> Digits:
    return read_digits()


@functools.cache
def _file_hash() -> str:
    return hashlib.sha256(digits_path().read_bytes()).hexdigest()


def digits_metrics(task: str) -> tuple[MetricSpec, ...]:
    """Returns the columns of a task's table, the validation metric after the last epoch first."""
    name = "r2" if task in ("autoencoder", "edges") else "accuracy"
    measured = [
        MetricSpec(
            f"{'best_' if epoch == 'best' else ''}{'' if split == 'validation' else f'{split}_'}{name}",
            task=task,
            split=split,
            epoch=epoch,
            unit="%",
        )
        for epoch in ("final", "best")
        for split in ("validation", "train", "test")
    ]
    return (
        *measured,
        MetricSpec("flops", unit=UNITS["flops"], direction="minimize", kind="cost"),
        MetricSpec("params", unit=UNITS["params"], direction="minimize", kind="cost"),
        MetricSpec("seconds", task=task, split="train", unit="s", direction="minimize", kind="cost"),
    )


def digits_arrays(task: str, digits: Digits | None = None) -> TableArrays:
    """Returns the table of one task: all 4096 codes in ascending order, with the values of their class at seed 0.

    Classes that were not trained, or whose training diverged, are left out. Costs are those of the code, including dead
    edges, as in the published benchmarks.

    Args:
      task: one of ``DIGITS_TASKS``.
      digits: the benchmark; the shipped one if None.
    """
    made = _shipped() if digits is None else digits
    place = DIGITS_TASKS.index(checks.choose("digits task", task, DIGITS_TASKS))
    final, best = made.final[place, 0], made.best[place, 0]
    columns = [scores[:, SPLITS.index(split)] for scores in (final, best) for split in ("validation", "train", "test")]
    measured = np.stack(columns, axis=1).astype(np.float64)
    codes = TRANSNAS_MICRO.all_codes()
    rows = class_rows(codes, made)
    kept = (rows >= 0) & np.isfinite(measured[rows]).all(axis=1)
    model = cost_model(TRANSNAS_MICRO, f"{DIGITS}/{DIGITS_TASKS[place]}")
    assert model is not None
    costs = model.in_units(codes[kept])
    seconds = np.full(kept.sum(), made.seconds[place], np.float64)
    values = np.column_stack([measured[rows[kept]], costs["flops"], costs["params"], seconds])
    hashes = ((FILE, _file_hash()),) if digits is None else ()
    return TableArrays(
        f"{DIGITS}/{DIGITS_TASKS[place]}",
        TRANSNAS_MICRO.name,
        codes[kept],
        values,
        digits_metrics(DIGITS_TASKS[place]),
        hashes,
    )


def digits_curves(task: str, arrays: TableArrays) -> Float[np.ndarray, "n e"]:
    """Returns the validation metric of a task after each epoch, float64, for the architectures of its table.

    The shipped curves have three digits; the last epoch is the table's value.
    """
    made = _shipped()
    curves = made.curve[DIGITS_TASKS.index(task), 0][class_rows(arrays.codes, made)].astype(np.float64)
    curves[:, -1] = arrays.values[:, 0]
    return curves


def class_rows(codes: Int[np.ndarray, "m 6"], digits: Digits) -> Int[np.ndarray, " m"]:
    """Returns, for each code, the row of its isomorphism class in ``digits``; -1 if there is none."""
    rows = np.full(TRANSNAS_MICRO.size, -1)
    rows[np.asarray(TRANSNAS_MICRO.index(jnp.asarray(digits.codes)))] = np.arange(len(digits.codes))
    return rows[np.asarray(TRANSNAS_MICRO.index(TRANSNAS_MICRO.canonical(jnp.asarray(codes))))]


def join_digits() -> TableArrays:
    """Returns all tasks as one table. Costs are those of the networks of "class"; other tasks have other heads."""
    first, *others = [digits_arrays(task) for task in DIGITS_TASKS]
    whole = _without(first, lambda metric: metric.name == "seconds")
    return join_arrays(DIGITS, [whole, *(_without(table, lambda metric: metric.kind == "cost") for table in others)])


def _without(table: TableArrays, dropped: Callable[[MetricSpec], bool]) -> TableArrays:
    kept = [i for i, metric in enumerate(table.metrics) if not dropped(metric)]
    metrics = tuple(table.metrics[i] for i in kept)
    return dataclasses.replace(table, values=table.values[:, kept], metrics=metrics)
