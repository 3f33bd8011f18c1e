"""The searchers of this package and their rivals, asked and told one trial at a time."""

from __future__ import annotations

import collections
import importlib.metadata
import warnings
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from ncp_jax import OpenSession, checks
from ncp_jax.integrations import distributions
from ncp_jax.searchers.open_ended.config import OPEN_SEARCHERS
from ncp_jax.spaces import CategoricalSpace, Space
from ncp_jax.types import Int

RIVALS = ("optuna-tpe", "optuna-gp", "optuna-cmaes", "smac3")
METHODS = (*OPEN_SEARCHERS, *RIVALS)
MOST_WORKERS = 256
PACKAGES = {
    "optuna-tpe": ("optuna",),
    "optuna-gp": ("optuna", "torch"),
    "optuna-cmaes": ("optuna", "cmaes"),
    "smac3": ("smac",),
}


class Method(Protocol):
    """A search for high values. What was asked for first is told first."""

    def ask(self) -> Int[np.ndarray, " d"]:
        """Returns the code of the next trial."""

    def tell(self, code: Int[np.ndarray, " d"], value: float) -> None:
        """Takes its value, higher is better."""


class OwnMethod:
    """A session of this package."""

    def __init__(self, searcher: str, space: Space, seed: int) -> None:
        self._session = OpenSession(space, maximize="value", searcher=searcher, seed=seed)

    def ask(self) -> Int[np.ndarray, " d"]:
        """Returns the code of the next trial."""
        return self._session.ask()[0]

    def tell(self, code: Int[np.ndarray, " d"], value: float) -> None:
        """Takes its value."""
        self._session.tell(code, value)


class OptunaMethod:
    """A sampler of Optuna with its own settings, one parameter a position."""

    def __init__(self, sampler: str, space: Space, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        make: dict[str, Callable[[], Any]] = {
            "optuna-tpe": lambda: optuna.samplers.TPESampler(seed=seed),
            "optuna-gp": lambda: optuna.samplers.GPSampler(seed=seed),
            "optuna-cmaes": lambda: optuna.samplers.CmaEsSampler(seed=seed),
        }
        self._space, self._asked = space, distributions.distributions_of(space)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a sampler is experimental
            self._study = optuna.create_study(direction="maximize", sampler=make[sampler]())
        self._running: collections.deque[Any] = collections.deque()

    def ask(self) -> Int[np.ndarray, " d"]:
        """Returns the code of the next trial."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._running.append(self._study.ask(self._asked))
        return distributions.code_of(self._space, self._running[-1].params)

    def tell(self, code: Int[np.ndarray, " d"], value: float) -> None:
        """Takes its value."""
        self._study.tell(self._running.popleft(), value)


class SmacMethod:
    """SMAC3's facade for hyper-parameter optimisation, with its own settings."""

    def __init__(self, space: Space, seed: int, trials: int, folder: str) -> None:
        from ConfigSpace import CategoricalHyperparameter, ConfigurationSpace, OrdinalHyperparameter
        from smac import HyperparameterOptimizationFacade, Scenario

        self._space = space
        inputs = ConfigurationSpace(seed=seed)
        kind = CategoricalHyperparameter if isinstance(space, CategoricalSpace) else OrdinalHyperparameter
        for place, values in enumerate(space.values):
            inputs.add(kind(f"p{place}", [int(value) for value in values]))
        scenario = Scenario(inputs, n_trials=trials, seed=seed, deterministic=True, output_directory=folder)
        self._smac = HyperparameterOptimizationFacade(
            scenario, lambda config, seed: 0.0, overwrite=True, logging_level=False
        )
        self._running: collections.deque[Any] = collections.deque()

    def ask(self) -> Int[np.ndarray, " d"]:
        """Returns the code of the next trial."""
        self._running.append(self._smac.ask())
        config = self._running[-1].config
        return np.array([config[f"p{place}"] for place in range(self._space.length)], np.int32)

    def tell(self, code: Int[np.ndarray, " d"], value: float) -> None:
        """Takes its value."""
        from smac.runhistory.dataclasses import TrialValue

        self._smac.tell(self._running.popleft(), TrialValue(cost=-value))


def read_method(text: str) -> tuple[str, int]:
    """Reads a method, and how many trials run side by side: "ncp" is ("ncp", 1), "ncp@8" is ("ncp", 8).

    Raises:
      UsageError: an unknown method, or no number from 2 to ``MOST_WORKERS``.
    """
    name, at, number = text.partition("@")
    checks.choose("method", name, METHODS)
    if not at:
        return name, 1
    if not number.isdecimal() or not 2 <= int(number) <= MOST_WORKERS:
        raise checks.UsageError(
            expected=f"a number of workers from 2 to {MOST_WORKERS} after @", got=text, remedy=f"try {name}@8"
        )
    return name, int(number)


def make(method: str, space: Space, *, seed: int, trials: int, folder: str) -> Method:
    """Returns a method by name.

    Args:
      method: one of ``METHODS``.
      space: the space.
      seed: random seed.
      trials: number of trials; SMAC3 plans with it.
      folder: where SMAC3 writes.
    """
    if method in OPEN_SEARCHERS:
        return OwnMethod(method, space, seed)
    return SmacMethod(space, seed, trials, folder) if method == "smac3" else OptunaMethod(method, space, seed)


def versions(methods: tuple[str, ...]) -> dict[str, str]:
    """Returns the versions of the rivals' packages that are installed.

    Raises:
      UsageError: one that the methods need is not.
    """
    found = {}
    for method in RIVALS:
        for package in PACKAGES[method]:
            try:
                found[package] = importlib.metadata.version(package)
            except importlib.metadata.PackageNotFoundError:
                if any(read_method(text)[0] == method for text in methods):
                    raise checks.UsageError(
                        expected=f"the package {package} for the method {method}",
                        got="none",
                        remedy=f"pip install {package}, or leave the method out",
                    ) from None
    return found
