"""The authors' recipe, written out in float64 NumPy with BatchNorm, targets and losses as they stand in the paper."""

from __future__ import annotations

import dataclasses
import itertools

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import FoldedMLP, Predictor, Standardisation
from ncp_jax.predictors.folded import fold_batch_norm
from ncp_jax.propagation import Objective, PropagationConfig, invert
from ncp_jax.spaces import get_space

SPACE = get_space("nas-bench-mr")
METRICS = (MetricSpec("acc", task="a"), MetricSpec("flops", unit="GMAC", direction="minimize", kind="cost"))
STEPS, RATE, DELTA, FLOPS_WEIGHT = 70, 3.0, 0.1, 0.5


@dataclasses.dataclass(frozen=True)
class Network:
    """BatchNorm → Linear → BatchNorm → swish → Linear → BatchNorm → swish → Linear, at inference."""

    norms: list[tuple[np.ndarray, np.ndarray]]
    layers: list[tuple[np.ndarray, np.ndarray]]

    @classmethod
    def random(cls, seed: int) -> Network:
        rng = np.random.default_rng(seed)
        sizes = (27, 16, 12, 2)
        norms = [(rng.uniform(0.7, 1.4, n), rng.normal(0, 0.3, n)) for n in sizes[:-1]]
        layers = [
            (rng.normal(size=(i, o)) * np.sqrt(2 / i), rng.normal(0, 0.3, o)) for i, o in itertools.pairwise(sizes)
        ]
        return cls(norms, layers)

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        """Outputs, and what the swishes read."""
        (g0, s0), (g1, s1), (g2, s2) = self.norms
        (w1, b1), (w2, b2), (w3, b3) = self.layers
        a1 = ((x * g0 + s0) @ w1 + b1) * g1 + s1
        a2 = (swish(a1) @ w2 + b2) * g2 + s2
        return swish(a2) @ w3 + b3, [a1, a2]

    def backward(self, seen: list[np.ndarray], slope: np.ndarray) -> np.ndarray:
        """Gradient on the input of a loss whose slope on the outputs is given."""
        (g0, _), (g1, _), (g2, _) = self.norms
        (w1, _), (w2, _), (w3, _) = self.layers
        d2 = (slope @ w3.T) * swish_slope(seen[1]) * g2
        d1 = (d2 @ w2.T) * swish_slope(seen[0]) * g1
        return (d1 @ w1.T) * g0

    def folded(self) -> dict[str, tuple]:
        """Parameters of the library's predictor, float32, one member."""
        (g0, s0), *after = self.norms
        w1, b1 = self.layers[0]
        layers = [(g0[:, None] * w1, b1 + s0 @ w1), *self.layers[1:]]
        pairs = [fold_batch_norm(w, b, g, s) for (w, b), (g, s) in zip(layers[:-1], after, strict=True)] + layers[-1:]
        return {
            "w": tuple(jnp.asarray(w[None], jnp.float32) for w, _ in pairs),
            "b": tuple(jnp.asarray(b[None], jnp.float32) for _, b in pairs),
        }


def swish(a: np.ndarray) -> np.ndarray:
    return a / (1 + np.exp(-a))


def swish_slope(a: np.ndarray) -> np.ndarray:
    sigmoid = 1 / (1 + np.exp(-a))
    return sigmoid + a * sigmoid * (1 - sigmoid)


def smooth_l1_slope(prediction: np.ndarray, target: np.ndarray) -> np.ndarray:
    error = prediction - target
    return np.where(np.abs(error) < 1, error, np.sign(error))


def trajectory(network: Network, x: np.ndarray, low: np.ndarray, high: np.ndarray, winner: bool) -> np.ndarray:
    """All points of the authors' loop from one start, standard units, [steps + 1, f]."""
    points = [x]
    for _ in range(STEPS):
        z, seen = network.forward(x)
        target = z + np.array([DELTA, -DELTA])
        slope = smooth_l1_slope(z, target) * np.array([1.0, FLOPS_WEIGHT])
        gradient = network.backward(seen, slope)
        if winner:
            gradient = np.where(np.arange(27) == np.argmax(np.abs(gradient)), gradient, 0)
        x = np.clip(x - RATE * gradient, low, high)
        points.append(x)
    return np.stack(points)


LOWER, UPPER = SPACE.lower.astype(np.float64), SPACE.upper.astype(np.float64)
MEAN, STD = (LOWER + UPPER) / 2 - 3, (UPPER - LOWER) / 2.7
NETWORK = Network.random(0)


def test_the_oracle_knows_its_own_gradient() -> None:
    x, slope, step = np.random.default_rng(3).normal(size=27), np.array([0.3, -0.7]), 1e-6
    _, seen = NETWORK.forward(x)
    differences = [
        (NETWORK.forward(x + step * e)[0] - NETWORK.forward(x - step * e)[0]) @ slope / (2 * step) for e in np.eye(27)
    ]
    np.testing.assert_allclose(NETWORK.backward(seen, slope), differences, atol=1e-8)


@pytest.mark.parametrize("strategy", ["continuous", "winner-takes-all"])
def test_the_authors_trajectory(strategy: str) -> None:
    low, high = (LOWER - MEAN) / STD, (UPPER - MEAN) / STD
    # The authors' start, all channels 64 and all counts 2, and three drawn from the box.
    first = np.where(UPPER > 4, 64.0, 2.0)
    starts = np.stack([first, *np.random.default_rng(1).uniform(LOWER, UPPER, (3, 27))])
    winner = strategy == "winner-takes-all"
    wanted = np.stack([trajectory(NETWORK, (s - MEAN) / STD, low, high, winner) for s in starts], axis=1)
    moved = np.abs(np.diff(wanted, axis=0)) > 0
    # A winner that has reached the box stays the winner: then nothing moves.
    assert (moved[0].sum(axis=-1) == (1 if winner else 27)).all()
    assert not winner or moved.sum(axis=-1).max() == 1
    assert ((wanted[-1] == low) | (wanted[-1] == high)).any(), "no start reaches the box: clipping is not tested"

    unit = (np.full(2, 1.0), np.full(2, 3.0))
    scale = Standardisation(*(jnp.asarray(a, jnp.float32) for a in (MEAN, STD, *unit)))
    predictor = Predictor(NETWORK.folded(), scale, FoldedMLP(), METRICS, SPACE.name)
    weights = Objective(maximize={"acc": 1.0}, minimize={"flops": FLOPS_WEIGHT}).weights(METRICS)
    box = (jnp.asarray(SPACE.lower), jnp.asarray(SPACE.upper))

    def standard(relaxed: object) -> np.ndarray:
        return (np.asarray(relaxed, np.float64) - MEAN) / STD

    one = PropagationConfig.authors(steps=1, strategy=strategy)
    x = jnp.asarray(starts, jnp.float32)
    for point in wanted[1:]:
        x = invert(predictor, weights, x, box, one)
        np.testing.assert_allclose(standard(x), point, atol=1e-4)
    whole = dataclasses.replace(one, steps=STEPS)
    end = invert(predictor, weights, jnp.asarray(starts, jnp.float32), box, whole)
    np.testing.assert_allclose(standard(end), wanted[-1], atol=1e-4)


def test_the_authors_settings() -> None:
    config = PropagationConfig.authors()
    assert (config.steps, config.learning_rate, config.delta, config.strategy) == (STEPS, RATE, DELTA, "continuous")
