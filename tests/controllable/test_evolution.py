"""The evolution against enumeration, on metrics that are computed instead of measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from ncp_jax.checks import DataError, UsageError
from ncp_jax.controllable import evolution, search
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.evolution import EvolutionConfig, evolved_answers
from ncp_jax.controllable.measurement import Measurement
from ncp_jax.controllable.search import enumerate_answers, questions
from ncp_jax.controllable.tasks import Target
from ncp_jax.controllable.widths import exact_costs, width_table
from ncp_jax.spaces import SPACES

TARGETS = (Target("one", "classes", 3), Target("two", "pixels", 1))
CONFIG = ModelConfig(16, 1, TARGETS, channels=(8, 8, 16, 16, 32), decoder=8)  # 4**5 encoders


@pytest.fixture(autouse=True)
def _forget_spaces() -> Iterator[None]:
    yield
    for name in [name for name in SPACES if name.startswith("widths-")]:
        del SPACES[name]


def computed(model: ModelConfig, params: Any, examples: Any, codes: np.ndarray, **_: Any) -> Measurement:
    """Metrics that rise with the widths, in each task with others, and have bumps."""
    encoders = np.unique(codes[:, : model.stages], axis=0)
    table = width_table(model)
    shares = encoders / table[: model.stages, -1]
    weights = np.random.default_rng(0).dirichlet(np.ones(model.stages), len(TARGETS)).T
    bumps = 2 * np.sin(7 * shares @ np.random.default_rng(1).standard_normal((model.stages, len(TARGETS))))
    decoders = np.sqrt(table[model.stages :] / table[model.stages :, -1:])
    scores = (50 * np.sqrt(shares) @ weights + bumps)[..., None] * decoders + params
    return Measurement(model, encoders, scores)


@pytest.fixture
def _computed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (evolution, search):
        monkeypatch.setattr(module, "measure", computed)


def shares(answers: Any, best: Any, model: ModelConfig) -> np.ndarray:
    """By which share of the oracle's objective the answers of 500 questions are worse."""
    budgets, preferences = questions(model, 500, seed=9)
    found, oracle = (one.query(budgets, preferences) for one in (answers, best))
    assert (found.flops <= budgets).all()
    reached, most = ((one.measurements * preferences).sum(axis=1) for one in (found, oracle))
    return (most - reached) / most


@pytest.mark.usefixtures("_computed")
def test_evolution_comes_close_to_enumeration() -> None:
    calls: list[tuple[int, int]] = []
    best = enumerate_answers(CONFIG, 0.0, None)  # type: ignore[arg-type]
    config = EvolutionConfig(generations=10, children=32, questions=256)
    found = evolved_answers(CONFIG, 0.0, None, config, progress=lambda *done: calls.append(done))  # type: ignore[arg-type]
    # It measures a third of the 1024 encoders, and no more than stated.
    assert calls[-1] == (320, 320)
    assert (shares(found, best, CONFIG) <= 0.01).mean() >= 0.95
    np.testing.assert_array_equal(found.flops, exact_costs(CONFIG, found.codes)["flops"])
    again = evolved_answers(CONFIG, 0.0, None, config)  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.codes, again.codes)
    random = evolved_answers(CONFIG, 0.0, None, dataclasses.replace(config, generations=1, children=320))  # type: ignore[arg-type]
    assert shares(found, best, CONFIG).mean() < shares(random, best, CONFIG).mean()


@pytest.mark.usefixtures("_computed")
def test_in_a_small_space_it_is_enumeration() -> None:
    small = dataclasses.replace(CONFIG, channels=(8, 16), strides=(1, 2))
    best, found = (f(small, 0.0, None) for f in (enumerate_answers, evolved_answers))  # type: ignore[arg-type]
    np.testing.assert_array_equal(found.codes, best.codes)
    np.testing.assert_array_equal(found.measured, best.measured)


@pytest.mark.usefixtures("_computed")
def test_what_is_refused() -> None:
    with pytest.raises(UsageError, match="generations"):
        EvolutionConfig(generations=0)
    with pytest.raises(DataError, match="finite outputs of the model at every width"):
        evolved_answers(CONFIG, np.nan, None)  # type: ignore[arg-type]
