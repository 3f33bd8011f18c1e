"""Makes the digits benchmark: trains what is missing, then writes the table, its card and its figure."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from harness.script import compiled_fast

from digits_benchmark.agreement import (
    SeedAgreement,
    agreement_figure,
    seed_agreement,
    task_correlations,
    transnas_correlations,
)
from digits_benchmark.assemble import assemble, make_card
from digits_benchmark.generate import GenerateConfig, architectures, generate
from digits_benchmark.one_at_a_time import SpeedComparison, compare_speed
from ncp_jax.benchmarks.digits import FILE, SPLITS, write_digits
from ncp_jax.console import ProgressBar
from ncp_jax.cores import usable_cores
from ncp_jax.records.journal import Records, write_json
from ncp_jax.records.run_card import run_card
from ncp_jax.training.cells.tasks import TASKS, pools


def hash_pools() -> str:
    """Returns a hash of all tasks' images and targets; scikit-learn, NumPy and SciPy make them."""
    digest = hashlib.sha256()
    for task in TASKS:
        for pool in pools(task).values():
            for array in (pool.images, pool.targets):
                digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def use_all_cores() -> None:
    """Makes each CPU core a device, because small networks use only one core. Has no effect once a device is in use."""
    with contextlib.suppress(RuntimeError):  # raised if a device is already in use
        jax.config.update("jax_num_cpu_devices", usable_cores())


def make_benchmark(config: GenerateConfig) -> dict[str, Any]:
    """Runs the experiment, writes its files into ``config.out`` and returns the summary."""
    use_all_cores()
    settings = config.settings() | {"images": hash_pools()}
    records = Records(config.out, settings, resume=config.resume)
    with ProgressBar("trainings") as bar, compiled_fast(config.smoke):
        generate(config, records, progress=bar)
    return write_benchmark(config, records)


def write_benchmark(config: GenerateConfig, records: Records) -> dict[str, Any]:
    """Writes digits.npz, digits.png and summary.json from the records alone; returns the summary."""
    card = run_card()
    digits = assemble(records, make_card(config.settings(), card))
    path = write_digits(config.out / FILE, digits)
    seeds, tasks, transnas = seed_agreement(digits), task_correlations(digits), transnas_correlations(digits)
    summary: dict[str, Any] = {
        "schema": "make_benchmark/1",
        "architectures": len(digits.codes),
        "seeds": {task: agreement.to_json() for task, agreement in seeds.items()},
        "tasks": tasks,
        "transnas": transnas,
        "seconds_a_training": {
            task: round(float(s), 4) for task, s in zip(TASKS, digits.seconds, strict=True) if np.isfinite(s)
        },
        **card,
    }
    speed = _compare_speed(config) if config.speed else None
    if speed is not None:
        summary["speed"] = speed.to_json()
    write_json(config.out / "summary.json", summary)
    agreement_figure(digits, tasks, transnas, config.out / "digits.png")
    print(benchmark_text(seeds, speed))
    print(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB)")
    return summary


def _compare_speed(config: GenerateConfig) -> SpeedComparison:
    task = TASKS[config.tasks[0]]
    return compare_speed(
        architectures()[: config.chunk * 2],
        task,
        pools(task.name),
        config.training,
        alone=min(config.speed, config.chunk * 2),
        chunk=config.chunk,
    )


def benchmark_text(seeds: Mapping[str, SeedAgreement], speed: SpeedComparison | None) -> str:
    """Returns the agreement between seeds and the speed as a few lines of text."""
    lines = []
    for task, row in seeds.items():
        text = f"{task}: {row.trained} architectures"
        if row.quartiles is not None:
            text += f", {row.quartiles[0]:g} to {row.quartiles[-1]:g} %"
        if row.spearman is not None and row.spearman[SPLITS[1]] is not None:
            text += f"; Spearman between seeds {row.spearman[SPLITS[1]]:.3f} ({row.architectures} architectures)"
        lines.append(text)
    if speed is not None:
        lines.append(
            f"{speed.trainings_per_s:g} trainings/s, {speed.ratio:g} times one at a time "
            f"({speed.ratio_without_compilation:g} times without its compilation)"
        )
    return "\n".join(lines)
