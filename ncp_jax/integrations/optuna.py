"""A sampler for Optuna: many workers on many machines share a study through Optuna's storages.

Needs the extra ``optuna``: ``pip install "ncp-jax[optuna]"``.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.console import LOG

try:
    import optuna
    from optuna.samplers._base import _process_constraints_after_trial
    from optuna.search_space import IntersectionSearchSpace
    from optuna.trial import FrozenTrial, TrialState
except ImportError as error:
    raise ImportError('ncp-jax: expected the package optuna, got none; pip install "ncp-jax[optuna]"') from error

from ncp_jax.integrations import distributions
from ncp_jax.integrations.distributions import SearchSpace
from ncp_jax.jax_settings import package_settings
from ncp_jax.propagation.limit import Limit
from ncp_jax.searchers.open_ended import OpenConfig, strategies
from ncp_jax.searchers.open_ended.observations import Goals, Observations
from ncp_jax.searchers.open_ended.situation import Situation
from ncp_jax.searchers.open_ended.sources import learn_sources
from ncp_jax.spaces import Space, get_space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from ncp_jax.benchmarks import Table
    from ncp_jax.searchers.open_ended import surrogate

CODE = "ncp_jax:code"  # system attribute of a trial: the code that was chosen for it, and in which search space
ENDED = "ncp_jax:failed"  # system attribute of a trial whose objective raised an error or returned no number


class NCPSampler(optuna.samplers.BaseSampler):
    """Chooses the parameters of a trial as ``OpenSession`` chooses architectures.

    Numbers with more than 256 values, and real numbers, are proposed from 256 levels on their scale. Trials that
    run elsewhere count as measured with a cautious prediction. A trial whose objective failed, returned NaN or was
    pruned counts as the worst value; one whose process died is left out. Several objectives are joined by random
    weights, drawn anew for each trial; infeasible trials are avoided. What is chosen depends on the seed, the number
    of the trial and the trials before it: workers may share a seed.

    Parameters that are not in every finished trial, and those of the first trial, are drawn at random.
    ``suggest_architecture`` asks for all positions of a space, so that none is left out.

    Examples:
      >>> import optuna
      >>> from ncp_jax.integrations.optuna import NCPSampler
      >>> study = optuna.create_study(direction="maximize", sampler=NCPSampler(seed=0))
      >>> study.optimize(lambda trial: trial.suggest_int("depth", 1, 9), n_trials=5)
      >>> len(study.trials)
      5

    Args:
      searcher: "ncp", "bayesian", "neural-ensemble", "arch-graph", "reinforce", "evolution", "local-search" or
        "random".
      sources: tables of other tasks; their positions have the names of the parameters.
      initial: number of trials that are spread over the space before a model is used.
      seed: random seed; None for one of the machine's.
      constraints_func: returns numbers for a finished trial; those of at most 0 satisfy its constraints.
      confidence: probability with which each constraint shall be satisfied by a trial.
      warn_independent_sampling: whether to say so where a parameter is drawn at random.

    Raises:
      UsageError: an unknown searcher, or settings out of range.
    """

    def __init__(
        self,
        searcher: str = "ncp",
        *,
        sources: Sequence[Table] = (),
        initial: int = 10,
        seed: int | None = None,
        constraints_func: Callable[[FrozenTrial], Sequence[float]] | None = None,
        confidence: float = 0.5,
        warn_independent_sampling: bool = True,
    ) -> None:
        seed = secrets.randbits(32) if seed is None else seed
        self._config = OpenConfig(
            "", maximize=("objective",), searcher=searcher, initial=initial, seed=seed, confidence=confidence
        )
        self._sources = tuple(sources)
        self._constraints_func = constraints_func
        self._warns = warn_independent_sampling
        self._drawn: set[str] = set()
        self._independent = optuna.samplers.RandomSampler(seed=seed)
        self._intersection = IntersectionSearchSpace()
        self._search: SearchSpace | None = None
        self._digest = ""
        self._codes: dict[int, np.ndarray | None] = {}
        self._learned: surrogate.Model | None = None

    def reseed_rng(self) -> None:
        """Draws another seed for parameters that are drawn at random; other choices differ by the trial's number."""
        self._independent.reseed_rng()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Returns the parameters that every finished trial has, but those with a single value."""
        return distributions.free_parameters(self._intersection.calculate(study))

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Returns a random value."""
        if self._warns and trial.number >= self._config.initial and param_name not in self._drawn:
            self._drawn.add(param_name)
            if not param_distribution.single():
                LOG.warning("the parameter %s is not in every finished trial: it is drawn at random", param_name)
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    @package_settings
    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Returns the parameters of a trial; random ones where the whole space has been measured."""
        fixed = {name: _only_value(one) for name, one in search_space.items() if one.single()}
        free = distributions.free_parameters(search_space)
        if not free:
            return fixed
        search = self._search_space(free)
        trials = [other for other in study.get_trials(deepcopy=False) if other.number != trial.number]
        goals = _goals(study, trials)
        observations, pending = Observations(search.space, goals), []
        finished, values = [], []
        for other in trials:
            if other.state == TrialState.RUNNING:
                pending += self._running(search, other)
            elif (row := _result(other, goals)) is not None and (code := self._code(search, other)) is not None:
                finished.append(code)
                values.append(row)
        columns = np.array(values, float).reshape(-1, len(goals.metrics))
        observations.add(np.array(finished, np.int32), dict(zip(goals.metrics, _finite(columns).T, strict=True)))
        now = Situation(search.space, self._config, observations, pending, trial.number, self._sources_of(search))
        chosen = strategies.choose(now, 1)
        code = chosen[0].code if chosen else self._repeated(search, trial.number)
        shared = {"space": self._digest, "code": code.tolist()}
        study._storage.set_trial_system_attr(trial._trial_id, CODE, json.dumps(shared))
        return {**fixed, **search.params(code)}

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Stores the constraints of a trial, and whether its objective failed."""
        if state == TrialState.FAIL:
            study._storage.set_trial_system_attr(trial._trial_id, ENDED, True)
        if self._constraints_func is not None:
            _process_constraints_after_trial(self._constraints_func, study, trial, state)
        self._independent.after_trial(study, trial, state, values)

    def _repeated(self, search: SearchSpace, number: int) -> np.ndarray:
        """Returns a random code, for spaces whose codes have all been measured."""
        random = np.random.default_rng((self._config.seed, number))
        return np.array([random.choice(values) for values in search.space.values], np.int32)

    def _search_space(self, free: dict[str, BaseDistribution]) -> SearchSpace:
        digest = distributions.digest(free)
        if self._search is None or digest != self._digest:
            self._search, self._digest, self._codes, self._learned = SearchSpace(free), digest, {}, None
        return self._search

    def _code(self, search: SearchSpace, trial: FrozenTrial) -> np.ndarray | None:
        """Returns the code of a finished trial; None if it lacks a parameter, or has one out of its present range."""
        if trial.number not in self._codes:
            self._codes[trial.number] = search.code_of_trial(trial)
        return self._codes[trial.number]

    def _running(self, search: SearchSpace, trial: FrozenTrial) -> list[np.ndarray]:
        """Returns the code of a trial that runs, if it is known: what was chosen, or what it has been given so far."""
        if CODE in trial.system_attrs:
            shared = json.loads(trial.system_attrs[CODE])
            if shared["space"] == self._digest:
                return [np.array(shared["code"], np.int32)]
        code = search.code_of_trial(trial)
        return [] if code is None else [code]

    def _sources_of(self, search: SearchSpace) -> surrogate.Model | None:
        if self._sources and self._learned is None:
            parts = []
            for table in self._sources:
                space = get_space(table.space)
                strange = [name for name in search.names if name not in space.position_names]
                if strange:
                    raise checks.UsageError(
                        expected=f"parameters that are positions of {table.name}'s space, {table.space}",
                        got=", ".join(strange),
                        remedy="name the parameters as the positions are named, or use suggest_architecture",
                    )
                codes, inside = distributions.known_rows(space, np.asarray(table.codes), search)
                if len(codes) < 2:
                    raise checks.UsageError(
                        expected=f"architectures of {table.name} in the range of the study's parameters",
                        got=str(len(codes)),
                        remedy="leave the table out",
                    )
                parts.append((codes, np.asarray(table.oriented(table.main.name))[inside]))
            self._learned = learn_sources(search.space, parts)
        return self._learned


def suggest_architecture(trial: optuna.Trial, space: str | Space) -> np.ndarray:
    """Returns an architecture of a space, int32 [d], from parameters named after its positions.

    All positions are suggested, also those that are dead in this architecture. Where the values are forbidden
    together, the nearest legal architecture is returned. The architecture's string is stored as the user attribute
    "architecture" of the trial.

    Args:
      trial: Optuna's trial.
      space: the space, its name, or the path of its description.
    """
    found = get_space(space)
    asked = distributions.distributions_of(found)
    params = {name: trial._suggest(name, one) for name, one in asked.items()}
    code = distributions.code_of(found, params)
    legal = np.asarray(found.project(found.encode(jnp.asarray(code))))
    trial.set_user_attr("architecture", found.to_strings(legal[None])[0])
    return legal


def _only_value(distribution: BaseDistribution) -> Any:
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return distribution.choices[0]
    return distribution.low  # type: ignore[attr-defined]


def _goals(study: optuna.Study, trials: Sequence[FrozenTrial]) -> Goals:
    """Returns the objectives of a study, and a limit for each constraint of its finished trials."""
    names = dict.fromkeys(name for one in trials if one.state == TrialState.COMPLETE for name in one.constraints)
    limits = tuple(Limit(f"constraint {name}", "<=", 0.0) for name in names)
    signs = tuple(1 if way == optuna.study.StudyDirection.MAXIMIZE else -1 for way in study.directions)
    metrics = (*(f"objective {place}" for place in range(len(signs))), *(limit.metric for limit in limits))
    return Goals(metrics, signs, limits, None)


def _result(trial: FrozenTrial, goals: Goals) -> list[float] | None:
    """Returns the values of a trial by metric; NaN where its objective failed; None if nothing is known of it."""
    nothing = [np.nan] * len(goals.metrics)
    if trial.state == TrialState.COMPLETE:
        given = trial.constraints
        held = [given.get(limit.metric.removeprefix("constraint "), np.nan) for limit in goals.limits]
        row = [*trial.values, *held]
        return nothing if np.isnan(row).any() else row
    failed = trial.state == TrialState.PRUNED or (trial.state == TrialState.FAIL and ENDED in trial.system_attrs)
    return nothing if failed else None


def _finite(values: np.ndarray) -> np.ndarray:
    """Returns values [n, m] without infinities: the worst or best finite value in their place, else a failure."""
    kept = values.copy()
    for column in kept.T:
        finite = column[np.isfinite(column)]
        if len(finite):
            column[:] = np.clip(column, finite.min(), finite.max())
        else:
            column[np.isinf(column)] = np.nan
    lost = np.isnan(kept).any(axis=1)
    kept[lost] = np.nan
    return kept
