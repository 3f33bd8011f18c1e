"""The best architecture against wall time: inversion and its rivals on one predictor, with one scoring function."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Objective, PropagationConfig
from ncp_jax.propagation.engine import Shape, run
from ncp_jax.propagation.gradients import exact_columns
from ncp_jax.propagation.polish import polish
from ncp_jax.spaces import Space, cost_model_for, get_space
from ncp_jax.types import Array, Float, Int, Key

BUDGETS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
RESCORED = 256  # rows of the call that scores a curve's codes once more

Score = Callable[[Int[Array, "n d"]], Float[Array, " n"]]


class TimeUp(Exception):  # noqa: N818  (not an error: it ends a search whose time is spent)
    """The time of a search is over."""


class Watch:
    """What a search shows its best to: keeps the time, and ends the search when that is up.

    Args:
      seconds: how long the search may take from now on. What comes later does not count.
      calls: how often it may show something, for warming up; as often as it likes without it.
      clock: seconds, from any origin.
    """

    def __init__(
        self, seconds: float, *, calls: int | None = None, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self.times: list[float] = []
        self.values: list[float] = []
        self.codes: list[np.ndarray] = []
        self._seconds, self._calls, self._clock = seconds, calls, clock
        self._begin = clock()

    def __call__(self, value: float, code: Int[np.ndarray, " d"]) -> None:
        """Notes a code and its score.

        Raises:
          TimeUp: the time is over; this call came too late.
        """
        passed = self._clock() - self._begin
        if passed > self._seconds or self._calls == 0:
            raise TimeUp
        if self._calls is not None:
            self._calls -= 1
        if not self.values or value > self.values[-1]:
            self.times.append(passed)
            self.values.append(float(value))
            self.codes.append(np.array(code))


@dataclasses.dataclass(frozen=True)
class Contender:
    """One way to search.

    Attributes:
      name: what records call it.
      search: searches with a key until the watch ends it.
      warm: calls of the watch until all programs are compiled.
    """

    name: str
    search: Callable[[Key, Watch], None]
    warm: int


def race(contender: Contender, key: Key, seconds: float) -> Watch:
    """Runs one search for a time and returns its watch, with the curve."""
    watch = Watch(seconds)
    with contextlib.suppress(TimeUp):
        contender.search(key, watch)
    return watch


def warm_up(contender: Contender, key: Key) -> None:
    """Compiles what a search uses."""
    with contextlib.suppress(TimeUp):
        contender.search(key, Watch(math.inf, calls=contender.warm))


def scoring(predictor: Predictor, objective: Objective) -> Score:
    """Returns the objective as a compiled function of legal codes: what ranks the architectures of ``propagate``.

    Costs that the space knows exactly are computed from the code (in float32), everything else is the ensemble's mean.
    """
    space = get_space(predictor.space)
    model, sought = cost_model_for(space, predictor.metrics), predictor.select(objective.names)
    exact = exact_columns(sought.metrics, model)
    push = np.asarray(objective.weights(sought.metrics).push)
    predicted = [i for i in range(len(push)) if i not in exact]
    judge = sought.select(tuple(sought.metrics[i].name for i in predicted)) if predicted else None
    mean, std = (np.asarray(a) for a in (sought.scale.y_mean, sought.scale.y_std))

    @jax.jit
    def score(codes: Int[Array, "n d"]) -> Float[Array, " n"]:
        relaxed = space.encode(codes)
        total = jnp.zeros(len(codes))
        if judge is not None:
            x = judge.scale.standard_x(relaxed)
            over_codes = jax.vmap(judge.apply, in_axes=(None, 0))
            z = jax.vmap(over_codes, in_axes=(0, None))(judge.params, x).mean(axis=0)
            total = total + z @ push[predicted]
        costs = model.relaxed(relaxed) if model is not None and exact else {}
        for i, name in exact.items():
            total = total + push[i] * (costs[name] - mean[i]) / std[i]
        return total

    return score


@dataclasses.dataclass(frozen=True)
class Rounds:
    """How inversion spends its time: round after round, each from fresh starts.

    Attributes:
      codes: starts of a round.
      polish: how many of a round's best codes are polished.
      config: settings of the gradient loop.
      elites: share of the starts that are edits of the best peaks so far, from the second round on.
      edits: how many positions of such a start are edited.
    """

    codes: int = 32
    polish: int = 4
    config: PropagationConfig = dataclasses.field(
        default_factory=lambda: PropagationConfig(steps=20, learning_rate=100.0, exact_costs=True)
    )
    elites: float = 0.5
    edits: int = 6

    def __post_init__(self) -> None:
        for name in ("codes", "polish", "edits"):
            if getattr(self, name) < 1:
                raise checks.UsageError(expected=f"{name} >= 1", got=repr(getattr(self, name)), remedy=f"raise {name}")


def inversion(predictor: Predictor, objective: Objective, score: Score, rounds: Rounds | None = None) -> Contender:
    """Inversion in rounds, the best codes of each polished."""
    rounds = rounds or Rounds()
    space = get_space(predictor.space)
    sought = predictor.select(objective.names)
    weights = objective.weights(sought.metrics)
    members = predictor.members if rounds.config.follow == "member" else 1
    # Tiles no larger than a member's share of a round: the engine's own are made for thousands of codes.
    shape = Shape(max(1, -(-rounds.codes // members)), 2 if members % 2 == 0 else 1)
    box = (jnp.asarray(space.lower), jnp.asarray(space.upper))
    model = cost_model_for(space, predictor.metrics) if rounds.config.exact_costs else None
    # Compiles the starts of the second round: warming up ends within the first.
    _starts(space, jax.random.key(0), rounds, [space.from_string(space.example)])

    def search(key: Key, watch: Watch) -> None:
        def shown(codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
            values = np.asarray(score(jnp.asarray(codes)))
            best = int(values.argmax())
            watch(values[best], codes[best])
            return values

        peaks: dict[bytes, tuple[float, np.ndarray]] = {}
        number = 0
        while True:
            starts = _starts(space, jax.random.fold_in(key, number), rounds, [code for _, code in _top(peaks)])
            relaxed = run(sought, weights, space.encode(starts), box, rounds.config, model, rounds.codes, shape)
            reached = np.asarray(space.project(relaxed))
            values = shown(reached)
            distinct = np.unique(reached, axis=0, return_index=True)[1]
            order = distinct[np.argsort(-values[distinct], kind="stable")]
            new = [i for i in order if reached[i].tobytes() not in peaks][: rounds.polish]
            climbed = polish(shown, space, reached[new or order[:1]], known=(reached, values), together=1)
            peaks.update({c.tobytes(): (v, c) for c, v in zip(climbed.codes, climbed.score.tolist(), strict=True)})
            number += 1

    return Contender("inversion", search, warm=60)


def _top(peaks: Mapping[bytes, tuple[float, np.ndarray]], count: int = 8) -> list[tuple[float, np.ndarray]]:
    return sorted(peaks.values(), key=lambda peak: -peak[0])[:count]


def _starts(space: Space, key: Key, rounds: Rounds, elites: Sequence[np.ndarray]) -> Int[Array, "n d"]:
    """Random codes; among them, where there are elites, some of their edits."""
    fresh = space.sample(jax.random.fold_in(key, 0), rounds.codes)
    kept = int(rounds.elites * rounds.codes)
    if not elites or not kept:
        return fresh
    edited = jnp.asarray(np.resize(np.stack(elites), (rounds.codes, space.length)))
    for i in range(rounds.edits):
        edited = space.mutate(jax.random.fold_in(key, 1 + i), edited)
    return jnp.where((jnp.arange(rounds.codes) < kept)[:, None], edited, fresh)


def curve_of(watch: Watch, score: Score) -> dict[str, list[float] | list[int]]:
    """A search's best so far as plain numbers: "seconds", "score", and the "code" it ended with.

    The codes are scored once more, all by one program: programs of other shapes round differently.
    """
    if not watch.codes:
        return {"seconds": [], "score": [], "code": []}
    codes = np.stack(watch.codes)
    padded = np.concatenate([codes, np.repeat(codes[-1:], -len(codes) % RESCORED, axis=0)])
    calls = [np.asarray(score(jnp.asarray(padded[i : i + RESCORED]))) for i in range(0, len(padded), RESCORED)]
    values = np.maximum.accumulate(np.concatenate(calls)[: len(codes)])
    return {"seconds": watch.times, "score": values.tolist(), "code": codes[-1].tolist()}


def best_at(curve: Mapping[str, Sequence[float]], seconds: float) -> float | None:
    """The best score of a curve at a time; None where nothing was found yet."""
    found = int(np.searchsorted(curve["seconds"], seconds, side="right"))
    return float(curve["score"][found - 1]) if found else None
