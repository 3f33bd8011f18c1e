"""Several preferences in one call, and the Pareto front that they find."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Execution, Objective, ObjectiveWeights, PropagationConfig, invert, propagate
from ncp_jax.propagation.objective import weights_of
from ncp_jax.propagation.preferences import preference_weights
from ncp_jax.spaces import get_space

Make = Callable[..., Predictor]
GOAL = Objective(maximize={"acc": 1.0}, minimize={"flops": 2.0})
SPACE = get_space("nas-bench-mr")


@pytest.mark.parametrize("follow", ["member", "mean", "bound"])
def test_weights_of_each_code_are_those_of_as_many_calls(ensemble: Make, follow: str) -> None:
    """A code with weights of its own moves as in a call in which all codes have them."""
    predictor = ensemble("nas-bench-mr")
    config = PropagationConfig(steps=5, learning_rate=20.0, follow=follow)
    shared = weights_of(GOAL, predictor.metrics)
    start = SPACE.encode(SPACE.sample(jax.random.key(0), 6))
    box = (jnp.asarray(SPACE.lower), jnp.asarray(SPACE.upper))
    rows = np.array([[1, 0, 0], [0, 0, -2], [1, 0, -2]], np.float32)
    together = invert(predictor, shared.of_rows(rows[np.arange(6) // 2]), start, box, config)
    for i, push in enumerate(rows):
        alone = dataclasses.replace(shared, push=jnp.asarray(push), fixed=False)
        expected = invert(predictor, alone, start, box, config)
        np.testing.assert_allclose(together[2 * i : 2 * i + 2], expected[2 * i : 2 * i + 2], rtol=1e-5, atol=1e-4)


def test_the_front_by_brute_force(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr")
    config = PropagationConfig(steps=10, learning_rate=20.0, preferences=8)
    found = propagate(predictor, GOAL, codes=64, key=0, config=config)
    front = found.pareto({"acc": 0.0, "FLOPS": 20.0})
    acc, flops = found.mean[:, 0].astype(np.float64), found.costs["flops"]
    beaten = [
        bool(((acc >= a) & (flops <= f) & ((acc > a) | (flops < f))).any()) for a, f in zip(acc, flops, strict=True)
    ]
    assert {tuple(code) for code in front.found.codes.tolist()} == {
        tuple(code) for code, b in zip(found.codes.tolist(), beaten, strict=True) if not b
    }
    assert (np.diff(front.values[:, 0]) <= 0).all()
    assert front.metrics == ("acc", "flops")
    assert front.directions == ("maximize", "minimize")
    # Strips of the area from the cheapest on: each as high as the best so far.
    kept = front.values[np.argsort(front.values[:, 1])]
    kept = kept[(kept[:, 1] < 20) & (kept[:, 0] > 0)]
    area = sum(
        w * h for w, h in zip(np.diff(np.append(kept[:, 1], 20.0)), np.maximum.accumulate(kept[:, 0]), strict=True)
    )
    assert front.hypervolume == pytest.approx(area)
    assert len(front.to_json()["architectures"]) == len(front)
    # Both ends of the range are reached better than by one weighting, and few places keep the front.
    one = propagate(predictor, GOAL, codes=64, key=0, config=dataclasses.replace(config, preferences=1)).pareto()
    assert front.values[0, 0] >= one.values[0, 0]
    few = propagate(predictor, GOAL, codes=64, key=0, config=config, execution=Execution(keep=len(front)))
    assert {tuple(c) for c in few.codes.tolist()} == {tuple(c) for c in front.found.codes.tolist()}
    wide = propagate(predictor, GOAL, codes=64, key=0, config=dataclasses.replace(config, polish=4)).pareto(
        {"acc": 0.0, "flops": 20.0}
    )
    assert wide.hypervolume > front.hypervolume


def test_preferences_cover_the_simplex() -> None:
    two = preference_weights(9, 2)
    np.testing.assert_allclose(two.sum(axis=1), 2)
    np.testing.assert_allclose(np.sort(two[:, 0]), np.linspace(0, 2, 9))
    assert np.diff(np.sort(preference_weights(1000, 2)[:100, 0])).max() < 0.05  # any first part is spread out
    three = preference_weights(50, 3)
    np.testing.assert_allclose(three.mean(axis=1), 1)
    np.testing.assert_array_equal(three[:3], 3 * np.eye(3))
    np.testing.assert_array_equal(preference_weights(1, 2), [[1, 1]])


def test_what_has_no_front(ensemble: Make) -> None:
    predictor, several = ensemble(), PropagationConfig(steps=0, preferences=4)
    for goal in (Objective(maximize={"acc": 1.0}), lambda mean, spread: mean[0]):
        with pytest.raises(UsageError, match="two metrics or more"):
            propagate(predictor, goal, codes=4, key=0, config=several)
    found = propagate(predictor, Objective(maximize={"acc": 1.0}), codes=4, key=0, config=PropagationConfig(steps=0))
    with pytest.raises(UsageError, match="two metrics or more for a Pareto front, got acc"):
        found.pareto()
    with pytest.raises(UsageError, match="preferences to be an integer 1 or more"):
        PropagationConfig(preferences=0)


def test_a_floor_pushes_up(ensemble: Make) -> None:
    """Below its floor a metric is pushed up, above it is free: the mirror image of a ceiling."""
    predictor = ensemble("nas-bench-mr", hidden=(), members=1)
    goal = Objective(minimize={"acc": 1.0})
    weights: ObjectiveWeights = goal.weights(predictor.metrics, floor={"loss": 0.0})
    assert not weights.fixed
    assert goal.weights(predictor.metrics).floor is None
    start = SPACE.encode(SPACE.sample(jax.random.key(0), 8))
    box = (jnp.asarray(SPACE.lower), jnp.asarray(SPACE.upper))
    config = PropagationConfig(steps=60, learning_rate=5.0, ceiling_weight=5.0)
    ends = {f: invert(predictor, goal.weights(predictor.metrics, floor=f), start, box, config) for f in (None,)}
    free = (np.asarray(predictor(ends[None])[0])[:, 1] - 2.0) / 0.5
    kept = (np.asarray(predictor(invert(predictor, weights, start, box, config))[0])[:, 1] - 2.0) / 0.5
    assert (kept > -0.5).all()
    assert (kept >= free - 1e-4).all()
