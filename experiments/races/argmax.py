"""Does inversion find what an exhaustive search of the predictor finds? On spaces small enough to score whole."""

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

from ncp_jax import checks
from ncp_jax.benchmarks import Table, join, list_tables, load_table
from ncp_jax.benchmarks.registry import load_tasks
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Objective, PropagationConfig, propagate
from ncp_jax.propagation.polish import keys_of, polish
from ncp_jax.records.journal import Records
from ncp_jax.spaces import Space, get_space
from ncp_jax.training import Recipe, fit
from ncp_jax.training.fitting import Progress
from ncp_jax.types import Float, Int, Key
from races.argmax_summary import summarise

SPACES = ("nas-bench-201", "micro", "macro", "digits")
OBJECTIVES = 8  # of each predictor
TIE = 1e-6  # standard units


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to invert.

    Attributes:
      name: what records call it.
      codes: random starts.
      config: settings of the gradient loop.
      polish: whether the codes reached, best first, and then the starts are polished while the budget lasts.
    """

    name: str
    codes: int
    config: PropagationConfig
    polish: bool = False


@dataclasses.dataclass(frozen=True)
class ArgmaxConfig:
    """Settings of the comparison.

    Attributes:
      codes: starts of an inversion.
      steps: its gradient steps.
      learning_rate: their size.
      share: of the space, that may be scored.
      members: networks in a predictor.
      rows: architectures that a predictor learns from.
    """

    codes: int = 64
    steps: int = 20
    learning_rate: float = 30.0
    share: float = 0.19
    members: int = 4
    rows: int = 300

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise checks.UsageError(expected="a share in (0, 1]", got=repr(self.share), remedy="try 0.19")
        for name in ("codes", "members", "rows"):
            if getattr(self, name) < 1:
                raise checks.UsageError(expected=f"{name} >= 1", got=repr(getattr(self, name)), remedy=f"raise {name}")

    @property
    def chosen(self) -> Variant:
        """The variant that the claim is about."""
        return Variant("inversion + polish", self.codes, self._config(), polish=True)

    def ablation(self) -> tuple[Variant, ...]:
        """Variants to compare it with: one ingredient less, another one, other numbers of codes and steps."""
        plain = [
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
        return (*plain, *single, *polished)

    def _config(self, **changes: Any) -> PropagationConfig:
        return PropagationConfig(**({"steps": self.steps, "learning_rate": self.learning_rate} | changes))


def joint_table(space: str) -> Table:
    """All tasks of an enumerable space in one table.

    Raises:
      UsageError: another space.
    """
    chosen = checks.choose("enumerable space", space, SPACES)
    return load_table(chosen) if chosen in list_tables() else join(load_tasks(chosen))


def train(table: Table, recipe: Recipe, config: ArgmaxConfig, seed: int) -> Predictor:
    """A joint predictor of all tasks, learned from some random rows."""
    rows = np.random.default_rng((0xA46, seed)).permutation(len(table))[: config.rows]
    # With its own strength of decay: to choose one for each predictor takes longer than all inversions.
    fixed = dataclasses.replace(recipe, decay_rows=0)
    key = jax.random.fold_in(jax.random.key(0xA46), seed)
    return fit(table.select(np.sort(rows)), recipe=fixed, members=config.members, key=key)


def objectives(metrics: Sequence[MetricSpec], count: int = OBJECTIVES) -> list[Objective]:
    """Single main metrics, their mean, pairs, trade-offs of two: the first ``count`` of these."""
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
class Whole:
    """What a predictor says of every code of its space.

    Attributes:
      space: the space.
      mean: ``[size, m]`` ensemble means, standard units, in the order of the index.
      spread: ``[size, m]`` standard deviations over the ensemble.
      network: ``[size]`` a number for each network: isomorphs have the same.
      places: code → index.
    """

    space: Space
    mean: Float[np.ndarray, "n m"]
    spread: Float[np.ndarray, "n m"]
    network: Int[np.ndarray, " n"]
    places: Mapping[bytes, int]

    @classmethod
    def of(cls, predictor: Predictor) -> Whole:
        """Scores the whole space."""
        space = get_space(predictor.space)
        mean, spread = (np.asarray(a) for a in predictor(space.encode(jnp.asarray(space.all_codes()))))
        deviation = np.asarray(predictor.scale.y_std)
        network, places = _networks(space)
        return cls(space, (mean - np.asarray(predictor.scale.y_mean)) / deviation, spread / deviation, network, places)

    def index(self, codes: Int[np.ndarray, "n d"]) -> Int[np.ndarray, " n"]:
        """The places of codes."""
        return np.array([self.places[key] for key in keys_of(codes)], int)


@functools.cache
def _networks(space: Space) -> tuple[Int[np.ndarray, " n"], Mapping[bytes, int]]:
    codes = space.all_codes()
    places = {key: i for i, key in enumerate(keys_of(codes))}
    canonical = np.asarray(space.canonical(jnp.asarray(codes)))
    return np.array([places[key] for key in keys_of(canonical)]), places


def attempt(
    predictor: Predictor, whole: Whole, objective: Objective, variant: Variant, *, share: float, key: Key
) -> dict[str, Any]:
    """One inversion, compared with the exhaustive argmax of what it ranks by.

    Args:
      predictor: the ensemble.
      whole: what it says of every code.
      objective: what is sought.
      variant: how.
      share: of the space, that may be scored (what a variant without polish reaches is always scored).
      key: for the starts.

    Returns:
      JSON-ready: "hit" (the best found is an argmax, or an isomorph of one, or within ``TIE``), "gap" (how much less it
      scores, standard units), "scored" (distinct legal codes, at most), "until" (as many of them, until the best was
      scored), "code_steps", "seconds" (of the inversion, without compilation).
    """
    confidence = variant.config.confidence if variant.config.follow == "bound" else 0.0
    scores = objective.weights(predictor.metrics).score(whole.mean, whole.spread, confidence)
    found = propagate(predictor, objective, codes=variant.codes, key=key, config=variant.config)
    looked_at = whole.index(found.codes)
    if variant.polish:
        budget = math.floor(share * whole.space.size) - found.scored
        looked_at = np.concatenate([looked_at, _polished(whole, scores, found, budget)])
    first = int(np.argmax(scores[looked_at]))
    best = int(looked_at[first])
    top = scores.max()
    networks = whole.network[scores >= top - TIE]
    return {
        "hit": bool(scores[best] >= top - TIE or whole.network[best] in networks),
        "gap": float(top - scores[best]),
        "scored": found.scored + len(looked_at) - len(found),
        "until": max(found.scored, found.scored + first + 1 - len(found)),
        "code_steps": round(found.timing["code_steps_per_s"] * found.timing["search"]),
        "seconds": found.timing["search"],
    }


def _polished(whole: Whole, scores: Float[np.ndarray, " n"], found: Found, budget: int) -> Int[np.ndarray, " n"]:
    """The places of the codes that polishing scores within a budget, in their order."""
    climbed = polish(
        lambda codes: scores[whole.index(codes)],
        whole.space,
        np.concatenate([found.codes, found.starts]),
        budget=max(budget, 0),
        known=(found.codes, scores[whole.index(found.codes)]),
        together=4,
    )
    return whole.index(climbed.scored)


def try_all(
    predictor: Predictor, variants: Sequence[Variant], *, share: float, seed: int, count: int = OBJECTIVES
) -> dict[str, dict[str, list[Any]]]:
    """Every variant on every objective of one predictor.

    Returns:
      JSON-ready: variant → what ``attempt`` returns, each a list over objectives.
    """
    whole, root = Whole.of(predictor), jax.random.fold_in(jax.random.key(0x1A46), seed)
    outcome: dict[str, dict[str, list[Any]]] = {}
    for variant in variants:
        rows = [
            attempt(predictor, whole, goal, variant, share=share, key=jax.random.fold_in(root, number))
            for number, goal in enumerate(objectives(predictor.metrics, count))
        ]
        outcome[variant.name] = {name: [row[name] for row in rows] for name in rows[0]}
    return outcome


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The whole study: predictors trained on real tables, objectives, variants.

    Attributes:
      spaces: where.
      config: the chosen settings.
      recipe: of the predictors.
      pairs: (predictor, objective) pairs a space, ``OBJECTIVES`` a predictor.
      ablation: predictors on which all variants are tried.
      first_seed: the predictors have the seeds from this one on.
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
        if self.pairs < 1:
            raise checks.UsageError(expected="pairs >= 1", got=repr(self.pairs), remedy="try 200")

    def to_json(self) -> dict[str, Any]:
        """What determines the results."""
        return dataclasses.asdict(self) | {"spaces": list(self.spaces), "recipe": self.recipe.to_json()}

    def run(self, records: Records, progress: Progress | None = None) -> dict[str, dict[str, dict[str, Any]]]:
        """Does what is not on record yet, a record a predictor.

        Args:
          records: where finished predictors are.
          progress: called with (predictors done, in all).

        Returns:
          Space → variant → see ``argmax_summary.summarise``.
        """
        predictors = -(-self.pairs // OBJECTIVES)
        summary = {}
        for number, name in enumerate(self.spaces):
            table = joint_table(name)
            outcomes = []
            for i in range(predictors):
                seed = self.first_seed + i
                cell = {"part": "argmax", "space": name, "seed": seed, "table": table.content_hash()}
                record = records.get(cell) or records.add(cell, self._one(table, seed, ablation=i < self.ablation))
                outcomes.append(record["results"]["variants"])
                if progress is not None:
                    progress(number * predictors + i + 1, len(self.spaces) * predictors)
            summary[name] = summarise(outcomes, get_space(table.space).size)
        return summary

    def _one(self, table: Table, seed: int, *, ablation: bool) -> dict[str, Any]:
        began = time.perf_counter()
        predictor = train(table, self.recipe, self.config, seed)
        jax.block_until_ready(predictor.params)
        seconds = time.perf_counter() - began
        variants = (self.config.chosen, *(self.config.ablation() if ablation else ()))
        count = min(OBJECTIVES, self.pairs)
        return {
            "train_s": seconds,
            "variants": try_all(predictor, variants, share=self.config.share, seed=seed, count=count),
        }
