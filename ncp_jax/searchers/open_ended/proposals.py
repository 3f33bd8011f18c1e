"""Finds codes of high acquisition in a space of any size: a pool, climbs of relaxed codes, single edits."""

from __future__ import annotations

import dataclasses
import functools
import statistics
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.beliefs import Acquired, Belief
from ncp_jax.searchers.open_ended.known import SLOTS, Known, best_known, gather
from ncp_jax.searchers.open_ended.situation import Situation, seed_of
from ncp_jax.spaces import CostModel, Space
from ncp_jax.types import Array, Bool, Float, Int, Key

AnyBelief = TypeVar("AnyBelief", bound=Belief)
ROWS = 1024  # codes of one device call
EDITED = (1.5, 3.0, 6.0)  # mean number of positions that an edit of a measured code changes
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
      neighbours: neighbours of a code that are all looked at; in spaces with more, as many random edits.
    """

    fresh: int = 512
    edits: int = 512
    best: int = 8
    climbs: int = 64
    steps: int = 30
    polished: int = 4
    rounds: int = 8
    neighbours: int = 512


class Scored(NamedTuple):
    """Codes with their acquisition and predictions.

    Attributes:
      codes: int32 [k, d].
      scores: float32 [k], acquisition.
      mean, deviation: float32 [1 + c, k], predictions of the noise-free targets.
    """

    codes: Int[np.ndarray, "k d"]
    scores: Float[np.ndarray, " k"]
    mean: Float[np.ndarray, "p k"]
    deviation: Float[np.ndarray, "p k"]

    def take(self, rows: Int[np.ndarray, " j"]) -> Scored:
        """Returns some of the codes."""
        return Scored(self.codes[rows], self.scores[rows], self.mean[:, rows], self.deviation[:, rows])

    def sure(self, confidence: float) -> Bool[np.ndarray, " k"]:
        """Returns True for each code that satisfies each limit on a metric with this probability or more."""
        margin = statistics.NormalDist().inv_cdf(confidence)
        return np.asarray((self.mean[1:] >= margin * self.deviation[1:]).all(axis=0))


def explains(belief: Belief, found: Scored) -> str:
    """Returns why the first of the codes is worth a training: "exploit" or "explore"."""
    explores = not np.isfinite(float(belief.best)) or float(found.mean[0, 0]) < float(belief.best)
    return "explore" if explores else "exploit"


def join(parts: list[Scored]) -> Scored:
    """Returns the different codes of several lists, best first."""
    found = _concatenated(parts)
    # As bytes: comparing rows number by number takes six times as long.
    codes = np.ascontiguousarray(found.codes)
    _, first = np.unique(codes.view(np.dtype((np.void, codes.itemsize * codes.shape[1]))).ravel(), return_index=True)
    return found.take(first[np.lexsort((first, -found.scores[first]))])


def _concatenated(parts: list[Scored]) -> Scored:
    codes, scores, mean, deviation = zip(*parts, strict=True)
    ends = np.concatenate(mean, axis=1), np.concatenate(deviation, axis=1)
    return Scored(np.concatenate(codes), np.concatenate(scores), *ends)


@functools.partial(jax.jit, static_argnames="space")
def _evaluate(belief: Belief, codes: Int[Array, "m d"], *, space: Space) -> Acquired:
    return belief.acquisition(space, space.encode(codes))


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
      belief: what is believed.
      starts: relaxed codes.
      thresholds: limits on costs, in the units of ``model``.
      space: the space.
      steps: number of steps.
      model: cost model of the space, where costs are limited.
      costs: name of each limited cost, and whether its limit is from above.
    """
    lower, upper = space.lower, space.upper

    def height(relaxed: Float[Array, "s f"]) -> Float[Array, ""]:
        total = belief.acquisition(space, relaxed)[0].sum()
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


def seek(
    now: Situation, key: Key, learner: Callable[[Key, Known], AnyBelief], *, search: Search, most: int = SLOTS[-1]
) -> tuple[AnyBelief, Scored]:
    """Learns from what is known and looks for codes to train, best first (host-side).

    Args:
      now: the situation. Several goals are joined with weights that are drawn for this call.
      key: key of this call.
      learner: makes a belief from a key and what is known.
      search: how codes are sought.
      most: largest number of measurements that the belief is made from.
    """
    keys = jax.random.split(key, 3)
    weights = np.random.default_rng(seed_of(keys[0])).dirichlet(np.ones(len(now.observations.goals.signs)))
    known = gather(now.observations, now.pending, weights, most)
    belief = learner(keys[2], known)
    return belief, propose(keys[1], belief, known, now=now, search=search)


def propose(key: Key, belief: Belief, known: Known, *, now: Situation, search: Search) -> Scored:
    """Returns different new codes within the limits on known costs, best first (host-side); none if none was found.

    Codes that miss the confidence of a limit on a metric come last.

    Args:
      key: key of this call.
      belief: what is believed.
      known: what is known.
      now: space, limits, and what is measured or pending.
      search: how codes are sought.
    """
    keys = jax.random.split(key, 5)
    space, goals = now.space, now.observations.goals

    def look(codes: Int[np.ndarray, "m d"]) -> Scored:
        codes = np.unique(np.asarray(codes, np.int32), axis=0)
        codes = codes[goals.allowed(codes)]
        if not len(codes):
            return Scored(codes, np.zeros(0, np.float32), *np.zeros((2, len(known.targets), 0), np.float32))
        found = evaluate(space, belief, codes)
        scores = np.where(np.isnan(found.scores), -UNSURE, found.scores)
        return found._replace(scores=scores - UNSURE * ~found.sure(now.config.confidence))

    best = best_known(known, search.best)
    fresh = np.asarray(space.sample(keys[0], search.fresh))
    edited = edit(seed_of(keys[1]), space, best, search.edits)
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
        found = join([found, look(around(step, space, found.codes[: search.polished], search.neighbours))])
        if (found.codes[:1] == leader).all():
            break
    return join([found.take(np.flatnonzero(now.new(found.codes)))])


def edit(seed: int, space: Space, codes: Int[np.ndarray, "b d"], n: int) -> Int[np.ndarray, "n d"]:
    """Returns n legal codes that differ from some of the given ones in a few positions."""
    random = np.random.default_rng(seed)
    base = codes[np.arange(n) % len(codes)]
    other = np.stack([random.choice(values, n) for values in space.values], axis=1)
    rate = random.choice(np.array(EDITED) / space.length, (n, 1))
    mixed = np.where(random.random(base.shape) < rate, other, base).astype(np.int32)
    return np.asarray(space.project(space.encode(jnp.asarray(mixed))))


def around(key: Key, space: Space, codes: Int[np.ndarray, "q d"], most: int) -> Int[np.ndarray, "m d"]:
    """Returns the neighbours of codes; in spaces where a code has more than ``most``, as many random ones of them."""
    if sum(len(values) - 1 for values in space.values) <= most:
        near, legal = space.neighbours(jnp.asarray(codes))
        return np.asarray(near)[np.asarray(legal)]
    return np.asarray(space.mutate(key, jnp.repeat(jnp.asarray(codes), most, axis=0)))
