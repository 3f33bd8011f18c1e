"""The gradient that codes follow: both ways through a network, and the loss that it descends."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Objective, ObjectiveWeights, PropagationConfig, invert
from ncp_jax.propagation.gradients import exact_columns, fixed_slopes, members_of, slopes, tile_gradient
from ncp_jax.propagation.objective import weights_of
from ncp_jax.spaces import cost_model, get_space
from ncp_jax.spaces.costs.multi_resolution import _params_by_side
from ncp_jax.types import Array, Params

Make = Callable[..., Predictor]
F, N = 24, 6  # transnas-micro; codes of a tile here
X = jnp.asarray(np.random.default_rng(3).normal(size=(N, F)), jnp.float32)
Z_START = jnp.asarray(np.random.default_rng(4).normal(size=(N, 3)), jnp.float32)

PUSH = Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5})
HOLD = Objective(maximize={"acc": 1.0}, hold={"loss": 0.7})
CEILING = {"flops": 0.2}


def careful(mean: Array, spread: Array) -> Array:
    """An objective that no weights can write."""
    return jnp.tanh(mean[0]) - 0.5 * mean[2] ** 2 - 0.3 * spread[0] * spread[1]


def with_ordinary_apply(predictor: Predictor) -> Predictor:
    """The same without the method ``gradient``: JAX differentiates it, one code at a time."""
    folded = predictor.apply

    def apply(params: Params, x: Array) -> Array:
        return folded(params, x)

    return dataclasses.replace(predictor, apply=apply)


CASES = {
    "push, linear": ({"hidden": (), "members": 3}, PUSH, {}, "mean"),
    "push, logarithms": ({"hidden": (6,), "members": 3, "log": True}, PUSH, {}, "mean"),
    "push, one network": ({"hidden": (6, 5), "members": 1}, PUSH, {}, "member"),
    "hold and ceiling": ({"hidden": (6, 5), "members": 3}, HOLD, CEILING, "mean"),
    "hold and ceiling, one network": ({"hidden": (6, 5, 4), "members": 1}, HOLD, CEILING, "member"),
    "function": ({"hidden": (6,), "members": 3, "log": True}, careful, CEILING, "mean"),
    "function, one network": ({"hidden": (), "members": 1}, careful, {}, "member"),
    "bound": ({"hidden": (6, 5, 4), "members": 3}, PUSH, {}, "bound"),
    "bound with hold and ceiling": ({"hidden": (6,), "members": 3}, HOLD, CEILING, "bound"),
}


@pytest.mark.parametrize("case", CASES)
def test_batched_and_ordinary_networks_have_the_same_gradient(ensemble: Make, case: str) -> None:
    shape, goal, ceiling, follow = CASES[case]
    predictor = ensemble(**shape)
    weights = weights_of(goal, predictor.metrics, ceiling)
    config = PropagationConfig(follow=follow, confidence=0.7)
    both = [
        jax.jit(tile_gradient(p, weights, config, None))(predictor.params, X, Z_START)
        for p in (predictor, with_ordinary_apply(predictor))
    ]
    np.testing.assert_allclose(*both, rtol=1e-4, atol=1e-6)
    assert both[0].shape == (N, F)
    assert np.abs(both[0]).max() > 1e-3


@pytest.mark.parametrize("follow", ["member", "bound"])
def test_batched_and_ordinary_networks_are_inverted_alike(ensemble: Make, small_tiles: int, follow: str) -> None:
    predictor = ensemble(members=3)
    starts = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (10, F)), jnp.float32)
    weights = HOLD.weights(predictor.metrics, CEILING)
    config, box = PropagationConfig(steps=4, follow=follow), (jnp.zeros(F), jnp.ones(F))
    ends = [invert(p, weights, starts, box, config) for p in (predictor, with_ordinary_apply(predictor))]
    np.testing.assert_allclose(*ends, atol=1e-5)
    assert np.abs(ends[0] - starts).max() > 0.1


def loss(
    weights: ObjectiveWeights, config: PropagationConfig, z: np.ndarray, z_start: np.ndarray, extra: Callable | None
) -> float:
    """What ``slopes`` claims to be the gradient of, float64; z [k, m] of one code."""
    push, hold, ceiling = (np.asarray(a, np.float64) for a in (weights.push, weights.hold, weights.ceiling))
    mean, spread = z.mean(axis=0), z.std(axis=0)
    error = np.abs(mean - z_start)
    smooth = np.where(error < 1, error**2 / 2, error - 0.5)
    over = np.maximum(mean - np.where(np.isfinite(ceiling), ceiling, 1e9), 0).sum()
    total = hold @ smooth - config.delta * push @ mean + config.ceiling_weight * config.delta * over
    if config.follow == "bound":
        total += config.delta * config.confidence * np.abs(push) @ spread
    return float(total if extra is None else total - config.delta * extra(mean, spread))


def careful_in_numpy(mean: np.ndarray, spread: np.ndarray) -> float:
    return np.tanh(mean[0]) - 0.5 * mean[2] ** 2 - 0.3 * spread[0] * spread[1]


@pytest.mark.parametrize(
    ("goal", "follow", "members"),
    [(PUSH, "bound", 3), (HOLD, "mean", 4), (HOLD, "bound", 3), (careful, "mean", 3), (careful, "member", 1)],
    ids=["bound", "hold", "bound and hold", "function", "one network"],
)
def test_slopes_are_the_gradient_of_the_loss(goal: object, follow: str, members: int) -> None:
    metrics = [MetricSpec(name) for name in ("acc", "loss", "flops")]
    weights = weights_of(goal, metrics, CEILING)
    config = PropagationConfig(follow=follow, delta=0.3, confidence=0.8, ceiling_weight=1.7)
    rng, step = np.random.default_rng(members), 1e-6
    # Far enough apart that no difference crosses the kinks of hold and ceiling.
    z, z_start = rng.normal(size=(20, members, 3)).round(2) + 0.003, rng.normal(size=(20, 3)).round(1)
    extra = careful_in_numpy if goal is careful else None
    got = jax.jit(jax.vmap(lambda z, s: slopes(weights, config, z, s)))(jnp.asarray(z), jnp.asarray(z_start))
    for i in range(len(z)):
        wanted = np.zeros((members, 3))
        for k, m in np.ndindex(wanted.shape):
            move = np.zeros_like(wanted)
            move[k, m] = step
            up, down = (loss(weights, config, z[i] + sign * move, z_start[i], extra) for sign in (1, -1))
            wanted[k, m] = (up - down) / (2 * step)
        np.testing.assert_allclose(got[i], wanted, rtol=1e-4, atol=1e-5)
    assert (np.asarray(got)[:, 0, 2] > 0.0).any(), "the ceiling is not tested"


def test_a_spread_of_nothing_has_a_finite_slope() -> None:
    weights = PUSH.weights([MetricSpec(name) for name in ("acc", "loss", "flops")])
    agreed = slopes(weights, PropagationConfig(follow="bound"), jnp.ones((3, 3)), jnp.zeros(3))
    np.testing.assert_allclose(agreed, np.tile([-0.1, 0.0, 0.05], (3, 1)) / 3, atol=1e-7)


@pytest.mark.parametrize("members", [1, 3])
def test_fixed_slopes_are_the_slopes_of_every_code(ensemble: Make, members: int) -> None:
    weights = PUSH.weights(ensemble().metrics)
    config = PropagationConfig(follow="mean")
    z = jnp.asarray(np.random.default_rng(0).normal(size=(members, 3)), jnp.float32)
    np.testing.assert_allclose(fixed_slopes(weights, config, members), slopes(weights, config, z, z[0]), rtol=1e-6)


def test_slopes_are_fixed_only_where_the_objective_pushes_alone(ensemble: Make) -> None:
    metrics, config = ensemble().metrics, PropagationConfig(follow="mean")
    for goal, ceiling in ((HOLD, {}), (PUSH, CEILING), (careful, {})):
        assert fixed_slopes(weights_of(goal, metrics, ceiling), config, 3) is None
    assert fixed_slopes(PUSH.weights(metrics), dataclasses.replace(config, follow="bound"), 3) is None
    assert fixed_slopes(PUSH.weights(metrics), config, 3) is not None


@pytest.fixture(scope="module")
def costly(ensemble: Make) -> Predictor:
    return ensemble("nas-bench-mr", members=2, hidden=(5,))


def test_exact_costs_are_followed_in_place_of_their_prediction(costly: Predictor, network: Callable) -> None:
    space, scale = get_space("nas-bench-mr"), costly.scale
    mean, std = (np.asarray(a, np.float64) for a in (scale.x_mean, scale.x_std))
    weights = PUSH.weights(costly.metrics)
    gradient = tile_gradient(costly, weights, PropagationConfig(follow="mean"), cost_model(space))
    x = np.random.default_rng(1).uniform((space.lower - mean) / std, (space.upper - mean) / std, (4, 27))
    got = jax.jit(gradient)(costly.params, jnp.asarray(x, jnp.float32), jnp.zeros((4, 3)))
    members = [network(costly, k) for k in range(members_of(costly))]

    def value(row: np.ndarray) -> float:
        """The loss at a standard code, float64: the prediction of acc, the polynomial of the FLOPs."""
        acc = np.mean([member(row)[0] for member in members])
        gmac = sum(side * side * 1e-9 * params for side, params in _params_by_side(list(row * std + mean)))
        return -0.1 * acc + 0.05 * (gmac - 2.0) / 0.5

    for row, slope in zip(x, got, strict=True):
        wanted = [(value(row + 1e-5 * e) - value(row - 1e-5 * e)) / 2e-5 for e in np.eye(27)]
        np.testing.assert_allclose(slope, wanted, rtol=1e-3, atol=1e-5)


def test_exact_costs_replace_metrics_of_their_name_and_unit_alone() -> None:
    model = cost_model(get_space("nas-bench-mr"))
    specs = [MetricSpec("acc"), MetricSpec("flops", unit="GMAC"), MetricSpec("params", unit="M")]
    assert exact_columns(specs, model) == {1: "flops", 2: "params"}
    assert exact_columns([MetricSpec("flops", unit="M"), MetricSpec("latency", unit="ms")], model) == {}
    assert exact_columns(specs, None) == {}
