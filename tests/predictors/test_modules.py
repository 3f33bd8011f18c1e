"""The Flax modules against float64 NumPy, and against the folded layers that stand for them at inference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from ncp_jax.predictors import FoldedMLP, mlp, ncp

F, HEADS = 7, (1, 2, 1)
X = np.random.default_rng(0).normal(1.0, 2.0, size=(9, F)).astype(np.float32)


def swish(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-x))


def linear(layer: dict[str, Any], x: np.ndarray) -> np.ndarray:
    return x @ np.asarray(layer["kernel"], np.float64) + np.asarray(layer["bias"], np.float64)


def normalise(layer: dict[str, Any], x: np.ndarray) -> np.ndarray:
    mean, var, scale, bias = (np.asarray(layer[name], np.float64) for name in ("mean", "var", "scale", "bias"))
    return (x - mean) / np.sqrt(var + 1e-5) * scale + bias


def filled(make: Callable[[], nnx.Module], seed: int = 0) -> nnx.Module:
    """A module whose parameters are drawn by NumPy: no draw, no initialiser is compiled."""
    graph, state = nnx.split(nnx.eval_shape(make))
    rng = np.random.default_rng(seed)

    def fill(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].key in ("mean", "var"):
            return np.full(leaf.shape, float(path[-1].key == "var"), np.float32)
        low = 0.5 if path[-1].key == "scale" else -0.8
        return rng.uniform(low, low + 1.6, leaf.shape).astype(np.float32)

    nnx.replace_by_pure_dict(state, jax.tree_util.tree_map_with_path(fill, nnx.to_pure_dict(state)))
    return nnx.merge(graph, state)


def draws_for(model: nnx.Module, rows: int) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 2**32, (rows, sum(model.draws_needed)), np.uint32)


@pytest.fixture(scope="module")
def trained() -> dict[str, Any]:
    """An NCP network after three training-mode calls, and all that the tests ask of it: two compilations."""
    model = filled(lambda: ncp.NCPPredictor(F, HEADS, width=12, head_width=5, rngs=nnx.Rngs(0)))
    rng = np.random.default_rng(1)
    step = nnx.jit(lambda model, x, draws: model(x, train=True, draws=draws))
    for _ in range(3):
        step(model, rng.normal(3.0, 2.0, (9, F)).astype(np.float32), draws_for(model, 9))
    graph, state = nnx.split(model)

    @jax.jit
    def everything(state: nnx.State, x: jax.Array, draws: jax.Array) -> dict[str, Any]:
        model = nnx.merge(graph, state)
        found = {"fold": ncp.fold(model), "eval": model(x), "noisy": model(x, draws=draws)}
        found["folded"] = jax.vmap(FoldedMLP(), in_axes=(None, 0))(found["fold"], x)
        return found

    found = {"state": nnx.to_pure_dict(state), **everything(state, X, draws_for(model, 9))}
    found["train"] = step(model, X, draws_for(model, 9))
    return found | {"after": nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))}


def ncp_oracle(state: dict[str, Any], x: np.ndarray) -> np.ndarray:
    hidden = swish(normalise(state["norm"], linear(state["trunk"], normalise(state["norm_in"], x))))
    heads = [(state["head"][i], state["head_norm"][i], state["out"][i]) for i in range(len(HEADS))]
    return np.concatenate([linear(o, swish(normalise(n, linear(h, hidden)))) for h, n, o in heads], axis=1)


def test_ncp_equals_the_definition(trained: dict[str, Any]) -> None:
    state = trained["state"]
    assert np.abs(np.asarray(state["norm_in"]["mean"])).min() > 0.3, "the statistics have not moved"
    assert np.abs(np.asarray(state["norm"]["var"]) - 1).min() > 1e-3, "the statistics have not moved"
    assert trained["eval"].shape == (9, sum(HEADS))
    np.testing.assert_allclose(trained["eval"], ncp_oracle(state, X.astype(np.float64)), atol=1e-5)


def test_ncp_equals_its_fold(trained: dict[str, Any]) -> None:
    assert [w.shape for w in trained["fold"]["w"]] == [(F, 12), (12, 15), (15, 4)]
    np.testing.assert_allclose(trained["folded"], trained["eval"], atol=1e-5)


def test_ncp_in_training_uses_and_updates_the_statistics_of_the_batch(trained: dict[str, Any]) -> None:
    before, batch = np.asarray(trained["state"]["norm_in"]["mean"], np.float64), X.astype(np.float64)
    np.testing.assert_allclose(
        trained["after"]["norm_in"]["mean"], 0.9 * before + 0.1 * batch.mean(axis=0), rtol=1e-5, atol=1e-5
    )
    assert np.abs(np.asarray(trained["train"] - trained["eval"])).max() > 1e-2


def test_ncp_drops_where_draws_are_given(trained: dict[str, Any]) -> None:
    difference = np.abs(np.asarray(trained["noisy"] - trained["eval"]))
    assert difference.max() > 1e-2


def test_draws_of_the_networks() -> None:
    # Trunk of 12 and three heads of 5 units, one bit a unit at rate 1/2; the last head has no dropout.
    model = nnx.eval_shape(lambda: ncp.NCPPredictor(F, HEADS, width=12, head_width=5, rngs=nnx.Rngs(0)))
    assert model.draws_needed == (1, 1, 1, 0)
    model = nnx.eval_shape(lambda: mlp.MLPPredictor(F, 3, widths=(8, 6), rate=0.25, rngs=nnx.Rngs(0)))
    assert model.draws_needed == (2, 2)


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """A small network and all that the tests ask of it."""
    model = filled(lambda: mlp.MLPPredictor(F, 3, widths=(8, 6), rate=0.25, rngs=nnx.Rngs(3)))
    _, state = nnx.split(model)
    exact, rounded = (
        nnx.split(
            nnx.eval_shape(lambda p=p: mlp.MLPPredictor(F, 3, widths=(8, 6), rate=0.25, precision=p, rngs=nnx.Rngs(3)))
        )[0]
        for p in ("float32", "bfloat16")
    )

    @jax.jit
    def everything(state: nnx.State, x: jax.Array, draws: jax.Array) -> dict[str, Any]:
        model = nnx.merge(exact, state)
        return {
            "eval": model(x),
            "train": model(x, train=True),
            "folded": jax.vmap(FoldedMLP(), in_axes=(None, 0))(mlp.fold(model), x),
            "noisy": model(x, draws=draws),
            "rounded": nnx.merge(rounded, state)(x),
        }

    return {"state": nnx.to_pure_dict(state), **everything(state, X, draws_for(model, 9))}


def test_mlp_equals_the_definition(small: dict[str, Any]) -> None:
    hidden, state = X.astype(np.float64), small["state"]
    for i in range(2):
        hidden = swish(linear(state["layers"][i], hidden))
    np.testing.assert_allclose(small["eval"], linear(state["out"], hidden), atol=1e-5)
    np.testing.assert_array_equal(small["train"], small["eval"])


def test_mlp_equals_its_fold(small: dict[str, Any]) -> None:
    np.testing.assert_allclose(small["folded"], small["eval"], atol=1e-5)


def test_mlp_drops_where_draws_are_given(small: dict[str, Any]) -> None:
    assert np.abs(np.asarray(small["noisy"] - small["eval"])).max() > 1e-2


def test_bfloat16_products_are_close(small: dict[str, Any]) -> None:
    exact, rounded = np.asarray(small["eval"]), np.asarray(small["rounded"])
    assert 0 < np.abs(rounded - exact).max() < 2e-2 * np.abs(exact).max()
