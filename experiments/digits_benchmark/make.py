"""``experiments/make_benchmark.py``: trains what is missing, then writes the table, its card and its figure."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Any

import jax
import numpy as np

from digits_benchmark import agreement as meaning
from digits_benchmark.assemble import assemble, make_card
from digits_benchmark.generate import GenerateConfig, architectures, generate
from ncp_jax.benchmarks.digits import FILE, SPLITS, write_digits
from ncp_jax.console import ProgressBar
from ncp_jax.records.journal import Records, write_json
from ncp_jax.records.run_card import run_card
from ncp_jax.training.cells.tasks import TASKS, pools


def use_all_cores() -> None:
    """Makes each CPU core a device of its own; small networks do not fill more than one. Before the first device."""
    # Not every system says which cores this process may use.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(RuntimeError):  # raised where a device is in use already
        jax.config.update("jax_num_cpu_devices", cores)


def make_benchmark(config: GenerateConfig) -> dict[str, Any]:
    """Runs the experiment, writes its files into ``config.out`` and returns what summary.json holds."""
    use_all_cores()
    records = Records(config.out, config.settings(), resume=config.resume)
    if records.dropped:
        print(f"ncp-jax: {records.path} was cut short; its last chunk is trained again", file=sys.stderr)
    with ProgressBar("trainings") as bar:
        generate(config, records, progress=bar)
    return write_benchmark(config, records)


def write_benchmark(config: GenerateConfig, records: Records) -> dict[str, Any]:
    """Writes digits.npz, digits.png and summary.json from the records alone; returns the summary."""
    card = run_card()
    digits = assemble(records, make_card(config.settings(), card))
    path = write_digits(config.out / FILE, digits)
    summary: dict[str, Any] = {
        "architectures": len(digits.codes),
        "seeds": meaning.between_seeds(digits),
        "tasks": meaning.between_tasks(digits),
        "transnas": meaning.with_transnas(digits),
        "seconds_a_training": {
            task: round(float(s), 4) for task, s in zip(TASKS, digits.seconds, strict=True) if np.isfinite(s)
        },
        **card,
    }
    if config.speed:
        summary["speed"] = _speed(config)
    write_json(config.out / "summary.json", summary)
    meaning.draw(digits, summary, config.out / "digits.png")
    print(describe(summary))
    print(f"wrote {path} ({path.stat().st_size / 1e6:.2f} MB)")
    return summary


def _speed(config: GenerateConfig) -> dict[str, Any]:
    from digits_benchmark.one_at_a_time import compare_speed

    task = TASKS[config.tasks[0]]
    return compare_speed(
        architectures()[: config.chunk * 2],
        task,
        pools(task.name),
        config.training,
        alone=min(config.speed, config.chunk * 2),
        chunk=config.chunk,
    )


def describe(summary: dict[str, Any]) -> str:
    """Returns the summary as a few lines of text."""
    lines = []
    for task, row in summary["seeds"].items():
        text = f"{task}: {row['trained']} architectures"
        if "quartiles" in row:
            text += f", {row['quartiles'][0]:g} to {row['quartiles'][-1]:g} %"
        if row.get("spearman", {}).get(SPLITS[1]) is not None:
            text += f"; Spearman between seeds {row['spearman'][SPLITS[1]]:.3f} ({row['architectures']} architectures)"
        lines.append(text)
    if "speed" in summary:
        speed = summary["speed"]
        lines.append(
            f"{speed['trainings_per_s']:g} trainings/s, {speed['ratio']:g} times one at a time "
            f"({speed['ratio_without_compilation']:g} times without its compilation)"
        )
    return "\n".join(lines)
