"""How an open-ended session chooses what to train next: with a Gaussian process, by edits, or at random."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.features import features_of
from ncp_jax.searchers.open_ended.observations import Observations
from ncp_jax.searchers.open_ended.proposals import Known, Search, evaluate, learn, propose
from ncp_jax.searchers.open_ended.targets import TargetScale, limit_targets, scalarise
from ncp_jax.spaces import Space
from ncp_jax.types import Array, Bool, Float, Int

if TYPE_CHECKING:
    from ncp_jax.searchers.open_ended.config import OpenConfig

SLOTS = (64, 128, 256, 512, 1024)  # measurements that compiled programs have room for
LISTED = 4096  # a space of at most so many codes is looked at as a whole
TRIES = 64  # rounds of draws before a space counts as exhausted
PORTION = 512  # codes drawn at once
APART = 8  # random codes, of which the farthest from all others is a first one; of more, it is always a corner
POPULATION, TOURNAMENT = 30, 10  # of evolution
SEARCHES = {"ncp": Search(), "bayesian": Search(climbs=0, rounds=0)}


class Choice(NamedTuple):
    """A code to train, and why: "spread out", "explore", "exploit", "edit" or "random"."""

    code: np.ndarray
    why: str


@dataclasses.dataclass(frozen=True)
class Situation:
    """All that a choice depends on.

    Attributes:
      space: the space.
      config: configuration of the session.
      observations: what was measured.
      pending: codes that are being trained.
      asked: number of codes asked for before.
      sources: processes of other tasks, or None.
    """

    space: Space
    config: OpenConfig
    observations: Observations
    pending: list[np.ndarray]
    asked: int
    sources: gp.Model | None

    def key(self, number: int) -> jax.Array:
        """Returns the key of the code with this number."""
        return jax.random.fold_in(jax.random.key(self.config.seed), number)


def choose(situation: Situation, n: int) -> list[Choice]:
    """Returns up to n different codes that are neither measured nor pending."""
    chosen: list[Choice] = []
    for number in range(situation.asked, situation.asked + n):
        now = dataclasses.replace(situation, pending=situation.pending + [choice.code for choice in chosen])
        choice = _choose_one(now, situation.key(number))
        if choice is None:
            break
        chosen.append(choice)
    return chosen


def _choose_one(now: Situation, key: jax.Array) -> Choice | None:
    started = len(now.observations.codes) + len(now.pending)
    searcher = now.config.searcher
    if searcher == "random":
        return _drawn(now, key, "random")
    if started < now.config.initial or len(now.observations) < 2:
        return _spread_out(now, key)
    if searcher in SEARCHES:
        found = _best_by_model(now, key, SEARCHES[searcher])
        return found or _drawn(now, key, "explore")
    return _edited(now, key) or _drawn(now, key, "random")


def _taken(now: Situation) -> set[bytes]:
    return {code.tobytes() for code in [*now.observations.codes, *now.pending]}


def _fresh(now: Situation, key: jax.Array) -> Iterator[Int[np.ndarray, "k d"]]:
    """Yields portions of new codes within the limits on costs; none once they seem to be exhausted."""
    taken, goals = _taken(now), now.observations.goals
    if now.space.size <= LISTED:
        codes = now.space.all_codes()
        portions = iter([codes[np.random.default_rng(_seed(key)).permutation(len(codes))]])
    else:
        portions = (np.asarray(now.space.sample(key, PORTION, first=i * PORTION)) for i in range(TRIES))
    for codes in portions:
        codes = goals.brought_within(codes, key)
        codes = codes[goals.allowed(codes)]
        new = {code.tobytes(): code for code in codes if code.tobytes() not in taken}
        if new:
            yield np.array(list(new.values()), np.int32)


def _seed(key: jax.Array) -> int:
    return int(jax.random.bits(key))


def _drawn(now: Situation, key: jax.Array, why: str) -> Choice | None:
    codes = next(_fresh(now, key), None)
    return None if codes is None else Choice(codes[0], why)


def _spread_out(now: Situation, key: jax.Array) -> Choice | None:
    """Of some random codes, the one farthest from all that is measured or pending."""
    there = np.array([*now.observations.codes, *now.pending], np.int32).reshape(-1, now.space.length)
    for codes in _fresh(now, key):
        if not len(there):
            return Choice(codes[0], "spread out")
        codes = codes[:APART]
        a, b = (_features(now.space, rows) for rows in (codes, there))
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T
        return Choice(codes[np.argmax(np.round(squares.min(axis=1), 5))], "spread out")
    return None


def _features(space: Space, codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, "n g"]:
    """Returns the features of codes, from a program for the next power of two: n grows from call to call."""
    rows = max(SLOTS[0], 1 << (len(codes) - 1).bit_length())
    padded = np.concatenate([codes, np.repeat(codes[:1], rows - len(codes), axis=0)])
    return np.asarray(_padded_features(padded, space=space))[: len(codes)]


@functools.partial(jax.jit, static_argnames="space")
def _padded_features(codes: Int[Array, "n d"], *, space: Space) -> Float[Array, "n g"]:
    return features_of(space)(space.encode(codes))


def _best_by_model(now: Situation, key: jax.Array, search: Search) -> Choice | None:
    keys = jax.random.split(key)
    goals = now.observations.goals
    weights = np.random.default_rng(_seed(keys[0])).dirichlet(np.ones(len(goals.signs)))
    known = gather(now.observations, now.pending, weights)
    belief = learn(known, now.sources, space=now.space)
    found = propose(
        keys[1],
        belief,
        known,
        space=now.space,
        search=search,
        goals=goals,
        taken=_taken(now),
        confidence=now.config.confidence,
    )
    if not len(found.codes):
        return None
    explores = not np.isfinite(float(belief.best)) or float(found.mean[0, 0]) < float(belief.best)
    return Choice(found.codes[0], "explore" if explores else "exploit")


def _edited(now: Situation, key: jax.Array) -> Choice | None:
    """The child of a tournament's winner (evolution), or an edit of the best that has untried ones (local search)."""
    observations, taken = now.observations, _taken(now)
    values = _ranked(observations)
    random = np.random.default_rng(_seed(key))
    if now.config.searcher == "evolution":
        alive = np.arange(max(0, len(values) - POPULATION), len(values))
        for round_ in range(TRIES):
            fighters = random.choice(alive, min(TOURNAMENT, len(alive)), replace=False)
            parent = observations.codes[fighters[np.argmax(values[fighters])]]
            children = np.asarray(now.space.mutate(jax.random.fold_in(key, round_), parent[None]))
            if observations.goals.allowed(children)[0] and children[0].tobytes() not in taken:
                return Choice(children[0], "edit")
        return None
    for row in np.argsort(-values, kind="stable"):
        near, legal = now.space.neighbours(observations.codes[row])
        near = np.asarray(near)[np.asarray(legal)]
        near = near[observations.goals.allowed(near)]
        new = [code for code in near if code.tobytes() not in taken]
        if new:
            return Choice(new[int(random.integers(len(new)))], "edit")
    return None


def _ranked(observations: Observations) -> Float[np.ndarray, " k"]:
    """Returns one number for each measurement, higher is better: the goals in equal parts, failures last."""
    values = observations.values
    good = ~np.isnan(values[:, 0])
    goals = observations.oriented(values[good])
    ranked = np.full(len(values), -np.inf)
    ranked[good] = scalarise(goals, np.full(goals.shape[1], 1 / goals.shape[1]))
    for limit in observations.goals.limits:
        column = values[:, observations.goals.metrics.index(limit.metric)]
        beyond = (column - limit.value) if limit.upper else (limit.value - column)
        ranked = np.where(beyond > 0, np.minimum(ranked, -1e6 - beyond), ranked)
    return ranked


def gather(observations: Observations, pending: list[np.ndarray], weights: Float[np.ndarray, " g"]) -> Known:
    """Returns what is known for the goals in these weights; a failed training counts as the worst value measured."""
    codes, values = observations.codes, observations.values
    good = ~np.isnan(values[:, 0])
    goals = observations.oriented(values)
    single = goals[:, 0].copy()
    if goals.shape[1] > 1:
        single[good] = scalarise(goals[good], weights)
    objective = TargetScale.of(single[good]).forward(np.where(good, single, single[good].min()))
    names = observations.goals.metrics
    limits = [
        np.nan_to_num(limit_targets(values[:, names.index(limit.metric)], limit.value, upper=limit.upper))
        for limit in observations.goals.limits
    ]
    measured = [np.ones(len(good), bool), *[good] * len(limits)]
    return _in_slots(codes, np.array([objective, *limits]), np.array(measured), pending)


def _in_slots(
    codes: Int[np.ndarray, "k d"],
    targets: Float[np.ndarray, "p k"],
    measured: Bool[np.ndarray, "p k"],
    pending: list[np.ndarray],
) -> Known:
    """Returns measurements and the latest pending codes in one of the sizes ``SLOTS``, thinned where they are more."""
    pending = pending[-SLOTS[-1] // 2 :]
    rows = _some(targets[0], SLOTS[-1] - len(pending))
    size = next(slots for slots in SLOTS if slots >= len(rows) + len(pending))
    end = size - len(rows)
    waiting = np.array(pending, np.int32).reshape(-1, codes.shape[1])
    spare = np.repeat(codes[:1], end - len(pending), axis=0)
    return Known(
        codes=np.concatenate([codes[rows], waiting, spare]),
        targets=np.pad(targets[:, rows], ((0, 0), (0, end))).astype(np.float32),
        measured=np.pad(measured[:, rows], ((0, 0), (0, end))),
        pending=np.pad(np.ones(len(pending), bool), (len(rows), end - len(pending))),
    )


def _some(objective: Float[np.ndarray, " k"], most: int) -> Int[np.ndarray, " j"]:
    """Returns up to ``most`` rows: the best quarter, the latest quarter and an even share of the others."""
    k = len(objective)
    if k <= most:
        return np.arange(k)
    quarter = most // 4
    kept = np.zeros(k, bool)
    kept[np.argsort(-objective, kind="stable")[:quarter]] = True
    kept[-quarter:] = True
    others = np.flatnonzero(~kept)
    kept[others[np.linspace(0, len(others) - 1, most - int(kept.sum())).astype(int)]] = True
    return np.flatnonzero(kept)


def predict(
    space: Space, observations: Observations, sources: gp.Model | None, codes: Int[np.ndarray, "n d"]
) -> dict[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]:
    """Returns predicted values and their standard deviations by metric, in its own unit."""
    good = ~np.isnan(observations.values[:, 0])
    found = {}
    signs = dict(zip(observations.goals.metrics, observations.goals.signs, strict=False))
    for place, name in enumerate(observations.goals.metrics):
        sign = signs.get(name, 1)
        values = sign * observations.values[good, place]
        scale = TargetScale.of(values)
        known = _in_slots(observations.codes[good], scale.forward(values)[None], np.ones((1, len(values)), bool), [])
        seen = evaluate(space, learn(known, sources, space=space), codes)
        mean, deviation = seen.mean[0].astype(float), seen.deviation[0].astype(float)
        found[name] = sign * scale.back(mean), scale.back_spread(mean, deviation)
    return found
