"""Many objectives in one call: each finds the best of all that was reached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Objective, PropagationConfig, propagate, propagate_many
from ncp_jax.spaces import get_space

Make = Callable[..., Predictor]
SPACE = get_space("nas-bench-mr")
FAST = PropagationConfig(steps=10, learning_rate=100.0)
OBJECTIVES = [
    Objective(maximize={"acc": 1.0}, minimize={"flops": 2.0}),
    Objective(minimize={"loss": 1.0}),
    Objective(maximize={"acc": 0.5, "LOSS": 0.1}),
    Objective(minimize={"acc": 1.0, "params": 0.3}),
]


def best_of_linear(predictor: Predictor, push: np.ndarray) -> np.ndarray:
    """The code with the highest weighted sum of a linear predictor's metrics, position by position."""
    (kernel,), _ = predictor.params["w"], predictor.params["b"]
    slope = (np.asarray(kernel, np.float64) @ push).mean(axis=0) / np.asarray(predictor.scale.x_std)
    return np.array([values[-1] if s > 0 else values[0] for s, values in zip(slope, SPACE.values, strict=True)])


def test_each_objective_finds_its_own_optimum_of_a_linear_predictor(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr", hidden=(), members=1)
    rows = np.random.default_rng(0).normal(size=(5, 2)).round(2)
    objectives = []
    for row in rows.tolist():
        up = {name: weight for name, weight in zip(("acc", "loss"), row, strict=True) if weight > 0}
        down = {name: -weight for name, weight in zip(("acc", "loss"), row, strict=True) if weight < 0}
        objectives.append(Objective(maximize=up, minimize=down))
    # Far enough for any slope: the box holds the codes.
    far = PropagationConfig(steps=300, learning_rate=1000.0)
    found = propagate_many(predictor, objectives, codes=15, key=0, config=far, best=2)
    for row, each in zip(rows, found, strict=True):
        wanted = best_of_linear(predictor, np.array([*row, 0.0]))
        np.testing.assert_array_equal(each.codes[0], wanted)
        assert len(each) == 2


def test_scores_are_those_of_single_calls_and_all_share_what_is_reached(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr")
    found = propagate_many(predictor, OBJECTIVES, codes=64, key=1, config=FAST, best=5)
    assert [len(each) for each in found] == [5] * 4
    reached = np.unique(np.concatenate([each.codes for each in found]), axis=0)
    still = PropagationConfig(steps=1, learning_rate=1e-12)
    for objective, each in zip(OBJECTIVES, found, strict=True):
        alone = propagate(predictor, objective, start=reached, config=still)
        place = {tuple(code): at for at, code in enumerate(alone.codes.tolist())}
        rows = [place[tuple(code)] for code in each.codes.tolist()]
        assert rows == list(range(5)), "another objective's architecture is better"
        np.testing.assert_allclose(each.score, alone.score[rows], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(each.values_of("acc"), alone.values_of("acc")[rows], rtol=1e-5)
        assert each.sought == alone.sought


def test_a_bound_subtracts_the_spread_of_each_objective(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr", members=3)
    config = PropagationConfig(steps=5, learning_rate=20.0, follow="bound", confidence=2.0)
    found = propagate_many(predictor, OBJECTIVES[:3], codes=12, key=1, config=config, best=3)
    still = PropagationConfig(steps=1, learning_rate=1e-12, follow="bound", confidence=2.0)
    for objective, each in zip(OBJECTIVES, found, strict=False):
        alone = propagate(predictor, objective, start=each.codes, config=still)
        np.testing.assert_allclose(each.score, alone.score, rtol=1e-4, atol=1e-4)


def test_a_limit_holds_for_all(ensemble: Make) -> None:
    found = propagate_many(
        ensemble("nas-bench-mr"), OBJECTIVES, codes=64, key=0, config=FAST, max_gflops=0.8, limits=("params<=3e6",)
    )
    for each in found:
        assert len(each) > 0
        assert (each.costs["flops"] <= 0.8).all()
        assert (each.costs["params"] <= 3.0).all()


def test_there_are_codes_for_every_network_and_objective(ensemble: Make) -> None:
    predictor = ensemble(members=3)
    many = [Objective(maximize={"acc": 1.0}, minimize={"loss": float(w)}) for w in np.linspace(0.1, 2, 1500)]
    found = propagate_many(predictor, many, key=0, config=FAST, best=1)
    assert len(found) == 1500
    assert len(found[0].starts) == 4096  # of 4500
    assert all((each.score[0] == each.score).all() for each in found)


@pytest.mark.parametrize(
    ("objectives", "options", "message"),
    [
        ([], {}, "expected a list of objectives, got an empty one"),
        (OBJECTIVES[0], {}, r"expected a list of objectives, got Objective\("),
        ([OBJECTIVES[0], "acc"], {}, "expected a list of objectives, got 'acc'"),
        (OBJECTIVES, {"codes": 7}, "expected at least 8 codes for 4 objectives, got 7"),
        (OBJECTIVES, {"codes": 0}, "expected codes"),
        (OBJECTIVES, {"best": 0}, "expected best"),
        (OBJECTIVES, {"config": PropagationConfig(polish=4)}, "expected no polish with several objectives, got 4"),
        (OBJECTIVES, {"config": PropagationConfig(preferences=4)}, "expected no preferences with several objectives"),
        ([OBJECTIVES[0], Objective(maximize={"accc": 1.0})], {}, "accc"),
        (
            [OBJECTIVES[1], Objective(maximize={"acc": 1.0}, hold={"loss": 1.0})],
            {},
            "expected objectives that hold the same metrics with the same weights",
        ),
    ],
)
def test_what_cannot_be_asked(ensemble: Make, objectives: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        propagate_many(ensemble("nas-bench-mr"), objectives, **{"key": 0, "config": FAST} | options)
