"""From a predictor and an objective to architectures: start, invert, project, drop repeats, rank.

Everything goes in portions (see ``execution.Plan``): a portion is drawn, inverted, projected, ranked and put together
with the best so far, so that memory grows with what is kept and not with the number of codes.
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
from ncp_jax.propagation.config import Execution, PropagationConfig
from ncp_jax.propagation.engine import Box, run
from ncp_jax.propagation.execution import Plan, Starts, make_plan
from ncp_jax.propagation.found import STARTS, Found, first_of_each, in_calls, merge
from ncp_jax.propagation.gradients import Invertible, exact_columns
from ncp_jax.propagation.limit import Limit
from ncp_jax.propagation.objective import Function, Objective, ObjectiveWeights, weights_of
from ncp_jax.propagation.polish import polish
from ncp_jax.propagation.processes import gather, smallest
from ncp_jax.spaces import Bounds, CostModel, cost_model_for, get_space
from ncp_jax.types import Bool, Float, Int, Key

RESTART = 2**31  # keys of restarts: fold_in(key, RESTART + round), out of the way of the codes' own numbers


def propagate(
    predictor: Invertible,
    objective: Objective | Function,
    *,
    codes: int = 4096,
    start: Int[np.ndarray, "n d"] | None = None,
    key: Key | None = None,
    config: PropagationConfig | None = None,
    max_gflops: float | None = None,
    execution: Execution | None = None,
) -> Found:
    """Inverts a predictor: moves codes along the gradient of their predicted metrics to where the objective is high.

    A host loop over portions of codes; not jittable. With ``jax.distributed`` every process calls it with the same
    arguments, does its share and returns the same result.

    Example:
      >>> import jax, ncp_jax as ncp
      >>> predictor, card = ncp.load_shipped("nas-bench-mr")
      >>> goal = ncp.Objective(maximize={"seg/mIoU": 1.0}, minimize={"flops": 0.5})
      >>> found = ncp.propagate(predictor, goal, codes=64, key=jax.random.key(1))
      >>> print(found.top(5))  # doctest: +SKIP
      >>> found.codes.shape[1]
      27

    Args:
      predictor: an ensemble (``fit``, ``load_predictor``).
      objective: what to raise, lower, hold; or a function of the predictions, see ``objective.Function``.
      codes: how many random starts, where ``start`` is not given.
      start: codes to begin with, ``[n, d]``.
      key: for the random starts; code i draws from ``fold_in(key, i)``.
      config: settings of the gradient loop; the authors' recipe with larger steps by default.
      max_gflops: only architectures of at most so many GFLOPs (multiply-adds / 1e9). Exact where the space has a
        cost model, by the predicted metric "flops" elsewhere.
      execution: devices, memory, kernel, and how many architectures are kept. It changes nothing that is found.

    Returns:
      The distinct architectures reached, best first.

    Raises:
      UsageError: unknown metric, illegal start, zero codes, neither key nor start, a limit or bounds that nothing
        satisfies, devices that are not there, too little memory.
    """
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
    plan = make_plan(execution, search.followed, search.slim, config, search.model, starts.n)
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
    if not isinstance(codes, int) or codes < 1:
        raise checks.UsageError(expected="codes to be an integer >= 1", got=repr(codes), remedy="try codes=4096")
    if key is None:
        raise checks.UsageError(expected="a key or starts", got="neither", remedy="try key=jax.random.key(0)")
    return Starts(bounds.space, codes, None, lambda n, first: np.asarray(bounds.sample(key, n, first)))


@dataclasses.dataclass(frozen=True)
class _Search:
    """One inversion: what judges, what is followed, and what may be found.

    Attributes:
      judge: the whole predictor, which ranks.
      followed: its metrics that the objective speaks of: what is not sought is not computed in the loop.
      weights: the objective over the judge's metrics.
      slim: the same over the followed ones.
      config: settings of the loop.
      bounds: what may be found.
      limit: the limit on GFLOPs.
      known: exact costs of the space, None where they are not known.
      model: the same where they are to be followed, else None.
    """

    judge: Invertible
    followed: Invertible
    weights: ObjectiveWeights
    slim: ObjectiveWeights
    config: PropagationConfig
    bounds: Bounds
    limit: Limit | None
    known: CostModel | None
    model: CostModel | None

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
        followed, slim = predictor, weights
        if isinstance(objective, Objective):
            followed = predictor.select(tuple(dict.fromkeys((*objective.names, *ceiling))))
            slim = weights_of(objective, followed.metrics, ceiling)
        known = cost_model_for(bounds.space, predictor.metrics)
        model = known if config.exact_costs else None
        return cls(predictor, followed, weights, slim, config, bounds, limit, known, model)

    def run(self, starts: Starts, key: Key | None, plan: Plan, execution: Execution) -> Found:
        """Compiles, then moves and ranks portion after portion, then polishes what came out best."""
        began = time.perf_counter()
        plan = self._compile(starts, plan)
        compiled = time.perf_counter()
        best: Found | None = None
        keep = max(execution.keep, self.config.polish)  # what is polished does not depend on what is kept
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
        if best is None:
            best = self._ranked(starts.codes(0, 1)).take(slice(0, 0))
        best = self._polished(gather(best, keep), keep).take(slice(0, execution.keep))
        if len(best) == 0:
            assert self.limit is not None
            raise self.limit.nothing_left(smallest(least))
        seconds = time.perf_counter() - compiled
        timing = {"compile": compiled - began, "search": seconds, "code_steps_per_s": moved / seconds}
        return dataclasses.replace(best, starts=starts.codes(0, min(starts.n, STARTS)), timing=timing)

    def _compile(self, starts: Starts, plan: Plan) -> Plan:
        """Runs all programs once without work, so that compilation is timed apart; decides on the kernel."""
        relaxed = starts.relaxed(0, plan.portion)
        plan = plan.with_kernel(
            lambda plan: self._invert(relaxed, plan.portion, plan), (relaxed.shape, self.config.steps)
        )
        jax.block_until_ready(self._invert(relaxed, 0, plan))
        self._ranked(starts.codes(0, 1))
        return plan

    def _invert(self, relaxed: Float[jax.Array, "n f"], count: int, plan: Plan) -> Float[jax.Array, "n f"]:
        box: Box = (jnp.asarray(self.bounds.lower), jnp.asarray(self.bounds.upper))
        return run(self.followed, self.slim, relaxed, box, self.config, self.model, count, plan.shape)

    def _reach(
        self, starts: Starts, key: Key | None, plan: Plan, first: int, n: int
    ) -> tuple[Int[np.ndarray, "k d"], int]:
        """The distinct codes that a portion reaches, and how many code-steps that took."""
        reached = self._projected(self._invert(starts.relaxed(first, plan.portion), n, plan), n)
        moved, last = n, np.arange(n)  # which codes moved last: their results are the last rows reached
        for again in range(self.config.restarts):
            last = last[self._repeats(reached)[len(reached) - len(last) :]]
            if len(last) == 0:
                break
            assert key is not None
            fresh = self.bounds.sample(jax.random.fold_in(key, RESTART + again), plan.portion, first)
            relaxed = self.bounds.space.encode(fresh[jnp.asarray(np.resize(last, plan.portion))])
            ends = self._projected(self._invert(relaxed, len(last), plan), len(last))
            reached = np.concatenate([reached, ends])
            moved += len(last)
        return reached[first_of_each(reached)], moved * self.config.steps

    def _repeats(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """True where an earlier row denotes the same network."""
        (canonical,) = in_calls(lambda rows: self.bounds.space.canonical(jnp.asarray(rows)), codes)
        repeats = np.ones(len(codes), bool)
        repeats[first_of_each(canonical)] = False
        return repeats

    def _projected(self, relaxed: Float[jax.Array, "n f"], n: int) -> Int[np.ndarray, "n d"]:
        if self.limit is not None:
            relaxed = jnp.asarray(self.limit.pull_back(np.asarray(relaxed)))
        return np.asarray(self.bounds.project(relaxed))[:n]

    def _ranked(self, codes: Int[np.ndarray, "k d"], rows: int | None = None) -> Found:
        """Scores distinct codes, so many in a call; the order is left to ``merge``."""
        space = self.bounds.space
        mean, spread = in_calls(lambda some: self.judge(space.encode(jnp.asarray(some))), codes, rows)
        exact = self.known.in_units(codes) if self.known else {}
        for column, name in exact_columns(self.judge.metrics, self.known).items():
            # What is known exactly is not predicted.
            mean[:, column], spread[:, column] = exact[name], 0.0
        # In NumPy: how many were found differs from call to call, and JAX would compile for each number.
        deviation = np.asarray(self.judge.scale.y_std)
        standard = (mean - np.asarray(self.judge.scale.y_mean)) / deviation
        confidence = float(self.config.confidence) if self.config.follow == "bound" else 0.0
        score = self.weights.score(standard, spread / deviation, confidence)
        nothing = np.zeros((0, space.length), np.int32)
        metrics = tuple(self.judge.metrics)
        return Found(codes, mean, spread, score, exact, nothing, metrics, space.name, {}, len(codes))

    def _polished(self, found: Found, keep: int) -> Found:
        """Tries the single edits of the best, and goes on from those that are better."""
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
