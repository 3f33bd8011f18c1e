"""Collects what an official file says about architectures, value by value, and makes arrays of it."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.imported import ImportedArrays
from ncp_jax.benchmarks.stand_ins import brief, not_as_published
from ncp_jax.metrics import MetricSpec
from ncp_jax.spaces import get_space
from ncp_jax.types import Float

# In the order of columns: the first is a table's main metric.
_QUANTITIES = ("top1", "mIoU", "ssim", "neg_loss", "acc", "top5", "l1_loss", "loss")


class Collected:
    """The values of one table, while its files are read.

    Args:
      name: name of the table.
      space: name of the space of the architectures.
    """

    def __init__(self, name: str, space: str) -> None:
        self.name, self.space = name, space
        self._rows: dict[str, int] = {}
        self._codes: list[np.ndarray] = []
        self._metrics: dict[str, MetricSpec] = {}
        self._values: dict[str, dict[int, float]] = {}
        self._curves: dict[str, dict[int, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def row(self, architecture: str, where: str) -> int:
        """Returns the number of an architecture, which is added where it is new.

        Args:
          architecture: its string, as the space writes it.
          where: the file, for the error text.

        Raises:
          DataError: it is none of the space.
        """
        if architecture not in self._rows:
            if not isinstance(architecture, str):
                raise not_as_published(f"architectures of {self.space}", where, brief(architecture))
            try:
                self._codes.append(get_space(self.space).from_string(architecture))
            except checks.UsageError as error:
                raise checks.DataError(
                    expected=f"architectures of {self.space} in {where}",
                    got=f"{brief(architecture)} ({error})",
                    remedy="leave that architecture out, or name the kind that the file is of",
                ) from error
            self._rows[architecture] = len(self._rows)
        return self._rows[architecture]

    def put(self, row: int, metric: MetricSpec, value: Any, where: str) -> None:
        """Notes the value of an architecture.

        Raises:
          DataError: no number, or another one than is known already.
        """
        number = value if type(value) is float else as_number(value, metric.name, where)
        if metric.name not in self._metrics:
            self._metrics[metric.name] = metric
            self._values[metric.name] = {}
        known = self._values[metric.name].setdefault(row, number)
        if known != number and not (math.isnan(known) and math.isnan(number)):
            raise checks.DataError(
                expected=f"one value of {metric.name} in {self.name} for {self._string(row)}",
                got=f"{known!r} before and {number!r} in {where}",
                remedy="import one of the two files alone, or under a --name of its own",
            )

    def put_curve(self, row: int, metric: MetricSpec, values: Float[np.ndarray, " e"]) -> None:
        """Notes the values of an architecture after each epoch."""
        self._curves.setdefault(metric.name, {})[row] = values

    def put_epochs(self, row: int, metric: MetricSpec, values: Float[np.ndarray, " e"], where: str) -> None:
        """Notes the values of an architecture after each epoch, and the last and the best in columns; see ``put``."""
        self.put(row, metric, float(values[-1]), where)
        self.put(row, best_epoch(metric), best_of(values, metric.direction), where)
        self.put_curve(row, metric, values)

    def add(self, other: ImportedArrays, where: str) -> None:
        """Adds what is known from earlier imports.

        Raises:
          DataError: two values for the same thing.
        """
        strings = get_space(self.space).to_strings(other.codes)
        rows = [self.row(string, where) for string in strings]
        for column, metric in enumerate(other.metrics):
            known = np.flatnonzero(~np.isnan(other.values[:, column]) | other.failed[:, column])
            curve = other.curves.get(metric.name)
            for place in known:
                self.put(rows[place], metric, float(other.values[place, column]), where)
                if curve is not None:
                    self._curves.setdefault(metric.name, {}).setdefault(rows[place], curve[place])

    def arrays(self) -> ImportedArrays:
        """Returns the values as arrays, architectures in ascending order of their codes."""
        codes = np.stack(self._codes).astype(np.int32)
        order = np.lexsort(codes.T[::-1])
        metrics = tuple(sorted(self._metrics.values(), key=_place))
        values, failed = np.full((len(codes), len(metrics)), np.nan), np.zeros((len(codes), len(metrics)), bool)
        for column, metric in enumerate(metrics):
            rows = np.fromiter(self._values[metric.name].keys(), np.int64)
            known = np.fromiter(self._values[metric.name].values(), np.float64)
            values[rows, column] = np.where(np.isfinite(known), known, np.nan)
            failed[rows, column] = ~np.isfinite(known)
        curves = {name: _stacked(found, len(codes))[order] for name, found in self._curves.items()}
        return ImportedArrays(self.name, self.space, codes[order], values[order], failed[order], metrics, curves)

    def _string(self, row: int) -> str:
        return get_space(self.space).to_string(self._codes[row])


def _place(metric: MetricSpec) -> tuple[Any, ...]:
    """Returns where a column stands: validation first, final before best, the articles' metric before losses."""
    quantity = next((place for place, name in enumerate(_QUANTITIES) if f"_{name}" in metric.name), len(_QUANTITIES))
    splits = ("validation", "test", "train", "")
    return (
        metric.kind == "cost",
        splits.index(metric.split) if metric.split in splits else len(splits),
        metric.unit == "s",
        ("final", "best", "").index(metric.epoch) if metric.epoch in ("final", "best", "") else 3,
        quantity,
    )


def _stacked(curves: Mapping[int, np.ndarray], rows: int) -> Float[np.ndarray, "n e"]:
    made = np.full((rows, max(map(len, curves.values()))), np.nan)
    for row, curve in curves.items():
        made[row, : len(curve)] = curve
    return made


def as_number(value: Any, what: str, where: str) -> float:
    """Returns a number of a file as a float; NaN for None, which some files have for failed trainings.

    Raises:
      DataError: it is no number.
    """
    if value is None:
        return math.nan
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real | np.number):
        raise not_as_published(f"a number as {what}", where, brief(value))
    return float(value)


def as_curve(values: Any, what: str, where: str) -> Float[np.ndarray, " e"]:
    """Returns numbers of a file, one for each epoch, as an array; DataError where they are none."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "fiu":
        return values.astype(np.float64)
    if not isinstance(values, Sequence) or isinstance(values, str | bytes) or not values:
        raise not_as_published(f"a list of numbers, one for each epoch, as {what}", where, brief(values))
    if set(map(type, values)) == {float}:
        return np.array(values)
    return np.array([as_number(value, what, where) for value in values])


@functools.cache
def best_epoch(metric: MetricSpec) -> MetricSpec:
    """Returns the column of a metric after its best epoch, given that after the last one."""
    return dataclasses.replace(metric, name=f"{metric.name}_best", epoch="best")


def best_of(curve: Float[np.ndarray, " e"], direction: str) -> float:
    """Returns the best value of a curve: the largest, or of metrics to minimize the smallest. NaN where all are."""
    known = curve if math.isfinite(curve.sum()) else curve[np.isfinite(curve)]
    if not len(known):
        return math.nan
    return float(known.max() if direction == "maximize" else known.min())


def need(value: Any, keys: Iterable[str], what: str, where: str) -> Mapping[Any, Any]:
    """Returns a dictionary of a file.

    Raises:
      DataError: it is none, or lacks one of the keys.
    """
    if not isinstance(value, Mapping):
        raise checks.DataError(
            expected=f"a dictionary as {what} in {where}", got=brief(value), remedy="name the kind that the file is of"
        )
    missing = [key for key in keys if key not in value]
    if missing:
        found = ", ".join(checks.shorten(str(key)) for key in list(value)[:6])
        raise checks.DataError(
            expected=f"{', '.join(missing)} in {what} of {where}",
            got=f"keys {found}{', …' if len(value) > 6 else ''}" if value else "no keys",
            remedy="use the file as its source publishes it, and name the kind that it is of",
        )
    return value
