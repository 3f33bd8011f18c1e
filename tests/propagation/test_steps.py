"""Each step of a code in one tile, against loops over codes in float64 NumPy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Objective, PropagationConfig, TrustRegion, invert
from ncp_jax.spaces import Bounds, get_space

Make = Callable[..., Predictor]
GOAL = Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5})


def standard(predictor: Predictor, raw: object) -> np.ndarray:
    return (np.asarray(raw, np.float64) - np.asarray(predictor.scale.x_mean)) / np.asarray(predictor.scale.x_std)


class Curved:
    """A one-member ensemble over a space and its float64 oracle: what a code does that follows this gradient."""

    def __init__(self, ensemble: Make, network: Callable, space: str = "transnas-micro") -> None:
        self.predictor, self.space = ensemble(space, members=1, hidden=(6,)), get_space(space)
        self.weights, self.network = GOAL.weights(self.predictor.metrics), network(self.predictor, 0)
        self.box = (self.space.lower, self.space.upper)
        self.starts = np.random.default_rng(5).uniform(*self.box, (5, self.space.features)).astype(np.float32)

    def gradient(self, x: np.ndarray) -> np.ndarray:
        """Of what one step descends, at one standard code."""
        return np.array([-0.1, 0.0, 0.05]) @ self.network.with_jacobian(x)[1]

    def descend(self, step: Callable[[np.ndarray, int, dict], np.ndarray], steps: int) -> np.ndarray:
        """Ends of all codes, raw units, where ``step(x, done, memory of the code)`` says where a code goes next."""
        low, high = (standard(self.predictor, corner) for corner in self.box)
        ends = []
        for x in standard(self.predictor, self.starts):
            memory: dict[str, Any] = {}
            for done in range(steps):
                x = np.clip(step(x, done, memory), low, high)
            ends.append(x)
        return np.stack(ends) * np.asarray(self.predictor.scale.x_std) + np.asarray(self.predictor.scale.x_mean)

    def invert(self, **settings: Any) -> np.ndarray:
        config = PropagationConfig(**{"steps": 6, "learning_rate": 3.0, **settings})
        return np.asarray(invert(self.predictor, self.weights, jnp.asarray(self.starts), self.box, config))

    def assert_close(self, got: np.ndarray, wanted: np.ndarray) -> None:
        width = self.box[1] - self.box[0]
        np.testing.assert_allclose(got / width, wanted / width, atol=2e-5)
        assert np.abs((wanted - self.starts) / width).max() > 0.05


@pytest.fixture
def curved(ensemble: Make, network: Callable) -> Curved:
    return Curved(ensemble, network)


def test_only_the_steepest_feature_moves_where_the_winner_takes_all(curved: Curved) -> None:
    def step(x: np.ndarray, done: int, memory: dict) -> np.ndarray:
        slope = curved.gradient(x)
        return x - 3.0 * slope * (np.arange(len(x)) == np.argmax(np.abs(slope)))

    curved.assert_close(curved.invert(strategy="winner-takes-all"), curved.descend(step, 6))


@pytest.mark.parametrize("space", ["transnas-micro", "nas-bench-mr"])
@pytest.mark.parametrize("discreteness", ["straight-through", "annealed"])
def test_the_gradient_is_taken_at_or_on_the_way_to_legal_codes(
    ensemble: Make, network: Callable, discreteness: str, space: str
) -> None:
    curved = Curved(ensemble, network, space)
    limits = {"*.num_blocks": (2, 3), "last_channel": (None, 64)} if space == "nas-bench-mr" else {0: (1, 2)}
    bounds = Bounds.of(curved.space, limits)
    values = np.array([np.pad(v, (0, 16 - len(v)), mode="edge") for v in bounds.values])

    def nearest(raw: np.ndarray) -> np.ndarray:
        """The nearest legal code within the bounds, relaxed."""
        if space == "nas-bench-mr":
            return values[np.arange(len(raw)), np.abs(values - raw[:, None]).argmin(axis=1)].astype(np.float64)
        letters = raw.reshape(6, 4)
        allowed = np.array([np.isin(np.arange(4), some) for some in bounds.values])
        return np.eye(4)[np.where(allowed, letters, -np.inf).argmax(axis=1)].ravel()

    def step(x: np.ndarray, done: int, memory: dict) -> np.ndarray:
        scale = curved.predictor.scale
        legal = standard(curved.predictor, nearest(x * np.asarray(scale.x_std) + np.asarray(scale.x_mean)))
        share = 1.0 if discreteness == "straight-through" else (done + 1) / 6
        return x - 3.0 * curved.gradient(x + share * (legal - x))

    curved.assert_close(curved.invert(discreteness=discreteness, bounds=limits), curved.descend(step, 6))


def test_a_transform_has_a_state_for_each_code(curved: Curved) -> None:
    def adam(x: np.ndarray, done: int, memory: dict) -> np.ndarray:
        slope = curved.gradient(x)
        memory["first"] = 0.9 * memory.get("first", 0.0) + 0.1 * slope
        memory["second"] = 0.999 * memory.get("second", 0.0) + 0.001 * slope**2
        first, second = memory["first"] / (1 - 0.9 ** (done + 1)), memory["second"] / (1 - 0.999 ** (done + 1))
        return x - 0.1 * first / (np.sqrt(second) + 1e-8)

    curved.assert_close(curved.invert(transform=optax.adam(0.1)), curved.descend(adam, 6))


def test_a_transform_sees_one_code_alone(curved: Curved) -> None:
    limit = float(np.median([np.linalg.norm(curved.gradient(x)) for x in standard(curved.predictor, curved.starts)]))

    def clipped(x: np.ndarray, done: int, memory: dict) -> np.ndarray:
        slope = curved.gradient(x)
        return x - 3.0 * slope * min(1.0, limit / np.linalg.norm(slope))

    transform = optax.chain(optax.clip_by_global_norm(limit), optax.sgd(3.0))
    curved.assert_close(curved.invert(transform=transform), curved.descend(clipped, 6))


def test_the_slope_of_the_trust_region_is_added(curved: Curved) -> None:
    scale = curved.predictor.scale
    rows = np.asarray(curved.space.sample(jax.random.key(0), 50))
    region = dataclasses.replace(TrustRegion.around(rows, curved.space, scale, kind="distance"), threshold=1.5)

    def step(x: np.ndarray, done: int, memory: dict) -> np.ndarray:
        away = x - np.asarray(region.rows, np.float64)
        lengths = np.linalg.norm(away, axis=1)
        nearest = lengths.argmin()
        push = 0.1 * np.clip(lengths[nearest] - 1.5, 0, 1) / lengths[nearest] * away[nearest]
        return x - 3.0 * (curved.gradient(x) + push)

    curved.assert_close(curved.invert(region=region), curved.descend(step, 6))
    assert np.abs(curved.invert(region=region) - curved.invert()).max() > 0.02


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_rounded_products_change_little(curved: Curved, precision: str) -> None:
    exact, rounded = curved.invert(), curved.invert(precision=precision)
    error = np.linalg.norm(rounded - exact) / np.linalg.norm(exact - curved.starts)
    assert error < 2e-2
    assert (error > 1e-5) == (precision == "bfloat16")  # a CPU has no units for tf32
