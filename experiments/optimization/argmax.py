"""Measures how often inversion finds the argmax of a predictor, on spaces small enough to score every code."""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from harness.tables import all_tasks

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Objective, PropagationConfig, propagate
from ncp_jax.propagation.polish import keys_of, polish
from ncp_jax.records.journal import Records
from ncp_jax.spaces import Space, get_space
from ncp_jax.training import Recipe, fit
from ncp_jax.training.fitting import Progress
from ncp_jax.types import Float, Int, Key
from optimization.argmax_summary import Attempt, VariantRate, from_columns, to_columns, variant_rates

SPACES = ("nas-bench-201", "micro", "macro", "digits")
OBJECTIVES = 8  # per predictor
TIE = 1e-6  # standard units


@dataclasses.dataclass(frozen=True)
class Variant:
    """Settings of an inversion.

    Attributes:
      name: name in records.
      codes: number of random starts.
      config: settings of the gradient loop.
      polish: whether the codes reached, best first, and then the starts are polished until the budget is spent.
    """

    name: str
    codes: int
    config: PropagationConfig
    polish: bool = False


@dataclasses.dataclass(frozen=True)
class ArgmaxConfig:
    """Settings of the benchmark.

    Attributes:
      codes: starts of an inversion.
      steps: gradient steps of an inversion.
      learning_rate: size of the gradient steps.
      share: share of the space that may be scored.
      members: number of networks in a predictor.
      rows: number of architectures that a predictor is trained on.
      on_test: whether predictors may learn test values.
    """

    codes: int = 64
    steps: int = 20
    learning_rate: float = 30.0
    share: float = 0.19
    members: int = 4
    rows: int = 300
    on_test: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise checks.UsageError(expected="a share in (0, 1]", got=repr(self.share), remedy="try 0.19")
        for name in ("codes", "members", "rows"):
            checks.integer(name, getattr(self, name), least=1)

    @property
    def chosen(self) -> Variant:
        """The variant whose rate is reported: inversion with polishing."""
        return Variant("inversion + polish", self.codes, self._config(), polish=True)

    def ablation(self) -> tuple[Variant, ...]:
        """Returns the variants it is compared with: no polishing, other options, other numbers of codes and steps."""
        sizes = [
            Variant(f"inversion, {codes} codes, {steps} steps", codes, self._config(steps=steps))
            for codes in (self.codes // 4, self.codes, self.codes * 4)
            for steps in (self.steps // 4, self.steps, self.steps * 4)
        ]
        others: dict[str, dict[str, Any]] = {
            "straight-through": {"discreteness": "straight-through"},
            "annealed": {"discreteness": "annealed"},
            "mean gradient": {"follow": "mean"},
            "lower bound": {"follow": "bound"},
            "2 restarts": {"restarts": 2},
        }
        single = [Variant(f"inversion, {name}", self.codes, self._config(**c)) for name, c in others.items()]
        polished = [
            Variant("polish alone", self.codes, self._config(steps=0), polish=True),
            Variant(
                "inversion, straight-through + polish", self.codes, self._config(**others["straight-through"]), True
            ),
            Variant("inversion, lower bound + polish", self.codes, self._config(**others["lower bound"]), True),
        ]
        return (*sizes, *single, *polished)

    def _config(self, **changes: Any) -> PropagationConfig:
        return PropagationConfig(**({"steps": self.steps, "learning_rate": self.learning_rate} | changes))


def train(table: Table, recipe: Recipe, config: ArgmaxConfig, seed: int) -> Predictor:
    """Trains a joint predictor of all tasks on random rows."""
    rows = np.random.default_rng((0xA46, seed)).permutation(len(table))[: config.rows]
    # With the recipe's own weight decay: to choose one for each predictor takes longer than all inversions.
    fixed = dataclasses.replace(recipe, decay_rows=0)
    key = jax.random.fold_in(jax.random.key(0xA46), seed)
    chosen = table.select(np.sort(rows))
    return fit(chosen, recipe=fixed, members=config.members, key=key, on_test=config.on_test)


def objectives(metrics: Sequence[MetricSpec], count: int = OBJECTIVES) -> list[Objective]:
    """Returns the first ``count`` of: single main metrics, their mean, sums of pairs, trade-offs of pairs."""
    main: dict[str, MetricSpec] = {}
    for metric in metrics:
        if metric.kind == "quality":
            main.setdefault(metric.task, metric)
    specs = list(main.values())
    pairs = list(zip(specs, specs[1:] + specs[:1], strict=True))
    mixes: list[dict[MetricSpec, float]] = [{m: 1.0} for m in specs]
    mixes.append({m: 1.0 / len(specs) for m in specs})
    mixes += [{a: 0.5, b: 0.5} for a, b in pairs]
    mixes += [{a: 1.0, b: -0.5} for a, b in pairs]
    return [_objective(mix) for mix in mixes[:count]]


def _objective(mix: Mapping[MetricSpec, float]) -> Objective:
    signed = {m.name: m.sign * weight for m, weight in mix.items()}
    return Objective(
        maximize={n: w for n, w in signed.items() if w > 0}, minimize={n: -w for n, w in signed.items() if w < 0}
    )


@dataclasses.dataclass(frozen=True)
class ExhaustiveScores:
    """Predictions of one predictor for every code of its space.

    Attributes:
      space: the space.
      mean: ``[size, m]`` ensemble means in standard units, in the order of the index.
      spread: ``[size, m]`` standard deviations over the ensemble, in standard units.
      network: ``[size]`` number of the network that each code denotes; isomorphs have the same.
      places: index of each code, by its bytes.
    """

    space: Space
    mean: Float[np.ndarray, "n m"]
    spread: Float[np.ndarray, "n m"]
    network: Int[np.ndarray, " n"]
    places: Mapping[bytes, int]

    @classmethod
    def of(cls, predictor: Predictor) -> ExhaustiveScores:
        """Predicts every code of the predictor's space."""
        space = get_space(predictor.space)
        mean, spread = (np.asarray(a) for a in predictor(space.encode(jnp.asarray(space.all_codes()))))
        deviation = np.asarray(predictor.scale.y_std)
        network, places = _network_numbers(space)
        return cls(space, (mean - np.asarray(predictor.scale.y_mean)) / deviation, spread / deviation, network, places)

    def index(self, codes: Int[np.ndarray, "n d"]) -> Int[np.ndarray, " n"]:
        """Returns the index of each code."""
        return np.array([self.places[key] for key in keys_of(codes)], int)


@functools.cache
def _network_numbers(space: Space) -> tuple[Int[np.ndarray, " n"], Mapping[bytes, int]]:
    """Returns the index of each code's canonical code, and the index of every code by its bytes."""
    codes = space.all_codes()
    places = {key: i for i, key in enumerate(keys_of(codes))}
    canonical = np.asarray(space.canonical(jnp.asarray(codes)))
    return np.array([places[key] for key in keys_of(canonical)]), places


def invert_once(
    predictor: Predictor,
    exhaustive: ExhaustiveScores,
    objective: Objective,
    variant: Variant,
    *,
    share: float,
    key: Key,
) -> Attempt:
    """Inverts the predictor once and compares the best code with the exhaustive argmax of the same score.

    Args:
      predictor: ensemble to invert.
      exhaustive: its predictions for every code.
      objective: objective of the inversion.
      variant: settings of the inversion.
      share: share of the space that may be scored (the codes reached without polishing are always scored).
      key: PRNG key of the starts.
    """
    confidence = variant.config.confidence if variant.config.follow == "bound" else 0.0
    scores = objective.weights(predictor.metrics).score(exhaustive.mean, exhaustive.spread, confidence)
    found = propagate(predictor, objective, codes=variant.codes, key=key, config=variant.config)
    evaluated = exhaustive.index(found.codes)
    if variant.polish:
        budget = math.floor(share * exhaustive.space.size) - found.scored
        evaluated = np.concatenate([evaluated, _polished(exhaustive, scores, found, budget)])
    first = int(np.argmax(scores[evaluated]))
    best = int(evaluated[first])
    top = scores.max()
    networks = exhaustive.network[scores >= top - TIE]
    return Attempt(
        hit=bool(scores[best] >= top - TIE or exhaustive.network[best] in networks),
        gap=float(top - scores[best]),
        scored=found.scored + len(evaluated) - len(found),
        until=max(found.scored, found.scored + first + 1 - len(found)),
        code_steps=round(found.timing["code_steps_per_s"] * found.timing["search"]),
        seconds=found.timing["search"],
    )


def _polished(
    exhaustive: ExhaustiveScores, scores: Float[np.ndarray, " n"], found: Found, budget: int
) -> Int[np.ndarray, " n"]:
    """Returns the indices of the codes that polishing scores within a budget, in the order of scoring."""
    climbed = polish(
        lambda codes: scores[exhaustive.index(codes)],
        exhaustive.space,
        np.concatenate([found.codes, found.starts]),
        budget=max(budget, 0),
        known=(found.codes, scores[exhaustive.index(found.codes)]),
        together=4,
    )
    return exhaustive.index(climbed.scored)


def run_variants(
    predictor: Predictor, variants: Sequence[Variant], *, share: float, seed: int, count: int = OBJECTIVES
) -> dict[str, list[Attempt]]:
    """Runs every variant on every objective of one predictor; returns attempts by variant, one per objective."""
    exhaustive, root = ExhaustiveScores.of(predictor), jax.random.fold_in(jax.random.key(0x1A46), seed)
    return {
        variant.name: [
            invert_once(predictor, exhaustive, goal, variant, share=share, key=jax.random.fold_in(root, number))
            for number, goal in enumerate(objectives(predictor.metrics, count))
        ]
        for variant in variants
    }


@dataclasses.dataclass(frozen=True)
class ArgmaxBenchmark:
    """Predictors trained on real tables, inverted for several objectives with several variants.

    Attributes:
      spaces: names of enumerable spaces, some of ``SPACES``.
      config: settings of the benchmark.
      recipe: training recipe of the predictors.
      pairs: number of (predictor, objective) pairs per space, ``OBJECTIVES`` per predictor.
      ablation: number of predictors on which all variants are tried.
      first_seed: seed of the first predictor; the others have those that follow.
    """

    spaces: tuple[str, ...]
    config: ArgmaxConfig
    recipe: Recipe
    pairs: int = 200
    ablation: int = 5
    first_seed: int = 0

    def __post_init__(self) -> None:
        for space in self.spaces:
            checks.choose("enumerable space", space, SPACES)
        checks.integer("pairs", self.pairs, least=1, remedy="try 200")

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, which determine the results."""
        return dataclasses.asdict(self) | {"spaces": list(self.spaces), "recipe": self.recipe.to_json()}

    def run(self, records: Records, progress: Progress | None = None) -> dict[str, dict[str, VariantRate]]:
        """Runs what is not on record yet, one record per predictor.

        Args:
          records: finished predictors.
          progress: called with (predictors done, in all).

        Returns:
          Rates by space and variant.
        """
        predictors = -(-self.pairs // OBJECTIVES)
        rates = {}
        for number, name in enumerate(self.spaces):
            table = all_tasks(name)
            attempts = []
            for i in range(predictors):
                seed = self.first_seed + i
                cell = {"part": "argmax", "space": name, "seed": seed, "table": table.content_hash()}
                record = records.get(cell) or records.add(
                    cell, self._run_predictor(table, seed, ablation=i < self.ablation)
                )
                attempts.append({v: from_columns(c) for v, c in record["results"]["variants"].items()})
                if progress is not None:
                    progress(number * predictors + i + 1, len(self.spaces) * predictors)
            rates[name] = variant_rates(attempts, get_space(table.space).size)
        return rates

    def _run_predictor(self, table: Table, seed: int, *, ablation: bool) -> dict[str, Any]:
        began = time.perf_counter()
        predictor = train(table, self.recipe, self.config, seed)
        jax.block_until_ready(predictor.params)
        seconds = time.perf_counter() - began
        variants = (self.config.chosen, *(self.config.ablation() if ablation else ()))
        count = min(OBJECTIVES, self.pairs)
        attempts = run_variants(predictor, variants, share=self.config.share, seed=seed, count=count)
        return {"train_s": seconds, "variants": {name: to_columns(rows) for name, rows in attempts.items()}}
