"""Chooses the columns of a table that predictors learn, in groups that correspond to the networks' heads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec, check_split
from ncp_jax.types import Int


@dataclasses.dataclass(frozen=True)
class Columns:
    """The metrics that each run learns, in groups that correspond to the network's heads.

    Attributes:
      indices: ``[r, m]`` columns of the table: main metrics, then other quality metrics, then costs. A shorter group
        repeats its columns, so that all runs have one shape.
      heads: number of columns in each of the three groups.
    """

    indices: Int[np.ndarray, "r m"]
    heads: tuple[int, int, int]

    @classmethod
    def whole(cls, metrics: Sequence[MetricSpec], runs: int, *, on_test: bool = False) -> Columns:
        """Makes every run learn all metrics of the table; with a validation split, only its quality metrics.

        Args:
          metrics: the table's columns.
          runs: number of runs.
          on_test: whether columns of the test split are learned too.

        Raises:
          UsageError: no quality metric is left.
        """
        groups = _groups(metrics, on_test=on_test)
        row = np.concatenate([np.asarray(g, np.int32) for g in groups])
        return cls(np.tile(row, (runs, 1)).astype(np.int32), tuple(map(len, groups)))  # type: ignore[arg-type]

    @classmethod
    def by_task(cls, metrics: Sequence[MetricSpec], tasks: Sequence[str], *, on_test: bool = False) -> Columns:
        """Makes run i learn the metrics of ``tasks[i]`` and the costs; ``on_test`` as for ``whole``."""
        each = [_groups(metrics, task, on_test=on_test) for task in tasks]
        heads = tuple(max(len(groups[k]) for groups in each) for k in range(3))
        # Where a task lacks a group that others have, it repeats its main metric, never another task's column.
        rows = [
            np.concatenate([np.resize(group or groups[0], n) for group, n in zip(groups, heads, strict=True)])
            for groups in each
        ]
        return cls(np.stack(rows).astype(np.int32), heads)  # type: ignore[arg-type]


def _groups(
    metrics: Sequence[MetricSpec], task: str | None = None, *, on_test: bool
) -> tuple[list[int], list[int], list[int]]:
    """Returns the columns of main metrics, other quality metrics and costs, of one task or all."""
    main: list[int] = []
    others: list[int] = []
    costs: list[int] = []
    seen: set[str] = set()
    validating = ("validation", "test") if on_test else ("validation",)
    validated = any(m.split in validating and m.kind == "quality" for m in metrics)
    tested: MetricSpec | None = None
    for i, metric in enumerate(metrics):
        if metric.split == "train" and validated:
            continue  # training metrics do not measure generalisation
        if metric.split == "test" and not on_test:  # a search must not see the test split
            tested = metric if task in (None, metric.task) else tested
            continue
        if metric.kind == "cost":
            costs.append(i)
        elif task is None or metric.task == task:
            (others if metric.task in seen else main).append(i)
            seen.add(metric.task)
    if not main and tested is not None:
        check_split(tested, on_test=on_test)
    if not main:
        raise checks.UsageError(
            expected=f"quality metrics{f' of task {task!r}' if task else ''}",
            got="none",
            remedy="check the table's metrics",
        )
    return main, others, costs
