"""The trust region: gradients against jax.grad and finite differences, what is inside, the errors."""

from __future__ import annotations

import dataclasses
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.checks import UsageError
from ncp_jax.predictors import Standardisation
from ncp_jax.propagation.region import KINDS, PUSH, TrustRegion
from ncp_jax.spaces import SPACES, get_space
from ncp_jax.spaces.base import Space

N, ROWS = 16, 200
SPACE = get_space("transnas-micro")
few = settings(max_examples=10, deadline=None)
seeds = st.integers(0, 2**31 - 1)


def scale_of(space: Space) -> Standardisation:
    x = np.asarray(space.encode(space.sample(jax.random.key(9), 500)))
    std = x.std(axis=0)
    return Standardisation(x.mean(axis=0), np.where(std > 0, std, 1.0), np.zeros(1), np.ones(1))


def rows_of(space: Space, n: int = ROWS, seed: int = 0) -> np.ndarray:
    return np.asarray(space.sample(jax.random.key(seed), n))


def make(space: Space = SPACE, **settings: object) -> TrustRegion:
    return TrustRegion.around(rows_of(space), space, scale_of(space), **settings)


def anywhere(region: TrustRegion, seed: int, spread: float = 1.0) -> np.ndarray:
    """Relaxed codes around rows, ``spread`` away at each feature."""
    rng, points = np.random.default_rng(seed), np.asarray(region.rows)
    noise = rng.normal(0, spread, (N, points.shape[1]))
    return (points[rng.integers(len(points), size=N)] + noise).astype(np.float32)


# Whole programs: to compile each operation on its own takes several times longer.
@jax.jit
def gradient(region: TrustRegion, x: jax.Array) -> jax.Array:
    return region.gradient(x)


@jax.jit
def penalty(region: TrustRegion, x: jax.Array) -> jax.Array:
    return region.penalty(x)


@jax.jit
def excess(region: TrustRegion, x: jax.Array) -> jax.Array:
    return region.excess(x)


@jax.jit
def slopes(region: TrustRegion, x: jax.Array) -> jax.Array:
    return jax.vmap(jax.grad(region.penalty))(x)


def expected_penalty(region: TrustRegion, x: np.ndarray) -> float:
    """The definition for one code, in float64."""
    x, points, h = x.astype(np.float64), np.asarray(region.rows, np.float64), float(region.bandwidth)
    squared = ((x - points) ** 2).sum(axis=1)
    if region.kind == "density":
        reach = math.sqrt(-2 * h * h * math.log(np.exp(-squared / (2 * h * h)).mean()))
    else:
        reach = math.sqrt(squared.min())
    excess = max(reach - float(region.threshold), 0.0)
    return PUSH * float(region.weight) * (excess**2 / 2 if excess < 1 else excess - 0.5)


@pytest.fixture(params=KINDS)
def region(request: pytest.FixtureRequest) -> TrustRegion:
    """A narrow region, so that most relaxed codes are outside, some by less than 1."""
    made = make(kind=request.param, weight=0.7)
    return dataclasses.replace(made, threshold=made.threshold * 0.9)


def test_penalty_and_excess_are_as_defined(region: TrustRegion) -> None:
    seen = []
    for seed, spread in enumerate((0.3, 0.7, 0.9, 2.0)):
        x = anywhere(region, seed, spread)
        wanted = [expected_penalty(region, row) for row in x]
        np.testing.assert_allclose(penalty(region, x), wanted, rtol=1e-4, atol=1e-6)
        beyond = np.asarray(excess(region, x))
        assert (beyond >= 0).all()
        np.testing.assert_array_equal(beyond > 0, np.asarray(penalty(region, x)) > 0)
        seen.append(beyond)
    assert np.histogram(seen, [-1, 1e-6, 1, 100])[0].min() > 5  # inside, in the smooth zone, beyond it


def test_gradient_equals_autodiff(region: TrustRegion) -> None:
    @few
    @given(seeds, st.sampled_from([0.5, 0.8, 1.0, 3.0, 100.0]))
    def check(seed: int, spread: float) -> None:
        x = anywhere(region, seed, spread)
        np.testing.assert_allclose(gradient(region, x), slopes(region, x), rtol=1e-3, atol=2e-5)

    check()


def test_gradient_equals_finite_differences(region: TrustRegion) -> None:
    x, step = anywhere(region, 3).astype(np.float64), 1e-5
    for row, got in zip(x, np.asarray(gradient(region, x.astype(np.float32))), strict=True):
        moves = step * np.eye(len(row))
        wanted = [(expected_penalty(region, row + e) - expected_penalty(region, row - e)) / (2 * step) for e in moves]
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=2e-5)


def test_push_is_bounded_however_far_away(region: TrustRegion) -> None:
    @few
    @given(seeds, st.sampled_from([1.0, 1e2, 1e4, 1e6]))
    def check(seed: int, spread: float) -> None:
        x = anywhere(region, seed, spread)
        length = np.linalg.norm(np.asarray(gradient(region, x), np.float64), axis=1)
        assert (length <= PUSH * float(region.weight) * 1.0001).all()
        if spread > 10:  # far outside it has the full length
            np.testing.assert_allclose(length, PUSH * float(region.weight), rtol=0.02)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_is_finite_at_the_rows_and_zero_inside(kind: str) -> None:
    region = make(kind=kind)
    assert not np.asarray(gradient(region, region.rows)).any()
    assert not np.asarray(excess(region, region.rows)).any()
    point = dataclasses.replace(region, threshold=np.float32(0))
    twice = dataclasses.replace(point, rows=np.repeat(np.asarray(region.rows)[:1], 3, axis=0))
    for one in (point, twice):
        for f in (gradient, slopes):
            assert np.isfinite(f(one, region.rows)).all()


def test_batch_equals_rows(region: TrustRegion) -> None:
    x = anywhere(region, 4)
    batch, close = np.asarray(gradient(region, x)), {"rtol": 1e-3, "atol": 1e-5}
    np.testing.assert_allclose(np.stack([gradient(region, row) for row in x]), batch, **close)
    np.testing.assert_allclose(gradient(region, x.reshape(2, N // 2, -1)).reshape(x.shape), batch, **close)
    np.testing.assert_allclose(jax.jit(jax.vmap(region.gradient))(x), batch, **close)
    np.testing.assert_allclose(jax.jit(jax.vmap(region.excess))(x), region.excess(x), **close)


def test_numbers_are_swept_by_vmap(region: TrustRegion) -> None:
    x, weights = anywhere(region, 5), jnp.array([0.0, 0.5, 2.0])
    swept = jax.jit(jax.vmap(lambda w: dataclasses.replace(region, weight=w).gradient(x)))(weights)
    np.testing.assert_allclose(swept, np.asarray(weights)[:, None, None] * region.gradient(x) / 0.7, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_descent_ends_at_the_border(kind: str) -> None:
    region = dataclasses.replace(make(kind=kind, weight=1.0), threshold=3.0)
    x = jnp.asarray(anywhere(region, 6, 4.0))
    assert (np.asarray(excess(region, x)) > 3).all()
    for _ in range(60):
        x = x - 10.0 * gradient(region, x)
    assert (np.asarray(excess(region, x)) < 0.05).all()


def test_density_with_a_small_bandwidth_is_distance() -> None:
    hard = dataclasses.replace(make(kind="distance"), threshold=1.0)
    soft = dataclasses.replace(hard, kind="density", bandwidth=0.02)
    x = anywhere(hard, 7)
    np.testing.assert_allclose(soft.excess(x), hard.excess(x), atol=1e-3)
    np.testing.assert_allclose(soft.gradient(x), hard.gradient(x), atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SPACES)
def test_typical_architectures_are_inside(name: str, kind: str) -> None:
    """Fresh codes of the same distribution are as often outside as the quantile says, far ones always."""
    space, scale = SPACES[name], scale_of(SPACES[name])
    region = make(space, kind=kind, quantile=0.1)
    fresh = np.asarray(scale.standard_x(np.asarray(space.encode(rows_of(space, 1000, seed=1)))))
    outside = float((np.asarray(excess(region, fresh)) > 0).mean())
    assert 0.03 < outside < 0.25
    assert (np.asarray(excess(region, 20 * fresh)) > 0).all()


@pytest.mark.parametrize("name", SPACES)
def test_bandwidth_is_near_the_most_likely(name: str) -> None:
    """Leave-one-out log likelihood over a grid, computed from its definition."""
    region = make(SPACES[name])
    points = np.asarray(region.rows, np.float64)
    squared = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    np.fill_diagonal(squared, np.inf)
    grid = float(region.bandwidth) * np.array([0.6, 0.75, 0.9, 1.0, 1.1, 1.3, 1.6])
    kernel = np.exp(-squared / (2 * grid[:, None, None] ** 2)).sum(axis=-1)
    likelihood = np.log(kernel).mean(axis=1) - points.shape[1] * np.log(grid)
    # Few ordered positions: many rows lie close together, and the most likely kernel reaches over several of them.
    assert likelihood.argmax() in ((2, 3, 4, 5) if name == "nats-size" else (2, 3, 4))


def test_order_and_repeats_do_not_matter() -> None:
    rows, scale = rows_of(SPACE), scale_of(SPACE)
    shuffled = np.random.default_rng(1).permutation(np.concatenate([rows, rows[:50]]))
    for limit in (1024, 64):
        one, two = (TrustRegion.around(r, SPACE, scale, limit=limit) for r in (rows, shuffled))
        assert len(one.rows) <= limit
        chex.assert_trees_all_equal(one, two)


def test_distance_of_codes() -> None:
    rows, scale = rows_of(SPACE), scale_of(SPACE)
    region, codes = make(), rows_of(SPACE, 50, seed=2)
    np.testing.assert_allclose(region.distance(rows, SPACE, scale), 0, atol=1e-5)
    x = np.asarray(scale.standard_x(np.asarray(SPACE.encode(codes))), np.float64)
    squared = ((x[:, None] - np.asarray(region.rows, np.float64)) ** 2).sum(axis=-1)
    np.testing.assert_allclose(region.distance(codes, SPACE, scale), np.sqrt(squared.min(axis=1)), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"kind": "nearness"}, "known kind, got 'nearness'; did you mean: density"),
        ({"weight": -1.0}, "weight to be a number >= 0, got -1.0"),
        ({"weight": math.nan}, "weight to be a number >= 0, got nan"),
        ({"quantile": 0.0}, "a quantile between 0 and 1, got 0.0; try quantile=0.05"),
        ({"quantile": 1}, "a quantile between 0 and 1, got 1"),
        ({"quantile": math.nan}, "a quantile between 0 and 1, got nan"),
        ({"quantile": "low"}, "a quantile between 0 and 1, got 'low'"),
        ({"limit": 1}, "limit to be an integer 2 or more, got 1"),
        ({"limit": 2.5}, "limit to be an integer 2 or more, got 2.5"),
    ],
)
def test_settings_that_are_wrong(settings: dict, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        make(**settings)


def test_rows_that_are_wrong() -> None:
    scale, rows, other = scale_of(SPACE), rows_of(SPACE), get_space("nas-bench-mr")
    for some in (rows[:1], np.repeat(rows[:1], 5, axis=0)):
        with pytest.raises(UsageError, match="at least two different architectures to make a region around, got 1"):
            TrustRegion.around(some, SPACE, scale)
    with pytest.raises(UsageError, match="row of transnas-micro to be 6 integers"):
        TrustRegion.around(rows_of(other, 5), SPACE, scale)
    region = make()
    with pytest.raises(UsageError, match=r"a space with 24 features.*got nas-bench-mr with 27"):
        region.distance(rows_of(other, 5), other, scale)
    with pytest.raises(UsageError, match="code of transnas-micro to be 6 integers"):
        region.distance(rows_of(other, 5), SPACE, scale)
