from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.predictors import FoldedMLP, Predictor

X = np.random.default_rng(5).uniform(0.2, 128, size=(7, 27)).astype(np.float32)
Make = Callable[..., Predictor]


def oracle(predictor: Predictor, x: np.ndarray, log: bool) -> np.ndarray:
    """Predictions of each member in the metrics' own units, [k, n, m], float64."""
    scale, found = predictor.scale, []
    x_mean, x_std, y_mean, y_std = (
        np.asarray(a, np.float64) for a in (scale.x_mean, scale.x_std, scale.y_mean, scale.y_std)
    )
    for k in range(predictor.members):
        *w, last = (np.asarray(a[k], np.float64) for a in predictor.params["w"])
        *b, last_b = (np.asarray(a[k], np.float64) for a in predictor.params["b"])
        hidden = (x - x_mean) / x_std
        if log:
            hidden = np.concatenate([hidden, np.log2(np.maximum(x, 0.5))], axis=1)
        for matrix, bias in zip(w, b, strict=True):
            hidden = hidden @ matrix + bias
            hidden = hidden / (1 + np.exp(-hidden))
        found.append((hidden @ last + last_b) * y_std + y_mean)
    return np.stack(found)


def test_the_description_is_json(folded: Make) -> None:
    predictor = folded(log=True)
    content = json.loads(json.dumps(predictor.to_json()))
    assert content["space"] == predictor.space
    assert content["members"] == predictor.members
    assert content["apply"] == {"kind": "FoldedMLP", "log": True, "precision": "float32"}
    assert [m["name"] for m in content["metrics"]] == [m.name for m in predictor.metrics]


@pytest.mark.parametrize("log", [False, True])
def test_members_mean_and_spread(folded: Make, log: bool) -> None:
    predictor = folded(log=log)
    values = oracle(predictor, X.astype(np.float64), log)
    np.testing.assert_allclose(predictor.member_values(jnp.asarray(X)), values, rtol=1e-4, atol=1e-4)
    mean, spread = predictor(jnp.asarray(X))
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(spread, values.std(axis=0), rtol=1e-3, atol=1e-4)
    assert predictor.members == 3


def test_bfloat16_is_close(folded: Make) -> None:
    exact, rounded = (folded(apply=FoldedMLP(precision=p))(jnp.asarray(X))[0] for p in ("float32", "bfloat16"))
    error = np.abs(np.asarray(exact - rounded)) / np.asarray(folded().scale.y_std)
    assert 0 < error.max() < 0.1


def test_one_code_under_vmap_equals_the_batch(folded: Make) -> None:
    predictor = folded(log=True)
    one = jax.vmap(lambda x: predictor(x[None])[0][0])(jnp.asarray(X))
    np.testing.assert_allclose(one, predictor(jnp.asarray(X))[0], rtol=1e-5, atol=1e-5)


def test_one_member_has_no_spread(folded: Make) -> None:
    np.testing.assert_array_equal(folded(members=1)(jnp.asarray(X))[1], 0)


def test_standardisation_inverts_itself(folded: Make) -> None:
    scale = folded().scale
    np.testing.assert_allclose(scale.raw_x(scale.standard_x(jnp.asarray(X))), X, rtol=1e-5, atol=1e-5)
    y = np.array([[66.0, 3.5, 1.5]], np.float32)
    np.testing.assert_allclose(scale.standard_y(y), [[-1, 1, 0]], atol=1e-6)
    np.testing.assert_allclose(scale.raw_y(scale.standard_y(y)), y, rtol=1e-6)


NAMES = ("flops", "a/acc")


def generic(params: dict, x: jax.Array) -> jax.Array:
    """An ``apply`` that cannot prune."""
    return FoldedMLP()(params, x)


@pytest.mark.parametrize("apply", [None, generic], ids=["folded", "generic"])
def test_select_keeps_the_columns_in_the_order_given(folded: Make, apply: Callable | None) -> None:
    predictor = folded(apply=apply)
    chosen = predictor.select(NAMES)
    assert [m.name for m in chosen.metrics] == list(NAMES)
    for got, wanted in zip(chosen(jnp.asarray(X)), predictor(jnp.asarray(X)), strict=True):
        np.testing.assert_allclose(got, np.asarray(wanted)[:, [2, 0]], rtol=1e-5, atol=1e-5)
    again = chosen.select(("a/acc",))
    np.testing.assert_allclose(again(jnp.asarray(X))[0][:, 0], predictor(jnp.asarray(X))[0][:, 0], rtol=1e-5)


def test_select_drops_hidden_units_that_fed_the_others(folded: Make) -> None:
    chosen = folded().select(NAMES)
    assert [w.shape for w in chosen.params["w"]] == [(3, 27, 6), (3, 6, 6), (3, 6, 2)]
    assert [b.shape for b in chosen.params["b"]] == [(3, 6), (3, 6), (3, 2)]


def test_equal_restrictions_of_a_generic_predictor_are_equal(folded: Make) -> None:
    first, second = (folded(apply=generic).select(NAMES) for _ in range(2))
    assert first.apply == second.apply
    assert hash(first.apply) == hash(second.apply)
    assert first.apply != folded(apply=generic).select(("flops",)).apply


def test_names(folded: Make) -> None:
    predictor = folded()
    assert predictor.main.name == "a/acc"
    assert predictor.metric("FLOPS").unit == "GMAC"
    with pytest.raises(UsageError, match="expected a known metric, got 'flop'; did you mean: flops"):
        predictor.metric("flop")
    with pytest.raises(UsageError, match="expected a known metric, got 'a/ac'"):
        predictor.select(("a/ac",))


def test_a_predictor_is_a_pytree(folded: Make) -> None:
    predictor = folded()
    doubled = jax.tree.map(lambda a: a * 2, predictor)
    assert isinstance(doubled, Predictor)
    assert dataclasses.replace(doubled, params=predictor.params, scale=predictor.scale).metrics == predictor.metrics
    np.testing.assert_array_equal(doubled.scale.y_mean, 2 * predictor.scale.y_mean)


def test_parts_that_do_not_fit_are_an_error_that_says_which(folded: Make) -> None:
    good = folded()
    good.check()
    params, scale = jax.tree.map(jnp.asarray, good.params), good.scale
    uneven = {**params, "b": [b[:1] if k == 0 else b for k, b in enumerate(params["b"])]}
    cases: list[tuple[dict, str]] = [
        ({"params": jax.tree.map(lambda leaf: leaf[0, 0], params)}, "one leading axis"),
        ({"params": uneven}, "stack the members' params"),
        ({"params": {}}, "got leaves none"),
        ({"scale": dataclasses.replace(scale, x_std=scale.x_std[:-1])}, r"x_mean, x_std \[27\] of nas-bench-mr"),
        ({"scale": dataclasses.replace(scale, y_mean=jnp.zeros(()))}, "one per metric"),
        ({"metrics": good.metrics[:1]}, r"y_mean, y_std \[1\] of the metrics"),
        ({"apply": lambda p, code: good.apply(p, code)[None]}, r"standard metrics \[\d\], got \[1, \d\] as its result"),
        ({"apply": lambda p, code: code @ code[:3]}, "got TypeError: dot_general"),
        ({"apply": lambda p, code: (code, code)}, "got tuple as its result"),
        ({"space": "transnas-micro"}, r"x_mean, x_std \[24\] of transnas-micro"),
    ]
    for change, words in cases:
        bad = dataclasses.replace(good, **change)
        with pytest.raises(UsageError, match=words):
            bad.check()
    with pytest.raises(UsageError, match="got tuple as its result"):
        dataclasses.replace(good, **cases[-2][0])(jnp.asarray(X))
