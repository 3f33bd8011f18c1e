"""The Flax modules against float64 NumPy, and against the folded layers that stand for them at inference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ncp_jax.predictors import FoldedMLP, mlp, ncp

F, HEADS = 7, (1, 2, 1)
X = np.random.default_rng(0).normal(1.0, 2.0, size=(9, F)).astype(np.float32)


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def linear(layer: nnx.Linear, x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...], np.float64)


def normalise(layer: nnx.BatchNorm, x: np.ndarray) -> np.ndarray:
    mean, var, scale, bias = (np.asarray(a[...], np.float64) for a in (layer.mean, layer.var, layer.scale, layer.bias))
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


@pytest.fixture(scope="module")
def trained_ncp() -> ncp.NCPPredictor:
    """A network whose BatchNorm statistics, scales and shifts have left their initial values."""
    model = ncp.NCPPredictor(F, HEADS, width=12, head_width=5, rngs=nnx.Rngs(0))
    step = nnx.jit(lambda model, x, words: model(x, train=True, words=words))
    for i in range(3):
        key = jax.random.key(i)
        step(model, 3 + 2 * jax.random.normal(key, (16, F)), jax.random.bits(key, (16, sum(model.words)), jnp.uint32))
    rng = np.random.default_rng(1)
    for layer in (model.norm_in, model.norm, *model.head_norm):
        layer.scale[...] = jnp.asarray(rng.uniform(0.5, 2.0, layer.scale.shape), jnp.float32)
        layer.bias[...] = jnp.asarray(rng.normal(size=layer.bias.shape), jnp.float32)
    return model


def test_ncp_statistics_moved(trained_ncp: ncp.NCPPredictor) -> None:
    assert float(jnp.abs(trained_ncp.norm_in.mean[...]).min()) > 0.3
    assert float(jnp.abs(trained_ncp.norm.var[...] - 1).min()) > 1e-3


def test_ncp_equals_the_definition(trained_ncp: ncp.NCPPredictor) -> None:
    m = trained_ncp
    hidden = swish(normalise(m.norm, linear(m.trunk, normalise(m.norm_in, X.astype(np.float64)))))
    heads = zip(m.head, m.head_norm, m.out, strict=True)
    wanted = np.concatenate([linear(o, swish(normalise(n, linear(h, hidden)))) for h, n, o in heads], axis=1)
    got = m(jnp.asarray(X))
    assert got.shape == (9, sum(HEADS))
    np.testing.assert_allclose(got, wanted, atol=1e-5)


def test_ncp_equals_its_fold(trained_ncp: ncp.NCPPredictor) -> None:
    params = ncp.fold(trained_ncp)
    assert [w.shape for w in params["w"]] == [(F, 12), (12, 15), (15, 4)]
    got = jax.vmap(FoldedMLP(), in_axes=(None, 0))(params, jnp.asarray(X))
    np.testing.assert_allclose(got, trained_ncp(jnp.asarray(X)), atol=1e-5)


def test_ncp_in_training_normalises_by_the_batch(trained_ncp: ncp.NCPPredictor) -> None:
    model = nnx.clone(trained_ncp)
    before = np.asarray(model.norm_in.mean[...])
    got = model(jnp.asarray(X), train=True)
    batch = X.astype(np.float64)
    np.testing.assert_allclose(model.norm_in.mean[...], 0.9 * before + 0.1 * batch.mean(axis=0), atol=1e-5)
    assert np.abs(np.asarray(got) - np.asarray(trained_ncp(jnp.asarray(X)))).max() > 1e-2


def test_ncp_words_and_dropout(trained_ncp: ncp.NCPPredictor) -> None:
    # Trunk of 12 and three heads of 5 units, one bit a unit at rate 1/2; the last head has no dropout.
    assert trained_ncp.words == (1, 1, 1, 0)
    words = jax.random.bits(jax.random.key(0), (9, 3), jnp.uint32)
    clean, noisy = trained_ncp(jnp.asarray(X)), trained_ncp(jnp.asarray(X), words=words)
    assert np.abs(np.asarray(clean - noisy)).max() > 1e-2


@pytest.fixture(scope="module")
def plain() -> mlp.MLPPredictor:
    model = mlp.MLPPredictor(F, 3, widths=(8, 6), rate=0.25, rngs=nnx.Rngs(3))
    for layer in (*model.layers, model.out):
        layer.bias[...] = jax.random.normal(jax.random.key(4), layer.bias.shape)
    return model


def test_mlp_equals_the_definition(plain: mlp.MLPPredictor) -> None:
    hidden = X.astype(np.float64)
    for layer in plain.layers:
        hidden = swish(linear(layer, hidden))
    np.testing.assert_allclose(plain(jnp.asarray(X)), linear(plain.out, hidden), atol=1e-5)


def test_mlp_equals_its_fold(plain: mlp.MLPPredictor) -> None:
    got = jax.vmap(FoldedMLP(), in_axes=(None, 0))(mlp.fold(plain), jnp.asarray(X))
    np.testing.assert_allclose(got, plain(jnp.asarray(X)), atol=1e-5)


def test_mlp_words_and_dropout(plain: mlp.MLPPredictor) -> None:
    assert plain.words == (2, 2)
    words = jax.random.bits(jax.random.key(0), (9, 4), jnp.uint32)
    clean, noisy = plain(jnp.asarray(X)), plain(jnp.asarray(X), words=words)
    assert np.abs(np.asarray(clean - noisy)).max() > 1e-2


def test_bfloat16_modules_are_close(plain: mlp.MLPPredictor) -> None:
    rounded = mlp.MLPPredictor(F, 3, widths=(8, 6), precision="bfloat16", rngs=nnx.Rngs(3))
    nnx.update(rounded, nnx.state(plain, nnx.Param))
    exact, got = np.asarray(plain(jnp.asarray(X))), np.asarray(rounded(jnp.asarray(X)))
    assert 0 < np.abs(got - exact).max() < 2e-2 * np.abs(exact).max()
