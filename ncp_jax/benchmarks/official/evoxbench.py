"""Reads the SQLite database of EvoXBench (Lu et al., arXiv 2208.04321): NAS-Bench-201 and NATS-Bench's sizes.

A row has the architecture in ``phenotype``. NAS-Bench-201 has ``more_info`` = {data set: {"hp200": [trial, …]}} and
``cost200``, NATS-Bench a column for each data set with {"hp90": [trial, …]}. A trial holds ``valid-accuracy``,
``test-accuracy`` and so on. The database does not say of which seeds trials are: they are numbered.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.official.collected import Collected, as_number, need
from ncp_jax.benchmarks.official.reading import Reading
from ncp_jax.benchmarks.official.results import HALF
from ncp_jax.benchmarks.stand_ins import brief
from ncp_jax.benchmarks.torch_files import looks_like
from ncp_jax.metrics import MetricSpec
from ncp_jax.types import Direction

_LONGEST = 2**20  # maximum characters of a cell
_SECONDS = 600.0  # for one table
_HYPER = re.compile(r"hp(\d{1,3})")
SETS = {
    "train": ("train", "train"),
    "valid": ("valid", "validation"),
    "test": ("test", "test"),
    "valtest": ("ori_test", "test"),
}
QUANTITIES: dict[str, tuple[str, Direction, str]] = {
    "accuracy": ("top1", "maximize", "%"),
    "loss": ("loss", "minimize", "1"),
}
NATS_DATA = {
    "cifar10_valid": HALF,
    "cifar10": "cifar10",
    "cifar100": "cifar100",
    "ImageNet16_120": "imagenet16-120",
}


def read_evoxbench(path: Path, reading: Reading) -> None:
    """Reads the database into one table for each data set and set of hyper-parameters."""
    with path.open("rb") as file:
        head = file.read(512)
    if not head.startswith(b"SQLite format 3\0"):
        raise checks.DataError(
            expected=f"an SQLite database at {path}",
            got=looks_like(head) if head else "an empty file",
            remedy="name the database of EvoXBench, database.db",
        )
    try:
        connection = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro&immutable=1", uri=True)
        try:
            _read(connection, path.name, reading)
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise checks.DataError(
            expected=f"a whole SQLite database at {path}", got=str(error), remedy="fetch it again"
        ) from error


def _read(connection: sqlite3.Connection, where: str, reading: Reading) -> None:
    # A database may define views and functions that run while it is read: only tables are, and nothing of its own runs.
    connection.execute("PRAGMA trusted_schema=OFF")
    end = time.monotonic() + _SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > end, 10**6)
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    found = 0
    for name in names:
        columns = [row[1] for row in connection.execute("SELECT * FROM pragma_table_info(?)", (name,))]
        if "phenotype" not in columns:
            continue
        if "more_info" in columns:
            wanted = ["more_info", *(column for column in columns if re.fullmatch(r"cost\d{1,3}", column))]
            space, size = "nas-bench-201", 15625
        elif "cifar10_valid" in columns and "cost" in columns:
            wanted = [*(column for column in NATS_DATA if column in columns), "cost"]
            space, size = "nats-size", 32768
        else:
            reading.notice(f"{where}: left out table {name}, whose space is not known here")
            continue
        chosen = ", ".join(f'"{column}"' for column in ("phenotype", *wanted))
        escaped = name.replace('"', '""')
        count = 0
        for phenotype, *cells in connection.execute(f'SELECT {chosen} FROM "{escaped}"'):
            parts = dict(zip(wanted, (_parsed(cell, name, where) for cell in cells), strict=True))
            _read_row(phenotype, parts, space, f"{where}, {name}", reading)
            count += 1
        found += count
        reading.partial(f"{where}: {name}", count, size)
    if not found:
        raise checks.DataError(
            expected=f"a table with columns phenotype and more_info, or cifar10_valid and cost, in {where}",
            got=f"{', '.join(map(checks.shorten, names[:8])) or 'no tables'}",
            remedy="name the database of EvoXBench, database.db",
        )


def _parsed(cell: Any, name: str, where: str) -> Any:
    """Returns what the JSON text of a cell holds."""
    if not isinstance(cell, str) or len(cell) > _LONGEST:
        cell = "" if cell is None else f"{cell!r:.40}"
    try:
        return json.loads(cell or "{}")
    except (ValueError, RecursionError) as error:
        raise checks.DataError(
            expected=f"JSON in table {name} of {where}", got=brief(cell), remedy="fetch the database again"
        ) from error


def _read_row(phenotype: Any, parts: Mapping[str, Any], space: str, where: str, reading: Reading) -> None:
    if "more_info" in parts:
        by_data = need(parts["more_info"], (), "more_info", where)
    else:
        by_data = {NATS_DATA[column]: parts[column] for column in NATS_DATA if column in parts}
    for data, by_hyper in by_data.items():
        for key, trials in need(by_hyper, (), str(data), where).items():
            hyper = _HYPER.fullmatch(str(key))
            if hyper is None:
                continue
            for target in (data, "cifar10") if data == HALF else (data,):
                table = reading.table(f"{reading.name}/{str(target).lower()}-{hyper[1]}", space)
                row = table.row(phenotype, where)
                _read_trials(table, row, (str(data), str(target)), trials, where, reading.seeds)
                for metric, value in _costs(parts, str(target), hyper[1], where):
                    table.put(row, metric, value, where)


def _read_trials(table: Collected, row: int, data: tuple[str, str], trials: Any, where: str, seeds: str) -> None:
    origin, target = data
    if not isinstance(trials, list):
        raise checks.DataError(
            expected=f"a list of trials in {where}", got=brief(trials), remedy="fetch the database again"
        )
    gathered: dict[str, list[tuple[MetricSpec, float]]] = {}
    for place, trial in enumerate(trials):
        for key, value in need(trial, (), "a trial", where).items():
            images, _, quantity = str(key).partition("-")
            if images not in SETS or quantity not in QUANTITIES or value is None:
                continue
            if origin != target and images != "valid":
                continue
            metric = _metric(images, quantity, "cifar10" if target == HALF else target.lower(), str(place))
            gathered.setdefault(metric.name, []).append((metric, as_number(value, str(key), where)))
    for values in gathered.values():
        if seeds == "mean":
            first = values[0][0]
            table.put(row, _renamed(first, first.name, "mean"), float(np.mean([value for _, value in values])), where)
            continue
        for metric, value in values:
            table.put(row, _renamed(metric, f"{metric.name}_trial{metric.seed}", f"trial {metric.seed}"), value, where)


@functools.cache
def _metric(images: str, quantity: str, task: str, trial: str) -> MetricSpec:
    name, split = SETS[images]
    shown, direction, unit = QUANTITIES[quantity]
    return MetricSpec(
        f"{name}_{shown}", task=task, split=split, epoch="final", unit=unit, direction=direction, seed=trial
    )


@functools.cache
def _renamed(metric: MetricSpec, name: str, seed: str) -> MetricSpec:
    return dataclasses.replace(metric, name=name, seed=seed)


def _costs(parts: Mapping[str, Any], data: str, hyper: str, where: str) -> Iterator[tuple[MetricSpec, float]]:
    """Returns what the database says of the network: parameters and FLOPs in millions."""
    known = need(parts.get(f"cost{hyper}", parts.get("cost")) or {}, (), "costs", where)
    names = (data, "ImageNet16-120", "cifar10") if data == "imagenet16-120" else (data, "cifar10")
    found: Any = next((known[name] for name in names if name in known), {})
    costs = found.get(f"hp{hyper}", found) if isinstance(found, Mapping) else {}
    for field, name in (("params", "params"), ("flops", "flop")):
        value = costs.get(field)
        if value is not None:
            metric = MetricSpec(name, task=data.removesuffix("-valid"), unit="M", direction="minimize", kind="cost")
            yield metric, as_number(value, field, where)
