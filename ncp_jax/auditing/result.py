"""Holds what an audit found, for each metric and each architecture, and says it in words."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ncp_jax.console import format_table, short_repr
from ncp_jax.metrics import MetricSpec
from ncp_jax.spaces import get_space
from ncp_jax.types import Bool, Float, Int

if TYPE_CHECKING:
    from ncp_jax.auditing.config import AuditConfig

UNLIKE = 95.0  # percentile of the held-out rows beyond which an architecture is unlike them
EXTRAPOLATED = " !"  # mark of intervals and distances beyond it


@dataclasses.dataclass(frozen=True)
class Calibration:
    """How predictions and intervals of one metric did on rows that their models were fitted without.

    Attributes:
      rows: number of rows.
      bins: number of bins of the prediction within which errors were compared.
      coverage: share of the rows within the intervals that the errors of the other folds give.
      top_coverage: the same of the tenth of the rows that was predicted best.
      rmse: root of the mean squared error of the families' mean, in the metric's own unit.
      family_rmse: the same of each family.
    """

    rows: int
    bins: int
    coverage: float
    top_coverage: float
    rmse: float
    family_rmse: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary."""
        return dataclasses.asdict(self) | {"family_rmse": dict(self.family_rmse)}


@dataclasses.dataclass(frozen=True, eq=False)
class MetricAudit:
    """What independent models say about one metric of k architectures, in the metric's own unit.

    Attributes:
      metric: the metric.
      families: ``[k]`` prediction of each family, by its name.
      predicted: ``[k]`` mean over the families.
      low, high: ``[k]`` ends of the interval; infinite where there are too few rows for the level.
      disagreement: ``[k]`` standard deviation over the families.
      disagreement_percentile: ``[k]`` percentage of the held-out rows on which the families disagree less.
      rank_percentile: ``[k]`` percentage of the held-out rows that are predicted worse.
      extrapolated: ``[k]`` True where the architecture is not measured, and its prediction is beyond that of all
        held-out rows, or the families disagree more than on 95 % of them: the interval then promises nothing.
      calibration: how it did on held-out rows.
    """

    metric: MetricSpec
    families: Mapping[str, Float[np.ndarray, " k"]]
    predicted: Float[np.ndarray, " k"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    disagreement: Float[np.ndarray, " k"]
    disagreement_percentile: Float[np.ndarray, " k"]
    rank_percentile: Float[np.ndarray, " k"]
    extrapolated: Bool[np.ndarray, " k"]
    calibration: Calibration

    __repr__ = short_repr

    def take(self, rows: Int[np.ndarray, " j"]) -> MetricAudit:
        """Returns what belongs to some of the architectures, in the given order."""
        families = {name: values[rows] for name, values in self.families.items()}
        arrays = ("predicted", "low", "high", "disagreement", "disagreement_percentile", "rank_percentile")
        picked: dict[str, Any] = {name: getattr(self, name)[rows] for name in (*arrays, "extrapolated")}
        return dataclasses.replace(self, families=families, **picked)

    def row(self, place: int) -> dict[str, Any]:
        """Returns what belongs to one architecture, JSON-ready; ends of an unbounded interval are None."""
        ends = [float(end[place]) if np.isfinite(end[place]) else None for end in (self.low, self.high)]
        return {
            "predicted": float(self.predicted[place]),
            "low": ends[0],
            "high": ends[1],
            "families": {name: float(values[place]) for name, values in self.families.items()},
            "disagreement": float(self.disagreement[place]),
            "disagreement_percentile": float(self.disagreement_percentile[place]),
            "rank_percentile": float(self.rank_percentile[place]),
            "extrapolated": bool(self.extrapolated[place]),
        }

    def interval_text(self, place: int) -> str:
        """Returns an interval as text: "77.8 … 80.6", with a mark where it is extrapolated."""
        return self._ends(place) + (EXTRAPOLATED if self.extrapolated[place] else "")

    def _ends(self, place: int) -> str:
        span = self.high[place] - self.low[place]
        if not np.isfinite(span):
            return "unbounded"
        digits = int(np.clip(2 - np.floor(np.log10(span)), 0, 9)) if span > 0 else 3
        ends = [self.low[place], self.high[place]]
        if max(map(abs, ends)) >= 1e7:
            return " … ".join(f"{end:.6g}" for end in ends)
        return " … ".join(f"{end:.{digits}f}" for end in ends)


@dataclasses.dataclass(frozen=True, eq=False)
class Audit:
    """What an audit says about k architectures.

    Attributes:
      codes: ``[k, d]`` the architectures.
      space: name of their space.
      table: name of the measured table.
      rows: number of its rows that were used.
      config: settings.
      metrics: what is said about each metric.
      measured_row: ``[k]`` row of the table that holds the architecture itself, -1 for none.
      nearest_row: ``[k]`` row of the nearest measured architecture.
      nearest_code: ``[k, d]`` that architecture.
      distance: ``[k]`` number of positions in which it differs.
      distance_percentile: ``[k]`` percentage of the held-out rows that are nearer to the rows of the other folds.
      held_out_distances: the distances of held-out rows between which nine tenths of them lie.
      seconds: how long the audit took.
    """

    codes: Int[np.ndarray, "k d"]
    space: str
    table: str
    rows: int
    config: AuditConfig
    metrics: tuple[MetricAudit, ...]
    measured_row: Int[np.ndarray, " k"]
    nearest_row: Int[np.ndarray, " k"]
    nearest_code: Int[np.ndarray, "k d"]
    distance: Int[np.ndarray, " k"]
    distance_percentile: Float[np.ndarray, " k"]
    held_out_distances: tuple[int, int]
    seconds: float

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def families(self) -> tuple[str, ...]:
        """Names of the families of models."""
        return tuple(self.metrics[0].families)

    @property
    def far(self) -> Bool[np.ndarray, " k"]:
        """True where an architecture is farther from the nearest measured one than 95 % of the held-out rows were."""
        return (self.distance_percentile > UNLIKE) & (self.measured_row < 0)

    @property
    def unlike(self) -> Bool[np.ndarray, " k"]:
        """True where an architecture is far, or the interval of any of its metrics is extrapolated."""
        return np.any([self.far, *(metric.extrapolated for metric in self.metrics)], axis=0)

    def take(self, rows: Int[np.ndarray, " j"]) -> Audit:
        """Returns the audit of some of the architectures, in the given order."""
        arrays = ("codes", "measured_row", "nearest_row", "nearest_code", "distance", "distance_percentile")
        picked: dict[str, Any] = {name: getattr(self, name)[rows] for name in arrays}
        return dataclasses.replace(self, metrics=tuple(m.take(rows) for m in self.metrics), **picked)

    def places(self, codes: Int[np.ndarray, "j d"]) -> Int[np.ndarray, " j"]:
        """Returns the place of each code among those audited, -1 for none."""
        known = {np.ascontiguousarray(code, np.int32).tobytes(): place for place, code in enumerate(self.codes)}
        return np.array([known.get(np.ascontiguousarray(code, np.int32).tobytes(), -1) for code in codes], int)

    def row(self, place: int) -> dict[str, Any]:
        """Returns what belongs to one architecture, JSON-ready."""
        return {
            "metrics": {metric.metric.name: metric.row(place) for metric in self.metrics},
            "nearest": {
                "row": int(self.nearest_row[place]),
                "string": get_space(self.space).to_string(self.nearest_code[place]),
                "distance": int(self.distance[place]),
                "distance_percentile": float(self.distance_percentile[place]),
            },
            "far": bool(self.far[place]),
        }

    def summary_json(self) -> dict[str, Any]:
        """Returns what belongs to the audit as a whole, JSON-ready."""
        return {
            **self.config.to_json(),
            "families": list(self.families),
            "table": self.table,
            "rows": self.rows,
            "held_out_distances": list(self.held_out_distances),
            "calibration": {metric.metric.name: metric.calibration.to_json() for metric in self.metrics},
            "seconds": self.seconds,
        }

    def to_json(self) -> dict[str, Any]:
        """Returns the audit as JSON-ready values; ``architectures`` have a code, its string and ``row``."""
        strings = get_space(self.space).to_strings(self.codes)
        return {
            "schema": "proposal-audit/1",
            "space": self.space,
            **self.summary_json(),
            "architectures": [
                {"code": [int(v) for v in code], "string": text, **self.row(place)}
                for place, (code, text) in enumerate(zip(self.codes, strings, strict=True))
            ],
        }

    def columns(self, codes: Int[np.ndarray, "j d"]) -> dict[str, list[str]]:
        """Returns columns of a text table: an interval for each metric and the distance; "-" where not audited."""
        places, positions = self.places(codes), self.codes.shape[1]
        level = f"{100 * self.config.level:g} %"

        def cells(text: Any) -> list[str]:
            return ["-" if place < 0 else text(int(place)) for place in places]

        found = {f"{m.metric.name} audited, {level}": cells(m.interval_text) for m in self.metrics}
        far = self.far
        return found | {
            f"differs in (of {positions})": cells(lambda p: f"{self.distance[p]}{EXTRAPOLATED if far[p] else ''}")
        }

    def notes(self) -> list[str]:
        """Returns what was audited, and how, one line each."""
        level, folds = f"{100 * self.config.level:g} %", self.config.folds
        named = {"trees": "gradient-boosted trees", "gaussian process": "a Gaussian process"}
        listed = [named.get(name, name) for name in self.families]
        lines = [
            f"Audited by {', '.join(listed[:-1])} and {listed[-1]}, each fitted without one of {folds} folds of "
            f"{self.rows} measured architectures"
        ]
        for metric in self.metrics:
            held = metric.calibration
            best = ", ".join(f"{name} {values[0]:.4g}" for name, values in metric.families.items())
            lines.append(
                f"{metric.metric.name}: intervals of {level} contain {100 * held.coverage:.1f} % of the held-out rows, "
                f"{100 * held.top_coverage:.1f} % of the tenth predicted best; error {held.rmse:.3g}. "
                f"Predicted for the first: {metric.predicted[0]:.4g} ({best})"
            )
        near, far = self.held_out_distances
        if (self.measured_row < 0).any():
            lines.append(
                f"'differs in': positions that differ from the nearest measured architecture; {near} to {far} for "
                "nine tenths of the held-out rows"
            )
        count = int(self.unlike.sum())
        if count:
            lines.append(
                f"! marks what is unlike the held-out rows, here in {count} of {len(self)} architectures: predicted "
                "beyond all of them, families that disagree more, or a larger distance, than on 95 % of them. "
                "There intervals are extrapolated, and nothing is guaranteed"
            )
        return lines

    def __str__(self) -> str:
        columns = self.columns(self.codes)
        head = ["", *(f"{m.metric.name} [{m.metric.unit}]" if m.metric.unit else m.metric.name for m in self.metrics)]
        rows = [[*head, *columns, "architecture"]]
        for place, text in enumerate(get_space(self.space).to_strings(self.codes)):
            predicted = [f"{metric.predicted[place]:.5g}" for metric in self.metrics]
            rows.append([str(place + 1), *predicted, *(column[place] for column in columns.values()), text])
        table = format_table(rows, ">" * (len(rows[0]) - 1) + "<")
        return "\n".join([table, *self.notes()])


def share_below(among: Float[np.ndarray, " n"], values: Float[np.ndarray, " k"]) -> Float[np.ndarray, " k"]:
    """Returns the percentage of ``among`` that is below each value, ``[k]``."""
    return 100.0 * np.searchsorted(np.sort(among), values, side="left") / len(among)
