"""Searches learning curves in a budget of epochs: successive halving, and its asynchronous form (ASHA).

Both train many architectures for few epochs and the better ones longer. They see the value of an architecture after an
epoch only when that epoch is paid for; a training that goes on pays for the further epochs alone.

Sources: Jamieson & Talwalkar, AISTATS 2016, arXiv 1502.07943 (successive halving); Li et al., MLSys 2020,
arXiv 1810.05934, algorithm 2 (ASHA, here with one worker).
"""

from __future__ import annotations

import bisect
import dataclasses
import heapq
import math
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.imported import load_curves
from ncp_jax.metrics import MetricSpec, check_split
from ncp_jax.spaces import get_space
from ncp_jax.types import Float, Int

METHODS = ("asha", "halving")


@dataclasses.dataclass(frozen=True)
class HalvingConfig:
    """How to spend epochs.

    Attributes:
      epochs: budget of one run, in epochs of training over all architectures.
      method: "asha", which begins architectures as long as the budget lasts, or "halving", whose first rung has as many
        as the budget allows.
      factor: the share 1 / factor of each rung is trained further, factor times as long.
      least: epochs of the first rung.
      runs: number of independent runs.
      seed: seed of the order in which architectures are begun.
      on_test: whether the metric may be of the test split.
    """

    epochs: int
    method: str = "asha"
    factor: int = 3
    least: int = 1
    runs: int = 1
    seed: int = 0
    on_test: bool = False

    def __post_init__(self) -> None:
        checks.integer("epochs", self.epochs, least=1)
        checks.integer("factor", self.factor, least=2)
        checks.integer("least", self.least, least=1, most=self.epochs, remedy="give more epochs")
        checks.integer("runs", self.runs, least=1)
        checks.integer("seed", self.seed, least=0, most=2**32 - 1)
        object.__setattr__(self, "method", checks.choose("method", self.method, METHODS))


@dataclasses.dataclass(frozen=True, eq=False)
class HalvingRun:
    """One run.

    Attributes:
      rows: int32 [s], the architecture of each step, a row of the table.
      epochs: int32 [s], the epochs that it was trained for after the step.
      values: float64 [s], the metric then; NaN where the training failed.
      spent: epochs paid for.
      chosen: the row that the run returns: of those trained longest, the best.
      rank: rank of its final value among all architectures of the table, 1 for the best.
      regret: distance of its final value from the best one, in the metric's unit; NaN where its training fails later.
    """

    rows: Int[np.ndarray, " s"]
    epochs: Int[np.ndarray, " s"]
    values: Float[np.ndarray, " s"]
    spent: int
    chosen: int
    rank: int
    regret: float


@dataclasses.dataclass(frozen=True, eq=False)
class HalvingResult:
    """The runs of a search on learning curves.

    Attributes:
      table: name of the table.
      metric: the column.
      config: how epochs were spent.
      rungs: epochs after which decisions are made.
      runs: the runs.
      strings: the architecture that each run returns.
    """

    table: str
    metric: MetricSpec
    config: HalvingConfig
    rungs: tuple[int, ...]
    runs: tuple[HalvingRun, ...]
    strings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        return {
            "schema": "halving/1",
            "table": self.table,
            "metric": self.metric.to_json(),
            "config": dataclasses.asdict(self.config),
            "rungs": list(self.rungs),
            "runs": [
                {
                    "architecture": string,
                    "row": run.chosen,
                    "rank": run.rank,
                    "regret": None if math.isnan(run.regret) else run.regret,
                    "spent": run.spent,
                    "started": len(np.unique(run.rows)),
                }
                for run, string in zip(self.runs, self.strings, strict=True)
            ],
        }


def search_curves(table: str, column: str, config: HalvingConfig) -> HalvingResult:
    """Searches a column of an imported table that has learning curves, in a budget of epochs. Runs on the host.

    Args:
      table: name of the table ("nats-tss/cifar100-200").
      column: name of the column ("valid_top1").
      config: how to spend epochs.

    Raises:
      UsageError: an unknown table or column, one without curves, one of the test split that is not allowed, or a
        ``least`` beyond the epochs of the curves.
      DataError: no architecture has a final value.
    """
    curves = load_curves(table, column)
    check_split(curves.metric, on_test=config.on_test)
    signed = np.array(curves.values) * curves.metric.sign
    # After a failure nothing is better than it: such trainings end, and never count as the best.
    oriented = np.where(np.isfinite(signed), signed, -np.inf)
    if not np.isfinite(oriented[:, -1]).any():
        got, remedy = "failed trainings alone", "choose another column"
        raise checks.DataError(expected=f"final values in {column} of {table}", got=got, remedy=remedy)
    rungs = _rungs(config, oriented.shape[1])
    spend = _asha if config.method == "asha" else _halving
    runs = []
    for run in range(config.runs):
        order = np.random.default_rng([config.seed, run]).permutation(len(oriented))
        steps = spend(oriented, order, rungs, config)
        runs.append(_scored(steps, oriented, curves.metric.sign))
    strings = get_space(curves.space).to_strings(curves.codes[[run.chosen for run in runs]])
    return HalvingResult(curves.table, curves.metric, config, rungs, tuple(runs), tuple(strings))


Steps = list[tuple[int, int]]  # row, and the epochs that it was trained for after the step


def _rungs(config: HalvingConfig, longest: int) -> tuple[int, ...]:
    """Returns the epochs after which decisions are made; the last is the end of the curves."""
    checks.integer("least", config.least, least=1, most=longest, remedy=f"the curves have {longest} epochs")
    rungs = [config.least]
    while rungs[-1] * config.factor < longest:
        rungs.append(rungs[-1] * config.factor)
    return (*rungs, longest) if rungs[-1] < longest else tuple(rungs)


def _halving(
    values: Float[np.ndarray, "n e"], order: Int[np.ndarray, " n"], rungs: tuple[int, ...], config: HalvingConfig
) -> Steps:
    """Spends the epochs on one bracket, with as many architectures as fit into the budget."""
    prices = np.diff(rungs, prepend=0)

    def cost(count: int) -> int:
        return sum(count // config.factor**place * int(price) for place, price in enumerate(prices))

    low, high = 1, len(order)
    while low < high:  # the cost rises with the number
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= config.epochs else (low, middle - 1)
    steps: Steps = []
    left = [int(row) for row in order[:low]]
    for place, epochs in enumerate(rungs):
        left = left[: low // config.factor**place]
        steps += [(row, epochs) for row in left]
        # Failed trainings do not go on; ties keep the order in which architectures were begun.
        alive = [row for row in left if np.isfinite(values[row, epochs - 1])]
        left = sorted(alive, key=lambda row: -values[row, epochs - 1])
    return steps


def _asha(
    values: Float[np.ndarray, "n e"], order: Int[np.ndarray, " n"], rungs: tuple[int, ...], config: HalvingConfig
) -> Steps:
    """Trains the best of a rung further as soon as it is among its top share, and else begins a new architecture."""
    steps: Steps = []
    spent, begun = 0, 0
    known: list[list[tuple[float, int, int]]] = [[] for _ in rungs]  # of each rung, best first: (-value, step, row)
    waiting: list[list[tuple[float, int, int]]] = [[] for _ in rungs]  # those that were not trained further yet
    while True:
        place, row = -1, -1
        for rung in reversed(range(len(rungs) - 1)):
            best = waiting[rung][0] if waiting[rung] else None
            if best is not None and bisect.bisect_left(known[rung], best) < len(known[rung]) // config.factor:
                place, row = rung, best[2]
                break
        if row < 0:
            if begun == len(order):
                return steps
            row = int(order[begun])
        price = rungs[place + 1] - (rungs[place] if place >= 0 else 0)
        if spent + price > config.epochs:
            return steps
        if place >= 0:
            heapq.heappop(waiting[place])
        else:
            begun += 1
        spent += price
        steps.append((row, rungs[place + 1]))
        value = float(values[row, rungs[place + 1] - 1])
        entry = (-value, len(steps), row)
        bisect.insort(known[place + 1], entry)
        if np.isfinite(value):
            heapq.heappush(waiting[place + 1], entry)


def _scored(steps: Steps, values: Float[np.ndarray, "n e"], sign: float) -> HalvingRun:
    """Returns a run, with the final value of what it chose against those of all architectures."""
    rows, epochs = (np.array(part, np.int32) for part in zip(*steps, strict=True))
    seen = values[rows, epochs - 1]
    # Of those trained longest, the best: values after different numbers of epochs are not compared.
    finite = np.isfinite(seen) if np.isfinite(seen).any() else np.ones(len(seen), bool)
    longest = np.flatnonzero(finite & (epochs == epochs[finite].max()))
    chosen = int(rows[longest[np.argmax(seen[longest])]])
    final = values[:, -1]
    return HalvingRun(
        rows=rows,
        epochs=epochs,
        values=np.where(np.isfinite(seen), seen * sign, np.nan),
        spent=sum(dict(steps).values()),  # a later step of an architecture includes its earlier ones
        chosen=chosen,
        rank=1 + int((final > final[chosen]).sum()),
        regret=float(final.max() - final[chosen]) if np.isfinite(final[chosen]) else math.nan,
    )
