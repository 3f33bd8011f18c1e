"""Methods that answer the questions: inversion, and the same answers by evolution, NSGA-II and random sampling.

All of them score codes by the same compiled programs and report what they score. A method is a generator that yields
after each of its steps, so that methods can take turns and each be timed by itself.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from inter_task.answers import Answers
from inter_task.problem import COST, Problem
from ncp_jax import checks
from ncp_jax.propagation import Objective, PropagationConfig
from ncp_jax.propagation.engine import Shape, run, shape_for
from ncp_jax.spaces import Space
from ncp_jax.types import Array, Float, Int, Key

Method = Callable[["Programs", Answers, int], Iterator[None]]


@dataclasses.dataclass(frozen=True)
class Settings:
    """Sizes and rates of the methods, chosen on a seed that is not reported (1000).

    Attributes:
      codes: codes of an inversion.
      steps: its gradient steps.
      learning_rate: size of these steps.
      push: sum of the tasks' weights in the inversion's objective.
      flops: smallest and largest weight of GFLOPs beside it; each code has its own, evenly spaced by its logarithm.
      children: codes of one step of inversion after the first, of evolution and of random sampling.
      neighbours: weightings nearest to a question's among whose answers it finds the second parent of a child.
      population: population of NSGA-II.
    """

    codes: int = 4096
    steps: int = 20
    learning_rate: float = 60.0
    push: float = 4.0
    flops: tuple[float, float] = (0.05, 8.0)
    children: int = 1024
    neighbours: int = 16
    population: int = 128

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as records hold them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}


class Programs:
    """The compiled programs of one problem, which all methods share.

    Args:
      problem: what is searched.
      settings: settings of the methods.
    """

    def __init__(self, problem: Problem, settings: Settings) -> None:
        from scipy.spatial import cKDTree

        self.problem, self.settings = problem, settings
        space, weights = problem.space, problem.questions.weights
        self._score = problem.score_function()
        self._vary = jax.jit(functools.partial(vary, space))
        self._draw = jax.jit(space.sample, static_argnums=1)
        self._config = PropagationConfig(steps=settings.steps, learning_rate=settings.learning_rate)
        goal = Objective(maximize=dict.fromkeys(problem.units.names, 1.0), minimize={COST: 1.0})
        self._weights = goal.weights(problem.follower.metrics)
        self._signs = np.array([*problem.units.signs, -1.0], np.float32)
        self._box = (jnp.asarray(space.lower), jnp.asarray(space.upper))
        self._shape = Shape(*shape_for(problem.follower, self._config, settings.codes))
        near = cKDTree(weights).query(weights, k=min(settings.neighbours, len(weights)))[1]
        self._near = np.asarray(near).reshape(len(weights), -1)

    def score(self, codes: Array | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns codes, predicted metrics in standard units and GFLOPs."""
        metrics, gflops = self._score(jnp.asarray(codes))
        return np.asarray(codes), np.asarray(metrics), np.asarray(gflops)

    def draw(self, key: Key, n: int) -> Int[Array, "n d"]:
        """Returns n random codes."""
        return self._draw(key, n)

    def vary(self, key: Key, first: np.ndarray, second: np.ndarray) -> Int[Array, "n d"]:
        """Returns a child of each pair of codes."""
        return self._vary(key, jnp.asarray(first), jnp.asarray(second))

    def invert(
        self, starts: Int[Array, "n d"], weights: Float[np.ndarray, "n t"], flops: Float[np.ndarray, " n"]
    ) -> Int[Array, "n d"]:
        """Moves codes in one call, each by its own weights of the tasks and of GFLOPs; returns legal codes."""
        space = self.problem.space
        push = np.concatenate([weights * self.settings.push, flops[:, None]], axis=1).astype(np.float32) * self._signs
        goal, relaxed = self._weights.of_rows(push), space.encode(starts)
        moved = run(self.problem.follower, goal, relaxed, self._box, self._config, None, len(push), self._shape)
        return space.project(moved)

    def children(self, key: Key, rng: np.random.Generator, answers: Answers) -> Int[Array, "n d"]:
        """Returns children of the answers to random questions and to questions of nearby weightings."""
        n, (budgets, weightings) = self.settings.children, answers.value.shape
        b, w = rng.integers(budgets, size=n), rng.integers(weightings, size=n)
        # A budget that nothing meets yet takes its parents from the largest one.
        b = np.where(answers.answered[b, w], b, budgets - 1)
        near = self._near[w, rng.integers(self._near.shape[1], size=n)]
        return self.vary(key, answers.codes[b, w], answers.codes[b, near])


def vary(space: Space, key: Key, first: Int[Array, "n d"], second: Int[Array, "n d"]) -> Int[Array, "n d"]:
    """Returns children: for half of the pairs a uniform crossover, else the first parent; then one or two edits."""
    crossed, mixed, edited, again, twice = jax.random.split(key, 5)
    one = (len(first), 1)
    swapped = jax.random.bernoulli(mixed, shape=first.shape) & jax.random.bernoulli(crossed, shape=one)
    children = jnp.where(swapped, second, first)
    children = space.mutate(edited, space.project(space.encode(children)))  # a crossover may be illegal
    return jnp.where(jax.random.bernoulli(twice, shape=one), space.mutate(again, children), children)


def inversion(programs: Programs, answers: Answers, seed: int) -> Iterator[None]:
    """Inverts the predictor for all weightings at once; then goes on with children of the answers, as evolution does.

    The first step takes every weighting in turn, each time with another weight of GFLOPs, so that its codes spread over
    the budgets.
    """
    s, rng, key = programs.settings, np.random.default_rng([seed, 1]), jax.random.key(seed)
    key, drawn = jax.random.split(key)
    weights = programs.problem.questions.weights
    place = (rng.permutation(s.codes) + rng.random(s.codes)) / s.codes
    low, high = np.log(s.flops)
    chosen = weights[rng.permutation(s.codes) % len(weights)]
    reached = programs.invert(programs.draw(drawn, s.codes), chosen, np.exp(low + (high - low) * place))
    answers.report(*programs.score(reached))
    yield
    yield from _children_for_ever(programs, answers, key, rng)


def evolution(programs: Programs, answers: Answers, seed: int) -> Iterator[None]:
    """Evolves the answers of all questions together: a child takes the place of every answer that it beats.

    This is MOEA/D (Zhang & Li, IEEE Transactions on Evolutionary Computation, 2007) with weighted sums, and replacement
    in all questions instead of nearby ones.
    """
    rng, key = np.random.default_rng([seed, 2]), jax.random.key(seed)
    key, drawn = jax.random.split(key)
    answers.report(*programs.score(programs.draw(drawn, programs.settings.children)))
    yield
    yield from _children_for_ever(programs, answers, key, rng)


def _children_for_ever(programs: Programs, answers: Answers, key: Key, rng: np.random.Generator) -> Iterator[None]:
    while True:
        key, drawn = jax.random.split(key)
        answers.report(*programs.score(programs.children(drawn, rng, answers)))
        yield


def random_sampling(programs: Programs, answers: Answers, seed: int) -> Iterator[None]:
    """Scores random codes."""
    key = jax.random.key(seed)
    while True:
        key, drawn = jax.random.split(key)
        answers.report(*programs.score(programs.draw(drawn, programs.settings.children)))
        yield


def nsga2(programs: Programs, answers: Answers, seed: int) -> Iterator[None]:
    """Runs NSGA-II (Deb et al., IEEE Transactions on Evolutionary Computation, 2002) on all metrics and GFLOPs.

    Everything that it scores may answer a question, not only its last population.
    """
    n, rng, key = programs.settings.population, np.random.default_rng([seed, 3]), jax.random.key(seed)
    key, drawn = jax.random.split(key)
    scored = programs.score(programs.draw(drawn, n))
    answers.report(*scored)
    codes, points = scored[0], _points(*scored)
    rank, crowding = ranks_and_crowding(points)
    while True:
        yield
        key, drawn = jax.random.split(key)
        first, second = (np.resize(codes[_preferred(rng, rank, crowding)], scored[0].shape) for _ in range(2))
        scored = programs.score(programs.vary(drawn, first, second))
        answers.report(*scored)
        codes, points = np.concatenate([codes, scored[0]]), np.concatenate([points, _points(*scored)])
        # Repeats would fill the population.
        distinct = np.unique(codes, axis=0, return_index=True)[1]
        codes, points = codes[distinct], points[distinct]
        rank, crowding = ranks_and_crowding(points)
        kept = np.lexsort((-crowding, rank))[:n]
        codes, points, rank, crowding = codes[kept], points[kept], rank[kept], crowding[kept]


def _points(codes: np.ndarray, metrics: np.ndarray, gflops: np.ndarray) -> Float[np.ndarray, "n m"]:
    return np.concatenate([metrics, -gflops[:, None]], axis=1)


def _preferred(rng: np.random.Generator, rank: np.ndarray, crowding: np.ndarray) -> Int[np.ndarray, " n"]:
    """Returns the better of two random members, n times."""
    a, b = rng.integers(len(rank), size=(2, len(rank)))
    first = (rank[a] < rank[b]) | ((rank[a] == rank[b]) & (crowding[a] >= crowding[b]))
    return np.where(first, a, b)


def ranks_and_crowding(
    points: Float[np.ndarray, "n m"],
) -> tuple[Int[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Returns the number of the front that each point is on (0 for the best), and its crowding distance there."""
    n = len(points)
    weak, strict = np.ones((n, n), bool), np.zeros((n, n), bool)
    for column in points.T:
        weak &= column[:, None] >= column
        strict |= column[:, None] > column
    dominates = weak & strict
    beaten_by, rank, left = dominates.sum(axis=0), np.zeros(n, int), np.ones(n, bool)
    for number in itertools.count():
        if not left.any():
            break
        front = left & (beaten_by == 0)
        rank[front], left = number, left & ~front
        beaten_by = beaten_by - dominates[front].sum(axis=0)
    crowding = np.zeros(n)
    for column in points.T:
        order = np.lexsort((column, rank))
        values, fronts = column[order], rank[order]
        gap = np.full(n, np.inf)
        gap[1:-1] = (values[2:] - values[:-2]) / ((column.max() - column.min()) or 1.0)
        gap[1:-1][(fronts[2:] != fronts[1:-1]) | (fronts[:-2] != fronts[1:-1])] = np.inf
        crowding[order] += gap
    return rank, crowding


def optuna_nsga2(programs: Programs, answers: Answers, seed: int) -> Iterator[None]:
    """Runs NSGA-II of the package Optuna with its own settings, one generation at a time."""
    import optuna

    from ncp_jax.integrations import distributions

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space, asked, n = programs.problem.space, distributions.distributions_of(programs.problem.space), 50
    sampler = optuna.samplers.NSGAIISampler(population_size=n, seed=seed)
    tasks = len(programs.problem.units.names)
    up, down = optuna.study.StudyDirection.MAXIMIZE, optuna.study.StudyDirection.MINIMIZE
    study = optuna.create_study(directions=[up] * tasks + [down], sampler=sampler)
    while True:
        trials = [study.ask(asked) for _ in range(n)]
        codes = np.stack([distributions.code_of(space, trial.params) for trial in trials])
        scored = programs.score(space.project(space.encode(jnp.asarray(codes))))  # the nearest legal ones
        answers.report(*scored)
        for trial, metrics, gflops in zip(trials, *scored[1:], strict=True):
            study.tell(trial, [*map(float, metrics), float(gflops)])
        yield


METHODS: dict[str, Method] = {
    "inversion": inversion,
    "evolution": evolution,
    "nsga2": nsga2,
    "optuna-nsga2": optuna_nsga2,
    "random": random_sampling,
}


def choose(name: str) -> str:
    """Returns the name of a method; UsageError with the nearest names if there is none."""
    return checks.choose("method", name, METHODS)
