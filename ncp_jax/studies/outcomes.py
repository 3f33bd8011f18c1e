"""What the owner of the table makes of runs: when they improved, and how good that was in truth."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncp_jax.analysis.hypervolume import hypervolume
from ncp_jax.analysis.ranks import table_ranks
from ncp_jax.benchmarks import Table
from ncp_jax.searchers import Runs
from ncp_jax.spaces import cost_model_for, get_space
from ncp_jax.types import Float, Int

AT_ONCE = 1024  # runs: some tens of MB for budgets of some hundred queries


class Judge:
    """One benchmark's truth.

    Args:
      table: the measured architectures.
      metric: the column that was searched.
      judge: the column that counts; the searched one if None.
      costs: simulated training seconds of each row, or empty.
    """

    def __init__(self, table: Table, metric: str, judge: str | None, costs: Float[np.ndarray, " n"]) -> None:
        name = table.metric(judge or metric).name
        truth = np.asarray(table.oriented(name), np.float64)
        self._own = np.asarray(table.column(name))
        self._regret = truth.max() - truth
        self._rank = table_ranks(truth)
        self._costs = np.asarray(costs, np.float64)
        flops, _ = flops_of(table)
        # Quality against log10 FLOPs; a table with one quality or one cost throughout dominates nothing.
        self._points = None if flops is None else np.stack([truth, np.log10(flops)], axis=-1)
        if self._points is not None:
            self._worst = np.array([truth.min(), self._points[:, 1].max()])
            self._whole = float(hypervolume(self._points, self._worst))

    def results(self, runs: Runs) -> list[dict[str, Any]]:
        """One JSON-ready dictionary a run; see docs/studies.md for the keys."""
        arrays = [np.asarray(array) for array in runs]
        parts = range(0, len(arrays[0]), AT_ONCE)
        return [result for first in parts for result in self._part(*(a[first : first + AT_ONCE] for a in arrays))]

    def _part(
        self, rows: np.ndarray, values: np.ndarray, count: np.ndarray, asks: np.ndarray, _: np.ndarray
    ) -> list[dict[str, Any]]:
        volumes = self._hypervolumes(rows, count)
        spent = np.cumsum(self._costs[np.maximum(rows, 0)], axis=1) if self._costs.size else None
        found = []
        for i in range(len(rows)):
            seconds = None if spent is None else spent[i]
            result = self._result(rows[i], values[i], int(count[i]), int(asks[i]), seconds)
            if volumes is not None:
                result["hypervolume"] = _short(volumes[i], 6)
            found.append(result)
        return found

    def _result(
        self,
        rows: Int[np.ndarray, " b"],
        values: Float[np.ndarray, " b"],
        count: int,
        asks: int,
        spent: Float[np.ndarray, " b"] | None,
    ) -> dict[str, Any]:
        best = np.maximum.accumulate(values[:count])
        at = np.flatnonzero(np.diff(best, prepend=-np.inf) > 0)
        chosen = rows[at]
        result: dict[str, Any] = {
            "queries": count,
            "asks": asks,
            "at": (at + 1).tolist(),
            "rows": chosen.tolist(),
            "values": [_short(value) for value in self._own[chosen]],
            "ranks": self._rank[chosen].tolist(),
            "regrets": [_short(value) for value in self._regret[chosen]],
        }
        if spent is not None:
            result["times"] = [_short(value) for value in spent[at]]
            result["seconds"] = _short(spent[count - 1]) if count else 0.0
        return result

    def _hypervolumes(self, rows: np.ndarray, count: np.ndarray) -> np.ndarray | None:
        """Share of the table's own hypervolume, down to the worst of both, of each run; None where that has no area."""
        if self._points is None or not self._whole > 0:
            return None
        paid = np.arange(rows.shape[1]) < count[:, None]
        asked = np.where(paid[..., None], self._points[np.maximum(rows, 0)], np.nan)
        return hypervolume(asked, self._worst) / self._whole


def _short(value: float, digits: int = 7) -> float:
    """As many digits as a table's float32 holds: records stay short, and equal."""
    return float(f"{value:.{digits}g}")


def flops_of(table: Table) -> tuple[Float[np.ndarray, " n"] | None, str]:
    """FLOPs of the architectures, from the table or from the codes, with their unit; None where neither has them.

    A column with zeros or less counts as none: it has no logarithm.
    """
    for spec in table.metrics:
        if spec.kind == "cost" and spec.name == "flops" and float(table.column("flops").min()) > 0:
            return np.asarray(table.column("flops"), np.float64), spec.unit
    model = cost_model_for(get_space(table.space), table.metrics)
    if model is None:
        return None, ""
    return np.asarray(model.in_units(np.asarray(table.codes))["flops"], np.float64), "GMAC"
