from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.spaces import cost_model
from ncp_jax.spaces.costs import exact_cost, relaxed_cost
from ncp_jax.spaces.multi_resolution import NAS_BENCH_MR

SCALES = {"flops": 1e9, "params": 1e6}


@pytest.fixture(scope="module")
def codes():
    return np.asarray(NAS_BENCH_MR.sample(jax.random.key(0), 64))


def test_exact_on_every_published_row(pickled):
    """The table stores all digits: its floats are integers / 1e9 and integers / 1e6."""
    rows = pickled("seg")
    got = exact_cost([row["embedding"] for row in rows])
    assert len(rows) == 2507
    assert got["params"].dtype == got["flops"].dtype == np.int64
    assert got["params"].tolist() == [round(row["params"] * 1e6) for row in rows]
    assert got["flops"].tolist() == [round(row["flops"] * 1e9) for row in rows]
    in_units = cost_model(NAS_BENCH_MR).in_units([row["embedding"] for row in rows])
    for name in SCALES:
        np.testing.assert_allclose(in_units[name], [row[name] for row in rows], rtol=1e-15)


def test_smallest_network_by_hand():
    """All counts 1, all channels 8: layer by layer, weights and two numbers a channel for BatchNorm."""
    smallest = NAS_BENCH_MR.lower.astype(int)
    stem = [(64, 27 * 8 + 16), (32, 576 + 16)]
    three, one, residual = 576 + 16, 64 + 16, 2 * (576 + 16)
    stages = [
        [(32, three + residual)],
        [(32, three + residual), (16, three + residual)],
        [(32, three + residual), (16, 2 * three + one + residual), (8, three + residual)],
        [
            (32, three + residual),
            (16, 2 * three + one + residual),
            (8, 2 * three + one + residual),
            (4, three + residual),
        ],
    ]
    head = [(4, 32 * 8 + 16), (1, 50 * 8 + 50)]
    layers = [*stem, *(layer for stage in stages for layer in stage), *head]
    got = exact_cost(smallest)
    assert got["params"].shape == ()
    assert got["params"] == sum(params for _, params in layers)
    assert got["flops"] == sum(side * side * params for side, params in layers)


def test_relaxed_equals_exact_at_codes(codes):
    exact = exact_cost(codes)
    for given in (codes, NAS_BENCH_MR.encode(codes)):
        relaxed = jax.jit(relaxed_cost)(given)
        for name, scale in SCALES.items():
            assert relaxed[name].dtype == jnp.float32
            assert relaxed[name].shape == (64,)
            np.testing.assert_allclose(relaxed[name], exact[name] / scale, rtol=2e-6)


def test_batched_equals_per_row_and_does_not_recompile(codes):
    jitted = jax.jit(relaxed_cost)
    batched, rows = jitted(codes), jax.jit(jax.vmap(relaxed_cost))(codes)
    compiled = jitted._cache_size()
    jitted(codes[::-1].copy())
    assert jitted._cache_size() == compiled
    for name in SCALES:
        np.testing.assert_allclose(batched[name], rows[name], rtol=1e-6)
        np.testing.assert_allclose(jitted(codes.reshape(8, 8, -1))[name].ravel(), batched[name], rtol=1e-6)
        np.testing.assert_array_equal(exact_cost(codes.reshape(8, 8, -1))[name].ravel(), exact_cost(codes)[name])


def jacobian(relaxed):
    """Gradients of both costs at several relaxed codes, as NumPy arrays."""
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(jax.jacobian(relaxed_cost)))(relaxed))


def test_gradient_against_finite_differences():
    relaxed = np.random.default_rng(0).uniform(NAS_BENCH_MR.lower, NAS_BENCH_MR.upper, size=(3, 27))
    single = jacobian(jnp.asarray(relaxed, jnp.float32))
    with jax.enable_x64(True):
        double = jacobian(jnp.asarray(relaxed))
        steps = 1e-4 * np.concatenate([np.eye(27), -np.eye(27)])
        ends = jax.tree.map(np.asarray, jax.jit(relaxed_cost)(jnp.asarray(relaxed[:, None] + steps)))
    for name in SCALES:
        assert double[name].dtype == np.float64
        differences = (ends[name][:, :27] - ends[name][:, 27:]) / 2e-4
        np.testing.assert_allclose(double[name], differences, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(single[name], double[name], rtol=2e-5)


def test_costs_grow_with_every_position(codes):
    for gradient in jacobian(NAS_BENCH_MR.encode(codes)).values():
        assert (gradient > 0).all()


def test_linear_in_each_count():
    counts = np.flatnonzero(NAS_BENCH_MR.upper == 4)
    assert len(counts) == 14
    middle = (NAS_BENCH_MR.lower + NAS_BENCH_MR.upper) / 2
    for place in counts:
        line = np.tile(middle, (3, 1))
        line[:, place] = [1.0, 2.25, 3.5]
        for values in jax.jit(relaxed_cost)(line).values():
            np.testing.assert_allclose(values[1], (values[0] + values[2]) / 2, rtol=1e-6)


def test_bad_codes():
    with pytest.raises(UsageError, match=r"position 0 \(input_channel\[0\]\) to be one of 8, 16, ..., 128, got 7"):
        exact_cost([7] * 27)
    with pytest.raises(UsageError, match=r"codes of nas-bench-mr \[..., 27\], got shape \(3, 26\)"):
        relaxed_cost(np.ones((3, 26)))
