"""The Gaussian process of open-ended sessions, against scikit-learn, closed forms and finite differences."""

from __future__ import annotations

import functools
import re

import jax
import numpy as np
import pytest

from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.beliefs import learn
from ncp_jax.searchers.open_ended.features import Features, features_of
from ncp_jax.searchers.open_ended.known import Known
from ncp_jax.searchers.open_ended.targets import TargetScale, limit_targets, scalarise
from ncp_jax.spaces import get_space

SPACE = get_space("nas-bench-mr")
FEATURES = features_of(SPACE)
# As in a session, whole programs: to compile each operation on its own takes several times longer.
condition, predict, noisy = (jax.jit(f, static_argnums=0) for f in (gp.condition, gp.predict, gp.noisy))
covariance, own_variance = (jax.jit(f, static_argnums=0) for f in (gp.covariance, gp.own_variance))
fit = jax.jit(gp.fit, static_argnums=0, static_argnames="steps")


@functools.partial(jax.jit, static_argnums=(0, 2))
def drawn(features: Features, key: jax.Array, n: int) -> jax.Array:
    return features(features.space.encode(features.space.sample(key, n)))


def kernel_of(*parts: float | np.ndarray) -> gp.Kernel:
    return gp.Kernel(*(np.asarray(part, np.float32) for part in parts))


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    where = np.asarray(drawn(FEATURES, jax.random.key(1), n))
    return where, np.sin(3 * where[:, 0]) + where[:, 1]


def test_predictions_are_those_of_scikit_learn() -> None:
    process = pytest.importorskip("sklearn.gaussian_process")
    kernels = process.kernels
    where, values = data(40)
    length = np.linspace(0.5, 3.0, FEATURES.count).astype(np.float32)
    kernel = kernel_of(np.log(0.7), np.log(length), np.full(FEATURES.count, -30.0), np.log(0.01))
    mask = np.arange(40) < 30  # the last slots are empty
    model = condition(FEATURES, kernel, where, values, mask)
    mean, deviation = predict(FEATURES, model, where[30:])
    other = process.GaussianProcessRegressor(
        kernels.ConstantKernel(0.7) * kernels.Matern(length, nu=2.5), alpha=0.01 + gp.JITTER, optimizer=None
    ).fit(where[:30], values[:30])
    expected, spread = other.predict(where[30:], return_std=True)
    np.testing.assert_allclose(mean, expected, atol=2e-4)
    np.testing.assert_allclose(deviation, spread, atol=2e-4)


@pytest.mark.parametrize("name", ["nas-bench-mr", "nas-bench-201", "transnas-macro"])
def test_the_additive_part_is_a_sum_over_positions_of_unit_variance(name: str) -> None:
    space = get_space(name)
    features = features_of(space)
    where = np.asarray(drawn(features, jax.random.key(2), 2000))
    effects, groups = np.asarray(jax.jit(features.effects)(where)), features.effect_groups
    variance = np.bincount(groups, weights=effects.var(axis=0))
    np.testing.assert_allclose(variance, 1.0, atol=0.25)
    kernel = kernel_of(-60.0, np.zeros(features.count), np.zeros(features.count), -3.0)
    got = np.asarray(covariance(features, kernel, where[:6], where[6:10]))
    parts = [effects[:6, groups == j] @ effects[6:10, groups == j].T for j in range(features.count)]
    np.testing.assert_allclose(got, sum(parts), atol=1e-4)
    np.testing.assert_allclose(own_variance(features, kernel, where[:6]), (effects[:6] ** 2).sum(axis=1), rtol=1e-4)


def test_a_fit_raises_the_posterior_of_the_hyper_parameters() -> None:
    where, values = data(48)
    values = 3 * values  # far from the unit variance that the prior expects
    mask, centre = np.arange(48) < 40, kernel_of(*jax.jit(gp.prior, static_argnums=0)(FEATURES))

    def log_posterior(kernel: gp.Kernel) -> float:
        matrix = np.asarray(noisy(FEATURES, kernel, where, mask), np.float64)[:40, :40]
        z = np.asarray(values, np.float64)[:40]
        fit = -0.5 * z @ np.linalg.solve(matrix, z) - 0.5 * np.linalg.slogdet(matrix)[1]
        pulls = jax.tree.map(lambda a, b, s: float((((a - b) / s) ** 2).sum()), kernel, centre, gp.DEVIATIONS)
        return fit - 0.5 * sum(jax.tree.leaves(pulls))

    fitted = kernel_of(*fit(FEATURES, where, np.where(mask, values, 0), mask, steps=200))
    best = log_posterior(fitted)
    assert best > log_posterior(centre) + 10
    # Adam's steps leave it near a maximum: a small move of any hyper-parameter gains next to nothing.
    for leaf in range(4):
        for step in (0.3, -0.3):
            moved = kernel_of(*(part + step * (place == leaf) for place, part in enumerate(fitted)))
            assert log_posterior(moved) < best + 0.3


@pytest.mark.parametrize("name", ["nas-bench-mr", "nas-bench-201", "transnas-macro"])
def test_positions_have_groups_of_their_own(name: str) -> None:
    space = get_space(name)
    features = features_of(space)
    code = np.asarray(space.sample(jax.random.key(0), 1))
    of = jax.jit(lambda code: features(space.encode(code)))
    here = np.asarray(of(code))[0]
    for place, values in enumerate(space.values):
        other = code.copy()
        other[0, place] = next(value for value in values if value != code[0, place])
        there = np.asarray(of(other))[0]
        own = len(space.lower)
        assert set(features.groups[:own][np.abs(there - here)[:own] > 1e-6]) == {place}


def test_targets_come_back() -> None:
    values = np.concatenate([np.random.default_rng(0).normal(70, 2, 50), [10.0, 1.0]])
    scale = TargetScale.of(values)
    targets = scale.forward(values)
    np.testing.assert_allclose(scale.back(targets), values, rtol=1e-9)
    assert (np.argsort(targets) == np.argsort(values)).all()
    assert abs(targets.mean()) < 1e-9
    assert targets.min() > -8  # a failed-like outlier does not set the unit
    same = TargetScale.of(np.full(3, 4.0))
    np.testing.assert_allclose(same.back(same.forward(np.full(3, 4.0))), 4.0)


def test_limits_and_goals() -> None:
    values = np.array([1.0, 2.0, 3.0, np.nan])
    assert (limit_targets(values, 2.0, upper=True)[:3] >= 0).tolist() == [True, True, False]
    assert (limit_targets(values, 2.0, upper=False)[:3] >= 0).tolist() == [False, True, True]
    points = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0], [1.0, 1.0], [2.0, 2.0]])
    for weights in ((1.0, 0.0), (0.5, 0.5), (0.0, 1.0)):
        best = np.argmax(scalarise(points, np.array(weights)))
        assert best != 3  # the only one that another beats


def test_no_batch_of_factorisations() -> None:
    """Two programs with such batches wait for each other for ever on CPUs."""
    codes = np.asarray(SPACE.sample(jax.random.key(0), 64))
    known = Known(codes, np.zeros((3, 64), np.float32), np.ones((3, 64), bool), np.zeros(64, bool))
    program = str(jax.make_jaxpr(lambda known: learn(known, None, space=SPACE))(known))
    shapes = re.findall(r":f32\[([0-9,]+)\] = cholesky", program)
    assert shapes
    assert set(shapes) == {"64,64"}
