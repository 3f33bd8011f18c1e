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

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.metrics import to_own_units
from ncp_jax.propagation.config import Execution, PropagationConfig
from ncp_jax.propagation.engine import Box, run
from ncp_jax.propagation.execution import Plan, Starts
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.found import STARTS, Found, first_of_each, in_batches, merge
from ncp_jax.propagation.goal import Goal
from ncp_jax.propagation.gradients import exact_columns
from ncp_jax.propagation.objective import Objective
from ncp_jax.propagation.polish import Allowed, keys_of, polish
from ncp_jax.propagation.processes import gather, smallest
from ncp_jax.spaces import Bounds
from ncp_jax.types import Bool, Float, Int, Key

# Where a limit was reached: best architectures that are edited, most codes scored by that, and random codes within the
# limit that are ranked before.
EDITED, EDITS, DRAWN = 128, 4096, 1024
WIDENED = 50  # rounds of edits of a Pareto front
RESTART = 2**31  # restarts draw from fold_in(key, RESTART + round), which never meets the numbers of the codes


@dataclasses.dataclass(frozen=True)
class Inversion:
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
        space, metrics = self.bounds.space, tuple(self.goal.predictor.metrics)
        mean, spread, exact = self._predicted(codes, rows)
        score = self.goal.weights.score(*self._standard(mean, spread), self._confidence)
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

    def _predicted(
        self, codes: Int[np.ndarray, "k d"], rows: int | None = None
    ) -> tuple[Float[np.ndarray, "k m"], Float[np.ndarray, "k m"], dict[str, Float[np.ndarray, " k"]]]:
        """Returns means and spreads in stored units, where exact costs replace predicted ones, and the exact costs."""
        space, metrics = self.bounds.space, tuple(self.goal.predictor.metrics)
        predict = getattr(self.goal.predictor, "in_stored_units", self.goal.predictor)
        mean, spread = in_batches(lambda some: predict(space.encode(jnp.asarray(some))), codes, rows)
        exact = self.goal.costs.in_units(codes) if self.goal.costs else {}
        for column, name in exact_columns(metrics, self.goal.costs).items():
            unit = metrics[column].stored
            mean[:, column], spread[:, column] = exact[name] if unit is None else unit.store(exact[name]), 0.0
        return mean, spread, exact

    def _standard(
        self, mean: Float[np.ndarray, "k m"], spread: Float[np.ndarray, "k m"]
    ) -> tuple[Float[np.ndarray, "k m"], Float[np.ndarray, "k m"]]:
        """Converts means and spreads from stored to standard units, in NumPy: JAX would compile for each k."""
        deviation = np.asarray(self.goal.predictor.scale.y_std)
        return (mean - np.asarray(self.goal.predictor.scale.y_mean)) / deviation, spread / deviation

    @property
    def _confidence(self) -> float:
        """Number of spreads between the mean and what is scored."""
        return float(self.config.confidence) if self.config.follow == "bound" else 0.0

    def by_objective(self, found: Found, objectives: tuple[Objective, ...], best: int) -> list[Found]:
        """Returns the ``best`` of the architectures found for each objective, with their scores."""
        assert self.goal.each is not None
        mean, spread = self._standard(*self._predicted(found.codes)[:2])
        scores = mean @ self.goal.each.T - self._confidence * (spread @ np.abs(self.goal.each).T)
        # Of equal scores the first code stays first, as in ``merge``.
        found, scores = found.take(by_code := np.lexsort(found.codes.T[::-1])), scores[by_code].T
        least = -np.partition(-scores, min(best, len(found)) - 1, axis=1)[:, min(best, len(found)) - 1]
        results = []
        for goal, own, bar in zip(objectives, scores, least, strict=True):
            rows = np.flatnonzero(own >= bar)
            rows = rows[np.argsort(-own[rows], kind="stable")[:best]]
            sought = goal.sought(self.goal.predictor.metrics)
            results.append(dataclasses.replace(found.take(rows), score=own[rows], sought=sought))
        return results

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
