"""Reads the file of TransNAS-Bench-101 (Duan et al., CVPR 2021, arXiv 2105.11871): ``transnas-bench_v10141024.pth``.

Its content is ``data[space][architecture][task] = {"total_epochs", "model_info", "metrics": {name: list}}``, beside
``metrics_dict``, ``info_names`` and ``task_list``. The benchmark's own reader takes the largest value of every metric
as its best, which is the worst epoch of a loss. Here the best epoch of a loss is its smallest value.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from ncp_jax.benchmarks.official.collected import Collected, as_curve, need
from ncp_jax.benchmarks.official.reading import Reading
from ncp_jax.benchmarks.torch_files import read_torch
from ncp_jax.metrics import MetricSpec
from ncp_jax.types import Direction

SPACES = {"micro": ("transnas-micro", 4096), "macro": ("transnas-macro", 3256)}
SPLITS = {"train": "train", "valid": "validation", "test": "test"}
# Quantity → direction and unit.
QUANTITIES: dict[str, tuple[Direction, str]] = {
    "top1": ("maximize", "%"),
    "top5": ("maximize", "%"),
    "acc": ("maximize", "%"),
    "mIoU": ("maximize", "%"),
    "ssim": ("maximize", "1"),
    "neg_loss": ("maximize", "1"),
    "loss": ("minimize", "1"),
    "l1_loss": ("minimize", "1"),
}
INFO_UNITS = {"inference_time": "s", "FLOPs": "1", "params": "1"}


def read_transnas(path: Path, reading: Reading) -> None:
    """Reads the file into one table for each space and task, with final and best epoch and learning curves."""
    where = path.name
    content = need(read_torch(path, memory=reading.memory), ("data",), "the file", where)
    unknown: dict[str, None] = {}
    for kind, architectures in need(content["data"], (), "data", where).items():
        if kind not in SPACES:
            reading.notice(f"{where}: left out space {kind!r}, which is none of {', '.join(SPACES)}")
            continue
        space, size = SPACES[kind]
        for architecture, tasks in need(architectures, (), f"data[{kind!r}]", where).items():
            for task, result in need(tasks, (), str(architecture), where).items():
                table = reading.table(f"{reading.name}-{kind}/{task}", space)
                _read_result(table, architecture, str(task), result, where, unknown)
        reading.partial(f"{where}: {kind}", len(architectures), size)
    for name in unknown:
        reading.notice(f"{where}: left out {name}, whose direction is not known")


def _read_result(
    table: Collected, architecture: str, task: str, result: Any, where: str, unknown: dict[str, None]
) -> None:
    what = f"{architecture}, {task}"
    result = need(result, ("metrics",), what, where)
    row = table.row(architecture, where)
    for name, values in need(result["metrics"], (), f"metrics of {what}", where).items():
        if name == "time_elapsed":
            table.put(row, _seconds(task), as_curve(values, f"{name} of {what}", where)[-1], where)
            continue
        split, _, quantity = str(name).partition("_")
        if split not in SPLITS or quantity not in QUANTITIES:
            unknown[str(name)] = None
            continue
        curve = as_curve(values, f"{name} of {what}", where)
        table.put_epochs(row, _metric(task, split, quantity), curve, where)
    for name, value in need(result.get("model_info", {}), (), f"model_info of {what}", where).items():
        unit = next((unit for end, unit in INFO_UNITS.items() if str(name).endswith(end)), None)
        if unit is None:
            unknown[str(name)] = None
            continue
        table.put(row, _cost(task, str(name), unit), value, where)


@functools.cache
def _metric(task: str, split: str, quantity: str) -> MetricSpec:
    direction, unit = QUANTITIES[quantity]
    name = f"{split}_{quantity}"
    return MetricSpec(name, task=task, split=SPLITS[split], epoch="final", unit=unit, direction=direction)


@functools.cache
def _seconds(task: str) -> MetricSpec:
    return MetricSpec("time_elapsed", task=task, split="train", epoch="final", unit="s", direction="minimize")


@functools.cache
def _cost(task: str, name: str, unit: str) -> MetricSpec:
    return MetricSpec(name, task=task, unit=unit, direction="minimize", kind="cost")
