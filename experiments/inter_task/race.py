"""Lets methods answer the same questions in equal wall time, and judges their answers."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from inter_task.answers import Answers
from inter_task.methods import METHODS, Programs
from inter_task.volume import Box, volume_share
from ncp_jax.types import Float, Int

SHOWN = 400  # answers of a method that records keep for the figure
# Clocks: seconds that pass, or seconds that all threads of this process compute, which other work on the machine does
# not lengthen. On idle cores the second is never less than the first.
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}
WARM_UP = 3  # steps that compile what a method uses


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The answers of one method at one time.

    Attributes:
      seconds: end of the last step that was over by then; 0 where none was.
      scored: number of codes scored by then.
      answered: share of the questions that have an answer.
      codes: ``[k, d]`` distinct codes of the answers.
    """

    seconds: float
    scored: int
    answered: float
    codes: Int[np.ndarray, "k d"]


@dataclasses.dataclass
class _Runner:
    answers: Answers
    advance: Callable[[], None]
    clock: Callable[[], float]
    seconds: float = 0.0
    shots: list[Snapshot] = dataclasses.field(default_factory=list)

    def step(self, marks: Sequence[float]) -> None:
        """Takes one step; what was there before it stands for every mark that it passes."""
        before, value, codes = self.seconds, self.answers.value.copy(), self.answers.codes.copy()
        scored = self.answers.scored
        began = self.clock()
        self.advance()
        self.seconds += self.clock() - began
        while len(self.shots) < len(marks) and self.seconds > marks[len(self.shots)]:
            there = np.isfinite(value)
            self.shots.append(Snapshot(before, scored, float(there.mean()), np.unique(codes[there], axis=0)))


def compile_methods(programs: Programs, methods: Sequence[str]) -> float:
    """Compiles what methods use, by some steps of each; returns the seconds of the first method."""
    seconds = []
    for name in methods:
        began = time.perf_counter()
        steps = METHODS[name](programs, _empty(programs), 0)
        for _ in range(WARM_UP):
            next(steps)
        seconds.append(time.perf_counter() - began)
    return seconds[0]


def race(
    programs: Programs, methods: Sequence[str], seed: int, marks: Sequence[float], clock: str = "wall"
) -> tuple[dict[str, list[Snapshot]], Answers]:
    """Runs methods in turns, always a step of the one that has had the least time, until all have had the last mark.

    Turns of a fraction of a second share what else the machine does evenly among the methods.

    Args:
      programs: compiled programs.
      methods: names of the methods.
      seed: random seed.
      marks: seconds of each method's own time, ascending.
      clock: a key of ``CLOCKS``.

    Returns:
      A snapshot for each mark by method; and the answers of the first method at the end.
    """
    runners = {}
    for name in methods:
        answers = _empty(programs)
        steps = METHODS[name](programs, answers, seed)
        runners[name] = _Runner(answers, lambda steps=steps: next(steps), CLOCKS[clock])  # type: ignore[misc]
    while True:
        runner = min(runners.values(), key=lambda one: one.seconds)
        if runner.seconds > marks[-1]:
            break
        runner.step(marks)
    return {name: runner.shots for name, runner in runners.items()}, runners[methods[0]].answers


def _empty(programs: Programs) -> Answers:
    return Answers(programs.problem.questions, programs.problem.space.length)


def exhaustive(programs: Programs, codes: Int[np.ndarray, "n d"]) -> Int[np.ndarray, "k d"]:
    """Returns the distinct answers after all codes of a space are scored, which every method tends to."""
    answers, n = _empty(programs), programs.settings.codes
    for first in range(0, len(codes), n):
        answers.report(*programs.score(np.resize(codes[first : first + n], (n, codes.shape[1]))))
    return answers.distinct()


@dataclasses.dataclass(frozen=True)
class Judge:
    """What architectures are worth: as the predictor says that was searched, and as an independent judge says.

    Attributes:
      predict: function of codes that returns the searched predictor's metrics in standard units.
      judge: the same by the judge: an independent ensemble, or the complete table.
      gflops: function of codes that returns exact GFLOPs.
      box: part of the metrics' space in which hypervolumes are measured, GFLOPs (negated) last.
      samples: ``[s, t + 1]`` fixed points in the box.
    """

    predict: Callable[[Int[np.ndarray, "n d"]], Float[np.ndarray, "n t"]]
    judge: Callable[[Int[np.ndarray, "n d"]], Float[np.ndarray, "n t"]]
    gflops: Callable[[Int[np.ndarray, "n d"]], Float[np.ndarray, " n"]]
    box: Box
    samples: Float[np.ndarray, "s m"]

    def volumes(self, codes: Int[np.ndarray, "k d"]) -> dict[str, float]:
        """Returns the share of the box that codes dominate, as "predicted" and as "judged"."""
        if len(codes) == 0:
            return {"predicted": 0.0, "judged": 0.0}
        cost = -self.gflops(codes)[:, None]
        return {
            name: volume_share(np.concatenate([values(codes), cost], axis=1), self.samples)
            for name, values in (("predicted", self.predict), ("judged", self.judge))
        }

    def record(self, shots: Mapping[str, Sequence[Snapshot]]) -> dict[str, list[dict[str, Any]]]:
        """Returns the snapshots of all methods as records hold them."""
        return {
            name: [
                {"seconds": s.seconds, "scored": s.scored, "answered": s.answered, "distinct": len(s.codes)}
                | self.volumes(s.codes)
                for s in some
            ]
            for name, some in shots.items()
        }

    def front(self, codes: Int[np.ndarray, "k d"]) -> list[list[float]]:
        """Returns GFLOPs and the mean over the tasks, predicted and judged, of evenly chosen codes by rising GFLOPs."""
        if len(codes) == 0:
            return []
        ordered = codes[np.argsort(self.gflops(codes), kind="stable")]
        some = ordered[np.unique(np.linspace(0, len(ordered) - 1, SHOWN).astype(int))]
        means = [values(some).mean(axis=1) for values in (self.predict, self.judge)]
        return np.round(np.stack([self.gflops(some), *means], axis=1), 6).tolist()
