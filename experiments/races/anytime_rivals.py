"""Rivals of inversion on a predictor: random sampling, regularised evolution, CMA-ES; each a program on the device.

Each runs a few milliseconds of work in one call and then shows its best, so that none of them waits for the host.
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
from races.anytime import Contender, Score, Watch, curve_of, inversion, race, scoring, warm_up

RIVALS = ("random", "evolution", "cma-es")

Best = tuple[Float[Array, ""], Int[Array, " d"]]
Begin = Callable[[Key], Any]
Advance = Callable[[Any, Key], tuple[Any, Best]]


def _contender(name: str, begin: Begin, advance: Advance, steps: int) -> Contender:
    """A search from its first state and its step; ``steps`` of them are one call on the device."""

    @jax.jit
    def first(key: Key) -> Any:
        return begin(key)

    @jax.jit
    def several(state: Any, key: Key) -> tuple[Any, Best]:
        state, (values, codes) = jax.lax.scan(advance, state, jax.random.split(key, steps))
        best = jnp.argmax(values)
        return state, (values[best], codes[best])

    def search(key: Key, watch: Watch) -> None:
        state, call = first(jax.random.fold_in(key, 0)), 1
        while True:
            state, (value, code) = several(state, jax.random.fold_in(key, call))
            watch(float(value), np.asarray(code))
            call += 1

    return Contender(name, search, warm=3)


def _best_of(values: Float[Array, " n"], codes: Int[Array, "n d"]) -> Best:
    first = jnp.argmax(values)
    return values[first], codes[first]


def random_sampling(space: Space, score: Score, *, batch: int = 1024) -> Contender:
    """Uniform codes, scored in batches."""

    def advance(state: None, key: Key) -> tuple[None, Best]:
        codes = space.sample(key, batch)
        return state, _best_of(score(codes), codes)

    return _contender("random", lambda key: None, advance, steps=1)


@dataclasses.dataclass(frozen=True)
class Evolution:
    """Settings of regularised evolution.

    Attributes:
      population: codes alive.
      tournament: codes of which the best becomes a parent.
      children: made side by side, each in place of one of the oldest.
      steps: generations in one call on the device.
    """

    population: int = 128
    tournament: int = 32
    children: int = 32
    steps: int = 4

    def __post_init__(self) -> None:
        if not 1 <= self.children <= self.population:
            raise checks.UsageError(
                expected=f"1 to {self.population} children, as many as the population at most",
                got=str(self.children),
                remedy="make fewer",
            )


def evolution(space: Space, score: Score, settings: Evolution | None = None) -> Contender:
    """Regularised (aging) evolution (Real et al., AAAI 2019, arXiv 1802.01548, algorithm 1), some children at a time.

    A child is its parent with one position changed; the oldest die. Deviation: ``children`` tournaments see the same
    population, which one device call then scores together.
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

    return _contender("evolution", begin, advance, steps=s.steps)


@dataclasses.dataclass(frozen=True)
class Cma:
    """Settings of CMA-ES.

    Attributes:
      population: samples of a generation.
      sigma: first step size, in standard units of the features.
      patience: generations without progress before a restart.
      smallest: step size (largest axis), in standard units, below which a restart follows.
      steps: generations in one call on the device.
    """

    population: int = 64
    sigma: float = 1.0
    patience: int = 40
    smallest: float = 0.05
    steps: int = 4


def cma_es(predictor: Predictor, score: Score, settings: Cma | None = None) -> Contender:
    """CMA-ES (evosax) on relaxed codes in standard units; a sample counts as the legal code nearest to it.

    Samples outside the box are moved to its border and pay for the distance. Where the distribution has shrunk or
    stands still, it begins anew at a random code.

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

    def anew(key: Key) -> tuple[Any, Array, Array]:
        mean = scale.standard_x(space.encode(space.sample(key, 1)[0]))
        return strategy.init(key, mean, params), jnp.float32(-jnp.inf), jnp.int32(0)

    def advance(state: tuple[Any, Array, Array], key: Key) -> tuple[tuple[Any, Array, Array], Best]:
        inner, record, still = state
        asked, told, fresh = jax.random.split(key, 3)
        samples, inner = strategy.ask(asked, inner, params)
        inside = jnp.clip(samples, low, high)
        codes = space.project(scale.raw_x(inside))
        values = score(codes)
        outside = jnp.square(samples - inside).sum(axis=-1)
        inner, _ = strategy.tell(told, samples, 0.1 * outside - values, inner, params)
        best = values.max()
        still = jnp.where(best > record + 1e-6, 0, still + 1)
        record = jnp.maximum(record, best)
        done = (still > s.patience) | (inner.std * inner.D.max() < s.smallest) | ~jnp.isfinite(inner.std)
        again = anew(fresh)
        state = jax.tree.map(functools.partial(jnp.where, done), again, (inner, record, still))
        return state, _best_of(values, codes)

    return _contender("cma-es", anew, advance, steps=s.steps)


def make_rivals(names: tuple[str, ...], predictor: Predictor, score: Score) -> list[Contender]:
    """The rivals of those names.

    Raises:
      UsageError: an unknown name, or evosax is missing for "cma-es".
    """
    space = get_space(predictor.space)
    makers: dict[str, Callable[[], Contender]] = {
        "random": lambda: random_sampling(space, score),
        "evolution": lambda: evolution(space, score),
        "cma-es": lambda: cma_es(predictor, score),
    }
    return [makers[checks.choose("rival", name, RIVALS)]() for name in names]


@dataclasses.dataclass(frozen=True)
class Tournament:
    """Inversion and its rivals on NAS-Bench-MR, on the predictor that comes with the package.

    Attributes:
      tasks: each with its default objective: main metric up, exact FLOPs down at half the weight.
      rivals: some of ``RIVALS``.
      budgets: seconds at which the curves are compared; a race lasts the longest.
      seeds: races a task, with seeds 0, 1, ….
    """

    tasks: tuple[str, ...]
    rivals: tuple[str, ...]
    budgets: tuple[float, ...]
    seeds: int

    def __post_init__(self) -> None:
        for task in self.tasks:
            checks.choose("NAS-Bench-MR task", task, MR_TASKS)
        for rival in self.rivals:
            checks.choose("rival", rival, RIVALS)
        for budget in self.budgets:
            checks.positive("a budget of seconds", budget)

    def to_json(self) -> dict[str, Any]:
        """What determines the results."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}

    def run(self, records: Records, progress: Progress | None = None) -> list[tuple[str, dict[str, Any]]]:
        """Runs the races that are not on record yet. Within a race all methods run, one after the other.

        Args:
          records: where finished races are.
          progress: called with (races done, in all).

        Returns:
          Task and curves (method → "seconds", "score", "code") of each race.
        """
        shipped = load_shipped("nas-bench-mr")
        assert shipped is not None
        races = []
        for task in self.tasks:
            contenders = functools.cache(functools.partial(self._contenders, shipped[0], task))
            for seed in range(self.seeds):
                cell = {"part": "anytime", "task": task, "seed": seed}
                record = records.get(cell) or records.add(cell, self._race(*contenders(), seed))
                races.append((task, record["results"]))
                if progress is not None:
                    progress(len(races), len(self.tasks) * self.seeds)
        return races

    def _contenders(self, joint: Predictor, task: str) -> tuple[Score, list[Contender]]:
        """All methods of a task, with their programs compiled."""
        predictor = for_task(joint, task)
        goal = default_objective(predictor.metrics, limited=False)
        score = scoring(predictor, goal)
        contenders = [inversion(predictor, goal, score), *make_rivals(self.rivals, predictor, score)]
        for contender in contenders:
            warm_up(contender, jax.random.key(0x3A12))
        return score, contenders

    def _race(self, score: Score, contenders: list[Contender], seed: int) -> dict[str, Any]:
        key, last = jax.random.key(seed), max(self.budgets)
        return {c.name: curve_of(race(c, key, last), score) for c in contenders}
