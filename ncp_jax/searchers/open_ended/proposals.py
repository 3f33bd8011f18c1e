"""Finds codes of high acquisition in a space of any size: a pool, climbs of relaxed codes, single edits."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Set
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.stats import norm

from ncp_jax.searchers.gaussian_process import log_expected_improvement
from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.features import Features, features_of
from ncp_jax.spaces import CostModel, Space
from ncp_jax.types import Array, Bool, Float, Int, Key

if TYPE_CHECKING:
    from ncp_jax.searchers.open_ended.observations import Goals

ROWS = 1024  # codes of one device call
EDITED = (1.5, 3.0, 6.0)  # mean number of positions that an edit of a measured code changes
NEIGHBOURS = 4096  # neighbours of a code that are all looked at; in spaces with more, as many random edits
UNSURE = np.float32(1e3)  # what a code loses that misses the confidence of a predicted limit
STEEP = 100.0  # what a code loses per relative excess of a known cost, while it climbs


@dataclasses.dataclass(frozen=True)
class Search:
    """How codes of high acquisition are sought.

    Attributes:
      fresh: random codes of the pool.
      edits: edits of the best measured codes in the pool.
      best: measured codes that are edited, and from which climbs start.
      climbs: relaxed codes that climb the acquisition; 0 to look at the pool alone.
      steps: steps of a climb.
      polished: codes that move to their best neighbour.
      rounds: how often they do at most.
    """

    fresh: int = 512
    edits: int = 512
    best: int = 8
    climbs: int = 64
    steps: int = 30
    polished: int = 4
    rounds: int = 8


class Known(NamedTuple):
    """What is known of n slots, for the objective and c limits on metrics: 1 + c processes.

    Attributes:
      codes: int32 [n, d]; slots that are neither measured nor pending hold any legal code.
      targets: float32 [1 + c, n]; of the objective, higher is better; of a limit, values of at least 0 satisfy it.
      measured: bool [1 + c, n], True where a target was measured.
      pending: bool [n], True for codes that are being trained.
    """

    codes: Int[np.ndarray, "n d"]
    targets: Float[np.ndarray, "p n"]
    measured: Bool[np.ndarray, "p n"]
    pending: Bool[np.ndarray, " n"]


class Belief(NamedTuple):
    """What is believed given what is known.

    Attributes:
      models: the processes, stacked.
      best: best prediction at a measured code that satisfies the limits; -inf if there is none.
      sources: processes of other tasks, stacked, whose predictions are features; None without sources.
    """

    models: gp.Model
    best: Float[Array, ""]
    sources: gp.Model | None = None


class Scored(NamedTuple):
    """Codes with their acquisition and predictions.

    Attributes:
      codes: int32 [k, d].
      scores: float32 [k], logarithm of the acquisition.
      mean, deviation: float32 [1 + c, k], predictions of the noise-free targets.
    """

    codes: Int[np.ndarray, "k d"]
    scores: Float[np.ndarray, " k"]
    mean: Float[np.ndarray, "p k"]
    deviation: Float[np.ndarray, "p k"]

    def take(self, rows: Int[np.ndarray, " j"]) -> Scored:
        """Returns some of the codes."""
        return Scored(self.codes[rows], self.scores[rows], self.mean[:, rows], self.deviation[:, rows])


def join(parts: list[Scored]) -> Scored:
    """Returns the different codes of several lists, best first."""
    found = _concatenated(parts)
    _, first = np.unique(found.codes, axis=0, return_index=True)
    return found.take(first[np.lexsort((first, -found.scores[first]))])


def _concatenated(parts: list[Scored]) -> Scored:
    codes, scores, mean, deviation = zip(*parts, strict=True)
    ends = np.concatenate(mean, axis=1), np.concatenate(deviation, axis=1)
    return Scored(np.concatenate(codes), np.concatenate(scores), *ends)


def inputs(space: Space, sources: gp.Model | None, relaxed: Float[Array, "m f"]) -> tuple[Features, Array]:
    """Returns the features of the space and tasks, and those of relaxed codes (jittable)."""
    if sources is None:
        return features_of(space), features_of(space)(relaxed)
    where = features_of(space)(relaxed)
    others = jax.vmap(lambda model: gp.predict(features_of(space), model, where)[0])(sources)
    features = features_of(space, len(others))
    return features, features(relaxed, others.T)


@functools.partial(jax.jit, static_argnames=("space", "steps"))
def learn(known: Known, sources: gp.Model | None, *, space: Space, steps: int = 60) -> Belief:
    """Fits the processes; pending codes count as measured with their predicted value.

    D. Ginsbourger et al. (2010): kriging believer.

    Args:
      known: what is known.
      sources: processes of other tasks, stacked.
      space: the space.
      steps: steps of the fit of hyper-parameters.
    """
    features, seen = inputs(space, sources, space.encode(jnp.asarray(known.codes)))

    def one(targets: Array, measured: Array) -> tuple[gp.Model, Array]:
        kernel = gp.fit(features, seen, targets, measured, steps=steps)
        believed = gp.predict(features, gp.condition(features, kernel, seen, targets, measured), seen)[0]
        everything = jnp.where(measured, targets, believed)
        return gp.condition(features, kernel, seen, everything, measured | known.pending), believed

    # One after the other: on CPUs, programs that hand batches of factorisations to the pool of threads that runs them
    # may wait for each other for ever (JAX 0.10.2).
    models, believed = jax.lax.map(lambda pair: one(*pair), (jnp.asarray(known.targets), jnp.asarray(known.measured)))
    satisfied = (jnp.where(known.measured[1:], known.targets[1:], believed[1:]) >= 0).all(axis=0)
    return Belief(models, jnp.where(known.measured[0] & satisfied, believed[0], -jnp.inf).max(), sources)


def acquisition(space: Space, belief: Belief, relaxed: Float[Array, "m f"]) -> tuple[Array, Array, Array]:
    """Returns the logarithm of the acquisition of relaxed codes, and their predictions (jittable).

    The acquisition is the expected improvement over the best prediction at a measured code, times the probability that
    the limits are satisfied (J. Gardner et al., ICML 2014); before a measured code satisfies them, that alone.
    """
    features, where = inputs(space, belief.sources, relaxed)
    mean, deviation = jax.vmap(lambda model: gp.predict(features, model, where))(belief.models)
    found = jnp.isfinite(belief.best)
    gain = log_expected_improvement(mean[0], deviation[0], jnp.where(found, belief.best, 0.0))
    chances = norm.logcdf(mean[1:] / deviation[1:]).sum(axis=0)
    return jnp.where(found, gain, 0.0) + chances, mean, deviation


@functools.partial(jax.jit, static_argnames="space")
def _evaluate(belief: Belief, codes: Int[Array, "m d"], *, space: Space) -> tuple[Array, Array, Array]:
    return acquisition(space, belief, space.encode(codes))


def evaluate(space: Space, belief: Belief, codes: Int[np.ndarray, "m d"]) -> Scored:
    """Returns codes with their acquisition, in device calls of one shape (host-side)."""
    parts = []
    for first in range(0, max(len(codes), 1), ROWS):
        some = codes[first : first + ROWS]
        padded = np.concatenate([some, np.repeat(codes[:1], ROWS - len(some), axis=0)]) if len(some) < ROWS else some
        scores, mean, deviation = (np.asarray(part) for part in _evaluate(belief, padded, space=space))
        parts.append(Scored(some, scores[: len(some)], mean[:, : len(some)], deviation[:, : len(some)]))
    return _concatenated(parts)


@functools.partial(jax.jit, static_argnames=("space", "steps", "model", "costs"))
def climb(
    belief: Belief,
    starts: Float[Array, "s f"],
    thresholds: Float[Array, " e"],
    *,
    space: Space,
    steps: int,
    model: CostModel | None = None,
    costs: tuple[tuple[str, bool], ...] = (),
) -> Int[Array, "s d"]:
    """Climbs the acquisition on relaxed codes inside the space's box, and projects the ends.

    The steps are those of Adam, in units of the range of a feature, and shrink to 0. Codes beyond a limit on a known
    cost are pulled back.

    Args:
      belief: the fitted processes.
      starts: relaxed codes.
      thresholds: limits on costs, in the units of ``model``.
      space: the space.
      steps: number of steps.
      model: cost model of the space, where costs are limited.
      costs: name of each limited cost, and whether its limit is from above.
    """
    lower, upper = space.lower, space.upper

    def height(relaxed: Float[Array, "s f"]) -> Float[Array, ""]:
        total = acquisition(space, belief, relaxed)[0].sum()
        if model is not None:
            values = model.relaxed(relaxed)
            for (name, above), threshold in zip(costs, thresholds, strict=True):
                beyond = (1 if above else -1) * (values[name] / threshold - 1)
                total -= STEEP * jnp.maximum(beyond, 0.0).sum()
        return total

    adam = optax.scale_by_adam(b1=0.8, b2=0.95)

    def step(carry: tuple[Array, optax.OptState], at: Array) -> tuple[tuple[Array, optax.OptState], None]:
        relaxed, state = carry
        slope = jnp.nan_to_num(space.tangent(jax.grad(height)(relaxed) * (upper - lower)))
        move, state = adam.update(slope, state)
        return (space.clip(relaxed + gp.RATE * (1 - at / steps) * move * (upper - lower)), state), None

    relaxed = jax.lax.scan(step, (starts, adam.init(starts)), jnp.arange(steps))[0][0]
    return space.project(relaxed)


def propose(
    key: Key,
    belief: Belief,
    known: Known,
    *,
    space: Space,
    search: Search,
    goals: Goals,
    taken: Set[bytes],
    confidence: float,
) -> Scored:
    """Returns different codes within the limits on known costs, best first (host-side); none if none was found.

    Args:
      key: key of this call.
      belief: the fitted processes.
      known: what is known.
      space: the space.
      search: how codes are sought.
      goals: the limits.
      taken: codes that are not returned, as bytes.
      confidence: probability with which each limit on a metric shall be satisfied. Codes that miss it come last.
    """
    keys = jax.random.split(key, 5)
    margin = statistics.NormalDist().inv_cdf(confidence)

    def look(codes: Int[np.ndarray, "m d"]) -> Scored:
        codes = np.unique(np.asarray(codes, np.int32), axis=0)
        codes = codes[goals.allowed(codes)]
        if not len(codes):
            return Scored(codes, np.zeros(0, np.float32), *np.zeros((2, len(known.targets), 0), np.float32))
        found = evaluate(space, belief, codes)
        sure = (found.mean[1:] >= margin * found.deviation[1:]).all(axis=0)
        return found._replace(scores=np.where(np.isnan(found.scores), -UNSURE, found.scores) - UNSURE * ~sure)

    best = best_known(known, search.best)
    fresh = np.asarray(space.sample(keys[0], search.fresh))
    edited = edit(int(jax.random.bits(keys[1])), space, best, search.edits)
    found = look(goals.brought_within(np.concatenate([fresh, edited]), keys[2]))
    if search.climbs:
        feasible = goals.feasible
        starts = np.concatenate([found.codes[np.argsort(-found.scores)[: search.climbs // 2]], best, fresh])
        ends = climb(
            belief,
            space.encode(jnp.asarray(starts[: search.climbs])),
            jnp.asarray([] if feasible is None else [c.threshold for c in feasible.constraints]),
            space=space,
            steps=search.steps,
            model=None if feasible is None else feasible.model,
            costs=() if feasible is None else tuple((str(c.cost), c.limit.upper) for c in feasible.constraints),
        )
        found = join([found, look(goals.brought_within(np.asarray(ends), keys[3]))])
    for step in jax.random.split(keys[4], search.rounds):
        leader = found.codes[:1]
        if not len(leader):
            break
        found = join([found, look(around(step, space, found.codes[: search.polished]))])
        if (found.codes[:1] == leader).all():
            break
    new = np.array([code.tobytes() not in taken for code in found.codes], bool)
    return join([found.take(np.flatnonzero(new))])


def best_known(known: Known, n: int) -> Int[np.ndarray, "b d"]:
    """Returns the n best measured codes, those that satisfy the limits first."""
    satisfied = (~known.measured[1:] | (known.targets[1:] >= 0)).all(axis=0)
    order = np.lexsort((-known.targets[0], ~satisfied, ~known.measured[0]))
    return known.codes[order[: min(n, int(known.measured[0].sum()))]]


def edit(seed: int, space: Space, codes: Int[np.ndarray, "b d"], n: int) -> Int[np.ndarray, "n d"]:
    """Returns n legal codes that differ from some of the given ones in a few positions."""
    random = np.random.default_rng(seed)
    base = codes[np.arange(n) % len(codes)]
    other = np.stack([random.choice(values, n) for values in space.values], axis=1)
    rate = random.choice(np.array(EDITED) / space.length, (n, 1))
    mixed = np.where(random.random(base.shape) < rate, other, base).astype(np.int32)
    return np.asarray(space.project(space.encode(jnp.asarray(mixed))))


def around(key: Key, space: Space, codes: Int[np.ndarray, "q d"]) -> Int[np.ndarray, "m d"]:
    """Returns the neighbours of codes; in spaces where a code has very many, random ones of them."""
    if sum(len(values) - 1 for values in space.values) <= NEIGHBOURS:
        near, legal = space.neighbours(jnp.asarray(codes))
        return np.asarray(near)[np.asarray(legal)]
    return np.asarray(space.mutate(key, jnp.repeat(jnp.asarray(codes), NEIGHBOURS, axis=0)))
