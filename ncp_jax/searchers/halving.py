"""Searches learning curves in a budget of epochs: successive halving, and its asynchronous form (ASHA).

Both train many architectures for few epochs and the better ones longer. They see the value of an architecture after an
epoch only when that epoch is paid for; a training that goes on pays for the further epochs alone. With ``predict``,
ASHA begins the architectures that a Gaussian process expects most of, which reads finished and partial curves. In
studies both are searchers (``ncp_jax.searchers.curve_searchers``).

Sources: Jamieson & Talwalkar, AISTATS 2016, arXiv 1502.07943 (successive halving); Li et al., MLSys 2020,
arXiv 1810.05934, algorithm 2 (ASHA, here with one worker).
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.curves import load_curves
from ncp_jax.metrics import MetricSpec, check_split
from ncp_jax.searchers.partial_curves import Starts
from ncp_jax.searchers.rungs import Steps, halve, leaders, promote, rung_epochs
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
      predict: whether to begin the architectures with the largest expected improvement (``partial_curves.Starts``)
        instead of random ones, once five trainings of the run have ended; only with "asha".
      runs: number of independent runs.
      seed: seed of the order in which architectures are begun.
      on_test: whether the metric may be of the test split.
    """

    epochs: int
    method: str = "asha"
    factor: int = 3
    least: int = 1
    predict: bool = False
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
        if self.predict and self.method != "asha":
            raise checks.UsageError(
                expected="predict with the method asha",
                got=self.method,
                remedy="the bracket of halving is over when its first trainings end: nothing is there to learn from",
            )


@dataclasses.dataclass(frozen=True, eq=False)
class HalvingRun:
    """One run.

    Attributes:
      rows: int32 [s], the architecture of each step, a row of the table.
      epochs: int32 [s], the epochs that it was trained for after the step.
      values: float64 [s], the metric then; NaN where the training failed.
      spent: epochs paid for.
      at: int32 [i], epochs spent when the architecture that the run would return changed.
      found: int32 [i], the row of that architecture: of those trained longest, the best.
      ranks: int32 [i], rank of its final value among all architectures of the table.
      chosen: the row that the run returns, the last of ``found``.
      rank: rank of its final value among all architectures of the table, 1 for the best.
      regret: distance of its final value from the best one, in the metric's unit; NaN where its training fails later.
    """

    rows: Int[np.ndarray, " s"]
    epochs: Int[np.ndarray, " s"]
    values: Float[np.ndarray, " s"]
    spent: int
    at: Int[np.ndarray, " i"]
    found: Int[np.ndarray, " i"]
    ranks: Int[np.ndarray, " i"]
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
        """Returns JSON-ready values; "at" are epochs spent, "ranks" what the run would have returned then."""
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
                    "at": run.at.tolist(),
                    "ranks": run.ranks.tolist(),
                }
                for run, string in zip(self.runs, self.strings, strict=True)
            ],
        }


def search_curves(table: str, column: str, config: HalvingConfig) -> HalvingResult:
    """Searches a column of a table that has learning curves, in a budget of epochs. Runs on the host.

    Args:
      table: name of the table ("nats-tss/cifar10-200", "digits/class"); see ``load_curves``.
      column: name of the column ("valid_top1", "accuracy").
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
    rungs = rung_epochs(config.least, config.factor, oriented.shape[1])
    space = get_space(curves.space)
    # Isomorphic architectures have one canonical code.
    codes = np.asarray(space.canonical(jnp.asarray(curves.codes))) if config.predict else curves.codes
    runs = []

    def train(row: int, epochs: int) -> Float[np.ndarray, " p"]:
        return oriented[row, :epochs]

    for run in range(config.runs):
        order = np.random.default_rng([config.seed, run]).permutation(len(oriented))
        if config.method == "halving":
            steps = halve(train, order, rungs, budget=config.epochs, factor=config.factor)
        else:
            starts = Starts(curves.space, codes, oriented.shape[1]) if config.predict else None
            steps = promote(train, order, rungs, budget=config.epochs, factor=config.factor, starts=starts)
        runs.append(_scored(steps, oriented, curves.metric.sign))
    strings = space.to_strings(curves.codes[[run.chosen for run in runs]])
    return HalvingResult(curves.table, curves.metric, config, rungs, tuple(runs), tuple(strings))


def _scored(steps: Steps, values: Float[np.ndarray, "n e"], sign: float) -> HalvingRun:
    """Returns a run, with the final values of what it would have chosen against those of all architectures."""
    rows, epochs = (np.array(part, np.int32) for part in zip(*steps, strict=True))
    seen = values[rows, epochs - 1]
    # Where an architecture is trained further and still leads, it stays the one that is returned.
    changes = [next(group) for _, group in itertools.groupby(leaders(steps, seen.tolist()), lambda leader: leader.row)]
    at, found = [leader.spent for leader in changes], [leader.row for leader in changes]
    spent = sum(dict(steps).values())  # the last step of an architecture includes the others
    chosen, final = found[-1], values[:, -1]
    return HalvingRun(
        rows=rows,
        epochs=epochs,
        values=np.where(np.isfinite(seen), seen * sign, np.nan),
        spent=spent,
        at=np.array(at, np.int32),
        found=np.array(found, np.int32),
        ranks=np.array([1 + int((final > final[row]).sum()) for row in found], np.int32),
        chosen=chosen,
        rank=1 + int((final > final[chosen]).sum()),
        regret=float(final.max() - final[chosen]) if np.isfinite(final[chosen]) else math.nan,
    )
