"""Finds the configurations that questions are answered with: predictors, their inversion, an audit on the real model.

Three ways to choose widths for a budget and preferences:

- ``published_rule``: more of the budget to the decoders of preferred tasks, then the encoder that fits and serves all
  tasks best (Aich et al., ICCV 2023). How the decoders' shares follow from the preferences is not published in what we
  could read; it is this project's choice.
- ``find_answers`` (this project's): predictors of every task's metric, fitted to a sample of measured configurations,
  are inverted for many budgets and preferences at once; what they propose is measured on the real model.
- ``enumerate_answers``: every configuration is measured, the oracle. ``evolution.evolved_answers`` stands for it in
  larger spaces.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.controllable.answers import Answers
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.measurement import Measurement, measure
from ncp_jax.controllable.settings import SearchOptions
from ncp_jax.controllable.tasks import Examples
from ncp_jax.controllable.widths import exact_costs, extreme, width_costs, width_space, width_table
from ncp_jax.jax_settings import package_settings
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Limit, Objective, PropagationConfig, propagate
from ncp_jax.training import Recipe, fit
from ncp_jax.types import Float, Int, Params

CLOSED = 2**17  # configurations that are listed at most, of those whose encoders were measured
RECIPE = Recipe("widths", widths=(64, 64), epochs=60, min_steps=400, max_steps=600, decay_rows=0, precision="float32")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchConfig(SearchOptions):
    """Settings of the search for answers: those of ``SearchOptions``, and more.

    Attributes:
      budgets: budgets of the inversion, evenly spaced from the smallest to the largest model on a logarithmic scale.
      preferences: preferences of the inversion, for each budget.
      codes: codes that are inverted for each budget.
      steps: gradient steps of the inversion.
      members: networks of the predictors.
      recipe: training of the predictors.
    """

    budgets: int = 8
    preferences: int = 64
    codes: int = 512
    steps: int = 30
    members: int = 4
    recipe: Recipe = RECIPE

    def __post_init__(self) -> None:
        for name in ("sample", "audit", "budgets", "preferences", "codes", "steps", "members"):
            checks.integer(name, getattr(self, name), least=2 if name == "sample" else 1, remedy="see SearchConfig")


@package_settings
def find_answers(
    model: ModelConfig,
    params: Params,
    examples: Examples,
    config: SearchConfig,
    *,
    seed: int,
    origin: Mapping[str, str],
    progress: Callable[[str], None] = lambda _: None,
) -> Answers:
    """Returns answers from predictors, their inversion, and an audit of what they propose.

    Args:
      model: sizes of the model.
      params: its weights.
      examples: the examples; metrics are those on validation.
      config: settings.
      seed: seed of the sample and of the predictors.
      origin: hashes of model and data, for the file.
      progress: receives one line for each stage.

    Raises:
      DataError: the model's outputs are not finite.
    """
    space = width_space(model)
    key = jax.random.key(seed)
    drawn = np.asarray(space.sample(jax.random.fold_in(key, 0), config.sample))
    # The configurations of one ratio for all positions have the smallest and the largest among them.
    codes = np.unique(np.concatenate([drawn, width_table(model).T]), axis=0)
    progress(f"measuring {len(codes)} configurations for the predictors")
    measured = measure(model, params, examples, codes)
    check_finite(measured)
    predict = fit_predictors(model, codes, measured.of(codes), config, key=jax.random.fold_in(key, 1))
    progress("inverting the predictors")
    proposed = invert(model, predict, config, key=jax.random.fold_in(key, 2))
    candidates = np.unique(np.concatenate([codes, proposed]), axis=0)
    chosen = _most_asked(model, candidates, predict(candidates), config)
    progress(f"measuring {len(chosen)} configurations that the predictors propose")
    measured = measured.joined(measure(model, params, examples, chosen))
    check_finite(measured)
    rows = len(measured.encoders) * len(model.ratios) ** len(model.targets)
    listed = measured.all_codes() if rows <= CLOSED else np.unique(np.concatenate([codes, chosen]), axis=0)
    return make_answers(model, listed, measured.of(listed), predict(listed), origin)


@package_settings
def enumerate_answers(
    model: ModelConfig,
    params: Params,
    examples: Examples,
    *,
    split: str = "validation",
    origin: Mapping[str, str] | None = None,
) -> Answers:
    """Returns answers from the measured metrics of every configuration: the oracle, in a space that can be listed.

    Raises:
      UsageError: the space has more than 2**20 configurations; see ``evolution.evolved_answers``.
    """
    codes = width_space(model).all_codes()
    measured = measure(model, params, examples, codes, split=split)
    check_finite(measured)
    values = measured.of(codes)
    return make_answers(model, codes, values, np.full_like(values, np.nan), origin or {})


def make_answers(
    model: ModelConfig,
    codes: Int[np.ndarray, "n d"],
    measured: Float[np.ndarray, "n t"],
    predicted: Float[np.ndarray, "n t"],
    origin: Mapping[str, str],
) -> Answers:
    """Returns configurations as answers: those that can be the best of a question."""
    costs = exact_costs(model, codes)
    names = tuple(target.name for target in model.targets)
    # As the file holds them, so that a file that was read gives the same answers.
    guessed, found = (np.asarray(values, np.float32).astype(np.float64) for values in (predicted, measured))
    answers = Answers(model.names, names, codes, costs["flops"], costs["params"], guessed, found, origin)
    return answers.pruned()


def check_finite(measured: Measurement) -> None:
    """Raises DataError unless all outputs of the model were finite."""
    if not np.isfinite(measured.scores).all():
        raise checks.DataError(
            expected="finite outputs of the model at every width",
            got=f"{int(np.isnan(measured.scores).sum())} that are not",
            remedy="train it anew with a lower learning rate",
        )


@dataclasses.dataclass(frozen=True, eq=False)
class Predictors:
    """Predictors of every task's metric from a width configuration.

    Attributes:
      model: sizes of the model.
      ensemble: the predictor of the tasks whose metric varies; None where none does.
      columns: the tasks that it predicts.
      level: ``[t]`` mean of each metric, the prediction of those that do not vary.
    """

    model: ModelConfig
    ensemble: Predictor | None
    columns: tuple[int, ...]
    level: Float[np.ndarray, " t"]

    def __call__(self, codes: Int[np.ndarray, "n d"]) -> Float[np.ndarray, "n t"]:
        """Returns the predicted metrics of configurations, in percent."""
        found = np.tile(self.level, (len(codes), 1))
        if self.ensemble is not None:
            space = width_space(self.model)
            mean, _ = self.ensemble(space.encode(jnp.asarray(codes)))
            found[:, list(self.columns)] = np.asarray(mean)
        return found


def fit_predictors(
    model: ModelConfig,
    codes: Int[np.ndarray, "n d"],
    values: Float[np.ndarray, "n t"],
    config: SearchConfig,
    *,
    key: Any,
) -> Predictors:
    """Fits an ensemble that predicts all tasks' metrics from measured configurations."""
    columns = tuple(int(c) for c in np.flatnonzero(np.ptp(values, axis=0) > 1e-3))
    if not columns:
        return Predictors(model, None, (), values.mean(axis=0))
    metrics = [MetricSpec(model.targets[c].name, split="validation", epoch="final", unit="%") for c in columns]
    space = width_space(model)
    table = Table.from_arrays(space.name, space=space, codes=codes, values=values[:, list(columns)], metrics=metrics)
    ensemble = fit(table, recipe=config.recipe, members=config.members, key=key)
    return Predictors(model, ensemble, columns, values.mean(axis=0))


def invert(model: ModelConfig, predict: Predictors, config: SearchConfig, *, key: Any) -> Int[np.ndarray, "n d"]:
    """Returns the configurations that an inversion of the predictors proposes, over all budgets and preferences."""
    if predict.ensemble is None:
        return np.stack([extreme(model, largest=True)])
    goal = Objective(maximize={metric.name: 1.0 for metric in predict.ensemble.metrics})
    several = config.preferences if len(predict.columns) > 1 else 1
    settings = PropagationConfig(steps=config.steps, preferences=several, costs=width_costs(model))
    found = []
    for number, budget in enumerate(budget_grid(model, config.budgets)):
        limit = Limit("flops", "<=", float(budget))
        result = propagate(
            *(predict.ensemble, goal),
            codes=config.codes,
            key=jax.random.fold_in(key, number),
            config=settings,
            limits=(limit,),
        )
        found.append(result.codes)
    return np.unique(np.concatenate(found), axis=0).astype(np.int32)


def budget_grid(model: ModelConfig, count: int) -> Float[np.ndarray, " b"]:
    """Returns budgets from just above the smallest model to the largest, evenly spaced on a logarithmic scale."""
    least, most = _cost_range(model)
    return np.floor(np.geomspace(least, most, count + 1)[1:] + 0.5)


def questions(model: ModelConfig, count: int, seed: int) -> tuple[Float[np.ndarray, " q"], Float[np.ndarray, "q t"]]:
    """Returns random budgets (log-uniform between the smallest and the largest model) and preferences (Dirichlet)."""
    rng = np.random.default_rng(seed)
    least, most = _cost_range(model)
    budgets = np.exp(rng.uniform(np.log(least), np.log(most), count)).clip(least, None)
    return budgets, rng.dirichlet(np.ones(len(model.targets)), count)


def _cost_range(model: ModelConfig) -> Int[np.ndarray, " 2"]:
    """Returns multiply-adds of the smallest and of the largest sub-network."""
    ends = [extreme(model, largest=largest) for largest in (False, True)]
    return exact_costs(model, np.stack(ends))["flops"]


def _most_asked(
    model: ModelConfig, codes: Int[np.ndarray, "n d"], predicted: Float[np.ndarray, "n t"], config: SearchConfig
) -> Int[np.ndarray, "k d"]:
    """Returns the configurations that most questions are answered with, by their predictions."""
    table = make_answers(model, codes, np.full_like(predicted, np.nan), predicted, {})
    budgets, preferences = questions(model, 4096, seed=1)
    chosen = table.query(np.maximum(budgets, table.flops[0]), preferences).codes
    found, counts = np.unique(chosen, axis=0, return_counts=True)
    return found[np.argsort(-counts, kind="stable")[: config.audit]]


def published_rule(
    model: ModelConfig,
    measured: Measurement,
    budget: float,
    preferences: Float[np.ndarray, " t"],
) -> Int[np.ndarray, " d"]:
    """Returns the widths that the published rule chooses, in this project's reading.

    Each decoder gets the width nearest above its preference's share of the largest one. Where the smallest encoder does
    not fit beside them, the widest decoders are narrowed, the least preferred first. Of the encoders that fit, that
    with the largest mean of all tasks' metrics is taken, whatever the preferences.

    Args:
      model: sizes of the model.
      measured: scores of all encoders.
      budget: multiply-adds, at least those of the smallest model.
      preferences: preferences of the tasks, one of them above 0.
    """
    table, stages = width_table(model), model.stages
    last = table.shape[1] - 1
    digits = np.rint(last * np.asarray(preferences) / np.max(preferences)).astype(int)
    places = np.arange(len(digits))
    while True:
        decoders = table[stages + places, digits]
        codes = np.concatenate([measured.encoders, np.tile(decoders, (len(measured.encoders), 1))], axis=1)
        fits = exact_costs(model, codes)["flops"] <= budget
        if fits.any() or not digits.any():
            break
        open_to = np.flatnonzero(digits == digits.max())
        digits[open_to[np.argmin(np.asarray(preferences)[open_to])]] -= 1
    score = np.where(fits, measured.of(codes).mean(axis=1), -np.inf)
    return codes[int(score.argmax())]
