"""What the models of the one-hot spaces have in common: the relaxed cost and the batched count."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.spaces import cost_model, cost_tasks, get_space
from ncp_jax.spaces.costs.model import PORTION

SCALES = {"flops": 1e9, "params": 1e6}
CASES = [
    (name, task)
    for name in ("nas-bench-201", "transnas-micro", "transnas-macro")
    for task in cost_tasks(get_space(name))
]
FEW = [("nas-bench-201", "cifar10"), ("transnas-micro", "jigsaw"), ("transnas-macro", "autoencoder")]


def sample(space, n, seed=0):
    codes = space.all_codes()
    return codes[np.random.default_rng(seed).integers(0, len(codes), n)]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_relaxed_equals_exact_at_codes(name, task):
    space = get_space(name)
    model, codes = cost_model(space, task), space.all_codes()
    exact = model.exact(codes)
    relaxed = jax.jit(model.relaxed)(space.encode(codes))
    in_units = model.in_units(codes)
    for cost, scale in SCALES.items():
        assert relaxed[cost].dtype == jnp.float32
        assert relaxed[cost].shape == (len(codes),)
        np.testing.assert_allclose(relaxed[cost], exact[cost] / scale, rtol=2e-6)
        np.testing.assert_array_equal(in_units[cost], exact[cost] / scale)
    with jax.enable_x64(True):
        double = jax.jit(model.relaxed)(jnp.asarray(space.encode(codes), jnp.float64))
        for cost, scale in SCALES.items():
            np.testing.assert_allclose(double[cost], exact[cost] / scale, rtol=1e-13)


@pytest.mark.parametrize(("name", "task"), FEW)
def test_gradient_against_finite_differences(name, task):
    space = get_space(name)
    model = cost_model(space, task)
    relaxed = np.random.default_rng(0).uniform(0, 1, size=(3, space.features))
    slopes = jax.jit(jax.vmap(jax.jacobian(model.relaxed)))
    single = jax.tree.map(np.asarray, slopes(jnp.asarray(relaxed, jnp.float32)))
    with jax.enable_x64(True):
        double = jax.tree.map(np.asarray, slopes(jnp.asarray(relaxed)))
        steps = 1e-4 * np.concatenate([np.eye(space.features), -np.eye(space.features)])
        ends = jax.tree.map(np.asarray, jax.jit(model.relaxed)(jnp.asarray(relaxed[:, None] + steps)))
    for cost in SCALES:
        assert double[cost].dtype == np.float64
        differences = (ends[cost][:, : space.features] - ends[cost][:, space.features :]) / 2e-4
        largest = np.abs(differences).max()
        np.testing.assert_allclose(double[cost], differences, rtol=1e-6, atol=1e-8 * largest)
        np.testing.assert_allclose(single[cost], double[cost], rtol=2e-5, atol=1e-6 * largest)


@pytest.mark.parametrize(("name", "task"), FEW)
def test_relaxed_is_the_expected_cost_of_a_code_drawn_from_the_shares(name, task):
    """Between two codes that differ at two places: four codes, each with its chance."""
    space, rng = get_space(name), np.random.default_rng(1)
    model = cost_model(space, task)
    relaxed, codes = jax.jit(model.relaxed), space.all_codes()
    legal = {code.tobytes() for code in codes}
    done = 0
    while done < 8:
        one, other = codes[rng.integers(0, len(codes), 2)]
        here = rng.choice(space.length, 2, replace=False)
        corners = np.tile(one, (4, 1))
        corners[[1, 3], here[0]] = other[here[0]]
        corners[[2, 3], here[1]] = other[here[1]]
        if not all(corner.tobytes() in legal for corner in corners):
            continue
        a, b = rng.uniform(size=2)
        hot = np.asarray(space.encode(corners)).reshape(4, space.length, -1)
        mixed = hot[0].copy()
        mixed[here[0]] = (1 - a) * hot[0, here[0]] + a * hot[1, here[0]]
        mixed[here[1]] = (1 - b) * hot[0, here[1]] + b * hot[2, here[1]]
        chances = np.array([(1 - a) * (1 - b), a * (1 - b), (1 - a) * b, a * b])
        got = relaxed(mixed.ravel())
        for cost, scale in SCALES.items():
            np.testing.assert_allclose(got[cost], chances @ model.exact(corners)[cost] / scale, rtol=1e-5)
        done += 1


@pytest.mark.parametrize(("name", "task"), FEW)
def test_shares_count_by_their_proportions(name, task):
    """Also where there are none; letters that no code has at a position change nothing."""
    space = get_space(name)
    relaxed = jax.jit(cost_model(space, task).relaxed)
    shares = np.random.default_rng(2).uniform(0.1, 1, size=(space.length, space.letters))
    scaled = shares * np.linspace(0.5, 3, space.length)[:, None]
    nothing, even = np.zeros_like(shares), np.ones_like(shares)
    odd = np.array([[letter not in values for letter in range(space.letters)] for values in space.values])
    for one, other in ((shares, scaled), (nothing, even), (shares, np.where(odd, 7.0, shares))):
        for cost in SCALES:
            np.testing.assert_allclose(relaxed(one.ravel())[cost], relaxed(other.ravel())[cost], rtol=1e-5)
    slopes = jax.jit(jax.grad(lambda x: relaxed(x)["flops"]))(jnp.zeros(space.features))
    assert np.isfinite(slopes).all()


@pytest.mark.parametrize(("name", "task"), FEW)
def test_batched_equals_per_row_and_does_not_recompile(name, task):
    space = get_space(name)
    model, codes = cost_model(space, task), sample(space, 64)
    jitted = jax.jit(model.relaxed)
    batched, rows = jitted(space.encode(codes)), jax.jit(jax.vmap(model.relaxed))(space.encode(codes))
    compiled = jitted._cache_size()
    jitted(space.encode(codes[::-1].copy()))
    assert jitted._cache_size() == compiled
    counted = model.exact(codes)
    for cost in SCALES:
        np.testing.assert_allclose(batched[cost], rows[cost], rtol=1e-6)
        assert counted[cost].tolist() == [int(model.exact(code)[cost]) for code in codes]
        np.testing.assert_array_equal(model.exact(codes.reshape(8, 8, -1))[cost], counted[cost].reshape(8, 8))


@pytest.mark.parametrize("name", ["nas-bench-mr", "transnas-macro"])
def test_any_number_of_rows(name):
    """Portions join; a wrong row is named by its place among all of them."""
    space = get_space(name)
    model = cost_model(space)
    codes = np.array(space.sample(jax.random.key(0), 2 * PORTION + 3))
    whole = model.exact(codes)
    for cost in SCALES:
        assert model.exact(codes[:0])[cost].shape == (0,)
        np.testing.assert_array_equal(whole[cost][-5:], model.exact(codes[-5:])[cost])
        np.testing.assert_array_equal(whole[cost][:5], model.exact(codes[:5].tolist())[cost])
    codes[PORTION + 7, 0] = 99
    with pytest.raises(UsageError, match=rf"in code {PORTION + 7}, position 0"):
        model.exact(codes)


def test_bad_codes():
    model = cost_model(get_space("transnas-micro"))
    with pytest.raises(UsageError, match=r"position 2 \(edge 1>2\) to be one of 0, 1, 2, 3, got 4"):
        model.exact([0, 0, 4, 0, 0, 0])
    with pytest.raises(UsageError, match="to be 6 integers, or rows of 6, got shape"):
        model.exact(np.zeros((2, 5), int))
    with pytest.raises(UsageError, match=r"codes of transnas-micro \[..., 24\], got shape \(3, 6\)"):
        model.relaxed(np.ones((3, 6)))
    with pytest.raises(UsageError, match="4 to 6 modules with zeros only at the end"):
        cost_model(get_space("transnas-macro")).exact([1, 1, 1, 1, 0, 0])
