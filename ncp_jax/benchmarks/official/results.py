"""Reads what NAS-Bench-201 and NATS-Bench hold of one architecture: trainings by hyper-parameters, data set and seed.

Both publish ``{hyper-parameters: {"arch_str", "all_results": {(data set, seed): training}}}``. A training holds
``train_acc1es``, ``train_losses``, … by epoch, and ``eval_acc1es``, … under keys like ``x-valid@11``.

CIFAR-10 was trained twice: on half of its training images, which leaves the other half for validation
(``cifar10-valid``), and on all of them (``cifar10``). The validation values of CIFAR-10 are those of the first, its
test values those of the second; the first has a table of its own, too.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ncp_jax.benchmarks.official.collected import Collected, as_number, best_epoch, best_of, need
from ncp_jax.benchmarks.official.reading import Reading
from ncp_jax.benchmarks.stand_ins import brief, not_as_published
from ncp_jax.metrics import MetricSpec
from ncp_jax.types import Direction, Float

QUANTITIES: dict[str, tuple[str, Direction, str]] = {
    "acc1es": ("top1", "maximize", "%"),
    "acc5es": ("top5", "maximize", "%"),
    "losses": ("loss", "minimize", "1"),
}
HALF = "cifar10-valid"
# Name of a set of images in the files → name in columns, split.
SETS = {"x-valid": ("valid", "validation"), "x-test": ("test", "test"), "ori-test": ("ori_test", "test")}
_EPOCHS = 10_000


@dataclasses.dataclass(frozen=True)
class Curve:
    """One metric of one training.

    Attributes:
      name: name of the column, without the seed ("valid_top1").
      split: data split.
      direction: direction of the metric.
      unit: unit of the metric.
      values: float64 [e], one for each epoch; NaN where the file has none or the training failed.
      whole: whether the file has all epochs.
    """

    name: str
    split: str
    direction: Direction
    unit: str
    values: Float[np.ndarray, " e"]
    whole: bool


def read_results(sets: Any, names: Mapping[str, str], space: str, where: str, reading: Reading) -> None:
    """Reads one architecture into the tables of its data sets.

    Args:
      sets: set of hyper-parameters → its trainings.
      names: set of hyper-parameters → how tables call it.
      space: name of the space.
      where: the file.
      reading: the import.

    Raises:
      DataError: the content has another form.
    """
    for key, results in need(sets, (), "the results of an architecture", where).items():
        if not isinstance(key, str) or not isinstance(results, Mapping):
            raise not_as_published(
                f"results by set of hyper-parameters ({', '.join(names)})", where, brief({key: results})
            )
        results = need(results, ("arch_str", "all_results"), f"the results {key!r}", where)
        _read_set(results, names.get(key, key), space, where, reading)


def _read_set(results: Mapping[str, Any], hyper: str, space: str, where: str, reading: Reading) -> None:
    architecture = results["arch_str"]
    by_table: dict[str, list[tuple[str, str, Mapping[str, Any]]]] = {}
    for key, training in need(results["all_results"], (), "all_results", where).items():
        if not isinstance(key, tuple) or len(key) != 2 or not isinstance(key[0], str):
            raise not_as_published("trainings by (data set, seed)", where, brief(key))
        data, seed = key[0], str(key[1])
        training = need(training, ("epochs",), f"the training {data}, {seed}", where)
        by_table.setdefault(data, []).append((data, seed, training))
        if data == HALF:
            by_table.setdefault("cifar10", []).append((data, seed, training))
    for data, trainings in by_table.items():
        table = reading.table(f"{reading.name}/{data.lower()}-{hyper}", space)
        row = table.row(architecture, where)
        gathered: dict[str, list[tuple[MetricSpec, float]]] = {}
        curves: dict[str, list[tuple[MetricSpec, np.ndarray]]] = {}
        for origin, seed, training in trainings:
            task = "cifar10" if data == HALF else data.lower()
            for curve in _curves(training, origin, data, where):
                final = _made(curve.name, task, curve.split, "final", curve.unit, curve.direction, seed)
                gathered.setdefault(final.name, []).append((final, float(curve.values[-1])))
                if curve.whole:
                    best, value = best_epoch(final), best_of(curve.values, curve.direction)
                    gathered.setdefault(best.name, []).append((best, value))
                    curves.setdefault(final.name, []).append((final, curve.values))
            for cost, value in _costs(training, task, seed, origin == data, where):
                gathered.setdefault(cost.name, []).append((cost, value))
        _put(table, row, gathered, curves, where, mean=reading.seeds == "mean")


def _put(
    table: Collected,
    row: int,
    gathered: Mapping[str, list[tuple[MetricSpec, float]]],
    curves: Mapping[str, list[tuple[MetricSpec, np.ndarray]]],
    where: str,
    *,
    mean: bool,
) -> None:
    """Notes the values of all seeds of an architecture: each in a column of its own, or their mean."""
    for values in gathered.values():
        if mean and values[0][0].seed:
            # A training that failed makes the mean NaN: the others alone would look better than the architecture is.
            table.put(row, _mean_of(values[0][0]), float(np.mean([value for _, value in values])), where)
            continue
        for metric, value in values:
            table.put(row, _of_seed(metric), value, where)
    for found in curves.values():
        if mean:
            longest = max(len(curve) for _, curve in found)
            alike = [curve for _, curve in found if len(curve) == longest]
            table.put_curve(row, _mean_of(found[0][0]), np.mean(alike, axis=0))
            continue
        for metric, curve in found:
            table.put_curve(row, _of_seed(metric), curve)


@functools.cache
def _of_seed(metric: MetricSpec) -> MetricSpec:
    return dataclasses.replace(metric, name=f"{metric.name}_seed{metric.seed}") if metric.seed else metric


@functools.cache
def _mean_of(metric: MetricSpec) -> MetricSpec:
    return dataclasses.replace(metric, seed="mean")


@functools.cache
def _made(
    name: str, task: str, split: str, epoch: str, unit: str, direction: Direction, seed: str, kind: str = "quality"
) -> MetricSpec:
    return MetricSpec(name, task=task, split=split, epoch=epoch, unit=unit, direction=direction, kind=kind, seed=seed)


def _curves(training: Mapping[str, Any], origin: str, data: str, where: str) -> Iterator[Curve]:
    """Returns the metrics of a training that belong to the table of a data set."""
    epochs = training["epochs"]
    if type(epochs) is not int or not 0 < epochs < _EPOCHS:
        raise not_as_published("a number of epochs", where, brief(epochs))
    for field, (quantity, direction, unit) in QUANTITIES.items():
        trained = training.get(f"train_{field}")
        if trained and origin == data:
            values, whole = _by_epoch(trained, lambda epoch: epoch, epochs, where)
            yield Curve(f"train_{quantity}", "train", direction, unit, values, whole)
        evaluated = training.get(f"eval_{field}") or {}
        for images, (name, split) in SETS.items():
            # The table of CIFAR-10 takes validation from the training on half of the images, all else from the other.
            if origin != data and images != "x-valid":
                continue
            if not any(f"{images}@{epoch}" in evaluated for epoch in (epochs - 1, 0)):
                continue
            shown = "test" if images == "ori-test" and data in ("cifar10", HALF) else name
            values, whole = _by_epoch(evaluated, f"{images}@{{}}".format, epochs, where)
            yield Curve(f"{shown}_{quantity}", split, direction, unit, values, whole)


def _by_epoch(found: Any, key: Any, epochs: int, where: str) -> tuple[Float[np.ndarray, " e"], bool]:
    """Returns the values by epoch, and whether all are there."""
    found = need(found, (), "values by epoch", where)
    values = [found.get(key(epoch), _ABSENT) for epoch in range(epochs)]
    whole = epochs > 1 and not any(value is _ABSENT for value in values)
    numbers = [np.nan if value is _ABSENT else as_number(value, "a value of an epoch", where) for value in values]
    return np.array(numbers), whole


_ABSENT = object()


def _costs(
    training: Mapping[str, Any], task: str, seed: str, own: bool, where: str
) -> Iterator[tuple[MetricSpec, float]]:
    """Returns what the files say beside the metrics: parameters, FLOPs, latency and time of training."""
    for field in ("params", "flop"):
        if training.get(field) is not None:
            yield _made(field, task, "", "", "M", "minimize", "", "cost"), as_number(training[field], field, where)
    if not own:
        return
    latency = training.get("latency")
    if isinstance(latency, list) and latency:
        seconds = float(np.mean([as_number(value, "latency", where) for value in latency]))
        if seconds > 0:  # the authors write -1 where it was not measured
            yield _made("latency", task, "", "", "s", "minimize", seed, "cost"), seconds
    times = training.get("train_times")
    if times:
        total = sum(as_number(value, "train_times", where) for value in need(times, (), "train_times", where).values())
        yield _made("train_seconds", task, "train", "final", "s", "minimize", seed), float(total)
