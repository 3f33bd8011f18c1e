"""Measures how well the values of the digits benchmark agree: between seeds, between tasks, with TransNAS-Bench-101."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ncp_jax.benchmarks import load_arrays
from ncp_jax.benchmarks.catalogue import DIGITS_TASKS, TRANSNAS_TASKS
from ncp_jax.benchmarks.digits import SPLITS, Digits, class_rows
from ncp_jax.drawing import save_figure
from ncp_jax.types import Float

# Rank correlations of each task with other tasks; None where there are too few values.
Correlations = Mapping[str, Mapping[str, float | None]]

VALIDATION, TEST = SPLITS.index("validation"), SPLITS.index("test")


def _spearman(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float | None:
    """Returns the rank correlation of values known in both; None for fewer than three, or for constant values."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3 or np.ptp(a[both]) == 0 or np.ptp(b[both]) == 0:
        return None
    return round(float(stats.spearmanr(a[both], b[both]).statistic), 4)


@dataclasses.dataclass(frozen=True)
class SeedAgreement:
    """How well two trainings of one architecture on one task agree (seeds 0 and 1, last epoch).

    Values are those of the validation metric, in percent, unless another split is named.

    Attributes:
      trained: number of architectures with a value at seed 0.
      diverged: number of architectures whose training at seed 0 diverged.
      validation_and_test: rank correlation of validation and test values at seed 0; None for too few.
      quartiles: minimum, quartiles and maximum of the values at seed 0; None without values.
      spread: standard deviation of the architectures' values at seed 0; None without values.
      architectures: number of architectures trained from both seeds; None with one seed.
      spearman: rank correlation between the seeds by split; None with one seed.
      noise: standard deviation of one training around the architecture's own mean; None without a second value.
    """

    trained: int
    diverged: int
    validation_and_test: float | None
    quartiles: list[float] | None = None
    spread: float | None = None
    architectures: int | None = None
    spearman: dict[str, float | None] | None = None
    noise: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields; those that are unknown are left out, but for "validation_and_test"."""
        fields = dataclasses.asdict(self)
        return {name: value for name, value in fields.items() if value is not None or name == "validation_and_test"}


def seed_agreement(digits: Digits) -> dict[str, SeedAgreement]:
    """Returns the agreement between seeds 0 and 1 by task."""
    found: dict[str, SeedAgreement] = {}
    for place, task in enumerate(DIGITS_TASKS):
        first = digits.final[place, 0]
        known = first[np.isfinite(first[:, VALIDATION])]
        row = SeedAgreement(
            trained=len(known),
            diverged=int((digits.epoch[place, 0] > 0).sum()) - len(known),
            validation_and_test=_spearman(first[:, VALIDATION], first[:, TEST]),
        )
        if len(known):
            row = dataclasses.replace(
                row,
                quartiles=np.round(np.percentile(known[:, VALIDATION], [0, 25, 50, 75, 100]), 2).tolist(),
                spread=round(float(known[:, VALIDATION].std()), 3),
            )
        if digits.final.shape[1] > 1:
            second = digits.final[place, 1]
            both = np.isfinite(first[:, VALIDATION]) & np.isfinite(second[:, VALIDATION])
            difference = (first - second)[both, VALIDATION]
            row = dataclasses.replace(
                row,
                architectures=int(both.sum()),
                spearman={SPLITS[split]: _spearman(first[:, split], second[:, split]) for split in (VALIDATION, TEST)},
                noise=round(float(difference.std() / np.sqrt(2)), 3) if both.any() else None,
            )
        found[task] = row
    return found


def task_correlations(digits: Digits) -> Correlations:
    """Returns the rank correlations between the tasks' validation values at seed 0."""
    values = digits.final[:, 0, :, VALIDATION]
    return {
        task: {other: _spearman(values[i], values[j]) for j, other in enumerate(DIGITS_TASKS)}
        for i, task in enumerate(DIGITS_TASKS)
    }


def transnas_correlations(digits: Digits) -> Correlations | None:
    """Returns the rank correlations with TransNAS-Bench-101 micro over isomorphism classes; None without its tables.

    A class has the mean of its codes' published values there, since TransNAS-Bench-101 trained each code separately.
    """
    found: dict[str, dict[str, float | None]] = {task: {} for task in DIGITS_TASKS}
    for other in TRANSNAS_TASKS:
        try:
            table = load_arrays(f"transnas-micro/{other}")
        except FileNotFoundError:
            return None
        rows, size = class_rows(table.codes, digits), len(digits.codes)
        known = rows >= 0
        values = table.values[known, 0] * table.metrics[0].sign
        means = np.bincount(rows[known], values, size) / np.bincount(rows[known], minlength=size)
        for place, task in enumerate(DIGITS_TASKS):
            found[task][other] = _spearman(digits.final[place, 0, :, VALIDATION], means)
    return found


def agreement_figure(digits: Digits, tasks: Correlations, transnas: Correlations | None, path: Path) -> Path:
    """Draws the values of seed 1 against those of seed 0, and the rank correlations.

    Args:
      digits: the benchmark.
      tasks: correlations between its tasks.
      transnas: correlations with TransNAS-Bench-101; None leaves the panel empty.
      path: PNG file to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), dpi=110, layout="constrained")
    grid = figure.add_gridspec(2, 1, height_ratios=(1, 1.15))
    above = grid[0].subgridspec(1, len(DIGITS_TASKS))
    panels = [figure.add_subplot(above[place]) for place in range(len(DIGITS_TASKS))]
    for place, (task, axes) in enumerate(zip(DIGITS_TASKS, panels, strict=True)):
        values = digits.final[place, :2, :, VALIDATION]
        if len(values) > 1:
            axes.plot(*values, ".", markersize=3, alpha=0.4, color="#30638e")
            agreement = _spearman(*values)
            axes.set_title(task if agreement is None else f"{task}: Spearman {agreement:.2f}", fontsize=10)
        axes.set_xlabel("seed 0, validation %")
    panels[0].set_ylabel("seed 1, validation %")
    below = grid[1].subgridspec(1, 2, width_ratios=(len(DIGITS_TASKS), len(TRANSNAS_TASKS)))
    left, right = figure.add_subplot(below[0]), figure.add_subplot(below[1])
    _draw_correlations(left, tasks, "between the tasks")
    if transnas is None:
        right.set_axis_off()
    else:
        _draw_correlations(right, transnas, "with TransNAS-Bench-101 micro")
    return save_figure(figure, path)


def _draw_correlations(axes: Any, table: Correlations, title: str) -> None:
    numbers = np.array([[np.nan if v is None else v for v in row.values()] for row in table.values()])
    axes.imshow(numbers, vmin=-1, vmax=1, cmap="RdBu_r")
    columns = list(next(iter(table.values())))
    axes.set_xticks(range(len(columns)), columns, rotation=25, ha="right", fontsize=9)
    axes.set_yticks(range(len(table)), list(table), fontsize=9)
    for (row, column), value in np.ndenumerate(numbers):
        axes.text(
            column, row, f"{value:.2f}", ha="center", va="center", fontsize=9, color="w" if abs(value) > 0.6 else "k"
        )
    axes.set_title(f"Spearman {title}", fontsize=10)
