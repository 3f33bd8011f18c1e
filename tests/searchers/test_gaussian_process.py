"""The numerics of Gaussian processes against closed forms in float64, numerical integration and differences."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, stats

from ncp_jax.searchers import gaussian_process as gp

BLOCKS = (3, 2)
# As in a search, whole programs: to compile each operation on its own takes several times longer.
geometry, slope = jax.jit(gp.geometry, static_argnums=2), jax.jit(gp.slope)


def problem(seed: int = 0) -> tuple[gp.Kernel, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """A kernel, 6 measured rows of 20 and 2 empty slots, targets, features."""
    rng = np.random.default_rng(seed)
    logs = rng.normal(scale=0.5, size=6).astype(np.float32)
    kernel = gp.Kernel(logs[0], logs[1:3], logs[3:5], logs[5])
    rows = np.r_[rng.permutation(20)[:6], 0, 0]
    mask = np.arange(8) < 6
    return kernel, rows, (rng.normal(size=8) * mask).astype(np.float32), mask, rng.normal(size=(20, 5)).astype("f")


def covariance(kernel: gp.Kernel, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The kernel as the docstring of ``Kernel`` has it, pair by pair."""
    k = gp.Kernel(*(np.exp(np.float64(leaf)) for leaf in kernel))
    out = np.zeros((len(a), len(b)))
    for i, p in enumerate(a.astype(float)):
        for j, q in enumerate(b.astype(float)):
            parts = list(zip(np.split(p, [BLOCKS[0]]), np.split(q, [BLOCKS[0]]), strict=True))
            out[i, j] = k.rbf * np.exp(
                -0.5 * sum(np.mean((u - v) ** 2) / s**2 for (u, v), s in zip(parts, k.length, strict=True))
            ) + sum(w * np.mean(u * v) for (u, v), w in zip(parts, k.linear, strict=True))
    return out


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_inverse_factor_gives_the_conditional_of_a_normal(seed: int) -> None:
    kernel, rows, targets, mask, x = problem(seed)
    factor = np.asarray(jax.jit(gp.inverse_factor)(kernel, geometry(x[rows], x[rows], BLOCKS), mask))
    half = factor @ (np.asarray(jax.jit(gp.covariance)(kernel, geometry(x[rows], x, BLOCKS))) * mask[:, None])
    mean, variance = (factor @ (targets * mask)) @ half, np.diag(covariance(kernel, x, x)) - (half**2).sum(axis=0)
    seen = x[rows[:6]]
    inverse = np.linalg.inv(covariance(kernel, seen, seen) + np.exp(float(kernel.noise)) * np.eye(6))
    cross = covariance(kernel, x, seen)
    np.testing.assert_allclose(mean, cross @ inverse @ targets[:6], atol=2e-5)
    np.testing.assert_allclose(variance, np.diag(covariance(kernel, x, x) - cross @ inverse @ cross.T), atol=2e-5)


def test_covariance_by_both_ways_is_that_of_the_docstring() -> None:
    kernel, _, _, _, x = problem()
    wanted = covariance(kernel, x[:7], x)
    between, own = (jax.jit(f, static_argnames="blocks") for f in (gp.covariance_between, gp.own_variance))
    np.testing.assert_allclose(jax.jit(gp.covariance)(kernel, geometry(x[:7], x, BLOCKS)), wanted, atol=1e-5)
    np.testing.assert_allclose(between(kernel, x[:7], x, blocks=BLOCKS), wanted, atol=1e-5)
    np.testing.assert_allclose(own(kernel, x, blocks=BLOCKS), np.diag(covariance(kernel, x, x)), atol=1e-5)


@pytest.mark.parametrize("freedom", [1.0, 2.0])
def test_slope_is_the_derivative_of_the_log_posterior(freedom: float) -> None:
    kernel, rows, targets, mask, x = problem()
    seen = x[rows[:6]]

    def loss(flat: np.ndarray) -> float:
        k = gp.Kernel(flat[0], flat[1:3], flat[3:5], flat[5])
        sigma = covariance(k, seen, seen) + np.exp(flat[5]) * np.eye(6)
        away = (flat - np.concatenate([np.atleast_1d(leaf) for leaf in gp.prior(2)])) / freedom
        return -stats.multivariate_normal(np.zeros(6), sigma).logpdf(targets[:6]) + 0.5 * away @ away

    flat = np.concatenate([np.atleast_1d(leaf) for leaf in kernel]).astype(float)
    numeric = [(loss(flat + 1e-5 * e) - loss(flat - 1e-5 * e)) / 2e-5 for e in np.eye(6)]
    pairs = geometry(x[rows], x[rows], BLOCKS)
    found = jax.jit(lambda k: gp.slope(k, pairs, targets, mask, freedom=freedom))(kernel)
    np.testing.assert_allclose(np.concatenate([np.atleast_1d(leaf) for leaf in found]), numeric, atol=1e-3)


def test_a_fit_leaves_little_slope() -> None:
    _, rows, targets, mask, x = problem()
    pairs = geometry(x[rows], x[rows], BLOCKS)

    def steepest(kernel: gp.Kernel) -> float:
        return max(float(np.abs(leaf).max()) for leaf in slope(kernel, pairs, targets, mask))

    start = gp.prior(2)
    fit = jax.jit(lambda kernel: gp.fit_kernel(kernel, pairs, targets, mask))
    assert steepest(fit(fit(start))) < 0.1 * steepest(start)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_inverse_factor_is_that_of_a_full_factorisation_row_by_row(seed: int) -> None:
    kernel, rows, _, mask, x = problem(seed)
    pairs = geometry(x[rows], x[rows], BLOCKS)
    found = jax.jit(gp.inverse_factor)(kernel, pairs, mask)
    sigma = covariance(kernel, x[rows[:6]], x[rows[:6]]) + np.exp(float(kernel.noise)) * np.eye(6)
    wanted = np.eye(8)
    wanted[:6, :6] = np.linalg.inv(np.linalg.cholesky(sigma))
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.0, 1.0, 0.5), (2.0, 0.3, 1.0), (-1.0, 2.0, 1.5)])
def test_expected_improvement_equals_the_integral(mean: float, deviation: float, best: float) -> None:
    normal = stats.norm(mean, deviation)
    expected, _ = integrate.quad(lambda y: (y - best) * normal.pdf(y), best, mean + 12 * deviation)
    numbers = jnp.float32(mean), jnp.float32(deviation), jnp.float32(best)
    assert float(gp.log_expected_improvement(*numbers)) == pytest.approx(np.log(expected), abs=1e-4)


def test_the_logarithm_goes_on_far_below_the_best_and_never_turns() -> None:
    gaps = np.linspace(-30, 4, 2000)
    found = np.asarray(gp.log_expected_improvement(jnp.float32(gaps), jnp.float32(1.0), jnp.float32(0.0)))
    # ∫ y φ(y - gap) over y > 0, with φ(gap) taken out.
    wanted = [
        stats.norm.logpdf(g) + np.log(integrate.quad(lambda y, g=g: y * np.exp(y * g - y * y / 2), 0, 60)[0])
        for g in gaps[::100]
    ]
    np.testing.assert_allclose(found[::100], wanted, atol=5e-3)
    assert (np.diff(found) > -2e-3).all()


def test_draws_from_the_prior_have_its_covariance() -> None:
    kernel, _, _, _, x = problem()
    draw = jax.jit(lambda key: gp.prior_draws(key, kernel, (x[:6], x[2:4]), BLOCKS, draws=40, waves=64))
    first, second = jax.vmap(draw)(jax.random.split(jax.random.key(0), 200))
    np.testing.assert_allclose(first[..., 2:4], second, atol=1e-4)
    flat = np.asarray(first).reshape(-1, 6)
    np.testing.assert_allclose(flat.T @ flat / len(flat), covariance(kernel, x[:6], x[:6]), atol=0.25)
