"""Sets what a search found beside what is measured: values, ranks, and the best measured architecture."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax.benchmarks import Table
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Objective
from ncp_jax.propagation.constraint import UNIT_NAMES
from ncp_jax.propagation.exact_costs import cost_scales
from ncp_jax.propagation.found import COST_HEADS, COST_KEYS
from ncp_jax.propagation.limit import RELATIONS, LimitStatus
from ncp_jax.spaces import Bounds, CostModel, get_space
from ncp_jax.spaces.costs.model import SCALE
from ncp_jax.types import Bool, Float, Int


@dataclasses.dataclass(frozen=True, eq=False)
class Measured:
    """The measured architectures of a table, by the objective of a search.

    Attributes:
      table: the table.
      values: ``[n]`` each sought metric, by name: measured, or an exact cost.
      costs: ``[n]`` exact costs of the rows by name, in the cost model's units; empty where they are not known.
      score: ``[n]`` the objective of the measured values, in the standard units of the search; higher is better.
      rank: ``[n]`` 1 for the best score of the table; equal scores share the better rank.
      within: ``[n]`` True for the rows within bounds and limits of the search, by measured values and exact costs.
    """

    table: Table
    values: Mapping[str, Float[np.ndarray, " n"]]
    costs: Mapping[str, Float[np.ndarray, " n"]]
    score: Float[np.ndarray, " n"]
    rank: Int[np.ndarray, " n"]
    within: Bool[np.ndarray, " n"]

    @classmethod
    def of(
        cls,
        table: Table | None,
        found: Found,
        predictor: Predictor,
        objective: Objective,
        costs: CostModel | None,
        bounds: Bounds,
        *,
        own_costs: bool = False,
    ) -> Measured | None:
        """Returns the table by a search's objective; None without a table, or where it lacks a sought metric.

        Args:
          table: the table, or None.
          found: what the search found, with its limits.
          predictor: the predictor that the search was given.
          objective: what was sought.
          costs: cost model whose numbers are meant; None where costs are not known.
          bounds: bounds of the search.
          own_costs: whether the cost model stands in for costs that the predictor has learned.
        """
        if table is None:
            return None
        codes = np.asarray(table.codes)
        exact = costs.in_units(codes) if costs is not None else {}
        column = column_of(table, exact)
        weights = {**objective.maximize, **objective.minimize}
        signs = {**dict.fromkeys(objective.maximize, 1.0), **dict.fromkeys(objective.minimize, -1.0)}
        values: dict[str, np.ndarray] = {}
        score = np.zeros(len(codes))
        for name, weight in weights.items():
            held = column(name)
            if held is None:
                return None
            values[name] = held
            exactly = name.lower() in exact and (own_costs or name.lower() not in _names(predictor.metrics))
            score += signs[name] * weight * _standard(held, name, predictor, costs if exactly else None, bounds)
        rank = 1 + np.searchsorted(np.sort(-score), -score)
        within = np.asarray(bounds.contains(table.codes))
        for limit in found.limits:
            within = within & _keeps(limit, column, exact, costs)
        return cls(table, values, exact, score, rank, within)

    def rows_of(self, found: Found) -> Int[np.ndarray, " k"]:
        """Returns the table's row of each architecture found, -1 for those that are not measured."""
        return np.asarray(self.table.rows(jnp.asarray(found.codes)))

    @property
    def best(self) -> int | None:
        """Row of the best measured architecture within bounds and limits; None where there is none."""
        rows = np.flatnonzero(self.within)
        return int(rows[self.score[rows].argmax()]) if len(rows) else None

    def of_row(self, row: int) -> dict[str, float]:
        """Returns the sought metrics of one row, by name."""
        return {name: float(column[row]) for name, column in self.values.items()}

    def columns(self, found: Found, costs: Mapping[str, Any]) -> dict[str, list[str]]:
        """Returns columns of a text table: measured values and the rank; none where nothing of it is measured."""
        rows = self.rows_of(found)
        if (rows < 0).all():
            return {}
        shown = [name for name in self.values if name not in costs]
        columns = {
            f"{name} measured": ["-" if row < 0 else f"{self.values[name][row]:.5g}" for row in rows] for name in shown
        }
        return columns | {f"rank of {len(self.score)}": ["-" if row < 0 else str(self.rank[row]) for row in rows]}

    def best_json(self) -> dict[str, Any] | None:
        """Returns the best measured architecture as JSON-ready values; None where there is none."""
        row = self.best
        if row is None:
            return None
        code = np.asarray(self.table.codes)[row]
        return {
            "code": [int(v) for v in code],
            "string": get_space(self.table.space).to_string(code),
            "measured": self.of_row(row),
            **{COST_KEYS.get(name, name): float(cost[row]) for name, cost in self.costs.items()},
            "score": float(self.score[row]),
            "rank": int(self.rank[row]),
        }

    def best_line(self) -> str:
        """Returns the best measured architecture as one line."""
        best = self.best_json()
        if best is None:
            return "No measured architecture is within the limits."
        shown = {name: value for name, value in best["measured"].items() if name.lower() not in self.costs}
        shown |= {COST_HEADS.get(name, name): best[COST_KEYS.get(name, name)] for name in self.costs}
        values = ", ".join(f"{name} {value:.4g}" for name, value in shown.items())
        return f"Best of {len(self.score)} measured: {values}; score {best['score']:+.3f}; {best['string']}"


def column_of(table: Table, exact: Mapping[str, np.ndarray]) -> Callable[[str], np.ndarray | None]:
    """Returns a function from a metric's name to its measured values, or exact costs; None where there are none."""
    names = {metric.name.lower(): metric.name for metric in table.metrics}

    def column(name: str) -> np.ndarray | None:
        if name.lower() in exact:
            return exact[name.lower()]
        return table.measured(names[name.lower()]) if name.lower() in names else None

    return column


def _standard(
    values: Float[np.ndarray, " n"], name: str, predictor: Predictor, costs: CostModel | None, bounds: Bounds
) -> Float[np.ndarray, " n"]:
    """Returns values in the standard units in which the search scores them: with a cost model, those of its costs."""
    if costs is not None:
        ((mean, deviation),) = cost_scales(costs, [name.lower()], bounds).values()
        return (values - mean) / deviation
    place = _names(predictor.metrics).index(name.lower())
    unit = predictor.metrics[place].stored
    stored = values if unit is None else unit.store(np.asarray(values, np.float64))
    return (stored - float(predictor.scale.y_mean[place])) / float(predictor.scale.y_std[place])


def _names(metrics: Sequence[MetricSpec]) -> list[str]:
    return [metric.name.lower() for metric in metrics]


def _keeps(
    limit: LimitStatus,
    column: Callable[[str], np.ndarray | None],
    exact: Mapping[str, np.ndarray],
    costs: CostModel | None,
) -> Bool[np.ndarray, " n"] | bool:
    """Returns True for each row within a limit; True alone where the table lacks the metric."""
    relation = RELATIONS[limit.relation]
    if limit.exact and costs is not None:
        cost = UNIT_NAMES.get(limit.metric, limit.metric)
        scale = 1.0 if limit.metric in UNIT_NAMES else SCALE.get(costs.units[cost], 1.0)
        return relation(exact[cost], limit.value / scale)
    values = column(limit.metric)
    return True if values is None else relation(values, limit.value)
