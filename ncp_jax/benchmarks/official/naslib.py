"""Reads NASLib's files of NAS-Bench-201, ``nb201_cifar10_full_training.pickle`` and the like.

They hold ``{architecture: {data set: {"train_acc1es": list, "eval_acc1es": list, …, "cost_info"}}}``. The lists
``eval_…`` were made from the official entries: one value of the validation images for each epoch, then the values of
the test images after the last one. NASLib takes the last entry as validation accuracy; it is a test accuracy.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncp_jax import checks
from ncp_jax.benchmarks.official.collected import Collected, as_curve, need
from ncp_jax.benchmarks.official.files import read_pickled
from ncp_jax.benchmarks.official.reading import Reading
from ncp_jax.benchmarks.official.results import HALF, QUANTITIES
from ncp_jax.benchmarks.stand_ins import not_as_published
from ncp_jax.metrics import MetricSpec

SPACE, SIZE = "nas-bench-201", 15625
COSTS = {
    "flops": ("flop", "M", "cost"),
    "params": ("params", "M", "cost"),
    "latency": ("latency", "s", "cost"),
    "train_time": ("train_seconds", "s", "quality"),
}


def read_naslib(path: Path, reading: Reading) -> None:
    """Reads a file, or all of a folder, into one table for each data set."""
    files = sorted(path.glob("nb201_*_full_training.pickle*")) if path.is_dir() else [path]
    if not files:
        raise checks.DataError(
            expected=f"files like nb201_cifar10_full_training.pickle in {path}",
            got="none",
            remedy="name a folder that has them, or one of the files",
        )
    for file in files:
        _read_file(file, reading)


def _read_file(path: Path, reading: Reading) -> None:
    where = path.name
    unsure: dict[str, None] = {}
    content = need(read_pickled(path, memory=reading.memory), (), "the file", where)
    for architecture, by_data in content.items():
        for data, result in need(by_data, (), str(architecture), where).items():
            table = reading.table(f"{reading.name}/{str(data).lower()}", SPACE)
            row = table.row(architecture, where)
            result = need(result, ("train_acc1es", "eval_acc1es"), f"{architecture}, {data}", where)
            _read_result(table, row, str(data), result, where, unsure)
    for data in unsure:
        reading.notice(f"{where}: {data} has as many values for evaluation as epochs; they are labelled as test values")
    reading.partial(where, len(content), SIZE)


def _read_result(
    table: Collected, row: int, data: str, result: Mapping[str, Any], where: str, unsure: dict[str, None]
) -> None:
    task = "cifar10" if data == HALF else data.lower()
    for field in QUANTITIES:
        if not result.get(f"train_{field}"):
            continue
        trained = as_curve(result[f"train_{field}"], f"train_{field}", where)
        table.put_epochs(row, _metric("train", task, "train", field), trained, where)
        if not result.get(f"eval_{field}"):
            continue
        values = as_curve(result[f"eval_{field}"], f"eval_{field}", where)
        epochs = len(trained)
        further = values[epochs:]
        if len(values) < epochs or len(further) > 2:
            raise not_as_published(f"{epochs} to {epochs + 2} values as eval_{field}", where, str(len(values)))
        if data != "cifar10" and not len(further):
            unsure[data] = None
        by_epoch = ("valid", task, "validation") if len(further) else ("test", task, "test")
        table.put_epochs(row, _metric(*by_epoch, field), values[:epochs], where)
        names = ("test",) if len(further) == 1 else ("ori_test", "test")
        for name, value in zip(names, further, strict=False):
            table.put(row, _metric(name, task, "test", field), float(value), where)
    for field, value in need(result.get("cost_info", {}), (), "cost_info", where).items():
        if field in COSTS and value is not None:
            table.put(row, _cost(field, task), value, where)


@functools.cache
def _metric(name: str, task: str, split: str, field: str) -> MetricSpec:
    quantity, direction, unit = QUANTITIES[field]
    return MetricSpec(f"{name}_{quantity}", task=task, split=split, epoch="final", unit=unit, direction=direction)


@functools.cache
def _cost(field: str, task: str) -> MetricSpec:
    name, unit, kind = COSTS[field]
    split, epoch = ("train", "final") if kind == "quality" else ("", "")
    return MetricSpec(name, task=task, split=split, epoch=epoch, unit=unit, direction="minimize", kind=kind)
