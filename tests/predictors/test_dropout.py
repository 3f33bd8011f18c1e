from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.predictors.dropout import draws_needed, dropout, split_draws


@pytest.mark.parametrize(
    ("units", "rate", "draws"),
    [(64, 0.5, 2), (65, 0.5, 3), (1, 0.5, 1), (64, 0.25, 16), (65, 0.1, 17), (64, 0.0, 0)],
)
def test_draws_needed(units: int, rate: float, draws: int) -> None:
    assert draws_needed(units, rate) == draws


def random_draws(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2**32, shape, np.uint32)


@pytest.mark.parametrize(("rate", "units"), [(0.5, 40), (0.25, 30), (0.1, 30)])
def test_keep_rate_and_scale(rate: float, units: int) -> None:
    rows = 4000
    draws = random_draws(rows, draws_needed(units, rate))
    y = np.asarray(jax.jit(dropout, static_argnums=1)(np.ones((rows, units), np.float32), rate, draws))
    dropped = round(rate * 256) / 256 if rate != 0.5 else 0.5
    np.testing.assert_allclose(np.unique(y), [0.0, 1 / (1 - dropped)], rtol=1e-6)
    # Every unit on its own, to four standard errors and a bit: 1 / (1 - rate) scales the mean back to one.
    error = 5 * np.sqrt(rate * (1 - rate) / rows)
    np.testing.assert_allclose((y == 0).mean(axis=0), dropped, atol=error)
    np.testing.assert_allclose(y.mean(axis=0), 1.0, atol=error / (1 - rate))
    # Neighbouring units fall independently.
    both = ((y[:, 1:] == 0) & (y[:, :-1] == 0)).mean()
    np.testing.assert_allclose(both, dropped**2, atol=5 * np.sqrt(rate / rows / units))


def test_the_kept_elements_keep_their_sign_and_order() -> None:
    x = np.tile(np.arange(1, 41, dtype=np.float32) - 20.5, (3, 1))
    y = np.asarray(jax.jit(dropout, static_argnums=1)(x, 0.5, random_draws(3, 2)))
    kept = y != 0
    np.testing.assert_array_equal(y[kept], 2 * x[kept])
    assert 0 < kept.mean() < 1


@pytest.mark.parametrize(("rate", "draws"), [(0.0, np.zeros((2, 1), np.uint32)), (0.5, None)])
def test_identity(rate: float, draws: np.ndarray | None) -> None:
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(dropout(x, rate, draws), x)


def test_split_draws() -> None:
    draws = jnp.arange(12, dtype=jnp.uint32).reshape(2, 6)
    parts = split_draws(draws, (1, 0, 3, 2))
    np.testing.assert_array_equal(jnp.concatenate(parts, axis=1), draws)
    assert [part.shape[1] for part in parts] == [1, 0, 3, 2]
    assert split_draws(None, (1, 2)) == [None, None]
