"""States the search for one architecture for several tasks: metrics, exact GFLOPs, preferences and budgets."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import main_metrics
from ncp_jax.predictors import Predictor
from ncp_jax.propagation.exact_costs import with_exact_costs
from ncp_jax.propagation.found import in_batches
from ncp_jax.propagation.gradients import Invertible
from ncp_jax.propagation.preferences import preference_weights
from ncp_jax.spaces import Bounds, CostModel, Space, cost_model_for, get_space
from ncp_jax.types import Array, Float, Int

COST = "flops"
FIRST = 512  # rows of the call that predicts for a report

Score = Callable[[Int[Array, "n d"]], tuple[Float[Array, "n t"], Float[Array, " n"]]]


@dataclasses.dataclass(frozen=True)
class Units:
    """Standard units of the main metrics: standard deviations above the table's mean, higher is better.

    Attributes:
      names: name of each task's main metric.
      signs: ``[t]`` 1 for a metric to raise, -1 for one to lower.
      mean: ``[t]`` means over the table.
      std: ``[t]`` standard deviations over the table.
    """

    names: tuple[str, ...]
    signs: Float[np.ndarray, " t"]
    mean: Float[np.ndarray, " t"]
    std: Float[np.ndarray, " t"]

    @classmethod
    def of(cls, table: Table, tasks: Sequence[str]) -> Units:
        """Returns the units of the main metrics of some tasks."""
        metrics = main_metrics(table, tasks)
        columns = np.stack([np.asarray(table.measured(m.name), np.float64) for m in metrics], axis=1)
        signs = np.array([m.sign for m in metrics], np.float64)
        return cls(tuple(m.name for m in metrics), signs, columns.mean(axis=0), columns.std(axis=0))

    def standard(self, values: Float[np.ndarray, "n t"]) -> Float[np.ndarray, "n t"]:
        """Converts metrics from their own to standard units."""
        return self.signs * (np.asarray(values, np.float64) - self.mean) / self.std


@dataclasses.dataclass(frozen=True)
class Questions:
    """What is asked: for every weighting of the tasks and every budget, the best architecture within the budget.

    Attributes:
      weights: ``[w, t]`` weights of the tasks, which sum to 1; the first t weightings are single tasks.
      budgets: ``[b]`` upper limits on GFLOPs, ascending.
    """

    weights: Float[np.ndarray, "w t"]
    budgets: Float[np.ndarray, " b"]

    @classmethod
    def make(cls, tasks: int, weightings: int, budgets: Float[np.ndarray, " b"]) -> Questions:
        """Returns evenly drawn weightings (see ``preference_weights``) of some tasks under ascending budgets."""
        checks.integer("--weights", weightings, least=tasks, remedy=f"try --weights {max(tasks, 4096)}")
        return cls((preference_weights(weightings, tasks) / tasks).astype(np.float32), np.sort(np.asarray(budgets)))


@dataclasses.dataclass(frozen=True)
class Problem:
    """A predictor to search, with everything that a method may use.

    Attributes:
      predictor: ensemble, restricted to the tasks' main metrics.
      follower: the same with FLOPs as its last metric, predicted ones or, where it has learned none, exact ones.
      space: space of the codes.
      costs: cost model of the space.
      units: standard units of the metrics.
      questions: weightings and budgets.
    """

    predictor: Predictor
    follower: Invertible
    space: Space
    costs: CostModel
    units: Units
    questions: Questions

    @classmethod
    def make(cls, predictor: Predictor, table: Table, units: Units, questions: Questions) -> Problem:
        """Returns the problem of a predictor that was trained on rows of a table."""
        space, costs, chosen = get_space(table.space), costs_of(table), predictor.select(units.names)
        follower: Invertible
        if any(metric.name == COST for metric in predictor.metrics):
            follower = predictor.select((*units.names, COST))
        else:
            follower, _ = with_exact_costs(chosen, costs, [COST], Bounds.of(space, {}))
        return cls(chosen, follower, space, costs, units, questions)

    def score_function(self) -> Score:
        """Returns the compiled function of codes that returns metrics in standard units, and GFLOPs in float32."""
        space, costs = self.space, self.costs
        signs, middle, std = (jnp.asarray(a, jnp.float32) for a in (self.units.signs, self.units.mean, self.units.std))

        # The networks are an argument: as constants, they would make another program of every seed.
        @jax.jit
        def score(predictor: Predictor, codes: Int[Array, "n d"]) -> tuple[Array, Array]:
            relaxed = space.encode(codes)
            mean, _ = predictor.in_stored_units(relaxed)
            return signs * (mean - middle) / std, costs.relaxed(relaxed)[COST].astype(jnp.float32)

        return functools.partial(score, self.predictor)

    def gflops(self, codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
        """Returns exact GFLOPs."""
        return np.asarray(self.costs.in_units(codes)[COST], np.float64)


def costs_of(table: Table) -> CostModel:
    """Returns the cost model of a table's space."""
    model = cost_model_for(get_space(table.space), table.metrics)
    assert model is not None
    return model


def predicted(predictor: Predictor, units: Units, codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, "n t"]:
    """Returns an ensemble's predictions for codes, in standard units; in batches of one shape."""
    chosen, space = predictor.select(units.names), get_space(predictor.space)
    (mean,) = in_batches(lambda rows: chosen(space.encode(jnp.asarray(rows)))[0], codes, FIRST)
    return units.standard(mean)


def measured(table: Table, units: Units, codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, "n t"]:
    """Returns a complete table's values of codes, in standard units."""
    rows = np.asarray(table.rows(jnp.asarray(codes)))
    if (rows < 0).any():
        raise checks.UsageError(
            expected=f"{table.name} to hold every architecture of its space",
            got=f"{codes[int(np.argmin(rows))].tolist()}, which it lacks",
            remedy="judge by an ensemble",
        )
    return units.standard(np.stack([np.asarray(table.measured(n))[rows] for n in units.names], axis=1))


def budgets_of(table: Table, quantiles: Sequence[float]) -> Float[np.ndarray, " b"]:
    """Returns quantiles of the GFLOPs of a table's architectures."""
    flops = costs_of(table).in_units(np.asarray(table.codes))[COST]
    return np.quantile(flops, quantiles)
