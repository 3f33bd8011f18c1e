"""What the benchmark shows: agreement between seeds, between its tasks, and with TransNAS-Bench-101."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ncp_jax.benchmarks import load_arrays
from ncp_jax.benchmarks.catalogue import DIGITS_TASKS, TRANSNAS_TASKS
from ncp_jax.benchmarks.digits import SPLITS, Digits, class_rows
from ncp_jax.types import Float

VALIDATION, TEST = SPLITS.index("validation"), SPLITS.index("test")


def _spearman(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> float | None:
    """Rank correlation over what both know; None for fewer than three, or where all values are the same."""
    both = np.isfinite(a) & np.isfinite(b)
    if both.sum() < 3 or np.ptp(a[both]) == 0 or np.ptp(b[both]) == 0:
        return None
    return round(float(stats.spearmanr(a[both], b[both]).statistic), 4)


def between_seeds(digits: Digits) -> dict[str, dict[str, Any]]:
    """Returns, for each task, how well two trainings of one architecture agree (seeds 0 and 1, last epoch).

    ``noise`` is the standard deviation of one training around the architecture's own mean, ``spread`` that of the
    architectures' values at seed 0, ``quartiles`` theirs, all of the validation metric in percent.
    """
    found: dict[str, dict[str, Any]] = {}
    for place, task in enumerate(DIGITS_TASKS):
        first = digits.final[place, 0]
        known = first[np.isfinite(first[:, VALIDATION])]
        row: dict[str, Any] = {
            "trained": len(known),
            "diverged": int((digits.epoch[place, 0] > 0).sum()) - len(known),
            "validation_and_test": _spearman(first[:, VALIDATION], first[:, TEST]),
        }
        if len(known):
            row["quartiles"] = np.round(np.percentile(known[:, VALIDATION], [0, 25, 50, 75, 100]), 2).tolist()
            row["spread"] = round(float(known[:, VALIDATION].std()), 3)
        if digits.final.shape[1] > 1:
            second = digits.final[place, 1]
            both = np.isfinite(first[:, VALIDATION]) & np.isfinite(second[:, VALIDATION])
            row["architectures"] = int(both.sum())
            row["spearman"] = {
                SPLITS[split]: _spearman(first[:, split], second[:, split]) for split in (VALIDATION, TEST)
            }
            if both.any():
                row["noise"] = round(float((first - second)[both, VALIDATION].std() / np.sqrt(2)), 3)
        found[task] = row
    return found


def between_tasks(digits: Digits) -> dict[str, dict[str, float | None]]:
    """Returns the rank correlations of the tasks' validation values at seed 0, over trained architectures."""
    values = digits.final[:, 0, :, VALIDATION]
    return {
        task: {other: _spearman(values[i], values[j]) for j, other in enumerate(DIGITS_TASKS)}
        for i, task in enumerate(DIGITS_TASKS)
    }


def with_transnas(digits: Digits) -> dict[str, dict[str, float | None]] | None:
    """Returns the rank correlations with TransNAS-Bench-101 micro, over classes; None where its tables are not here.

    A class has the mean of its codes' published values there, since each of them was trained by itself.
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


def draw(digits: Digits, summary: dict[str, Any], path: Path) -> Path:
    """Draws the agreement between seeds and the correlations of the summary; a PNG.

    Args:
      digits: the benchmark.
      summary: with ``between_tasks`` as "tasks" and ``with_transnas`` as "transnas".
      path: the file.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 7), layout="constrained")
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
    _heat(left, summary["tasks"], "between the tasks")
    if summary["transnas"] is None:
        right.set_axis_off()
    else:
        _heat(right, summary["transnas"], "with TransNAS-Bench-101 micro")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path


def _heat(axes: Any, table: dict[str, dict[str, float | None]], title: str) -> None:
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
