"""Training against closed forms and finite differences; the inputs against the graphs; picking by hand."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import get_space
from ncp_jax.benchmarks.view import History
from ncp_jax.searchers import Candidates, ensemble, inputs
from ncp_jax.searchers.ensemble import TrainingSet, predict_members, proposal_size, training_set
from ncp_jax.searchers.inputs import network_features

KEY = jax.random.key(0)
# As in a search, whole programs: to compile each operation on its own takes several times longer.
draw_networks = jax.jit(ensemble.draw_networks, static_argnums=(1, 2, 3, 4))
fit = jax.jit(ensemble.fit, static_argnums=3)
loss, pick, predict = jax.jit(ensemble.loss), jax.jit(ensemble.pick), jax.jit(ensemble.predict)
train, input_units = jax.jit(ensemble.train, static_argnums=4), jax.jit(inputs.input_units)
network_inputs, raw_inputs = (jax.jit(f, static_argnums=0) for f in (inputs.network_inputs, inputs.raw_inputs))


def training_rows(b: int = 12, g: int = 3, used: int = 9) -> TrainingSet:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(b, g)).astype(np.float32), rng.normal(size=b).astype(np.float32)
    return TrainingSet(jnp.asarray(x), jnp.asarray(y), jnp.arange(b) < used)


def one(width: int = 8, depth: int = 1, g: int = 3) -> tuple:
    return tuple(jnp.asarray(np.asarray(w)[0]) for w in draw_networks(KEY, 1, g, width, depth))


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_training_lowers_the_loss_at_every_step(depth: int) -> None:
    anchor, what = one(depth=depth), training_rows()
    losses = [float(loss(fit(anchor, what, 0.1, sweeps), anchor, what, 0.1)) for sweeps in range(6)]
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(losses))
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("depth", [1, 2])
def test_the_end_of_training_is_a_minimum(depth: int) -> None:
    """Finite differences of the loss in float64, along random directions, against its size at the start."""
    with jax.enable_x64(True):
        anchor = tuple(jnp.asarray(w, jnp.float64) for w in one(depth=depth))
        what = TrainingSet(*(jnp.asarray(part, jnp.float64) for part in training_rows()[:2]), training_rows().used)
        end = fit(anchor, what, 0.5, 40)

        def slope(at: tuple, step: float = 1e-5) -> np.ndarray:
            rng = np.random.default_rng(1)
            found = []
            for _ in range(5):
                way = [rng.normal(size=w.shape) for w in at]
                up, down = (tuple(w + s * step * d for w, d in zip(at, way, strict=True)) for s in (1, -1))
                found.append(float(loss(up, anchor, what, 0.5) - loss(down, anchor, what, 0.5)) / (2 * step))
            return np.array(found)

        assert np.abs(slope(end)).max() < 1e-3 * np.abs(slope(anchor)).max()


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_the_gram_matrix_is_that_of_the_jacobian(depth: int) -> None:
    network, x = one(depth=depth), training_rows().x
    slopes = jax.jacfwd(lambda network: ensemble.predict(network, x))(network)
    flat = np.concatenate([np.asarray(leaf).reshape(len(x), -1) for leaf in slopes], axis=1)
    line = jax.jit(ensemble.linearise)(network, x)
    np.testing.assert_allclose(line.gram(), flat @ flat.T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(line.output, predict(network, x), atol=1e-5)


def test_a_network_without_hidden_layers_is_ridge_regression() -> None:
    """One step from the anchor is the least squares that pull towards it."""
    (anchor,), what, noise = one(depth=0), training_rows(), 0.3
    (found,) = fit((anchor,), what, noise, 1)
    used = np.asarray(what.used)
    design = np.column_stack([np.asarray(what.x) / np.sqrt(3), np.full(12, 0.3)])[used].astype(np.float64)
    gap = np.asarray(what.y, np.float64)[used] - design @ np.asarray(anchor, np.float64)[:, 0]
    moved = np.linalg.solve(design.T @ design + noise**2 * np.eye(4), design.T @ gap)
    np.testing.assert_allclose(np.asarray(found)[:, 0], np.asarray(anchor)[:, 0] + moved, rtol=1e-3, atol=1e-4)


def test_a_linear_function_is_recovered() -> None:
    rng = np.random.default_rng(0)
    x, weights = rng.normal(size=(40, 3)).astype(np.float32), np.array([1.0, -2.0, 0.5], np.float32)
    what = TrainingSet(jnp.asarray(x), jnp.asarray(x @ weights), jnp.ones(40, bool))
    anchors = draw_networks(KEY, 8, 3, 32, 1)
    said = predict_members(train(jax.random.key(1), anchors, what, 0.05, 10), jnp.asarray(x)).mean(axis=0)
    assert np.corrcoef(said, x @ weights)[0, 1] > 0.99
    (line,) = fit(one(depth=0), what, 1e-2, 1)
    np.testing.assert_allclose(line[:3, 0] / np.sqrt(3), weights, atol=2e-3)


def test_members_without_hidden_layers_are_draws_from_the_posterior() -> None:
    """Mean and spread of 4000 members against Bayesian linear regression."""
    what, noise, members = training_rows(used=5), 0.5, 4000
    anchors = draw_networks(KEY, members, 3, 1, 0)
    said = np.asarray(predict_members(train(jax.random.key(1), anchors, what, noise, 1), what.x), np.float64)
    design = np.column_stack([np.asarray(what.x) / np.sqrt(3), np.full(12, 0.3)]).astype(np.float64)
    seen = design[:5]
    covariance = np.linalg.inv(seen.T @ seen / noise**2 + np.eye(4))
    mean = design @ covariance @ seen.T @ np.asarray(what.y, np.float64)[:5] / noise**2
    spread = np.sqrt(np.einsum("ni,ij,nj->n", design, covariance, design))
    np.testing.assert_allclose(said.mean(axis=0), mean, atol=5 * spread.max() / np.sqrt(members))
    np.testing.assert_allclose(said.std(axis=0), spread, rtol=0.06)


def test_padding_changes_nothing() -> None:
    what, anchor = training_rows(), one(depth=2)
    x, y = np.array(what.x), np.array(what.y)
    x[9:], y[9:] = 7.0, -5.0
    other = TrainingSet(jnp.asarray(x), jnp.asarray(y), what.used)
    short = TrainingSet(what.x[:9], what.y[:9], what.used[:9])
    for a, b, c in zip(*(fit(anchor, part, 0.3, 3) for part in (what, other, short)), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(a, c, rtol=1e-3, atol=1e-4)


def test_nothing_to_learn_leaves_the_prior() -> None:
    anchor = one()
    found = fit(anchor, training_rows(used=0), 0.3, 3)
    for a, b in zip(found, anchor, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_training_set_is_what_is_paid_for(candidates: Candidates) -> None:
    everything = network_inputs(candidates.space, candidates.relaxed, input_units(candidates))
    zero = jnp.zeros(())
    history = History(
        jnp.array([5, 2, -1]), jnp.array([1.0, 3.0, -jnp.inf]), jnp.int32(2), jnp.int32(2), zero, jnp.zeros((), bool)
    )
    found = jax.jit(training_set)(history, everything)
    np.testing.assert_array_equal(found.x[:2], np.asarray(everything)[[5, 2]])
    np.testing.assert_array_equal(found.x[2], 0)
    assert found.used.tolist() == [True, True, False]
    assert found.y[0] < found.y[1]
    assert found.y[2] == 0


def test_blocks_of_candidates_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x, networks = training_rows().x, draw_networks(KEY, 3, 3, 8, 2)
    expected = np.stack([predict(jax.tree.map(lambda w, i=i: np.asarray(w)[i], networks), x) for i in range(3)])
    np.testing.assert_allclose(predict_members(networks, x), expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr("ncp_jax.searchers.ensemble.BLOCK", 5)
    np.testing.assert_allclose(predict_members(networks, x), expected, rtol=1e-5, atol=1e-6)


def test_picks_are_the_best_that_are_left() -> None:
    scores = jnp.array([[1.0, 5.0, 3.0, 4.0]] * 3)
    ties = jnp.array([0.2, 0.1, 0.9, 0.5])
    rows, asked = pick(scores, jnp.array([False, True, False, False]), 2, ties)
    assert rows.tolist() == [3, 2, -1]
    assert asked.tolist() == [False, True, True, True]
    rows, asked = pick(scores, asked, 3, ties)
    assert rows.tolist() == [0, -1, -1]
    assert asked.all()
    rows, _ = pick(jnp.array([[1.0, 5.0, 5.0, 5.0]] * 3), jnp.zeros(4, bool), 3, ties)
    assert rows.tolist() == [2, 3, 1]  # equal scores in the order of the random numbers


def test_questions_grow_with_what_is_paid_for() -> None:
    assert [int(proposal_size(jnp.int32(count), 3, 7)) for count in (0, 30, 49, 60, 500)] == [3, 3, 4, 6, 7]


@pytest.mark.parametrize("name", ["nas-bench-201", "transnas-micro", "transnas-macro"])
def test_smooth_attributes_are_the_graphs_at_legal_codes(name: str) -> None:
    space = get_space(name)
    codes = np.asarray(space.sample(jax.random.key(3), 300))
    found = jax.jit(space.smooth_attributes)(space.encode(codes))
    np.testing.assert_allclose(found, space.graphs(codes).attributes, atol=1e-5)


def test_quantities_have_their_logarithms() -> None:
    space = get_space("nas-bench-mr")
    codes = np.asarray(space.sample(jax.random.key(3), 5))
    np.testing.assert_allclose(space.smooth_attributes(space.encode(codes)), np.log(codes), rtol=1e-6)


@pytest.mark.parametrize("name", ["nas-bench-201", "transnas-macro", "nas-bench-mr"])
def test_the_gradient_in_the_code_agrees_with_finite_differences(name: str) -> None:
    with jax.enable_x64(True):
        space = get_space(name)
        candidates = Candidates.of_space(space, np.unique(np.asarray(space.sample(KEY, 40)), axis=0))
        f = network_features(candidates)
        network = tuple(jnp.asarray(np.asarray(w)[0], jnp.float64) for w in draw_networks(KEY, 1, f, 8, 1))
        # A mixture of many codes: at a corner several paths may be longest, and there is no one slope.
        far = jnp.asarray(space.encode(space.sample(jax.random.key(1), 9)), jnp.float64)
        shares = np.random.default_rng(0).dirichlet(np.ones(9))
        x = jnp.asarray((shares @ np.asarray(far))[None])

        units = input_units(candidates)

        def said(x: jax.Array) -> jax.Array:
            return predict(network, network_inputs(name, x, units)).sum()

        slope = np.asarray(jax.jit(jax.grad(said))(x))[0]
        step, value = 1e-6, jax.jit(said)
        for place in range(0, x.shape[1], 4):
            up, down = np.array(x), np.array(x)
            up[0, place] += step
            down[0, place] -= step
            assert slope[place] == pytest.approx(
                (float(value(up)) - float(value(down))) / (2 * step), rel=1e-3, abs=1e-6
            )


def test_inputs_have_unit_variance_where_they_vary(candidates: Candidates) -> None:
    x = np.asarray(network_inputs(candidates.space, candidates.relaxed, input_units(candidates)))
    assert x.shape == (len(candidates), network_features(candidates))
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-4)
    varies = np.asarray(raw_inputs(candidates.space, candidates.relaxed)).std(axis=0) > 1e-6
    np.testing.assert_allclose(x.std(axis=0), varies, atol=1e-4)
