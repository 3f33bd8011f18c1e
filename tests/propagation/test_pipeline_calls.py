"""What every call of ``propagate`` keeps to: legal codes, bounds, finite numbers, and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Objective, PropagationConfig, propagate
from ncp_jax.spaces import Bounds, get_space
from ncp_jax.types import Array

Make = Callable[..., Predictor]
GOAL = Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5})
FEW = PropagationConfig(steps=5, learning_rate=60.0)
SPACE = get_space("transnas-micro")
CODES = 70  # three portions, the last of less than a unit
LIMITS = {"edge 0>1": (1, 2), "edge ?>3": (None, 2)}


pytestmark = pytest.mark.usefixtures("small_portions")


@pytest.fixture(scope="module")
def predictor(ensemble: Make) -> Predictor:
    return ensemble()


def test_bounds_hold_for_starts_and_for_what_is_found(predictor: Predictor) -> None:
    low, high = np.array([1, 0, 0, 0, 0, 0]), np.array([2, 3, 3, 2, 2, 2])
    config = dataclasses.replace(FEW, bounds=LIMITS, restarts=1, polish=4)
    bounded = propagate(predictor, GOAL, codes=CODES, key=jax.random.key(0), config=config)
    np.testing.assert_array_equal(bounded.starts, Bounds.of(SPACE, LIMITS).sample(jax.random.key(0), CODES))
    for codes in (bounded.starts, bounded.codes):
        assert ((low <= codes) & (codes <= high)).all()
    assert len(bounded) > 10
    # A hill climb within the bounds ends at the best of all codes within them, or near it.
    codes = SPACE.all_codes()
    inside = codes[((low <= codes) & (codes <= high)).all(axis=1)]
    mean, _ = predictor(SPACE.encode(jnp.asarray(inside)))
    best = np.sort((np.asarray(mean) - 2) / 0.5 @ [1.0, 0.0, -0.5])
    assert bounded.score[0] >= best[-len(best) // 100]
    with pytest.raises(
        UsageError, match=r"expected starts within the bounds .*, got start 1: \[3, 0, 0, 0, 0, 0\]; change it or widen"
    ):
        propagate(predictor, GOAL, start=[[1, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0]], config=config)


def test_the_bound_ranks_by_what_is_sure(ensemble: Make) -> None:
    predictor = ensemble(members=3)
    starts = np.asarray(SPACE.sample(jax.random.key(2), 40))
    tops = []
    for confidence in (0.0, 2.0):
        config = dataclasses.replace(FEW, follow="bound", confidence=confidence)
        found = propagate(predictor, GOAL, start=starts, config=config)
        mean, spread = (found.mean - 2) / 0.5, found.spread / 0.5
        wanted = mean[:, 0] - confidence * spread[:, 0] - 0.5 * (mean[:, 2] + confidence * spread[:, 2])
        np.testing.assert_allclose(found.score, wanted, rtol=1e-4, atol=1e-4)
        assert (np.diff(found.score) <= 0).all()
        tops.append(found.top(10))
    assert tops[1].spread[:, 0].mean() < tops[0].spread[:, 0].mean()
    assert tops[1].mean[:, 0].mean() < tops[0].mean[:, 0].mean()


def test_a_function_and_a_confidence_do_not_go_together(predictor: Predictor) -> None:
    config = PropagationConfig(steps=1, follow="bound")
    with pytest.raises(UsageError, match="expected an Objective with follow='bound', got a function; let the function"):
        propagate(predictor, lambda mean, spread: mean[0], codes=8, key=jax.random.key(0), config=config)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"codes": 0}, "expected codes to be an integer 1 or more, got 0; try codes=4096"),
        ({"codes": -3}, "got -3"),
        ({"codes": 2.5}, "got 2.5"),
        ({"key": None}, r"expected a key or starts, got neither; try key=jax\.random\.key\(0\)"),
        ({"start": np.zeros((0, 6), int)}, "expected at least one start, got none"),
        ({"start": [0, 1, 2, 3, 4, 0]}, "in start 0, .*position 4.* got 4"),
        ({"start": [[0, 1, 2, 3, 3, 0], [0, 1, 2]]}, "start.* got something else"),
        ({"start": [0, 1, 2]}, r"start.* got shape \(3,\)"),
        ({"max_gflops": -1.0}, "expected max_gflops to be a number > 0, got -1.0"),
        ({"max_gflops": float("nan")}, "expected max_gflops to be a number > 0, got nan"),
    ],
)
def test_wrong_calls(predictor: Predictor, arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        propagate(predictor, GOAL, **{"codes": 8, "key": jax.random.key(0), "config": FEW, **arguments})


def test_one_of_each_network_by_the_given_rule(ensemble: Make) -> None:
    space = get_space("nas-bench-201")
    # A 3x3 convolution from input to output: directly, before a skip, and behind one.
    codes = np.array([[0, 0, 0, 3, 0, 0], [3, 0, 0, 0, 1, 0], [1, 0, 0, 0, 3, 0]])
    assert len(set(space.networks(codes).tolist())) == 3
    config = PropagationConfig(steps=0, same_network="Function")
    found = propagate(ensemble(space.name, hidden=()), GOAL, start=codes, config=config)
    assert (len(found), found.same_network, found.scored) == (1, "function", 3)


def test_a_rule_that_the_space_does_not_have(predictor: Predictor) -> None:
    with pytest.raises(UsageError, match="rule for the same network in transnas-micro, got 'function'"):
        propagate(predictor, GOAL, codes=4, key=0, config=PropagationConfig(same_network="function"))


def test_an_unknown_metric(predictor: Predictor) -> None:
    with pytest.raises(UsageError, match="expected a known metric, got 'acck'; did you mean: acc"):
        propagate(predictor, Objective(maximize={"acck": 1.0}), codes=8, key=jax.random.key(0))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    weight=st.floats(1e-3, 1e3),
    rate=st.floats(1e-3, 1e4),
    delta=st.floats(1e-3, 1e2),
    maximize=st.sampled_from(["acc", "loss", "flops"]),
)
def test_what_is_found_is_always_legal(
    ensemble: Make, seed: int, weight: float, rate: float, delta: float, maximize: str
) -> None:
    # Macro codes are the strictest: zero-padded, with rules between positions.
    goal = Objective(maximize={maximize: weight})
    config = PropagationConfig(steps=3, learning_rate=rate, delta=delta)
    space = get_space("transnas-macro")
    found = propagate(ensemble(space.name), goal, codes=6, key=jax.random.key(seed), config=config)
    np.testing.assert_array_equal(space.check(found.codes), found.codes)
    assert len(np.unique(found.codes, axis=0)) == len(found)
    assert np.isfinite(found.score).all()
    assert found.metrics == (*ensemble(space.name).metrics,)
    assert isinstance(found.metrics[0], MetricSpec)


@pytest.mark.parametrize(
    ("objective", "words"),
    [
        (lambda mean, spread: mean[0] * jnp.nan, "the objective to return a finite number, got nan"),
        (lambda mean, spread: mean[0] + jnp.inf, "the objective to return a finite number, got inf"),
        (lambda mean, spread: jnp.log(mean[0]), "the objective to return a finite number, got nan for"),
        (lambda mean, spread: jnp.where(mean[0] > 0, -jnp.inf, mean[0]), "to return a finite number, got -inf for"),
        (lambda mean, spread: jnp.sqrt(0.0 * mean[0]), "finite gradients of the predictor and the objective, got nan"),
    ],
)
def test_an_objective_that_is_not_finite(ensemble: Make, objective: Callable[..., Array], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        propagate(ensemble(), objective, codes=CODES, key=0, config=FEW)


@pytest.mark.parametrize("where", ["everywhere", "some codes", "slopes alone"])
def test_a_predictor_that_is_not_finite(ensemble: Make, where: str) -> None:
    def apply(params: object, x: Array) -> Array:
        values = jnp.stack([x.sum()] * 3)
        if where == "slopes alone":
            return values + jnp.sqrt(0.0 * x.sum())  # 0, but its slope is not a number
        return jnp.where(predictor.scale.raw_x(x)[0] > 0.5 if where == "some codes" else True, jnp.nan, values)

    predictor = ensemble()
    with pytest.raises(UsageError, match=r"expected finite (predictions|gradients)"):
        propagate(dataclasses.replace(predictor, apply=apply), GOAL, codes=CODES, key=0, config=FEW)


def test_a_call_inside_a_program_says_what_to_do(ensemble: Make) -> None:
    with pytest.raises(UsageError, match="expected a call outside jit, vmap and grad, got one inside"):
        jax.jit(lambda x: propagate(ensemble(), GOAL, codes=4, key=0).score)(1.0)


def test_an_integer_is_a_key(ensemble: Make) -> None:
    one, other = (propagate(ensemble(), GOAL, codes=4, key=key, config=FEW) for key in (7, jax.random.key(7)))
    for name in ("codes", "mean", "spread", "score"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    with pytest.raises(UsageError, match="expected a key or an integer seed, got 'seven'"):
        propagate(ensemble(), GOAL, codes=4, key="seven", config=FEW)  # type: ignore[arg-type]
