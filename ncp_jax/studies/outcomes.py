"""Scores finished runs: when they improved, and the ranks, regrets and hypervolume of what they found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ncp_jax.analysis.hypervolume import hypervolume
from ncp_jax.analysis.ranks import kendall_tau, table_ranks
from ncp_jax.benchmarks import Table
from ncp_jax.searchers import Leaders, Runs
from ncp_jax.spaces import cost_model_for, get_space
from ncp_jax.types import Float, Int

PAIRS = 4000  # pairs per run for the calibration
AT_ONCE = 1024  # runs scored together: some tens of MB for budgets of some hundred queries


@dataclasses.dataclass(frozen=True)
class RunOutcome:
    """What one run found. The lists have one entry per improvement of the best value that the search has seen.

    Of a run on learning curves they have one entry for each architecture that it would have returned.

    Attributes:
      queries: number of queries paid for; on learning curves the epochs, in whole trainings, rounded up.
      asks: number of architectures asked for, free repeats included; on learning curves of those begun.
      at: the query, from 1, of each improvement.
      rows: row of the table that was found.
      values: its value of the evaluated metric, in the metric's unit.
      ranks: its rank in the whole table; 1 is best, ties share the better rank.
      regrets: its distance from the table's best value, in the metric's unit, at least 0.
      times: simulated training seconds spent until then; None where the table has none.
      seconds: simulated training seconds spent by the whole run; None where the table has none.
      hypervolume: area that all queried architectures dominate, quality against log10 FLOPs, as a share of the whole
        table's; None where FLOPs are unknown or that area is 0.
      tau: Kendall's tau of the final predictions with the whole table, in studies with source tasks; None elsewhere,
        and where all predictions are equal.
      calibration: ``Reliability`` of the predicted relations as JSON, for random pairs that the run did not measure, in
        studies with source tasks; None where a searcher predicts no relations.
      epochs: epochs paid for, on learning curves; None elsewhere.
    """

    queries: int
    asks: int
    at: Sequence[int]
    rows: Sequence[int]
    values: Sequence[float]
    ranks: Sequence[int]
    regrets: Sequence[float]
    times: Sequence[float] | None = None
    seconds: float | None = None
    hypervolume: float | None = None
    tau: float | None = None
    calibration: dict[str, Any] | None = None
    epochs: int | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields that are not None, JSON-ready; the ``results`` of a record."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return {name: value for name, value in fields.items() if value is not None}


class Evaluator:
    """Scores runs on one benchmark, with the whole table at hand.

    Args:
      table: the measured architectures.
      metric: the column that was searched.
      judge: the column by which results are scored; the searched one if None.
      costs: float [n], simulated training seconds of each row, or empty.
      predictions: whether to score the final predictions too. What a searcher without predictions measured counts as
        its own: the values of these architectures, and their mean for all others.
    """

    def __init__(
        self,
        table: Table,
        metric: str,
        judge: str | None,
        costs: Float[np.ndarray, " n"],
        predictions: bool = False,
    ) -> None:
        self._predictions = predictions
        name = table.metric(judge or metric).name
        quality = table.metric(name).sign * table.measured(name)
        self._quality = quality
        self._values = table.measured(name)
        self._digits = 7 if table.metric(name).stored is None else 17
        self._regret = quality.max() - quality
        self._rank = table_ranks(quality)
        self._costs = np.asarray(costs, np.float64)
        flops, _ = flops_of(table)
        # Quality against log10 FLOPs. The hypervolume is 0 in a table where all qualities or all costs are equal.
        self._objectives = None if flops is None else np.stack([quality, np.log10(flops)], axis=-1)
        if self._objectives is not None:
            self._worst = np.array([quality.min(), self._objectives[:, 1].max()])
            self._table_volume = float(hypervolume(self._objectives, self._worst))

    def score(self, runs: Runs) -> list[RunOutcome]:
        """Returns the outcome of each run."""
        returned = runs.leaders if isinstance(runs.leaders, Leaders) else None
        arrays = [*map(np.asarray, runs[:4]), *(() if returned is None else returned)]
        parts = range(0, len(arrays[0]), AT_ONCE)
        found = [outcome for first in parts for outcome in self._part(*(a[first : first + AT_ONCE] for a in arrays))]
        if not self._predictions:
            return found
        return [dataclasses.replace(outcome, **self._final(runs, i)) for i, outcome in enumerate(found)]

    def _final(self, runs: Runs, run: int) -> dict[str, Any]:
        """Scores the final predictions of a run."""
        from ncp_jax.ordering.relations import reliability

        asked = np.asarray(runs.rows[run])[: int(runs.count[run])]
        asked = asked[asked >= 0]  # fewer than queries on learning curves
        given, calibration = runs.predictions, None
        if given is None:
            paid = np.asarray(runs.values[run])[: len(asked)]
            scores = np.full(len(self._quality), paid.mean() if len(paid) else 0.0)
            scores[asked] = paid
        else:
            scores = given.scores[run]
            if given.utilities is not None and len(asked) < len(scores):
                pairs = predicted_relations(given.utilities[run], self._quality, asked)
                calibration = reliability(*pairs).to_json()
        tau = float(kendall_tau(scores[None], self._quality)[0])
        return {"tau": tau if np.isfinite(tau) else None, "calibration": calibration}

    def _part(
        self, rows: np.ndarray, values: np.ndarray, count: np.ndarray, asks: np.ndarray, *leaders: np.ndarray
    ) -> list[RunOutcome]:
        volumes = self._hypervolumes(rows, count)
        spent = np.cumsum(self._costs[np.maximum(rows, 0)], axis=1) if self._costs.size else None
        totals = None if spent is None else np.where(count > 0, spent[np.arange(len(rows)), count - 1], 0.0)
        epochs: list[int | None] = [None] * len(rows)
        if leaders:
            returned = Leaders(*leaders)
            # Whatever a run would return next is an improvement by what it has seen: by longer trainings, or better.
            changed = np.diff(returned.rows, axis=1, prepend=-1) != 0
            rows, values = returned.rows, np.cumsum(changed & (returned.rows >= 0), axis=1).astype(np.float64)
            spent, totals = (None, None) if spent is None else (returned.seconds, returned.spent)
            epochs = returned.epochs.tolist()
        return [
            self._outcome(
                rows[i],
                values[i],
                (int(count[i]), int(asks[i]), epochs[i]),
                None if spent is None or totals is None else (spent[i], totals[i]),
                None if volumes is None else _round(volumes[i], 6),
            )
            for i in range(len(rows))
        ]

    def _outcome(
        self,
        rows: Int[np.ndarray, " b"],
        values: Float[np.ndarray, " b"],
        counts: tuple[int, int, int | None],
        seconds: tuple[Float[np.ndarray, " b"], float] | None,
        volume: float | None,
    ) -> RunOutcome:
        queries, asks, epochs = counts
        best = np.maximum.accumulate(values[:queries])
        at = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
        found = rows[at]
        return RunOutcome(
            queries=queries,
            asks=asks,
            at=(at + 1).tolist(),
            rows=found.tolist(),
            values=[_round(value, self._digits) for value in self._values[found]],
            ranks=self._rank[found].tolist(),
            regrets=[_round(value) for value in self._regret[found]],
            times=None if seconds is None else [_round(value) for value in seconds[0][at]],
            seconds=None if seconds is None else _round(seconds[1]),
            hypervolume=volume,
            epochs=epochs,
        )

    def _hypervolumes(self, rows: np.ndarray, count: np.ndarray) -> np.ndarray | None:
        """Hypervolume of each run as a share of the whole table's; None where there is none."""
        if self._objectives is None or not self._table_volume > 0:
            return None
        paid = (np.arange(rows.shape[1]) < count[:, None]) & (rows >= 0)
        queried = np.where(paid[..., None], self._objectives[np.maximum(rows, 0)], np.nan)
        return hypervolume(queried, self._worst) / self._table_volume


def predicted_relations(
    utilities: Float[np.ndarray, "m n"], values: Float[np.ndarray, " n"], asked: Int[np.ndarray, " b"]
) -> tuple[Float[np.ndarray, " k"], Float[np.ndarray, " k"]]:
    """Draws random pairs of architectures that a run did not measure, with ``asked`` as the random seed.

    Returns:
      The predicted probability that the first is better, and the outcome: 1, 0, or 0.5 for a tie.
    """
    left = np.setdiff1d(np.arange(len(values)), asked)
    a, b = np.random.default_rng(asked.tolist()).choice(left, (2, PAIRS))
    predicted = np.asarray(jax.nn.sigmoid(utilities[:, a] - utilities[:, b])).mean(axis=0)
    return predicted, 0.5 * (1 + np.sign(values[a] - values[b]))


def _round(value: float, digits: int = 7) -> float:
    """Rounds to the digits that a table's float32 holds: records stay short, and equal."""
    return float(f"{value:.{digits}g}")


def flops_of(table: Table) -> tuple[Float[np.ndarray, " n"] | None, str]:
    """Returns the architectures' FLOPs and their unit, from the table or from the codes; None where neither has them.

    A column with a value of zero or less is ignored: it has no logarithm.
    """
    for spec in table.metrics:
        if spec.kind == "cost" and spec.name == "flops" and float(table.measured("flops").min()) > 0:
            return table.measured("flops"), spec.unit
    model = cost_model_for(get_space(table.space), table.metrics)
    if model is None or not model.has_flops:
        return None, ""
    return np.asarray(model.in_units(np.asarray(table.codes))["flops"], np.float64), "GMAC"
