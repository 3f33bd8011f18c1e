"""Holds rows of a table out in four ways, audits them with the others, and counts the intervals that hold."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import Audit, AuditConfig, MetricAudit, Table, audit, get_space
from ncp_jax.benchmarks.table import main_metrics, tasks_of
from ncp_jax.types import Float, Int

RANDOM, REGION, PREDICTED, MEASURED = "random", "region", "predicted", "measured"
KINDS = (RANDOM, REGION, PREDICTED, MEASURED)
SHARE, DRAWN = 0.2, 0.8  # rows held out at random; rows of which the others are held out
TOP = 0.1  # share of the rows that counts as the best


@dataclasses.dataclass(frozen=True)
class TaskCoverage:
    """How many of some architectures' true values lay within their intervals, for one task.

    Attributes:
      rows, covered: number of architectures, and of those whose value was within.
      top_rows, top_covered: the same of the tenth of them that the audit predicted best.
      like_rows, like_covered: the same of those that the audit calls like its table (not ``Audit.unlike``).
      above: number of true values above their interval, where above is the better side.
      width: mean width of the intervals, in standard deviations of the metric in the whole table.
      rmse: root of the mean squared error of the predictions, same unit.
      bias: mean of true minus predicted values, same unit, positive where the truth is better.
      distance: mean distance to the nearest row, in positions.
    """

    rows: int
    covered: int
    top_rows: int
    top_covered: int
    like_rows: int
    like_covered: int
    above: int
    width: float
    rmse: float
    bias: float
    distance: float

    @classmethod
    def of(cls, found: Audit, metric: MetricAudit, true: Float[np.ndarray, " k"], *, deviation: float) -> TaskCoverage:
        """Counts the intervals of one metric that hold the true values."""
        sign = metric.metric.sign
        inside = (metric.low <= true) & (true <= metric.high)
        predicted = sign * metric.predicted
        top, like = predicted >= np.quantile(predicted, 1 - TOP), ~(found.far | metric.extrapolated)
        better = sign * true > sign * (metric.high if sign > 0 else metric.low)
        return cls(
            rows=len(true),
            covered=int(inside.sum()),
            top_rows=int(top.sum()),
            top_covered=int(inside[top].sum()),
            like_rows=int(like.sum()),
            like_covered=int(inside[like].sum()),
            above=int(better.sum()),
            width=float((metric.high - metric.low).mean() / deviation),
            rmse=float(np.sqrt(np.mean((metric.predicted - true) ** 2)) / deviation),
            bias=float(sign * (true - metric.predicted).mean() / deviation),
            distance=float(found.distance.mean()),
        )


def cover(
    table: Table, train: Int[np.ndarray, " t"], held_out: Int[np.ndarray, " k"], *, config: AuditConfig, seed: int
) -> dict[str, TaskCoverage]:
    """Audits held-out rows with a table of other rows, all main metrics at once; returns the counts by task."""
    found = audit(table.select(np.sort(train)), np.asarray(table.codes)[held_out], config=config, key=_key(seed, 1))
    counts = {}
    for metric in found.metrics:
        measured = table.measured(metric.metric.name)
        counts[metric.metric.task] = TaskCoverage.of(found, metric, measured[held_out], deviation=float(measured.std()))
    return counts


def measure(kind: str, table: Table, *, config: AuditConfig, seed: int) -> dict[str, TaskCoverage]:
    """Holds out rows in one way and returns the counts by task.

    "random" holds out a fifth. The others first draw four fifths of the rows, and then hold out a tenth of these:
    "region" the nearest to one of them; "predicted" those predicted best, by models that had not learned from them;
    "measured" those measured best. What is held out by "predicted" and "measured" differs by task.
    """
    n, rng = len(table), np.random.default_rng((seed, KINDS.index(kind)))
    order = rng.permutation(n)
    if kind == RANDOM:
        held_out = round(SHARE * n)
        return cover(table, order[held_out:], order[:held_out], config=config, seed=seed)
    drawn = order[: round(DRAWN * n)]
    count = round(TOP * len(drawn))
    if kind == REGION:
        apart = _distances(table, int(drawn[0]))[drawn]
        ranked = drawn[np.argsort(apart, kind="stable")]
        return cover(table, ranked[count:], ranked[:count], config=config, seed=seed)
    scores = _scores(kind, table, drawn, config=config, seed=seed)
    counts: dict[str, TaskCoverage] = {}
    for task, score in scores.items():
        ranked = drawn[np.argsort(-score, kind="stable")]
        own = table.with_columns([m.name for m in table.metrics if m.task == task and m.kind == "quality"])
        counts |= cover(own, ranked[count:], ranked[:count], config=config, seed=seed)
    return counts


def _scores(
    kind: str, table: Table, drawn: np.ndarray, *, config: AuditConfig, seed: int
) -> Mapping[str, Float[np.ndarray, " t"]]:
    """Returns by which numbers the best of the drawn rows are chosen, by task; higher is better."""
    metrics = main_metrics(table, tasks_of(table))
    if kind == MEASURED:
        return {m.task: m.sign * table.measured(m.name)[drawn] for m in metrics}
    # Rows of a table are predicted by models without their fold.
    part = table.select(drawn)
    found = audit(part, np.asarray(part.codes), config=config, key=_key(seed, 2))
    return {m.metric.task: m.metric.sign * m.predicted for m in found.metrics}


def _distances(table: Table, row: int) -> Float[np.ndarray, " n"]:
    """Returns the distances of all rows to one of them, by relaxed codes in units of their standard deviations."""
    relaxed = np.asarray(get_space(table.space).encode(jnp.asarray(table.codes)), np.float64)
    spread = relaxed.std(axis=0)
    return np.sqrt((((relaxed - relaxed[row]) / np.where(spread > 0, spread, 1.0)) ** 2).sum(axis=1))


def _key(seed: int, part: int) -> jax.Array:
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 21), part)


def counts_of(record: Mapping[str, Any]) -> dict[str, TaskCoverage]:
    """Returns the counts that a record holds, by task."""
    return {task: TaskCoverage(**counts) for task, counts in record["tasks"].items()}


def to_record(counts: Mapping[str, TaskCoverage], seconds: float) -> dict[str, Any]:
    """Returns counts as a record's results."""
    return {"tasks": {task: dataclasses.asdict(one) for task, one in counts.items()}, "seconds": seconds}


def chosen_tasks(table: Table, tasks: Sequence[str]) -> Table:
    """Returns the quality columns of some tasks of a joint table, all if none is named."""
    names = [m.name for m in table.metrics if m.kind == "quality" and m.task in (tasks or tasks_of(table))]
    return table.with_columns(names)
