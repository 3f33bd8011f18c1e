"""Relation predictors: the loss against its formula, the encoders against loops and their promises."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ncp_jax import checks
from ncp_jax.predictors.relation import ENCODERS, RelationPredictor, pair_loss

SLOTS, NODES, FEATURES, ATTRIBUTES, SOURCES, TASKS = 7, 4, 5, 3, 2, 2
SLOPE = 1.7
LINKS = np.array([[0, 1, 1, 0], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]], np.float32)


@pytest.fixture(scope="module")
def pairs() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Utilities, preferences that add up to 1, and a mask that leaves out two slots."""
    rng = np.random.default_rng(0)
    half = np.triu(rng.uniform(size=(SLOTS, SLOTS)), 1)
    preference = half + np.tril(1 - half.T, -1) + 0.5 * np.eye(SLOTS)
    mask = np.array([1, 1, 0, 1, 1, 0, 1])
    return tuple(a.astype(np.float32) for a in (rng.normal(size=SLOTS), preference, mask))


def formula(u: np.ndarray, preference: np.ndarray, mask: np.ndarray) -> float:
    """The mean cross-entropy of the ordered pairs that take part, in float64, pair by pair."""
    chosen = np.flatnonzero(mask)
    total = 0.0
    for a in chosen:
        for b in chosen:
            p = 1 / (1 + np.exp(-SLOPE * (u[a] - u[b])))
            total -= preference[a, b] * np.log(p) + (1 - preference[a, b]) * np.log(1 - p)
    return total / len(chosen) ** 2


def plain(u: jax.Array, preference: jax.Array, mask: jax.Array) -> jax.Array:
    """The formula for JAX's own differentiation."""
    p = jax.nn.sigmoid(SLOPE * (u[:, None] - u))
    each = -preference * jnp.log(p) - (1 - preference) * jnp.log(1 - p)
    return (each * mask[:, None] * mask).sum() / mask.sum() ** 2


def test_the_loss_is_the_cross_entropy_of_all_pairs(pairs: tuple) -> None:
    assert float(pair_loss(*pairs, SLOPE)) == pytest.approx(formula(*pairs), rel=1e-5)


def test_its_gradient_is_that_of_plain_differentiation(pairs: tuple) -> None:
    found, expected = jax.grad(pair_loss)(*pairs, SLOPE), jax.grad(plain)(*pairs)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    assert np.abs(np.asarray(found)).max() > 0.01


def test_its_gradient_is_that_of_finite_differences(pairs: tuple) -> None:
    u, *rest = pairs
    wide = u.astype(np.float64)
    numeric = [(formula(wide + 1e-6 * e, *rest) - formula(wide - 1e-6 * e, *rest)) / 2e-6 for e in np.eye(SLOTS)]
    np.testing.assert_allclose(jax.grad(pair_loss)(*pairs, SLOPE), numeric, rtol=1e-3, atol=1e-6)


def test_what_is_masked_out_has_no_part(pairs: tuple) -> None:
    u, preference, mask = pairs
    away = mask == 0
    np.testing.assert_array_equal(np.asarray(jax.grad(pair_loss)(*pairs, SLOPE))[away], 0)
    moved = np.where(away, 100, u).astype(np.float32)
    assert float(pair_loss(moved, preference, mask, SLOPE)) == float(pair_loss(*pairs, SLOPE))
    assert float(pair_loss(u, preference, np.zeros_like(mask), SLOPE)) == 0


def test_sure_and_wrong_stays_finite(pairs: tuple) -> None:
    _, preference, mask = pairs
    u = np.linspace(-1e4, 1e4, SLOTS).astype(np.float32)
    value, slope = jax.value_and_grad(pair_loss)(u, preference, mask, SLOPE)
    assert np.isfinite(value)
    assert np.isfinite(slope).all()


def predictor(encoder: str, *, sources: int = SOURCES, rounds: int = 2) -> RelationPredictor:
    return RelationPredictor(
        FEATURES,
        ATTRIBUTES,
        operations=NODES,
        sources=sources,
        tasks=TASKS,
        encoder=encoder,
        width=8,
        rounds=rounds,
        rngs=nnx.Rngs(0),
    )


def inputs(n: int = 6, *, sources: int = SOURCES) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(1)
    live = (rng.uniform(size=(n, NODES)) < 0.7).astype(np.float32)
    live[:, 0] = 1
    nodes, attributes = rng.normal(size=(n, NODES, FEATURES)), rng.normal(size=(n, ATTRIBUTES))
    evidence = rng.normal(size=(n, sources))
    return nodes.astype("f"), live, LINKS, attributes.astype("f"), evidence.astype("f")


@pytest.mark.parametrize("encoder", ENCODERS)
def test_the_relation_is_antisymmetric(encoder: str) -> None:
    u = np.asarray(predictor(encoder)(*inputs()))
    assert u.shape == (6, TASKS)
    probability = np.asarray(jax.nn.sigmoid(u[:, None] - u))
    np.testing.assert_allclose(probability + probability.swapaxes(0, 1), 1, atol=1e-6)
    assert np.ptp(probability) > 0.05


@pytest.mark.parametrize("encoder", ENCODERS)
def test_an_architecture_does_not_depend_on_the_others(encoder: str) -> None:
    model, (nodes, live, links, attributes, evidence) = predictor(encoder), inputs()
    together = np.asarray(model(nodes, live, links, attributes, evidence))
    for i in range(len(nodes)):
        one = slice(i, i + 1)
        alone = model(nodes[one], live[one], links, attributes[one], evidence[one])
        np.testing.assert_allclose(alone[0], together[i], rtol=1e-5, atol=1e-5)


def test_the_graph_encoder_ignores_operations_that_are_not_live() -> None:
    model, (nodes, live, links, attributes, _) = predictor("graph").encoder, inputs()
    assert (live == 0).any()
    noisy = np.where(live[..., None] > 0, nodes, 50.0).astype(np.float32)
    np.testing.assert_array_equal(model(noisy, live, links, attributes), model(nodes, live, links, attributes))
    assert not np.allclose(
        model(nodes + live[..., None], live, links, attributes), model(nodes, live, links, attributes)
    )


def test_message_passing_equals_a_loop() -> None:
    model, (nodes, live, links, attributes, _) = predictor("graph").encoder, inputs(3)

    def swish(x: np.ndarray) -> np.ndarray:
        return x / (1 + np.exp(-x))

    def dense(layer: nnx.Linear, x: np.ndarray) -> np.ndarray:
        bias = 0 if layer.bias is None else np.asarray(layer.bias[...], float)
        return x @ np.asarray(layer.kernel[...], float) + bias

    expected = []
    for i in range(3):
        alive = np.flatnonzero(live[i])
        hidden = {v: swish(dense(model.enter, nodes[i, v].astype(float))) for v in alive}
        for stay, ahead, back in zip(model.stay, model.ahead, model.back, strict=True):
            heard = {v: dense(stay, hidden[v]) for v in alive}
            for a in alive:
                for b in alive:
                    if links[a, b]:
                        heard[b] = heard[b] + dense(ahead, hidden[a])
                        heard[a] = heard[a] + dense(back, hidden[b])
            hidden = {v: hidden[v] + swish(heard[v]) for v in alive}
        pooled = sum(hidden.values()) / np.sqrt(NODES)
        expected.append(swish(dense(model.leave, np.concatenate([pooled, attributes[i]]))))
    np.testing.assert_allclose(model(nodes, live, links, attributes), expected, rtol=1e-4, atol=1e-5)


def test_links_have_a_direction_and_rounds_reach_further() -> None:
    nodes, _, links, attributes, _ = inputs(1)
    live = np.ones((1, NODES), np.float32)
    model = predictor("graph").encoder
    assert not np.allclose(model(nodes, live, links, attributes), model(nodes, live, links.T, attributes))
    assert not np.allclose(model(nodes, live, links, attributes), model(nodes, live, 0 * links, attributes))


@pytest.mark.parametrize("sources", [1, 4])
def test_the_start_trusts_all_sources_alike(sources: int) -> None:
    trust = predictor("code", sources=sources).trust[...]
    np.testing.assert_allclose(trust, np.full((sources, TASKS), 1 / sources))


@pytest.mark.parametrize("encoder", ENCODERS)
def test_no_sources(encoder: str) -> None:
    model = predictor(encoder, sources=0)
    assert model.trust[...].shape == (0, TASKS)
    u = np.asarray(model(*inputs(sources=0)))
    assert u.shape == (6, TASKS)
    assert np.isfinite(u).all()


def test_evidence_adds_to_the_utilities() -> None:
    model, (*graphs, evidence) = predictor("code"), inputs()
    model.task.kernel[...] = jnp.zeros_like(model.task.kernel[...])
    expected = np.tile(evidence.mean(axis=1, keepdims=True), (1, TASKS))
    np.testing.assert_allclose(model(*graphs, evidence), expected, rtol=1e-5, atol=1e-6)


def test_an_unknown_encoder() -> None:
    with pytest.raises(checks.UsageError, match=r"got 'grap'; did you mean: graph"):
        predictor("grap")
