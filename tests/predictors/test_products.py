from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.predictors.products import check_precision, matmul

RNG = np.random.default_rng(0)
X, W, G = RNG.normal(size=(6, 5, 40)), RNG.normal(size=(40, 30)), RNG.normal(size=(6, 5, 30))
SCALE = np.sqrt(40)


def with_gradients(precision: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Product, and the gradients of its inner product with G, as the library computes them."""
    x, w, g = (jnp.asarray(a, jnp.float32) for a in (X, W, G))
    y, pullback = jax.vjp(lambda x, w: matmul(x, w, precision), x, w)
    assert y.dtype == jnp.float32
    dx, dw = pullback(g)
    assert dx.dtype == dw.dtype == jnp.float32
    return np.asarray(y), np.asarray(dx), np.asarray(dw)


ORACLE = (X @ W, G @ W.T, np.einsum("abk,abm->km", X, G))


def test_float32_equals_float64() -> None:
    for got, wanted in zip(with_gradients("float32"), ORACLE, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5 * SCALE)


def test_bfloat16_is_within_its_rounding_and_really_rounds() -> None:
    for got, wanted in zip(with_gradients("bfloat16"), ORACLE, strict=True):
        error = np.abs(got - wanted).max() / np.abs(wanted).max()
        assert 1e-5 < error < 1e-2


def test_bfloat16_sums_in_float32() -> None:
    # 1 + 2**-8 + ... rounds to 1 in bfloat16: only a wider sum keeps the small terms.
    x = jnp.concatenate([jnp.ones(1), jnp.full(64, 2.0**-9)])
    np.testing.assert_allclose(matmul(x, jnp.ones((65, 1)), "bfloat16"), [1.125], rtol=1e-6)


def test_float32_gradients_are_those_of_jax() -> None:
    x, w = jnp.asarray(X[0], jnp.float32), jnp.asarray(W, jnp.float32)

    def loss(product):
        return lambda x, w: jnp.sum(jnp.sin(product(x, w)))

    ours = jax.grad(loss(matmul), (0, 1))(x, w)
    theirs = jax.grad(loss(lambda x, w: jnp.matmul(x, w, precision="highest")), (0, 1))(x, w)
    for got, wanted in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(got, wanted, atol=1e-5 * SCALE)


def test_one_row_under_vmap_equals_the_batch() -> None:
    x, w = jnp.asarray(X[0], jnp.float32), jnp.asarray(W, jnp.float32)
    one = jax.vmap(lambda row: jax.grad(lambda r: matmul(r, w, "bfloat16").sum())(row))(x)
    np.testing.assert_allclose(one, jax.grad(lambda x: matmul(x, w, "bfloat16").sum())(x), atol=1e-5)


def test_unknown_precision() -> None:
    assert check_precision("BFloat16") == "bfloat16"
    with pytest.raises(UsageError, match="expected a known precision, got 'float31'; did you mean: float32"):
        check_precision("float31")


def test_products_over_nothing_have_gradients() -> None:
    x, w = jnp.zeros((4, 0)), jnp.zeros((0, 3))
    dx, dw = jax.grad(lambda x, w: matmul(x, w).sum(), (0, 1))(x, w)
    assert (dx.shape, dw.shape) == (x.shape, w.shape)
