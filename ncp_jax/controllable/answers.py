"""The file that chooses widths: configurations with their costs and metrics, and the best one for each question.

It needs the model no more. The objective of a configuration is the mean of its tasks' metrics (percent, higher is
better), weighted by the preferences. Of the configurations within the budget, the one with the largest objective is
chosen; of equal ones, the cheapest. So the budget holds exactly, and raising a task's preference never lowers its
measured metric.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.array_files import header_array, read_headed_npz, write_npz
from ncp_jax.console import short_repr
from ncp_jax.types import Float, Int

FORMAT = "ncp-jax widths 1"
_ARRAYS = ("codes", "flops", "params", "predicted", "measured")
_AT_ONCE = 2**21  # objectives computed at once: 16 MB


@dataclasses.dataclass(frozen=True, eq=False)
class WidthChoice:
    """The configurations chosen for one question, or for q of them at once (a leading axis [q] everywhere).

    Attributes:
      positions: names of the d encoder stages and decoders.
      tasks: names of the t tasks.
      codes: ``[d]`` or ``[q, d]`` number of channels of each position.
      flops: multiply-adds for one image, exact integers.
      params: parameters, exact integers.
      predictions: ``[t]`` or ``[q, t]`` metrics by the predictors, in percent; NaN without predictors.
      measurements: ``[t]`` or ``[q, t]`` metrics of the model on the validation examples, in percent; NaN where the
        audit lacks the configuration.
    """

    positions: tuple[str, ...]
    tasks: tuple[str, ...]
    codes: Int[np.ndarray, "*q d"]
    flops: Int[np.ndarray, "*q"] | int
    params: Int[np.ndarray, "*q"] | int
    predictions: Float[np.ndarray, "*q t"]
    measurements: Float[np.ndarray, "*q t"]

    __repr__ = short_repr

    @property
    def widths(self) -> dict[str, Int[np.ndarray, "*q"]]:
        """Number of channels of each encoder stage and decoder, by name."""
        return {name: self.codes[..., place] for place, name in enumerate(self.positions)}

    @property
    def predicted(self) -> dict[str, Float[np.ndarray, "*q"]]:
        """The predicted metric of each task, by name."""
        return {task: self.predictions[..., place] for place, task in enumerate(self.tasks)}

    @property
    def measured(self) -> dict[str, Float[np.ndarray, "*q"]]:
        """The measured metric of each task, by name; empty where the audit lacks the configuration."""
        if np.isnan(self.measurements).all():
            return {}
        return {task: self.measurements[..., place] for place, task in enumerate(self.tasks)}

    def __getitem__(self, key: str) -> Any:
        """Returns an entry of ``to_json``."""
        return self.to_json()[key]

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``ncp-jax widths query --json``; lists in place of numbers for several questions."""

        def listed(values: Mapping[str, Any]) -> dict[str, Any]:
            numbers = {name: np.asarray(value).tolist() for name, value in values.items()}
            return {n: v for n, v in numbers.items() if not (isinstance(v, float) and np.isnan(v))}

        return {
            "schema": "widths/1",
            "widths": listed(self.widths),
            "flops": np.asarray(self.flops).tolist(),
            "params": np.asarray(self.params).tolist(),
            "predicted": listed(self.predicted),
            "measured": listed(self.measured),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class Answers:
    """Width configurations among which the best is chosen, by rising multiply-adds.

    Attributes:
      positions: names of the d encoder stages and decoders.
      tasks: names of the t tasks.
      codes: ``[n, d]`` widths.
      flops: ``[n]`` multiply-adds for one image, int64, rising.
      params: ``[n]`` parameters, int64.
      predicted: ``[n, t]`` metrics by the predictors, percent; NaN without predictors.
      measured: ``[n, t]`` metrics on the model, percent; NaN where not audited.
      origin: hashes of the model and data that they are of.
    """

    positions: tuple[str, ...]
    tasks: tuple[str, ...]
    codes: Int[np.ndarray, "n d"]
    flops: Int[np.ndarray, " n"]
    params: Int[np.ndarray, " n"]
    predicted: Float[np.ndarray, "n t"]
    measured: Float[np.ndarray, "n t"]
    origin: Mapping[str, str]

    __repr__ = short_repr

    # Computed once: a single question takes less time than this.
    @functools.cached_property
    def values(self) -> Float[np.ndarray, "n t"]:
        """Metrics by which configurations are chosen: measured where they are, else predicted."""
        return np.ascontiguousarray(np.where(np.isnan(self.measured), self.predicted, self.measured))

    def pruned(self) -> Answers:
        """Returns the configurations that no other one equals or beats in cost and all metrics: the only answers.

        They are sorted; those given need not be.
        """
        from ncp_jax.analysis.hypervolume import non_dominated

        kept = non_dominated(np.column_stack([-self.flops, self.values]))
        _, first = np.unique(np.column_stack([self.flops, self.values])[kept], axis=0, return_index=True)
        rows = np.sort(np.flatnonzero(kept)[first])
        rows = rows[np.argsort(self.flops[rows], kind="stable")]
        return dataclasses.replace(self, **{name: getattr(self, name)[rows] for name in _ARRAYS})

    def query(self, budget: Any, preferences: Any) -> WidthChoice:
        """Returns the best configuration within a budget, for one question or for several at once.

        Args:
          budget: multiply-adds for one image, at most: a number, or ``[q]`` of them.
          preferences: relative importance of the tasks, >= 0: numbers by task (those left out count 0), or an array
            ``[t]`` or ``[q, t]`` in the order of ``tasks``. Only their ratios matter.

        Raises:
          UsageError: a budget that no configuration keeps (the text names the least); preferences that are negative,
            all zero, not finite, or of an unknown task.
        """
        weights = self._weights(preferences)
        budgets = _floats(budget)
        if budgets.ndim > 1 or np.isnan(budgets).any():
            raise checks.UsageError(
                expected="a budget, or a list of them", got=repr(budget)[:60], remedy="give multiply-adds, such as 2e6"
            )
        one = budgets.ndim == 0 and weights.ndim == 1
        if budgets.ndim and weights.ndim == 2 and len(budgets) != len(weights):
            raise checks.UsageError(
                expected="as many budgets as preferences",
                got=f"{len(budgets)} and {len(weights)}",
                remedy="give one of each for every question, or one for all",
            )
        count = len(budgets) if budgets.ndim else weights.size // len(self.tasks)
        budgets, weights = np.broadcast_to(budgets, count), np.broadcast_to(weights, (count, len(self.tasks)))
        within = np.asarray(np.searchsorted(self.flops, budgets, side="right"))
        if count and not within.all():
            raise checks.UsageError(
                expected=f"a budget of at least {int(self.flops[0])} multiply-adds, those of the smallest sub-network",
                got=f"{budgets.min():.15g}",
                remedy="give a larger budget",
            )
        rows = self._best(within, weights)
        return self._choice(rows[0] if one else rows)

    def _best(self, within: np.ndarray, weights: np.ndarray) -> np.ndarray:
        if len(within) == 1:
            return np.array([np.argmax(self.values[: within[0]] @ weights[0])])
        best = np.zeros(len(within), int)
        # Of questions with like budgets, none looks at configurations that all of them exclude.
        order = np.argsort(within, kind="stable")
        step = max(1, _AT_ONCE // max(len(self.flops), 1))
        for first in range(0, len(order), step):
            rows = order[first : first + step]
            most = within[rows[-1]]
            objective = weights[rows] @ self.values[:most].T
            objective[np.arange(most) >= within[rows][:, None]] = -np.inf
            best[rows] = objective.argmax(axis=1)
        return best

    def _choice(self, rows: Any) -> WidthChoice:
        flops, params = self.flops[rows], self.params[rows]
        one = np.ndim(rows) == 0
        return WidthChoice(
            self.positions,
            self.tasks,
            self.codes[rows],
            int(flops) if one else flops,
            int(params) if one else params,
            self.predicted[rows],
            self.measured[rows],
        )

    def _weights(self, preferences: Any) -> np.ndarray:
        if isinstance(preferences, Mapping):
            by_name = {checks.choose("task of the model", t, self.tasks): v for t, v in preferences.items()}
            columns = [_floats(by_name.get(task, 0.0)) for task in self.tasks]
            if len(by_name) < len(preferences) or len({column.shape for column in columns if column.ndim}) > 1:
                raise checks.UsageError(
                    expected="each task once, all with a number, or with as many as the others",
                    got=repr(preferences)[:120],
                    remedy=f"for example {self.tasks[0]}=1",
                )
            weights = np.stack(np.broadcast_arrays(*columns), axis=-1)
        else:
            weights = _floats(preferences)
        if weights.ndim not in (1, 2) or weights.shape[-1] != len(self.tasks):
            raise checks.UsageError(
                expected=f"a preference for each of {', '.join(self.tasks)}",
                got=f"shape {list(weights.shape)}",
                remedy="give numbers by task, or an array [q, tasks]",
            )
        # Sums of larger ones are infinite. NaN fails too.
        if not ((weights >= 0) & (weights <= 1e300)).all() or not (weights.sum(axis=-1) > 0).all():
            raise checks.UsageError(
                expected="preferences >= 0, one of them above 0",
                got=repr(preferences)[:120],
                remedy=f"for example {self.tasks[0]}=1",
            )
        return weights / weights.sum(axis=-1, keepdims=True)

    def save(self, path: Path) -> Path:
        """Writes the file, an npz without pickles, atomically."""
        header = {"positions": self.positions, "tasks": self.tasks, "origin": dict(self.origin)}
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _ARRAYS}
        arrays |= {name: arrays[name].astype(np.float32) for name in ("predicted", "measured")}
        arrays["header"] = header_array(FORMAT, header)
        return write_npz(path, arrays, compressed=True)

    @classmethod
    def load(cls, path: Path) -> Answers:
        """Reads a file of ``save``. Nothing in the file is executed.

        Raises:
          FileNotFoundError: the file does not exist.
          DataError: the file is damaged, or of another format.
        """
        try:
            header, stored = read_headed_npz(path.read_bytes(), FORMAT)
            arrays = {name: stored[name] for name in _ARRAYS}
            found = cls(tuple(header["positions"]), tuple(header["tasks"]), **arrays, origin=dict(header["origin"]))
            found._check()
        except FileNotFoundError as error:
            raise checks.MissingError(
                expected=f"the answers of a controllable model at {path}",
                got="no such file",
                remedy="make them with ncp-jax widths train",
            ) from error
        except (ValueError, KeyError, TypeError) as error:
            raise checks.DataError(
                expected=f"a file of format {FORMAT} at {path}",
                got=f"something else ({error})",
                remedy="make it anew with ncp-jax widths train",
            ) from error
        return found

    def _check(self) -> None:
        for name in ("codes", "flops", "params"):
            if getattr(self, name).dtype.kind != "i":
                raise ValueError(f"{name} that are no integers")
        n, d, t = len(self.codes), len(self.positions), len(self.tasks)
        shapes = {"codes": (n, d), "flops": (n,), "params": (n,), "predicted": (n, t), "measured": (n, t)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape or n == 0:
                raise ValueError(f"{name} {getattr(self, name).shape} instead of {shape}")
        if (np.diff(self.flops) < 0).any() or not np.isfinite(self.values).all():
            raise ValueError("configurations that are not sorted, or without metrics")


def _floats(values: Any) -> np.ndarray:
    """Returns values as float64; NaN for what are no numbers, which is refused as such."""
    try:
        return np.asarray(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        return np.array(np.nan)
