"""The fit of a head against scipy and against ridge regression in closed form."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from scipy.optimize import minimize
from scipy.special import log_softmax

from ncp_jax.checks import DataError, UsageError
from ncp_jax.embeddings import fit_head

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 3)).astype(np.float32)
LABELS = RNG.integers(0, 3, 40)
ZEROS = {"w": np.zeros((3, 3), np.float32), "b": np.zeros(3, np.float32)}


def linear(params: Any, x: jax.Array) -> jax.Array:
    return x @ params["w"] + params["b"]


def test_softmax_regression_equals_scipy() -> None:
    _, found = fit_head((linear, ZEROS), X, LABELS, head=lambda _: True, decay=0.1)

    def loss(flat: np.ndarray) -> float:
        logits = X.astype(np.float64) @ flat[:9].reshape(3, 3) + flat[9:]
        return -log_softmax(logits, axis=1)[np.arange(40), LABELS].mean() + 0.05 * (flat**2).sum()

    best = minimize(loss, np.zeros(12), tol=1e-10).x
    np.testing.assert_allclose(found["w"], best[:9].reshape(3, 3), atol=1e-3)
    np.testing.assert_allclose(found["b"], best[9:], atol=1e-3)


def test_gaussian_equals_ridge_regression_and_the_rest_stays() -> None:
    targets = X @ RNG.normal(size=(3, 3)) + 1
    start = ZEROS | {"b": np.array([0.5, 1.0, 1.5], np.float32)}
    _, found = fit_head((linear, start), X, targets, head=lambda p: p == "w", likelihood="gaussian", decay=0.2)
    gram = X.T @ X / 40 + 0.2 * np.eye(3)
    expected = np.linalg.solve(gram, X.T @ (targets - start["b"]) / 40)
    np.testing.assert_allclose(found["w"], expected, atol=1e-3)
    np.testing.assert_array_equal(found["b"], start["b"])


def test_a_module_keeps_all_but_its_head_and_the_one_given_is_left_alone() -> None:
    rngs = nnx.Rngs(0)
    module = nnx.Sequential(nnx.Linear(3, 4, rngs=rngs), nnx.BatchNorm(4, rngs=rngs), nnx.Linear(4, 3, rngs=rngs))
    before = jax.tree.map(np.asarray, nnx.to_pure_dict(nnx.state(module)))
    fitted = fit_head(module, X, LABELS, head=lambda path: path.startswith("layers/2"), steps=20)
    after, given = nnx.to_pure_dict(nnx.state(fitted)), nnx.to_pure_dict(nnx.state(module))
    jax.tree.map(np.testing.assert_array_equal, given, before)
    jax.tree.map(
        np.testing.assert_array_equal, [after["layers"][i] for i in (0, 1)], [before["layers"][i] for i in (0, 1)]
    )
    assert not np.allclose(after["layers"][2]["kernel"], before["layers"][2]["kernel"])
    assert not module.layers[1].use_running_average
    assert not fitted.layers[1].use_running_average


@pytest.mark.parametrize(
    ("changes", "error", "text"),
    [
        (
            {"head": lambda _: False},
            UsageError,
            "expected a filter that keeps a parameter, got one that keeps none; the paths: b, w",
        ),
        (
            {"targets": LABELS[:-1]},
            UsageError,
            r"expected integer labels \[40\] in 0\.\.2, got int64 \[39\]; number the",
        ),
        ({"targets": LABELS + 1}, UsageError, r"in 0\.\.2"),
        ({"targets": LABELS.astype(float)}, UsageError, "got float64"),
        (
            {"targets": LABELS, "likelihood": "gaussian"},
            UsageError,
            r"expected numbers \[40, 3\] as targets, got int64",
        ),
        (
            {"targets": np.full((40, 3), np.nan), "likelihood": "gaussian"},
            DataError,
            "expected finite targets, got NaN",
        ),
        ({"inputs": X[:0]}, UsageError, "expected inputs"),
        ({"likelihood": "poisson"}, UsageError, "expected a known likelihood, got 'poisson'"),
        ({"steps": 0}, UsageError, "expected steps to be an integer 1 or more, got 0; 300 is usual"),
        ({"steps": 2.5}, UsageError, "got 2.5"),
        ({"learning_rate": -1.0}, UsageError, "expected learning_rate"),
        ({"decay": -1.0}, UsageError, "expected decay to be a number >= 0"),
        ({"probe": linear}, UsageError, r"expected a Flax NNX module or \(apply, params\), got function; apply takes"),
    ],
)
def test_wrong_fits(changes: dict[str, Any], error: type[Exception], text: str) -> None:
    call = {"probe": (linear, ZEROS), "inputs": X, "targets": LABELS, "head": lambda _: True} | changes
    with pytest.raises(error, match=text):
        fit_head(**call)


def test_decay_bounds_the_head_of_a_separable_task() -> None:
    labels = (X[:, 0] > 0).astype(int)
    norms = [
        float(jnp.linalg.norm(fit_head((linear, ZEROS), X, labels, head=lambda _: True, decay=decay)[1]["w"]))
        for decay in (1e-1, 1e-2)
    ]
    assert norms[0] < norms[1]
