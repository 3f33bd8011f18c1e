"""Compares inversion with random sampling, regularised evolution and CMA-ES on one predictor, by wall time.

Each baseline is a program on the device. One call lasts a few milliseconds and reports its best code, so that no
baseline waits for the host.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.catalogue import MR_TASKS
from ncp_jax.predictors import Predictor, load_shipped
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation.objective import default_objective
from ncp_jax.records.journal import Records
from ncp_jax.spaces import Space, get_space
from ncp_jax.training.fitting import Progress
from ncp_jax.types import Array, Float, Int, Key
from optimization.anytime import (
    AnytimeRun,
    Curve,
    Optimizer,
    Recorder,
    Score,
    curve_of,
    inversion,
    run_once,
    score_function,
    warm_up,
)

BASELINES = ("random", "evolution", "cma-es")

Best = tuple[Float[Array, ""], Int[Array, " d"]]
Begin = Callable[[Key], Any]
Advance = Callable[[Any, Key], tuple[Any, Best]]


def _make_optimizer(name: str, begin: Begin, advance: Advance, steps: int) -> Optimizer:
    """Returns an optimizer made of its first state and its step; one call on the device runs ``steps`` of them."""

    @jax.jit
    def first(key: Key) -> Any:
        return begin(key)

    @jax.jit
    def several(state: Any, key: Key) -> tuple[Any, Best]:
        state, (values, codes) = jax.lax.scan(advance, state, jax.random.split(key, steps))
        best = jnp.argmax(values)
        return state, (values[best], codes[best])

    def search(key: Key, recorder: Recorder) -> None:
        state, call = first(jax.random.fold_in(key, 0)), 1
        while True:
            state, (value, code) = several(state, jax.random.fold_in(key, call))
            recorder(float(value), np.asarray(code))
            call += 1

    return Optimizer(name, search, warmup_calls=3)


def _best_of(values: Float[Array, " n"], codes: Int[Array, "n d"]) -> Best:
    first = jnp.argmax(values)
    return values[first], codes[first]


def random_sampling(space: Space, score: Score, *, batch: int = 1024) -> Optimizer:
    """Returns random sampling: uniform codes, scored in batches."""

    def advance(state: None, key: Key) -> tuple[None, Best]:
        codes = space.sample(key, batch)
        return state, _best_of(score(codes), codes)

    return _make_optimizer("random", lambda key: None, advance, steps=1)


@dataclasses.dataclass(frozen=True)
class Evolution:
    """Settings of regularised evolution.

    Attributes:
      population: number of codes alive.
      tournament: number of codes drawn, of which the best becomes a parent.
      children: codes made side by side, each of which replaces one of the oldest.
      steps: generations in one call on the device.
    """

    population: int = 128
    tournament: int = 32
    children: int = 32
    steps: int = 4

    def __post_init__(self) -> None:
        checks.integer("children", self.children, least=1, most=self.population)


def evolution(space: Space, score: Score, settings: Evolution | None = None) -> Optimizer:
    """Returns regularised (aging) evolution (Real et al., AAAI 2019, arXiv 1802.01548, algorithm 1).

    A child is its parent with one position changed; the oldest codes die. Deviation: ``children`` parents are drawn
    from the same population, and their children are scored together in one device call.
    """
    s = settings or Evolution()

    def begin(key: Key) -> tuple[Array, Array, Array]:
        codes = space.sample(key, s.population)
        return codes, score(codes), jnp.int32(0)

    def advance(state: tuple[Array, Array, Array], key: Key) -> tuple[tuple[Array, Array, Array], Best]:
        codes, values, oldest = state
        chosen, edited = jax.random.split(key)
        drawn = jax.random.randint(chosen, (s.children, s.tournament), 0, s.population)
        parents = jnp.take_along_axis(drawn, jnp.argmax(values[drawn], axis=1)[:, None], axis=1)[:, 0]
        children = space.mutate(edited, codes[parents])
        scores = score(children)
        places = (oldest + jnp.arange(s.children)) % s.population
        state = codes.at[places].set(children), values.at[places].set(scores), (oldest + s.children) % s.population
        return state, _best_of(scores, children)

    return _make_optimizer("evolution", begin, advance, steps=s.steps)


@dataclasses.dataclass(frozen=True)
class Cma:
    """Settings of CMA-ES.

    Attributes:
      population: number of samples per generation.
      sigma: first step size, in standard units of the features.
      patience: number of generations without progress before a restart.
      smallest: step size of the largest axis, in standard units, below which the search restarts.
      steps: generations in one call on the device.
    """

    population: int = 64
    sigma: float = 1.0
    patience: int = 40
    smallest: float = 0.05
    steps: int = 4


def cma_es(predictor: Predictor, score: Score, settings: Cma | None = None) -> Optimizer:
    """Returns CMA-ES (evosax) on relaxed codes in standard units; a sample is scored as the nearest legal code.

    Samples outside the box are moved to its border and pay a penalty for the distance. Where the distribution has
    shrunk or makes no progress, the search restarts at a random code.

    Raises:
      UsageError: evosax is not installed.
    """
    try:
        from evosax.algorithms import CMA_ES
    except ImportError as error:
        raise checks.UsageError(
            expected="the package evosax for cma-es", got="none", remedy='try pip install "ncp-jax[test]"'
        ) from error
    s = settings or Cma()
    space, scale = get_space(predictor.space), predictor.scale
    low, high = scale.standard_x(jnp.asarray(space.lower)), scale.standard_x(jnp.asarray(space.upper))
    strategy = CMA_ES(population_size=s.population, solution=jnp.zeros(space.features))
    params = dataclasses.replace(strategy.default_params, std_init=jnp.asarray(s.sigma))

    def restart(key: Key) -> tuple[Any, Array, Array]:
        mean = scale.standard_x(space.encode(space.sample(key, 1)[0]))
        return strategy.init(key, mean, params), jnp.float32(-jnp.inf), jnp.int32(0)

    def advance(state: tuple[Any, Array, Array], key: Key) -> tuple[tuple[Any, Array, Array], Best]:
        inner, record, stalled = state
        asked, told, fresh = jax.random.split(key, 3)
        samples, inner = strategy.ask(asked, inner, params)
        inside = jnp.clip(samples, low, high)
        codes = space.project(scale.raw_x(inside))
        values = score(codes)
        outside = jnp.square(samples - inside).sum(axis=-1)
        inner, _ = strategy.tell(told, samples, 0.1 * outside - values, inner, params)
        best = values.max()
        stalled = jnp.where(best > record + 1e-6, 0, stalled + 1)
        record = jnp.maximum(record, best)
        done = (stalled > s.patience) | (inner.std * inner.D.max() < s.smallest) | ~jnp.isfinite(inner.std)
        again = restart(fresh)
        state = jax.tree.map(functools.partial(jnp.where, done), again, (inner, record, stalled))
        return state, _best_of(values, codes)

    return _make_optimizer("cma-es", restart, advance, steps=s.steps)


def make_baselines(names: tuple[str, ...], predictor: Predictor, score: Score) -> list[Optimizer]:
    """Returns the baselines of the given names.

    Raises:
      UsageError: an unknown name, or evosax is missing for "cma-es".
    """
    space = get_space(predictor.space)
    makers: dict[str, Callable[[], Optimizer]] = {
        "random": lambda: random_sampling(space, score),
        "evolution": lambda: evolution(space, score),
        "cma-es": lambda: cma_es(predictor, score),
    }
    return [makers[checks.choose("rival", name, BASELINES)]() for name in names]


@dataclasses.dataclass(frozen=True)
class AnytimeBenchmark:
    """Inversion and baselines on NAS-Bench-MR, on the predictor that ships with the package.

    Attributes:
      tasks: tasks, each with its default objective: main metric up, exact FLOPs down at half the weight.
      baselines: names of baselines, some of ``BASELINES``.
      budgets: seconds at which the curves are compared; a run lasts the longest of them.
      seeds: runs per task, with seeds 0, 1, ….
    """

    tasks: tuple[str, ...]
    baselines: tuple[str, ...]
    budgets: tuple[float, ...]
    seeds: int

    def __post_init__(self) -> None:
        for task in self.tasks:
            checks.choose("NAS-Bench-MR task", task, MR_TASKS)
        for name in self.baselines:
            checks.choose("rival", name, BASELINES)
        for budget in self.budgets:
            checks.positive("a budget of seconds", budget)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, which determine the results."""
        return {
            "tasks": list(self.tasks),
            "rivals": list(self.baselines),
            "budgets": list(self.budgets),
            "seeds": self.seeds,
        }

    def run(self, records: Records, progress: Progress | None = None) -> list[AnytimeRun]:
        """Runs what is not on record yet. For each task and seed all optimizers run, one after the other.

        Args:
          records: finished runs.
          progress: called with (runs done, in all).

        Returns:
          One run per task and seed.
        """
        shipped = load_shipped("nas-bench-mr")
        assert shipped is not None
        runs = []
        for task in self.tasks:
            optimizers = functools.cache(functools.partial(self._optimizers, shipped[0], task))
            for seed in range(self.seeds):
                cell = {"part": "anytime", "task": task, "seed": seed}
                record = records.get(cell) or records.add(cell, self._run_all(*optimizers(), seed))
                curves = {name: Curve(**curve) for name, curve in record["results"].items()}
                runs.append(AnytimeRun(task, curves, seed))
                if progress is not None:
                    progress(len(runs), len(self.tasks) * self.seeds)
        return runs

    def _optimizers(self, joint: Predictor, task: str) -> tuple[Score, list[Optimizer]]:
        """Returns the scoring function of a task and all optimizers, with their programs compiled."""
        predictor = for_task(joint, task)
        goal = default_objective(predictor.metrics, limited=False)
        score = score_function(predictor, goal)
        optimizers = [inversion(predictor, goal, score), *make_baselines(self.baselines, predictor, score)]
        for optimizer in optimizers:
            warm_up(optimizer, jax.random.key(0x3A12))
        return score, optimizers

    def _run_all(self, score: Score, optimizers: list[Optimizer], seed: int) -> dict[str, Any]:
        key, seconds = jax.random.key(seed), max(self.budgets)
        return {o.name: curve_of(run_once(o, key, seconds), score).to_json() for o in optimizers}
