from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Objective, ObjectiveWeights, PropagationConfig, invert

Make = Callable[..., Predictor]
F = 24  # transnas-micro
WIDE = (jnp.full(F, -1e3), jnp.full(F, 1e3))
STARTS = np.random.default_rng(2).uniform(0, 1, (6, F)).astype(np.float32)


def slopes(predictor: Predictor) -> np.ndarray:
    """Of a linear ensemble: derivative of each standard metric by each standard feature, [members, f, m]."""
    return np.asarray(predictor.params["w"][0], np.float64)


def standard(predictor: Predictor, raw: object) -> np.ndarray:
    return (np.asarray(raw, np.float64) - np.asarray(predictor.scale.x_mean)) / np.asarray(predictor.scale.x_std)


def descend(predictor: Predictor, weights: ObjectiveWeights, config: PropagationConfig, x: np.ndarray) -> np.ndarray:
    """What ``invert`` should return for a linear ensemble in a wide box, standard units, one code after the other."""
    push, hold, ceiling = (np.asarray(a, np.float64) for a in (weights.push, weights.hold, weights.ceiling))
    w, b = slopes(predictor), np.asarray(predictor.params["b"][0], np.float64)
    ends = []
    for i, point in enumerate(standard(predictor, x)):
        k = i % len(w)
        matrix, bias = (w[k], b[k]) if config.follow == "member" else (w.mean(axis=0), b.mean(axis=0))
        begin = point @ matrix + bias
        for _ in range(config.steps):
            z = point @ matrix + bias
            slope = -push * config.delta + hold * np.clip(z - begin, -1, 1)
            slope = slope + (z > ceiling) * config.ceiling_weight * config.delta
            point = point - config.learning_rate * matrix @ slope
        ends.append(point)
    return np.stack(ends)


GOALS = {
    "up and down": Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5}),
    "hold": Objective(maximize={"acc": 1.0}, hold={"loss": 1.0}),
}


@pytest.mark.parametrize("follow", ["member", "mean"])
@pytest.mark.parametrize("goal", GOALS)
def test_linear_ensembles_in_closed_form(ensemble: Make, follow: str, goal: str) -> None:
    predictor = ensemble(members=3, hidden=())
    config = PropagationConfig(steps=7, learning_rate=0.7, follow=follow)
    weights = GOALS[goal].weights(predictor.metrics, {"flops": 0.4})
    end = invert(predictor, weights, jnp.asarray(STARTS), WIDE, config)
    np.testing.assert_allclose(
        standard(predictor, end), descend(predictor, weights, config, STARTS), rtol=1e-4, atol=1e-4
    )


def predictions(predictor: Predictor, raw: object) -> np.ndarray:
    """Ensemble mean in standard units."""
    return standard(predictor, raw) @ slopes(predictor).mean(axis=0) + np.asarray(predictor.params["b"][0]).mean(axis=0)


def test_hold_keeps_a_metric_that_would_drift(ensemble: Make) -> None:
    predictor = ensemble(members=1, hidden=())
    config = PropagationConfig(steps=60, learning_rate=0.2, follow="mean")
    drift = {}
    for name, goal in (("free", Objective(maximize={"acc": 1.0})), ("held", GOALS["hold"])):
        end = invert(predictor, goal.weights(predictor.metrics), jnp.asarray(STARTS), WIDE, config)
        drift[name] = predictions(predictor, end) - predictions(predictor, STARTS)
    assert (np.abs(drift["held"][:, 1]) < 0.3 * np.abs(drift["free"][:, 1])).all()
    assert (drift["held"][:, 0] > 0.1).all()


def test_a_metric_is_pushed_below_its_ceiling_and_no_further(ensemble: Make) -> None:
    predictor = ensemble(members=1, hidden=())
    config = PropagationConfig(steps=60, learning_rate=1.0, follow="mean", ceiling_weight=4.0)
    goal, ends = Objective(maximize={"acc": 1.0}), {}
    for name, limit in (("none", {}), ("low", {"flops": -2.0}), ("high", {"flops": 1e6})):
        end = invert(predictor, goal.weights(predictor.metrics, limit), jnp.asarray(STARTS), WIDE, config)
        ends[name] = predictions(predictor, end)
    one_step = 0.1 * 5 * np.abs(slopes(predictor)[0].T @ slopes(predictor)[0]).sum(axis=0).max()
    assert (np.abs(ends["low"][:, 2] + 2.0) < one_step).all()
    np.testing.assert_array_equal(ends["high"], ends["none"])
    assert (ends["low"][:, 2] != ends["none"][:, 2]).all()


def test_logarithms_are_differentiated_too(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr", members=2, hidden=(5,), log=True)
    f = 27
    starts = np.random.default_rng(0).uniform(1, 100, (4, f)).astype(np.float32)
    mean, std = (np.asarray(a, np.float64) for a in (predictor.scale.x_mean, predictor.scale.x_std))

    def loss(k: int, x: np.ndarray) -> float:
        """The linear form that one step descends, of member k, float64."""
        (w1, w2), (b1, b2) = ([np.asarray(a[k], np.float64) for a in predictor.params[n]] for n in ("w", "b"))
        hidden = np.concatenate([x, np.log2(np.maximum(x * std + mean, 0.5))]) @ w1 + b1
        z = (hidden / (1 + np.exp(-hidden))) @ w2 + b2
        return -0.1 * z[0] + 0.05 * z[2]

    config = PropagationConfig(steps=1, learning_rate=3.0)
    wide = (jnp.full(f, -1e4), jnp.full(f, 1e4))
    end = standard(
        predictor, invert(predictor, GOALS["up and down"].weights(predictor.metrics), jnp.asarray(starts), wide, config)
    )
    for i, x in enumerate((starts - mean) / std):
        gradient = [(loss(i % 2, x + 1e-5 * e) - loss(i % 2, x - 1e-5 * e)) / 2e-5 for e in np.eye(f)]
        np.testing.assert_allclose(x - 3.0 * np.array(gradient), end[i], atol=1e-4)
        assert np.abs(gradient).max() > 1e-3


@pytest.fixture
def small(ensemble: Make) -> Callable[..., np.ndarray]:
    """Inverts with one curved ensemble in the space's box, a few steps."""
    predictor = ensemble(members=2, hidden=(6,))
    weights = GOALS["up and down"].weights(predictor.metrics)
    box = (jnp.zeros(F), jnp.ones(F))

    def run(starts: object, **numbers: object) -> jax.Array:
        return invert(predictor, weights, jnp.asarray(starts), box, PropagationConfig(steps=5, **numbers))

    return run


def test_the_numbers_of_the_config_may_be_swept_by_vmap(small: Callable) -> None:
    rates, deltas = jnp.array([0.5, 3.0, 3.0]), jnp.array([0.1, 0.1, 0.3])
    swept = jax.vmap(lambda rate, delta: small(STARTS, learning_rate=rate, delta=delta))(rates, deltas)
    for i in range(3):
        one = small(STARTS, learning_rate=float(rates[i]), delta=float(deltas[i]))
        np.testing.assert_allclose(swept[i], one, atol=1e-5)
    assert len({np.asarray(row).tobytes() for row in swept}) == 3


def test_objectives_may_be_swept_by_vmap(ensemble: Make) -> None:
    predictor = ensemble(members=2, hidden=(6,))
    goals = [Objective(maximize={"acc": 1.0}, minimize={"flops": w}).weights(predictor.metrics) for w in (0.1, 2.0)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *goals)
    box, config = (jnp.zeros(F), jnp.ones(F)), PropagationConfig(steps=5)
    swept = jax.vmap(lambda weights: invert(predictor, weights, jnp.asarray(STARTS), box, config))(stacked)
    for got, weights in zip(swept, goals, strict=True):
        np.testing.assert_allclose(got, invert(predictor, weights, jnp.asarray(STARTS), box, config), atol=1e-5)
    assert np.abs(np.asarray(swept[0] - swept[1])).max() > 1e-2


def test_a_batch_equals_its_rows(small: Callable) -> None:
    batch = np.asarray(small(STARTS))
    for i in range(0, len(STARTS), 2):
        # Two codes a call: the first follows the first network, the second the second.
        np.testing.assert_allclose(small(STARTS[i : i + 2]), batch[i : i + 2], atol=1e-5)


def test_no_step_is_no_move(ensemble: Make) -> None:
    predictor = ensemble(hidden=())
    weights = GOALS["up and down"].weights(predictor.metrics)
    end = invert(predictor, weights, jnp.asarray(STARTS), WIDE, PropagationConfig(steps=0))
    np.testing.assert_allclose(end, STARTS, atol=1e-6)


def test_other_numbers_do_not_recompile(small: Callable) -> None:
    small(STARTS, learning_rate=1.0)
    before = invert._cache_size()
    small(STARTS[::-1], learning_rate=2.0, delta=0.4)
    assert invert._cache_size() == before
    small(STARTS, strategy="winner-takes-all")
    assert invert._cache_size() == before + 1


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy": "winner"}, "expected a known strategy, got 'winner'; did you mean: winner-takes-all"),
        ({"follow": "members"}, "got 'members'; did you mean: member"),
        ({"steps": -1}, "expected steps to be an integer >= 0, got -1; try steps=70"),
        ({"steps": 1.5}, "expected steps to be an integer >= 0, got 1.5"),
        ({"learning_rate": 0.0}, "expected learning_rate to be a number > 0, got 0.0"),
        ({"learning_rate": float("nan")}, "expected learning_rate to be a number > 0, got nan"),
        ({"delta": float("inf")}, "expected delta to be a number > 0, got inf"),
        ({"ceiling_weight": -1.0}, "expected ceiling_weight to be a number >= 0, got -1.0"),
    ],
)
def test_wrong_settings(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PropagationConfig(**fields)
    with pytest.raises(UsageError, match=words):
        dataclasses.replace(PropagationConfig(), **fields)
