"""Runs an inversion from start to ranking: draw codes, invert, project, drop repeats, rank, polish.

Codes are processed in portions (see ``execution.Plan``). Each portion is drawn, inverted, projected, ranked and merged
with the best so far, so memory grows with the number of architectures kept and not with the number of codes.
"""

from __future__ import annotations

import dataclasses
import math
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.jax_settings import package_settings
from ncp_jax.metrics import to_own_units
from ncp_jax.propagation.config import Execution, PropagationConfig
from ncp_jax.propagation.engine import Box, run
from ncp_jax.propagation.execution import Plan, Starts, make_plan
from ncp_jax.propagation.found import STARTS, Found, first_of_each, in_batches, merge
from ncp_jax.propagation.gradients import Invertible, exact_columns
from ncp_jax.propagation.limit import Limit
from ncp_jax.propagation.objective import Function, Objective, ObjectiveWeights, weights_of
from ncp_jax.propagation.polish import polish
from ncp_jax.propagation.processes import gather, smallest
from ncp_jax.spaces import Bounds, CostModel, cost_model_for, get_space
from ncp_jax.types import Bool, Float, Int, Key

RESTART = 2**31  # restarts draw from fold_in(key, RESTART + round), which never meets the numbers of the codes


@package_settings
def propagate(
    predictor: Invertible,
    objective: Objective | Function,
    *,
    codes: int = 4096,
    start: Int[np.ndarray, "n d"] | None = None,
    key: Key | int | None = None,
    config: PropagationConfig | None = None,
    max_gflops: float | None = None,
    execution: Execution | None = None,
) -> Found:
    """Inverts a predictor: moves codes along the gradient of their predicted metrics until the objective is high.

    This is a host loop over portions of codes; it is not jittable. With ``jax.distributed``, every process calls it
    with the same arguments, does its share of the work and returns the same result.

    Example:
      >>> import jax, ncp_jax as ncp
      >>> predictor, card = ncp.load_shipped("nas-bench-mr")
      >>> goal = ncp.Objective(maximize={"seg/mIoU": 1.0}, minimize={"flops": 0.5})
      >>> found = ncp.propagate(predictor, goal, codes=64, key=jax.random.key(1))
      >>> print(found.top(5))  # doctest: +SKIP
      >>> found.codes.shape[1]
      27

    Args:
      predictor: ensemble of networks (from ``fit`` or ``load_predictor``).
      objective: metrics to raise, lower or hold; or a function of the predictions, see ``objective.Function``.
      codes: number of random starts. Unused with ``start``.
      start: ``[n, d]`` codes to start from.
      key: key of the random starts, or an integer as its seed; code i draws from ``fold_in(key, i)``.
      config: settings of the gradient loop; by default the authors' recipe with larger steps.
      max_gflops: upper limit on the GFLOPs (multiply-adds / 1e9) of the results. It is exact where the space has a
        cost model; elsewhere it applies to the predicted metric "flops".
      execution: devices, memory, kernel, and number of architectures kept. It does not change the results.

    Returns:
      The distinct architectures reached, best first.

    Raises:
      UsageError: an unknown metric, an illegal start, zero codes, neither key nor start, a limit or bounds that nothing
        satisfies, devices that do not exist, too little memory, a predictor or an objective that is not finite for a
        code, or a call inside jit.
    """
    if isinstance(jnp.zeros(()), jax.core.Tracer):
        raise checks.UsageError(
            expected="a call outside jit, vmap and grad",
            got="one inside",
            remedy="propagate is a loop on the host; inside a program, call propagation.engine.invert",
        )
    key = None if key is None else checks.key(key)
    config, execution = config or PropagationConfig(), execution or Execution()
    if config.follow == "bound" and not isinstance(objective, Objective):
        raise checks.UsageError(
            expected="an Objective with follow='bound'",
            got="a function",
            remedy="let the function subtract the spread itself",
        )
    space = get_space(predictor.space)
    bounds = Bounds.of(space, config.bounds_map)
    starts = _starts(bounds, codes, start, key)
    if config.restarts and key is None:
        raise checks.UsageError(expected="a key with restarts", got="none", remedy="try key=jax.random.key(0)")
    limit = None if max_gflops is None else Limit.make(bounds, predictor, max_gflops)
    search = _Search.make(predictor, objective, config, bounds, limit)
    plan = make_plan(execution, search.followed, search.followed_weights, config, search.followed_costs, starts.n)
    with jax.default_device(plan.device):
        return search.run(starts, key, plan, execution)


def _starts(bounds: Bounds, codes: int, start: Any, key: Key | None) -> Starts:
    if start is not None:
        checked = bounds.space.check(start, where="start")
        if len(checked) == 0:
            raise checks.UsageError(expected="at least one start", got="none", remedy="give codes of the space")
        inside = np.asarray(bounds.contains(jnp.asarray(checked)))
        if not inside.all():
            row = int(np.argmin(inside))
            raise checks.UsageError(
                expected=f"starts within the bounds {bounds.to_json()}",
                got=f"start {row}: {checked[row].tolist()}",
                remedy="change it or widen the bounds",
            )
        return Starts(bounds.space, len(checked), checked, None)
    codes = checks.integer("codes", codes, least=1, remedy="try codes=4096")
    if key is None:
        raise checks.UsageError(expected="a key or starts", got="neither", remedy="try key=jax.random.key(0)")
    return Starts(bounds.space, codes, None, lambda n, first: np.asarray(bounds.sample(key, n, first)))


@dataclasses.dataclass(frozen=True)
class _Search:
    """One inversion.

    Attributes:
      predictor: the whole predictor, which ranks architectures.
      followed: the predictor restricted to the objective's metrics, so that the loop does not compute the others.
      weights: the objective over all metrics.
      followed_weights: the objective over the metrics of ``followed``.
      config: settings of the loop.
      bounds: bounds of the legal codes.
      limit: limit on GFLOPs, or None.
      costs: cost model of the space, or None if its costs are unknown.
      followed_costs: the same if codes are to follow exact costs, else None.
    """

    predictor: Invertible
    followed: Invertible
    weights: ObjectiveWeights
    followed_weights: ObjectiveWeights
    config: PropagationConfig
    bounds: Bounds
    limit: Limit | None
    costs: CostModel | None
    followed_costs: CostModel | None

    @classmethod
    def make(
        cls,
        predictor: Invertible,
        objective: Objective | Function,
        config: PropagationConfig,
        bounds: Bounds,
        limit: Limit | None,
    ) -> _Search:
        ceiling = {} if limit is None else limit.ceiling
        weights = weights_of(objective, predictor.metrics, ceiling)
        followed, followed_weights = predictor, weights
        if isinstance(objective, Objective):
            followed = predictor.select(tuple(dict.fromkeys((*objective.names, *ceiling))))
            followed_weights = weights_of(objective, followed.metrics, ceiling)
        costs = cost_model_for(bounds.space, predictor.metrics)
        followed_costs = costs if config.exact_costs else None
        return cls(predictor, followed, weights, followed_weights, config, bounds, limit, costs, followed_costs)

    def run(self, starts: Starts, key: Key | None, plan: Plan, execution: Execution) -> Found:
        """Compiles, then moves and ranks portion after portion, then polishes the best architectures."""
        began = time.perf_counter()
        plan = self._compile(starts, plan)
        compiled = time.perf_counter()
        best: Found | None = None
        keep = max(execution.keep, self.config.polish)  # ``keep`` must not change which codes are polished
        moved, least = 0, math.inf
        portions = plan.portions(starts.n)
        for first, n in portions:
            reached, steps = self._reach(starts, key, plan, first, n)
            moved += steps
            found = self._ranked(reached)
            allowed = found if self.limit is None else found.take(np.flatnonzero(self.limit.within(found)))
            least = least if self.limit is None else min(least, self.limit.least(found))
            best = merge([allowed] if best is None else [best, allowed], keep)
            if execution.progress is not None:
                execution.progress(first + n - portions[0][0], sum(n for _, n in portions))
        if best is None:  # this process has no share of the codes
            best = self._ranked(starts.codes(0, 1)).take(slice(0, 0))
        best = self._polished(gather(best, keep), keep).take(slice(0, execution.keep))
        if len(best) == 0:
            assert self.limit is not None
            raise self.limit.none_within(smallest(least))
        seconds = time.perf_counter() - compiled
        timing = {"compile": compiled - began, "search": seconds, "code_steps_per_s": moved / seconds}
        kept = min(starts.n, STARTS)
        # Random codes are drawn in calls of one shape, so that one program draws them all.
        first_starts = starts.codes(0, max(plan.portion, kept))[:kept]
        return dataclasses.replace(best, starts=first_starts, timing=timing)

    def _compile(self, starts: Starts, plan: Plan) -> Plan:
        """Compiles all programs by a run without work, so that their compile time is known; chooses the kernel."""
        relaxed = starts.relaxed(0, plan.portion)
        plan = plan.with_kernel(
            lambda plan: self._invert(relaxed, plan.portion, plan), (relaxed.shape, self.config.steps)
        )
        jax.block_until_ready(self._invert(relaxed, 0, plan))
        self._ranked(starts.codes(0, plan.portion)[:1])
        return plan

    def _invert(self, relaxed: Float[jax.Array, "n f"], count: int, plan: Plan) -> Float[jax.Array, "n f"]:
        box: Box = (jnp.asarray(self.bounds.lower), jnp.asarray(self.bounds.upper))
        weights, costs = self.followed_weights, self.followed_costs
        return run(self.followed, weights, relaxed, box, self.config, costs, count, plan.shape)

    def _reach(
        self, starts: Starts, key: Key | None, plan: Plan, first: int, n: int
    ) -> tuple[Int[np.ndarray, "k d"], int]:
        """Returns the distinct codes that a portion reaches, and the number of code-steps."""
        reached = self._projected(self._invert(starts.relaxed(first, plan.portion), n, plan), n)
        # ``last`` has the codes that moved in the last round; their results are the last rows of ``reached``.
        moved, last = n, np.arange(n)
        for again in range(self.config.restarts):
            # Codes restart if an earlier row denotes the same network.
            last = last[self._repeats(reached)[len(reached) - len(last) :]]
            if len(last) == 0:
                break
            assert key is not None
            fresh = self.bounds.sample(jax.random.fold_in(key, RESTART + again), plan.portion, first)
            # The portion keeps its shape: it is filled up with repeats, which are not moved.
            relaxed = self.bounds.space.encode(fresh[jnp.asarray(np.resize(last, plan.portion))])
            ends = self._projected(self._invert(relaxed, len(last), plan), len(last))
            reached = np.concatenate([reached, ends])
            moved += len(last)
        return reached[first_of_each(reached)], moved * self.config.steps

    def _repeats(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Returns True for each row whose network an earlier row denotes already."""
        (canonical,) = in_batches(lambda rows: self.bounds.space.canonical(jnp.asarray(rows)), codes)
        repeats = np.ones(len(codes), bool)
        repeats[first_of_each(canonical)] = False
        return repeats

    def _projected(self, relaxed: Float[jax.Array, "n f"], n: int) -> Int[np.ndarray, "n d"]:
        if np.isnan(np.asarray(relaxed)[:n]).any():
            raise checks.UsageError(
                expected="finite gradients of the predictor and the objective",
                got="nan, for a code on its way",
                remedy="make both finite, with their slopes, between the legal codes too; or take smaller steps",
            )
        if self.limit is not None:
            relaxed = jnp.asarray(self.limit.pull_back(np.asarray(relaxed)))
        return np.asarray(self.bounds.project(relaxed))[:n]

    def _ranked(self, codes: Int[np.ndarray, "k d"], rows: int | None = None) -> Found:
        """Predicts and scores distinct codes, in batches of ``rows``. Does not sort them; ``merge`` does."""
        space = self.bounds.space
        predict = getattr(self.predictor, "in_stored_units", self.predictor)
        mean, spread = in_batches(lambda some: predict(space.encode(jnp.asarray(some))), codes, rows)
        metrics = tuple(self.predictor.metrics)
        # Exact costs replace predicted ones.
        exact = self.costs.in_units(codes) if self.costs else {}
        for column, name in exact_columns(metrics, self.costs).items():
            unit = metrics[column].stored
            mean[:, column], spread[:, column] = exact[name] if unit is None else unit.store(exact[name]), 0.0
        # The scores in NumPy: the number of codes differs from call to call, and JAX would compile for each of them.
        deviation = np.asarray(self.predictor.scale.y_std)
        standard = (mean - np.asarray(self.predictor.scale.y_mean)) / deviation
        confidence = float(self.config.confidence) if self.config.follow == "bound" else 0.0
        score = self.weights.score(standard, spread / deviation, confidence)
        mean, spread = to_own_units(metrics, mean, spread)
        return Found(
            codes=codes,
            mean=mean,
            spread=spread,
            score=score,
            costs=exact,
            starts=np.zeros((0, space.length), np.int32),
            metrics=metrics,
            space=space.name,
            timing={},
            scored=len(codes),
        )

    def _polished(self, found: Found, keep: int) -> Found:
        """Improves the best architectures by edits (see ``polish``)."""
        if not self.config.polish or len(found) == 0:
            return found

        def allowed(codes: Int[np.ndarray, "n d"]) -> np.ndarray:
            inside = np.asarray(self.bounds.contains(jnp.asarray(codes)))
            if self.limit is None:
                return inside
            known = self.limit.known(codes)
            return inside & (self.limit.within(self._ranked(codes, len(codes))) if known is None else known)

        climbed = polish(
            lambda codes: self._ranked(codes, len(codes)).score,
            self.bounds.space,
            found.codes[: self.config.polish],
            allowed=None if self.limit is None and self.bounds.all else allowed,
            known=(found.codes, found.score),
        )
        if len(climbed.scored) == 0:
            return found
        return merge([found, self._ranked(climbed.scored)], keep)
