"""Puts together what an inversion is after: the objective, the limits, and the predictors that follow and rank them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ncp_jax import checks
from ncp_jax.propagation.config import PropagationConfig
from ncp_jax.propagation.engine import followers
from ncp_jax.propagation.exact_costs import FirstMetrics, with_exact_costs
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.gradients import Invertible, exact_columns
from ncp_jax.propagation.limit import Limit
from ncp_jax.propagation.objective import Function, Objective, ObjectiveWeights, weights_of
from ncp_jax.propagation.preferences import preference_weights
from ncp_jax.spaces import Bounds, CostModel, cost_model_for
from ncp_jax.types import Float, Int


@dataclasses.dataclass(frozen=True)
class Goal:
    """What an inversion is after.

    Attributes:
      predictor: the whole predictor, which ranks architectures; with exact costs that are sought and not predicted.
      followed: the predictor restricted to the metrics that the loop needs, so that it does not compute the others.
      weights: the objective over all metrics.
      followed_weights: the objective over the metrics of ``followed``.
      bounds: bounds of the legal codes.
      limit: the codes within bounds and limits, or None without limits.
      costs: cost model of the space, or None if its costs are unknown.
      followed_costs: the same if codes are to follow exact costs, else None.
      sought: name and sign of the metrics to raise or lower; empty for a function.
      preferences: ``[p, m]`` weights of the followed metrics among which codes are divided; None for the objective's.
      each: ``[p, m]`` weights of all metrics in each of several objectives; None for one objective.
    """

    predictor: Invertible
    followed: Invertible
    weights: ObjectiveWeights
    followed_weights: ObjectiveWeights
    bounds: Bounds
    limit: Feasible | None
    costs: CostModel | None
    followed_costs: CostModel | None
    sought: tuple[tuple[str, float], ...]
    preferences: Float[np.ndarray, "p m"] | None
    each: Float[np.ndarray, "p m"] | None

    @classmethod
    def make(
        cls,
        predictor: Invertible,
        objective: Objective | Function | tuple[Objective, ...],
        config: PropagationConfig,
        bounds: Bounds,
        limits: Sequence[Limit],
    ) -> Goal:
        """Returns the goal of a call of ``propagate`` or ``propagate_many``; their errors are listed there.

        Of several objectives, ``weights`` are the mean.
        """
        several = objective if isinstance(objective, tuple) else ()
        objective = several[0] if isinstance(objective, tuple) else objective
        costs = config.costs or cost_model_for(bounds.space, predictor.metrics)
        if config.costs is not None:
            predictor = _without_costs(predictor, config.costs)
        base = predictor
        # Costs that are known and sought, but not predicted, are metrics like the others: exact ones.
        objectives = several or ((objective,) if isinstance(objective, Objective) else ())
        sought = tuple(dict.fromkeys(name for one in objectives for name in one.names))
        known = {metric.name.lower() for metric in predictor.metrics}
        lacking = [] if costs is None else [c for c in costs.units if c in map(str.lower, sought) and c not in known]
        if lacking:
            assert costs is not None
            predictor, _ = with_exact_costs(base, costs, lacking, bounds)
        limit = Feasible.make(bounds, predictor, limits, costs) if limits else None
        ceiling = {} if limit is None else limit.standard_limits(upper=True)
        floor = {} if limit is None else limit.standard_limits(upper=False)
        weights = weights_of(objective, predictor.metrics, ceiling, floor)
        each = None
        if several:
            each = np.stack([one.push(predictor.metrics) for one in several])
            weights = dataclasses.replace(weights, push=each.mean(axis=0))
        followed, goal = predictor, objective
        if isinstance(objective, Objective):
            wanted = tuple(dict.fromkeys((*sought, *ceiling, *floor)))
            followed = predictor.select(wanted) if not lacking else predictor
        unpredicted = () if limit is None else limit.unpredicted()
        if limit is not None and unpredicted:
            # The predictor says nothing about these costs: codes follow the exact ones to the limits.
            assert costs is not None
            if not isinstance(objective, Objective):
                goal = FirstMetrics(objective, len(predictor.metrics))
            followed, scales = with_exact_costs(followed, costs, unpredicted, bounds)
            ceiling |= limit.unpredicted_limits(scales, upper=True)
            floor |= limit.unpredicted_limits(scales, upper=False)
        followed_weights = weights if followed is predictor else weights_of(goal, followed.metrics, ceiling, floor)
        if config.exact_costs:
            _check_exact_costs(followed, costs, bounds)
        followed_costs = costs if config.exact_costs else None
        names: tuple[tuple[str, float], ...] = ()
        preferences = None
        if isinstance(objective, Objective):
            names = objective.sought(predictor.metrics)
            if several:
                preferences = np.stack([one.push(followed.metrics) for one in several])
            elif config.preferences > 1:
                preferences = _preferences(config.preferences, np.asarray(followed_weights.push))
            if preferences is not None:
                # The program for codes with weights of their own; a row for each code takes the place of these.
                followed_weights = followed_weights.of_rows(preferences[:1])
        return cls(
            predictor,
            followed,
            weights,
            followed_weights,
            bounds,
            limit,
            costs,
            followed_costs,
            names,
            preferences,
            each,
        )

    def weights_of_codes(self, ids: Int[np.ndarray, " n"], config: PropagationConfig) -> ObjectiveWeights:
        """Returns the weights that codes follow, given their numbers."""
        if self.preferences is None:
            return self.followed_weights
        # Codes that follow all networks in turn share a preference.
        turn = ids // followers(self.followed, config) % len(self.preferences)
        return self.followed_weights.of_rows(self.preferences[turn])


def _preferences(count: int, push: Float[np.ndarray, " m"]) -> Float[np.ndarray, "p m"]:
    """Returns ``count`` weightings of the metrics that have a weight, the sum of whose sizes is about the same."""
    columns = np.flatnonzero(push)
    weights = np.zeros((count, len(push)), np.float32)
    weights[:, columns] = push[columns] * preference_weights(count, len(columns))
    return weights


def _without_costs(predictor: Invertible, costs: CostModel) -> Invertible:
    """Returns the predictor without the costs that it has learned, where those of another network are meant."""
    left = tuple(m.name for m in predictor.metrics if m.kind != "cost" or m.name not in costs.units)
    if not left:
        raise checks.UsageError(
            expected="a predicted metric beside the costs", got="costs alone", remedy="leave the cost model out"
        )
    return predictor if len(left) == len(predictor.metrics) else predictor.select(left)


def _check_exact_costs(followed: Invertible, costs: CostModel | None, bounds: Bounds) -> None:
    """Raises an error if there are no exact costs to follow."""
    if costs is None:
        raise checks.UsageError(
            expected="a space whose costs are known with exact_costs",
            got=f"{bounds.space.name} with metrics {', '.join(m.name for m in followed.metrics)}",
            remedy="leave exact_costs out",
        )
    if not exact_columns(followed.metrics, costs):
        known = ", ".join(f"{name} [{unit}]" for name, unit in costs.units.items())
        raise checks.UsageError(
            expected=f"a cost in the objective ({known}), or a limit on GFLOPs, with exact_costs",
            got=", ".join(f"{m.name} [{m.unit}]" if m.unit else m.name for m in followed.metrics),
            remedy="leave exact_costs out",
        )
