"""The goals of an open-ended session, and what was measured so far."""

from __future__ import annotations

import dataclasses
import math
import numbers
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.hypervolume import non_dominated
from ncp_jax.propagation.constraint import UNIT_NAMES
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.limit import RELATIONS, Limit
from ncp_jax.spaces import Bounds, Space, cost_model
from ncp_jax.types import Bool, Float, Int, Key

if TYPE_CHECKING:
    from ncp_jax.searchers.open_ended.config import OpenConfig


@dataclasses.dataclass(frozen=True)
class Goals:
    """What a session raises, lowers and holds.

    Attributes:
      metrics: names of what is told: the goals, then the metrics that only limits need.
      signs: +1 for each goal to maximise, -1 for each to minimise.
      limits: limits on told metrics.
      feasible: the codes within the limits on known costs; None without such limits.
    """

    metrics: tuple[str, ...]
    signs: tuple[int, ...]
    limits: tuple[Limit, ...]
    feasible: Feasible | None

    @classmethod
    def of(cls, config: OpenConfig, space: Space, known: Sequence[str] | None) -> Goals:
        """Returns the goals of a configuration.

        Args:
          config: the configuration.
          space: its space.
          known: names of the metrics of the table of known architectures; None without one.

        Raises:
          UsageError: no goal, one goal twice, a name that is no metric, or a limit that no architecture satisfies.
        """
        goals = (*config.maximize, *config.minimize)
        if not goals or len(set(goals)) < len(goals):
            raise checks.UsageError(
                expected="metrics to maximize or minimize, each once",
                got=", ".join(goals) or "none",
                remedy='for example maximize="accuracy"',
            )
        model = cost_model(space)
        units = {} if model is None else model.units
        costs = {*units, *(name for name, cost in UNIT_NAMES.items() if cost in units)}
        limits = [Limit.parse(text) for text in config.limits]
        on_costs = [limit for limit in limits if limit.metric in costs and limit.metric not in goals]
        told = tuple(limit for limit in limits if limit not in on_costs)
        metrics = tuple(dict.fromkeys([*goals, *(limit.metric for limit in told)]))
        if known is not None:
            for name in metrics:
                checks.choose("metric of the known architectures", name, list(known))
        feasible = Feasible.of_costs(Bounds.of(space, {}), on_costs, model) if model is not None and on_costs else None
        return cls(metrics, (1,) * len(config.maximize) + (-1,) * len(config.minimize), told, feasible)

    def allowed(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Returns True for each code within the limits on known costs, counted exactly."""
        return np.ones(len(codes), bool) if self.feasible is None or not len(codes) else self.feasible.fits(codes)

    def brought_within(self, codes: Int[np.ndarray, "n d"], key: Key) -> Int[np.ndarray, "n d"]:
        """Returns the codes with as many positions changed as the limits on known costs ask for."""
        return codes if self.feasible is None or not len(codes) else self.feasible.lower(codes, key, 0)

    def read(self, values: Any, n: int) -> dict[str, list[float]]:
        """Returns told values by metric, NaN for a failed training.

        Raises:
          UsageError: another number of values, an unknown or missing metric, no number, or an infinite one.
        """
        if not isinstance(values, Mapping):
            if len(self.metrics) > 1 and not _failed(values):
                raise checks.UsageError(
                    expected=f"values by metric: {', '.join(self.metrics)}", got=repr(values)[:80], remedy="tell a dict"
                )
            values = dict.fromkeys(self.metrics, values)
        for name in values:
            checks.choose("metric of this session", name, self.metrics)
        missing = [name for name in self.metrics if name not in values]
        if missing:
            raise checks.UsageError(
                expected=f"values of {', '.join(missing)}", got="none", remedy="tell None for a failed training"
            )
        read = {name: _numbers(name, values[name], n) for name in self.metrics}
        lost = [any(math.isnan(column[row]) for column in read.values()) for row in range(n)]
        # A training that lacks one value failed: nothing is compared with a part of a result.
        return {name: [math.nan if lost[row] else column[row] for row in range(n)] for name, column in read.items()}


def _failed(values: Any) -> bool:
    return values is None or (isinstance(values, float) and math.isnan(values))


def _numbers(name: str, values: Any, n: int) -> list[float]:
    if values is None or isinstance(values, numbers.Real) or np.ndim(values) == 0:
        values = [values]
    read = []
    for value in values:
        number = value.item() if isinstance(value, np.generic | jax.Array) else value
        if number is None:
            number = math.nan
        wrong = not isinstance(number, numbers.Real) or isinstance(number, bool) or math.isinf(float(number))
        if wrong or abs(float(number)) > 1e300:
            raise checks.UsageError(
                expected=f"{name} as a finite number, or None for a training that failed",
                got=repr(number),
                remedy="tell None if there is no value",
            )
        read.append(float(number))
    if len(read) != n:
        raise checks.UsageError(
            expected=f"{n} values of {name}", got=str(len(read)), remedy="tell one value for each code"
        )
    return read


@dataclasses.dataclass(frozen=True)
class Observation:
    """One measured architecture.

    Attributes:
      architecture: its string.
      code: its code.
      values: measured value of each metric; of repeated measurements, the mean. NaN if every training of it failed.
      measurements: number of trainings that did not fail.
    """

    architecture: str
    code: tuple[int, ...]
    values: Mapping[str, float]
    measurements: int


class Observations:
    """The measurements of a session, in the order of telling.

    Attributes:
      codes: int32 [k, d], one row for each measurement.
      values: float64 [k, m], NaN for failed trainings.
    """

    def __init__(self, space: Space, goals: Goals) -> None:
        self.space, self.goals = space, goals
        self._codes: list[np.ndarray] = []
        self._values: list[list[float]] = []

    def __len__(self) -> int:
        """Number of measurements that did not fail."""
        return sum(not math.isnan(values[0]) for values in self._values)

    @property
    def codes(self) -> Int[np.ndarray, "k d"]:
        """The measured codes."""
        return np.array(self._codes, np.int32).reshape(-1, self.space.length)

    @property
    def values(self) -> Float[np.ndarray, "k m"]:
        """The values."""
        return np.array(self._values, np.float64).reshape(-1, len(self.goals.metrics))

    def add(self, codes: Int[np.ndarray, "n d"], values: Mapping[str, Any]) -> None:
        """Adds measurements, with the values of each metric."""
        self._codes += [np.asarray(code, np.int32) for code in codes]
        columns = [values[name] for name in self.goals.metrics]
        self._values += [list(map(float, row)) for row in zip(*columns, strict=True)]

    def rows(self) -> list[Observation]:
        """Returns the different architectures, in the order of their first measurement."""
        together: dict[bytes, list[int]] = {}
        for row, code in enumerate(self._codes):
            together.setdefault(code.tobytes(), []).append(row)
        found = []
        for rows in together.values():
            good = [self._values[row] for row in rows if not math.isnan(self._values[row][0])]
            means = np.mean(good, axis=0) if good else np.full(len(self.goals.metrics), math.nan)
            values = dict(zip(self.goals.metrics, map(float, means), strict=True))
            code = self._codes[rows[0]]
            found.append(Observation(self.space.to_string(code), tuple(code.tolist()), values, len(good)))
        return found

    def front(self) -> list[Observation]:
        """Returns the architectures within all limits that no other one dominates, the best in the first goal first."""
        fitting = [row for row in self.rows() if row.measurements and self._fits(row)]
        if not fitting:
            return []
        values = self.oriented(np.array([[row.values[name] for name in self.goals.metrics] for row in fitting]))
        kept = np.flatnonzero(non_dominated(values))
        return [fitting[row] for row in kept[np.argsort(-values[kept, 0], kind="stable")]]

    def oriented(self, values: Float[np.ndarray, "k m"]) -> Float[np.ndarray, "k g"]:
        """Returns the values of the goals, so that higher is better."""
        return values[:, : len(self.goals.signs)] * np.array(self.goals.signs, float)

    def _fits(self, row: Observation) -> bool:
        code = np.array(row.code, np.int32)[None]
        within = all(RELATIONS[limit.relation](row.values[limit.metric], limit.value) for limit in self.goals.limits)
        return within and bool(self.goals.allowed(code)[0])
