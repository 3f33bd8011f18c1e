"""The batched gradient of folded networks against JAX's own, pulled back through ``__call__`` member by member."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.predictors import FoldedMLP
from ncp_jax.types import Array, Params

F, N, OUTPUTS, MEMBERS = 5, 6, 3, 3
RNG = np.random.default_rng(7)
X = jnp.asarray(RNG.normal(size=(N, F)), jnp.float32)
FIXED = jnp.asarray(RNG.normal(size=(MEMBERS, OUTPUTS)), jnp.float32)


def networks(hidden: Sequence[int], *, log: bool) -> Params:
    """Random parameters with an axis of members; in raw units some features are below 1/2, where the logarithm ends."""
    sizes = ((2 if log else 1) * F, *hidden, OUTPUTS)
    w = tuple(RNG.normal(size=(MEMBERS, i, o)) / np.sqrt(i) for i, o in itertools.pairwise(sizes))
    b = tuple(RNG.normal(size=(MEMBERS, o)) for o in sizes[1:])
    params = {"w": w, "b": b}
    if log:
        params |= {"x_mean": RNG.uniform(0.5, 3, (MEMBERS, F)), "x_std": RNG.uniform(0.5, 2, (MEMBERS, F))}
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)


def bend(z: Array) -> Array:
    """Slopes that differ from code to code and member to member."""
    return jnp.sin(z) * jnp.arange(1.0, len(z) + 1)[:, None, None]


@functools.partial(jax.jit, static_argnums=0)
def pulled_back(apply: FoldedMLP, params: Params, x: Array) -> tuple[Array, Array]:
    """The sums over the members of what JAX pulls back: for ``FIXED`` slopes and for those of ``bend``."""

    def predict(x: Array) -> Array:
        return jax.vmap(lambda p: jax.vmap(lambda row: apply(p, row))(x))(params)

    z, pull = jax.vjp(predict, x)
    return pull(jnp.broadcast_to(FIXED[:, None], z.shape))[0], pull(bend(z))[0]


@functools.partial(jax.jit, static_argnums=(0, 3))
def gradients(apply: FoldedMLP, params: Params, x: Array, precision: str = "float32") -> tuple[Array, Array]:
    return apply.gradient(params, x, FIXED, precision), apply.gradient(params, x, bend, precision)


@pytest.mark.parametrize(
    ("hidden", "log"), [((), False), ((), True), ((6,), False), ((6, 9), True), ((6, 5, 4), False)]
)
def test_the_gradient_is_what_jax_pulls_back(hidden: tuple[int, ...], log: bool) -> None:
    apply, params = FoldedMLP(log=log), networks(hidden, log=log)
    for got, wanted in zip(gradients(apply, params, X), pulled_back(apply, params, X), strict=True):
        assert got.shape == X.shape
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-5)
        assert np.abs(wanted).min(axis=1).max() > 1e-3


def test_below_a_half_the_logarithm_has_no_slope() -> None:
    apply, params = FoldedMLP(log=True), networks((4,), log=True)
    low = jnp.full_like(X, -10.0)
    assert (np.asarray(low * params["x_std"][0] + params["x_mean"][0]) < 0.5).all()
    cut = params | {"w": (params["w"][0].at[:, F:].set(0.0), params["w"][1])}
    # What the logarithm adds there is a constant of the first layer.
    constant = -params["w"][0][:, F:].sum(axis=1)
    cut["b"] = (params["b"][0] + constant, params["b"][1])
    for got, wanted in zip(gradients(apply, params, low), gradients(apply, cut, low), strict=True):
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_a_batch_equals_its_rows() -> None:
    apply, params = FoldedMLP(), networks((6, 9), log=False)
    batch = gradients(apply, params, X)
    one = [gradients(apply, params, row[None]) for row in X]
    for i, whole in enumerate(batch):
        np.testing.assert_allclose(jnp.concatenate([row[i] for row in one]), whole, rtol=1e-5, atol=1e-5)


def test_rounded_products_stay_near() -> None:
    apply, params = FoldedMLP(), networks((16, 12), log=False)
    exact = gradients(apply, params, X)
    for got, wanted in zip(gradients(apply, params, X, "bfloat16"), exact, strict=True):
        assert got.dtype == jnp.float32
        error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
        assert 1e-5 < error < 2e-2
    for got, wanted in zip(gradients(apply, params, X, "tf32"), exact, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-3, atol=2e-3)


def test_selected_outputs_that_are_constant_keep_a_hidden_unit() -> None:
    params = networks((4,), log=False)
    w, last = params["w"]
    params = params | {"w": (w, last.at[..., 1:].set(0.0))}
    chosen = FoldedMLP().select(params, (1, 2))
    assert chosen["w"][0].shape == (MEMBERS, F, 1)
    found = jax.vmap(FoldedMLP(), (0, None))(chosen, X[0])
    np.testing.assert_array_equal(found, params["b"][-1][:, 1:])
    slope = jax.grad(lambda x: jax.vmap(FoldedMLP(), (0, None))(chosen, x).sum())(X[0])
    np.testing.assert_array_equal(slope, 0)
