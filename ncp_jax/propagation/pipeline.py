"""Runs an inversion from start to ranking: draw codes, invert, project, drop repeats, rank, polish.

Codes are processed in portions (see ``execution.Plan``). Each portion is drawn, inverted, projected, ranked and merged
with the best so far, so memory grows with the number of architectures kept and not with the number of codes.

Under limits (see ``feasible.Feasible``), random codes start within them. A code that ends beyond one is pulled back,
towards the anchor (the cheapest code) and towards its own start, and all three are ranked. If any code was beyond a
limit, the best architectures are edited at the end: near a tight limit few codes are legal moves of each other.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
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
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.found import STARTS, Found, batch_rows, first_of_each, in_batches, merge
from ncp_jax.propagation.goal import Goal
from ncp_jax.propagation.gradients import Invertible, exact_columns
from ncp_jax.propagation.limit import Limit, as_limits
from ncp_jax.propagation.objective import Function, Objective
from ncp_jax.propagation.polish import Allowed, keys_of, polish
from ncp_jax.propagation.processes import gather, smallest
from ncp_jax.spaces import Bounds, get_space
from ncp_jax.types import Bool, Float, Int, Key

# Where a limit was reached: best architectures that are edited, most codes scored by that, and random codes within the
# limit that are ranked before.
EDITED, EDITS, DRAWN = 128, 4096, 1024
WIDENED = 50  # rounds of edits of a Pareto front
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
    limits: Sequence[Limit | str] = (),
    execution: Execution | None = None,
) -> Found:
    """Inverts a predictor: moves codes along the gradient of their predicted metrics until the objective is high.

    This is a host loop over portions of codes; it is not jittable. With ``jax.distributed``, every process calls it
    with the same arguments, does its share of the work and returns the same result.

    Examples:
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
        cost model, whether or not the predictor has a metric "flops"; elsewhere it applies to that metric. The short
        form of the limit "gflops<=X" on the mean of the predictions.
      limits: limits on metrics of the predictor or costs of the space: ``Limit`` or "params<=3e6". All hold together:
        those on known costs exactly, the others with a confidence (see ``Limit``). ``Found.limits`` says which.
      execution: devices, memory, kernel, and number of architectures kept. It does not change the results.

    Returns:
      The distinct architectures reached, best first.

    Raises:
      UsageError: an unknown metric or rule for the same network, an illegal start, zero codes, neither key nor start,
        a limit or bounds that nothing satisfies, exact costs that are unknown or not sought, devices that do not exist,
        too little memory, a predictor or an objective that is not finite for a code, or a call inside jit.
    """
    if isinstance(jnp.zeros(()), jax.core.Tracer):
        raise checks.UsageError(
            expected="a call outside jit, vmap and grad",
            got="one inside",
            remedy="propagate is a loop on the host; inside a program, call propagation.engine.invert",
        )
    if hasattr(predictor, "check"):
        predictor.check()  # here, where the error can say what is wrong, not in the compiled loop
    key = None if key is None else checks.key(key)
    config, execution = config or PropagationConfig(), execution or Execution()
    if config.follow == "bound" and not isinstance(objective, Objective):
        raise checks.UsageError(
            expected="an Objective with follow='bound'",
            got="a function",
            remedy="let the function subtract the spread itself",
        )
    if config.preferences > 1 and (not isinstance(objective, Objective) or len(objective.pushed) < 2):
        raise checks.UsageError(
            expected="an Objective with two metrics or more to maximize or minimize with several preferences",
            got="a function" if not isinstance(objective, Objective) else ", ".join(objective.pushed),
            remedy="name several, or leave preferences out",
        )
    space = get_space(predictor.space)
    config = dataclasses.replace(config, same_network=space.check_same_network(config.same_network))
    bounds = Bounds.of(space, config.bounds_map)
    starts = _starts(bounds, codes, start, key)
    if config.restarts and key is None:
        raise checks.UsageError(expected="a key with restarts", got="none", remedy="try key=jax.random.key(0)")
    given = as_limits(limits)
    if max_gflops is not None:
        checks.positive("max_gflops", max_gflops)
        given = (Limit("gflops", "<=", max_gflops, confidence=None), *given)
    goal = Goal.make(predictor, objective, config, bounds, given)
    measured = _measured(bounds, goal.limit, config.measured)
    search = _Search(goal, dataclasses.replace(config, measured=None, costs=None), measured)
    plan = make_plan(execution, goal.followed, goal.followed_weights, search.config, goal.followed_costs, starts.n)
    if search.limit is not None:
        limit = dataclasses.replace(search.limit, rows=min(plan.portion, batch_rows()))
        search = dataclasses.replace(search, goal=dataclasses.replace(goal, limit=limit))
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
      goal: what it is after.
      config: settings of the loop.
      measured: ``[j, d]`` codes within bounds and limits that are ranked without being moved.
    """

    goal: Goal
    config: PropagationConfig
    measured: Int[np.ndarray, "j d"]

    @property
    def bounds(self) -> Bounds:
        """Bounds of the legal codes."""
        return self.goal.bounds

    @property
    def limit(self) -> Feasible | None:
        """The codes within bounds and limits, or None without limits."""
        return self.goal.limit

    def run(self, starts: Starts, key: Key | None, plan: Plan, execution: Execution) -> Found:
        """Compiles, then moves and ranks portion after portion, then polishes the best architectures."""
        began = time.perf_counter()
        plan = self._compile(starts, plan)
        compiled = time.perf_counter()
        best: Found | None = None
        # ``keep`` must not change which codes are polished or edited.
        keep = max(execution.keep, self.config.polish, 0 if self.limit is None else EDITED)
        moved, least, limited = 0, math.inf, False
        portions = plan.portions(starts.n)
        for first, n in portions:
            reached, steps, over = self._reach(starts, key, plan, first, n)
            moved, limited = moved + steps, limited or over
            found = self._ranked(np.concatenate([reached, self.measured]) if first == 0 else reached)
            allowed = found if self.limit is None else found.take(np.flatnonzero(self.limit.within(found)))
            least = least if self.limit is None else min(least, self.limit.least(found))
            best = merge([allowed] if best is None else [best, allowed], keep)
            if execution.progress is not None:
                execution.progress(first + n - portions[0][0], sum(n for _, n in portions))
        if best is None:  # this process has no share of the codes
            best = self._ranked(starts.codes(0, 1)).take(slice(0, 0))
        limited = smallest(-float(limited)) < 0  # in any process
        best = gather(best, keep)
        if limited:
            assert self.limit is not None
            drawn = self.limit.draw(key, DRAWN)
            best = merge([best, self._ranked(drawn)], keep) if len(drawn) else best
        best = self._polished(best, keep, limited).take(slice(0, execution.keep))
        if len(best) == 0:
            assert self.limit is not None
            raise self.limit.none_within(smallest(least))
        seconds = time.perf_counter() - compiled
        timing = {"compile": compiled - began, "search": seconds, "code_steps_per_s": moved / seconds}
        kept = min(starts.n, STARTS)
        # Random codes are drawn in calls of one shape, so that one program draws them all.
        first_starts = self._begin(starts, key, 0, max(plan.portion, kept))[0][:kept]
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

    def _invert(
        self, relaxed: Float[jax.Array, "n f"], count: int, plan: Plan, ids: Int[np.ndarray, " n"] | None = None
    ) -> Float[jax.Array, "n f"]:
        """Moves the first ``count`` codes; ``ids`` are their numbers, which choose their preferences."""
        box: Box = (jnp.asarray(self.bounds.lower), jnp.asarray(self.bounds.upper))
        ids = np.arange(len(relaxed)) if ids is None else ids
        weights, costs = self.goal.weights_of_codes(ids, self.config), self.goal.followed_costs
        return run(self.goal.followed, weights, relaxed, box, self.config, costs, count, plan.shape)

    def _begin(
        self, starts: Starts, key: Key | None, first: int, n: int
    ) -> tuple[Int[np.ndarray, "n d"], Int[np.ndarray, "n d"], Int[np.ndarray, "n d"]]:
        """Returns the codes that a portion starts from, those drawn or given, and these lowered to the limit.

        Random codes start within the limit, given ones where they are.
        """
        drawn = starts.codes(first, n)
        lowered = drawn if self.limit is None else self.limit.lower(drawn, key, first)
        return (lowered if starts.random else drawn), drawn, lowered

    def _reach(
        self, starts: Starts, key: Key | None, plan: Plan, first: int, n: int
    ) -> tuple[Int[np.ndarray, "k d"], int, bool]:
        """Returns the distinct codes that a portion reaches, the number of code-steps, whether any was over the limit.

        A code that was over the limit, at its start or in the end, reaches several (see ``Feasible.bring_within``).
        """
        begun, drawn, lowered = self._begin(starts, key, first, plan.portion)
        ids = np.arange(first, first + plan.portion)
        moving = self._invert(self.bounds.space.encode(jnp.asarray(begun)), n, plan, ids)
        reached, others = self._ends(moving, drawn, lowered, n)
        # ``last`` has the codes that moved in the last round; their results are the last rows of ``reached``.
        moved, last = n, np.arange(n)
        for again in range(self.config.restarts):
            # Codes restart if an earlier row denotes the same network.
            last = last[self._repeats(reached)[len(reached) - len(last) :]]
            if len(last) == 0:
                break
            assert key is not None
            round_key = jax.random.fold_in(key, RESTART + again)
            fresh = np.asarray(self.bounds.sample(round_key, plan.portion, first))
            low = fresh if self.limit is None else self.limit.lower(fresh, round_key, first)
            # The portion keeps its shape: it is filled up with repeats, which are not moved.
            some = np.resize(last, plan.portion)
            moving = self._invert(self.bounds.space.encode(jnp.asarray(low[some])), len(last), plan, ids[some])
            ends, more = self._ends(moving, fresh[some], low[some], len(last))
            reached, others = np.concatenate([reached, ends]), np.concatenate([others, more])
            moved += len(last)
        every = np.concatenate([reached, others])
        return every[first_of_each(every)], moved * self.config.steps, len(others) > 0

    def _ends(
        self, relaxed: Float[jax.Array, "p f"], drawn: Int[np.ndarray, "p d"], lowered: Int[np.ndarray, "p d"], n: int
    ) -> tuple[Int[np.ndarray, "n d"], Int[np.ndarray, "k d"]]:
        """Returns the legal ends of the first n moved codes; under a limit others too (``Feasible.bring_within``)."""
        if np.isnan(np.asarray(relaxed)[:n]).any():
            raise checks.UsageError(
                expected="finite gradients of the predictor and the objective",
                got="nan, for a code on its way",
                remedy="make both finite, with their slopes, between the legal codes too; or take smaller steps",
            )
        if self.limit is None:
            return np.asarray(self.bounds.project(relaxed))[:n], np.zeros((0, drawn.shape[1]), np.int32)
        towards = np.asarray(self.bounds.space.encode(jnp.asarray(lowered)))[:n]
        return self.limit.bring_within(np.asarray(relaxed)[:n], drawn[:n], lowered[:n], towards)

    def _repeats(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Returns True for each row whose network an earlier row denotes already."""
        space, rule = self.bounds.space, self.config.same_network
        (canonical,) = in_batches(lambda rows: space.canonical(jnp.asarray(rows), rule), codes)
        repeats = np.ones(len(codes), bool)
        repeats[first_of_each(canonical)] = False
        return repeats

    def _ranked(self, codes: Int[np.ndarray, "k d"], rows: int | None = None) -> Found:
        """Predicts and scores distinct codes, in batches of ``rows``. Does not sort them; ``merge`` does."""
        space = self.bounds.space
        predict = getattr(self.goal.predictor, "in_stored_units", self.goal.predictor)
        mean, spread = in_batches(lambda some: predict(space.encode(jnp.asarray(some))), codes, rows)
        metrics = tuple(self.goal.predictor.metrics)
        # Exact costs replace predicted ones.
        exact = self.goal.costs.in_units(codes) if self.goal.costs else {}
        for column, name in exact_columns(metrics, self.goal.costs).items():
            unit = metrics[column].stored
            mean[:, column], spread[:, column] = exact[name] if unit is None else unit.store(exact[name]), 0.0
        # The scores in NumPy: the number of codes differs from call to call, and JAX would compile for each of them.
        deviation = np.asarray(self.goal.predictor.scale.y_std)
        standard = (mean - np.asarray(self.goal.predictor.scale.y_mean)) / deviation
        confidence = float(self.config.confidence) if self.config.follow == "bound" else 0.0
        score = self.goal.weights.score(standard, spread / deviation, confidence)
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
            same_network=self.config.same_network,
            counted="" if self.goal.costs is None else self.goal.costs.counted,
            limits=() if self.limit is None else self.limit.statuses,
            sought=self.goal.sought,
            preferences=self.config.preferences,
        )

    def _polished(self, found: Found, keep: int, limited: bool) -> Found:
        """Improves the best architectures by edits (see ``polish``); where a limit was reached, without being asked."""
        climbs = max(self.config.polish, EDITED if limited else 0)
        if not climbs or len(found) == 0:
            return found

        def allowed(codes: Int[np.ndarray, "n d"]) -> np.ndarray:
            inside = np.asarray(self.bounds.contains(jnp.asarray(codes)))
            return inside if self.limit is None else inside & self.limit.fits(codes, len(codes))

        if self.goal.preferences is not None and self.config.polish:
            return self._widened(found, keep, allowed)
        climbed = polish(
            lambda codes: self._ranked(codes, len(codes)).score,
            self.bounds.space,
            found.codes[:climbs],
            budget=None if self.config.polish else EDITS,
            allowed=None if self.limit is None and self.bounds.all else allowed,
            known=(found.codes, found.score),
        )
        if len(climbed.scored) == 0:
            return found
        return merge([found, self._ranked(climbed.scored)], keep)

    def _widened(self, found: Found, keep: int, allowed: Allowed) -> Found:
        """Tries the single edits of codes on the front until none of them extends it (see ``WIDENED``)."""
        space, tried = self.bounds.space, set()
        for _ in range(WIDENED):
            front = found.pareto().found.codes
            fresh = np.array([key not in tried for key in keys_of(front)], bool)
            chosen = front[fresh][np.linspace(0, fresh.sum() - 1, min(self.config.polish, fresh.sum())).astype(int)]
            if len(chosen) == 0:
                break
            tried.update(keys_of(chosen))
            edits, legal = (np.asarray(a) for a in space.neighbours(jnp.asarray(chosen)))
            edits = edits[legal]
            (inside,) = in_batches(allowed, edits)
            found = merge([found, self._ranked(edits[inside.astype(bool)])], keep) if inside.any() else found
        return found


def _measured(bounds: Bounds, limit: Feasible | None, codes: Any) -> Int[np.ndarray, "j d"]:
    """Returns the given codes that are within bounds and limit."""
    if codes is None:
        return np.zeros((0, bounds.space.length), np.int32)
    given = bounds.space.check(codes, where="measured code")
    if len(given) == 0:
        return given
    (inside,) = in_batches(lambda rows: bounds.contains(jnp.asarray(rows)), given)
    inside &= True if limit is None else limit.fits(given)
    return given[inside]
