"""task_settings: normalised gradients, and which positions agree."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from task_settings.settings import mean_gradients
from task_settings.summary import summarise

from ncp_jax import load_table
from ncp_jax.predictors import Predictor, Standardisation
from ncp_jax.spaces import get_space


def _linear(params: Any, x: jax.Array) -> jax.Array:
    return x @ params


def test_gradients_of_a_linear_predictor() -> None:
    table = load_table("digits/class")
    space = get_space(table.space)
    slope = np.zeros((space.features, 1), np.float32)
    slope[0], slope[5] = 3.0, 4.0  # two features, of the first two positions
    features = jnp.zeros(space.features)
    scale = Standardisation(features, features + 1, jnp.zeros(1), jnp.ones(1))
    predictor = Predictor(jnp.asarray(slope)[None], scale, _linear, (table.main,), table.space)
    (found,) = mean_gradients(predictor, table, ("class",), np.asarray(table.codes)[:3])
    np.testing.assert_allclose(found, [0.6, 0.8, 0, 0, 0, 0], atol=1e-6)


def test_positions_agree_where_intervals_exclude_zero() -> None:
    def runs(first: float, second: float) -> list[dict[str, Any]]:
        gradient = [[first, second, 0.1], [first + 0.01, second - 0.01, -0.1], [first, second, 0.0]]
        return [{"judged": {"a": 1.0, "b": first}, "gradient": g, "shift": [0.0] * 3} for g in gradient]

    found = {"a": runs(0.5, 0.5), "b": runs(0.6, -0.4)}
    results = summarise(found, {"task": ("a", "b")}, ("p", "q", "r"))
    assert results["positions"]["task"] == {"shared": ["p"], "opposed": ["q"]}
    assert results["loss"]["task"]["b"]["a"]["mean"] == 0
    assert results["loss"]["task"]["a"]["b"]["mean"] == np.float64(0.6 - 0.5)
    assert "between" not in results["similarity"]
