"""Inverts a predictor: for one objective, or for many in one call."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.jax_settings import package_settings
from ncp_jax.propagation.config import Execution, PropagationConfig
from ncp_jax.propagation.engine import followers
from ncp_jax.propagation.execution import Plan, Starts, make_plan
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.found import Found, batch_rows, in_batches
from ncp_jax.propagation.goal import Goal
from ncp_jax.propagation.gradients import Invertible
from ncp_jax.propagation.inversion import Inversion
from ncp_jax.propagation.limit import Limit, as_limits
from ncp_jax.propagation.objective import Function, Objective
from ncp_jax.spaces import Bounds, get_space
from ncp_jax.types import Int, Key


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
    if hasattr(predictor, "check"):
        predictor.check()  # here, where the error can say what is wrong, not in the compiled loop
    config = config or PropagationConfig()
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
    checked = checks.integer("codes", codes, least=1, remedy="try codes=4096") if start is None else codes
    return _Call.make(predictor, objective, checked, start, key, config, max_gflops, limits, execution).run()


@package_settings
def propagate_many(
    predictor: Invertible,
    objectives: Sequence[Objective],
    *,
    codes: int | None = None,
    start: Int[np.ndarray, "n d"] | None = None,
    key: Key | int | None = None,
    config: PropagationConfig | None = None,
    max_gflops: float | None = None,
    limits: Sequence[Limit | str] = (),
    execution: Execution | None = None,
    best: int = 10,
) -> list[Found]:
    """Inverts a predictor for many objectives in one call, at the rate of one search.

    The codes are divided among the objectives, and each takes the weights of its own along. All architectures reached
    are then ranked by every objective, so that each finds what the codes of the others have reached, too.

    Examples:
      >>> import ncp_jax as ncp
      >>> predictor, card = ncp.load_shipped("nas-bench-mr")
      >>> shares = [0.25, 0.5, 1.0]
      >>> goals = [ncp.Objective(maximize={"seg/mIoU": 1.0}, minimize={"flops": share}) for share in shares]
      >>> found = ncp.propagate_many(predictor, goals, codes=96, key=1)
      >>> [len(each) for each in found]
      [10, 10, 10]

    Args:
      predictor: as in ``propagate``.
      objectives: the p objectives. What they hold, they hold alike.
      codes: number of random starts, those of all objectives together; a code for each of the predictor's networks and
        each objective at least. By default 4096, or that least number where it is larger.
      start: as in ``propagate``; there may be fewer than objectives.
      key: as in ``propagate``.
      config: settings of the gradient loop, without ``preferences`` and ``polish``, which belong to one objective.
      max_gflops: as in ``propagate``, for all objectives.
      limits: as in ``propagate``, for all objectives.
      execution: as in ``propagate``. Where more architectures than ``keep`` are reached, those that are kept are the
        best by the mean of the objectives.
      best: number of architectures returned for each objective, or fewer where fewer are reached.

    Returns:
      For each objective, in the same order, its best architectures with their scores. ``timing`` is that of the call.

    Raises:
      UsageError: as in ``propagate``; no objective, or something else than an ``Objective``; different metrics to hold;
        too few codes; or settings of one objective.
    """
    config = config or PropagationConfig()
    goals = tuple(objectives) if isinstance(objectives, Sequence) else ()
    wrong = [goal for goal in goals if not isinstance(goal, Objective)]
    if wrong or not goals:
        given = "an empty one" if isinstance(objectives, Sequence) else repr(objectives)
        raise checks.UsageError(
            expected="a list of objectives",
            got=repr(wrong[0]) if wrong else given,
            remedy="propagate takes a single objective, or a function",
        )
    held = [goal.hold for goal in goals if goal.hold != goals[0].hold]
    if held:
        raise checks.UsageError(
            expected="objectives that hold the same metrics with the same weights",
            got=f"{dict(goals[0].hold)} and {dict(held[0])}",
            remedy="call once for each",
        )
    for name, least in (("preferences", 1), ("polish", 0)):
        if getattr(config, name) > least:
            raise checks.UsageError(
                expected=f"no {name} with several objectives", got=str(getattr(config, name)), remedy="leave it out"
            )
    if hasattr(predictor, "check"):
        predictor.check()
    checks.integer("best", best, least=1, remedy="try best=10")
    least = len(goals) * followers(predictor, config)
    wanted = max(4096, least) if codes is None else checks.integer("codes", codes, least=1, remedy="leave it out")
    if start is None and wanted < least:
        raise checks.UsageError(
            expected=f"at least {least} codes for {len(goals)} objectives", got=str(codes), remedy="leave codes out"
        )
    call = _Call.make(predictor, goals, wanted, start, key, config, max_gflops, limits, execution)
    return call.search.by_objective(call.run(), goals, best)


@dataclasses.dataclass(frozen=True)
class _Call:
    """One call of ``propagate`` or ``propagate_many``: its search, and where and from where it runs."""

    search: Inversion
    starts: Starts
    key: Key | None
    plan: Plan
    execution: Execution

    @classmethod
    def make(
        cls,
        predictor: Invertible,
        objective: Objective | Function | tuple[Objective, ...],
        codes: int,
        start: Any,
        key: Key | int | None,
        config: PropagationConfig,
        max_gflops: float | None,
        limits: Sequence[Limit | str],
        execution: Execution | None,
    ) -> _Call:
        if isinstance(jnp.zeros(()), jax.core.Tracer):
            raise checks.UsageError(
                expected="a call outside jit, vmap and grad",
                got="one inside",
                remedy="propagate is a loop on the host; inside a program, call propagation.engine.invert",
            )
        key = None if key is None else checks.key(key)
        execution = execution or Execution()
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
        search = Inversion(goal, dataclasses.replace(config, measured=None, costs=None), measured)
        plan = make_plan(execution, goal.followed, goal.followed_weights, search.config, goal.followed_costs, starts.n)
        if search.limit is not None:
            limit = dataclasses.replace(search.limit, rows=min(plan.portion, batch_rows()))
            search = dataclasses.replace(search, goal=dataclasses.replace(goal, limit=limit))
        return cls(search, starts, key, plan, execution)

    def run(self) -> Found:
        with jax.default_device(self.plan.device):
            return self.search.run(self.starts, self.key, self.plan, self.execution)


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
    if key is None:
        raise checks.UsageError(expected="a key or starts", got="neither", remedy="try key=jax.random.key(0)")
    return Starts(bounds.space, codes, None, lambda n, first: np.asarray(bounds.sample(key, n, first)))


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
