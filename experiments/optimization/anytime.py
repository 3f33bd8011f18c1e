"""Records the best score against wall time of optimizers that share one scoring function; inversion is one of them."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
RESCORED = 256  # rows of the call that scores the codes of a curve once more
ELITES = 8  # best codes so far that starts are made from

Score = Callable[[Int[Array, "n d"]], Float[Array, " n"]]


class TimeUp(Exception):  # noqa: N818  (not an error: it ends a search whose time is spent)
    """Raised by a recorder to end a search whose time is over."""


class Recorder:
    """Records the improvements that a search reports, and ends the search when its time is over.

    Args:
      seconds: time limit from now on. What is reported later does not count.
      calls: number of reports after which the search ends, for warming up; None for no limit.
      clock: function that returns seconds from any origin.

    Attributes:
      times: seconds at which each improvement was reported.
      values: scores of the improvements, ascending.
      codes: codes of the improvements.
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
        """Reports a code and its score.

        Raises:
          TimeUp: the time is over; this report came too late.
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
class Optimizer:
    """A search for the best-scoring code.

    Attributes:
      name: name in records.
      search: function that searches with a key until the recorder ends it.
      warmup_calls: reports after which all programs are compiled.
    """

    name: str
    search: Callable[[Key, Recorder], None]
    warmup_calls: int


def run_once(optimizer: Optimizer, key: Key, seconds: float) -> Recorder:
    """Runs an optimizer for a time and returns its recorder."""
    recorder = Recorder(seconds)
    with contextlib.suppress(TimeUp):
        optimizer.search(key, recorder)
    return recorder


def warm_up(optimizer: Optimizer, key: Key) -> None:
    """Compiles what an optimizer uses."""
    with contextlib.suppress(TimeUp):
        optimizer.search(key, Recorder(math.inf, calls=optimizer.warmup_calls))


def score_function(predictor: Predictor, objective: Objective) -> Score:
    """Returns the objective as a compiled function of legal codes: the score by which ``propagate`` ranks.

    Costs that the space knows exactly are computed from the code (in float32); everything else is the ensemble's mean.
    """
    space = get_space(predictor.space)
    model, selected = cost_model_for(space, predictor.metrics), predictor.select(objective.names)
    exact = exact_columns(selected.metrics, model)
    push = np.asarray(objective.weights(selected.metrics).push)
    predicted = [i for i in range(len(push)) if i not in exact]
    ensemble = selected.select(tuple(selected.metrics[i].name for i in predicted)) if predicted else None
    mean, std = (np.asarray(a) for a in (selected.scale.y_mean, selected.scale.y_std))

    @jax.jit
    def score(codes: Int[Array, "n d"]) -> Float[Array, " n"]:
        relaxed = space.encode(codes)
        total = jnp.zeros(len(codes))
        if ensemble is not None:
            x = ensemble.scale.standard_x(relaxed)
            over_codes = jax.vmap(ensemble.apply, in_axes=(None, 0))
            z = jax.vmap(over_codes, in_axes=(0, None))(ensemble.params, x).mean(axis=0)
            total = total + z @ push[predicted]
        costs = model.relaxed(relaxed) if model is not None and exact else {}
        for i, name in exact.items():
            total = total + push[i] * (costs[name] - mean[i]) / std[i]
        return total

    return score


@dataclasses.dataclass(frozen=True)
class Rounds:
    """Settings of inversion in rounds, each from fresh starts.

    Attributes:
      codes: starts of a round.
      polish: number of a round's best codes that are polished.
      config: settings of the gradient loop.
      elites: share of the starts that are edits of the best codes so far, from the second round on.
      edits: number of positions of such a start that are edited.
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
            checks.integer(name, getattr(self, name), least=1)


def inversion(predictor: Predictor, objective: Objective, score: Score, rounds: Rounds | None = None) -> Optimizer:
    """Returns inversion in rounds: random starts and edits of the best codes, gradient steps, then polishing."""
    rounds = rounds or Rounds()
    space = get_space(predictor.space)
    selected = predictor.select(objective.names)
    weights = objective.weights(selected.metrics)
    members = predictor.members if rounds.config.follow == "member" else 1
    # Tiles no larger than a member's share of a round: the engine's own are made for thousands of codes.
    shape = Shape(max(1, -(-rounds.codes // members)), 2 if members % 2 == 0 else 1)
    box = (jnp.asarray(space.lower), jnp.asarray(space.upper))
    model = cost_model_for(space, predictor.metrics) if rounds.config.exact_costs else None
    # Compiles the starts of the second round, which warming up does not reach.
    _starts(space, jax.random.key(0), rounds, [space.from_string(space.example)])

    def search(key: Key, recorder: Recorder) -> None:
        def score_and_report(codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
            values = np.asarray(score(jnp.asarray(codes)))
            best = int(values.argmax())
            recorder(values[best], codes[best])
            return values

        peaks: dict[bytes, tuple[float, np.ndarray]] = {}  # polished codes with their scores
        number = 0
        while True:
            elites = [code for _, code in sorted(peaks.values(), key=lambda peak: -peak[0])[:ELITES]]
            starts = _starts(space, jax.random.fold_in(key, number), rounds, elites)
            relaxed = run(selected, weights, space.encode(starts), box, rounds.config, model, rounds.codes, shape)
            reached = np.asarray(space.project(relaxed))
            values = score_and_report(reached)
            # Polish the best distinct codes that are no peaks yet; the best code where all are.
            distinct = np.unique(reached, axis=0, return_index=True)[1]
            order = distinct[np.argsort(-values[distinct], kind="stable")]
            new = [i for i in order if reached[i].tobytes() not in peaks][: rounds.polish]
            climbed = polish(score_and_report, space, reached[new or order[:1]], known=(reached, values), together=1)
            peaks.update({c.tobytes(): (v, c) for c, v in zip(climbed.codes, climbed.score.tolist(), strict=True)})
            number += 1

    return Optimizer("inversion", search, warmup_calls=60)


def _starts(space: Space, key: Key, rounds: Rounds, elites: Sequence[np.ndarray]) -> Int[Array, "n d"]:
    """Draws random codes, the first of which are replaced by edits of the elites, if there are any."""
    fresh = space.sample(jax.random.fold_in(key, 0), rounds.codes)
    kept = int(rounds.elites * rounds.codes)
    if not elites or not kept:
        return fresh
    edited = jnp.asarray(np.resize(np.stack(elites), (rounds.codes, space.length)))
    for i in range(rounds.edits):
        edited = space.mutate(jax.random.fold_in(key, 1 + i), edited)
    return jnp.where((jnp.arange(rounds.codes) < kept)[:, None], edited, fresh)


@dataclasses.dataclass(frozen=True)
class Curve:
    """The best score of one run against wall time, as a step function.

    Attributes:
      seconds: times of the improvements.
      score: best score from each of these times on, in standard units.
      code: the best code in the end; empty where nothing was reported in time.
    """

    seconds: list[float]
    score: list[float]
    code: list[int]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as records hold them."""
        return vars(self)

    def best_at(self, seconds: float) -> float | None:
        """Returns the best score at a time; None where nothing was found yet."""
        found = int(np.searchsorted(self.seconds, seconds, side="right"))
        return float(self.score[found - 1]) if found else None


def curve_of(recorder: Recorder, score: Score) -> Curve:
    """Returns the curve of one run.

    The codes are scored once more, all by one program: programs of other shapes round differently.
    """
    if not recorder.codes:
        return Curve([], [], [])
    codes = np.stack(recorder.codes)
    padded = np.concatenate([codes, np.repeat(codes[-1:], -len(codes) % RESCORED, axis=0)])
    calls = [np.asarray(score(jnp.asarray(padded[i : i + RESCORED]))) for i in range(0, len(padded), RESCORED)]
    values = np.maximum.accumulate(np.concatenate(calls)[: len(codes)])
    return Curve(recorder.times, values.tolist(), codes[-1].tolist())


@dataclasses.dataclass(frozen=True)
class AnytimeRun:
    """The curves of all optimizers on one task from one seed.

    Attributes:
      task: name of the task.
      curves: curves by optimizer.
      seed: the seed.
    """

    task: str
    curves: Mapping[str, Curve]
    seed: int
