"""Operations of a code-step, and the plain products that rates are compared with."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from latency.inputs import as_predictor, authors_config, authors_network, authors_objective
from latency.products import Products, flops_per_code_step, layers_of, reflection

from ncp_jax.predictors import FoldedMLP, Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    whole = as_predictor(authors_network(0))
    return whole.select(authors_objective(whole).names)


def test_operations_of_the_authors_network(predictor: Predictor) -> None:
    """27 features, a trunk of 256, two of the three heads of 128; forward and backward, two each multiply-add."""
    assert layers_of(predictor) == [(27, 256), (256, 256)]
    assert flops_per_code_step(predictor, authors_config(70, "float32", 1)) == 4 * (27 * 256 + 256 * 256)


def test_operations_are_those_that_xla_needs(predictor: Predictor) -> None:
    """The oracle: products in the traced gradient of what is sought, those that do not depend on the code left out."""
    (w1, w2, w3), (b1, b2, _) = predictor.params["w"], predictor.params["b"]

    def gradient(x: jax.Array, last: jax.Array) -> jax.Array:
        def hidden(x: jax.Array) -> jax.Array:
            return jax.nn.swish(jax.nn.swish(x @ w1[0] + b1[0]) @ w2[0] + b2[0])

        return jax.vjp(hidden, x)[1](last)[0]

    traced = jax.make_jaxpr(gradient)(np.ones(27, np.float32), w3[0] @ np.array([1.0, -0.5], np.float32))
    text = str(traced)
    assert text.count("dot_general") == 4, "two layers, there and back"
    counted = jax.jit(gradient).lower(np.ones(27, np.float32), w3[0, :, 0]).cost_analysis()["flops"]
    flops = flops_per_code_step(predictor, authors_config(1, "float32", 1))
    assert flops <= counted < 1.05 * flops, "the rest is additions and activations"


def test_who_is_followed_determines_the_operations(predictor: Predictor) -> None:
    members = dataclasses.replace(predictor, params=jax.tree.map(lambda a: np.tile(a, (3, 1, 1)), predictor.params))
    own = flops_per_code_step(members, authors_config(1, "float32", 3))
    assert own == flops_per_code_step(predictor, authors_config(1, "float32", 1))
    together = dataclasses.replace(authors_config(1, "float32", 3), follow="mean")
    assert flops_per_code_step(members, together) == 3 * own


def test_logarithms_widen_the_first_layer() -> None:
    shapes = ((1, 54, 16), (1, 16, 2))
    params = {"w": tuple(np.zeros(s, np.float32) for s in shapes), "b": ()}
    whole = as_predictor(authors_network(0))
    assert layers_of(dataclasses.replace(whole, params=params, apply=FoldedMLP(log=True))) == [(54, 16)]


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_repeated_products_keep_their_size(shape: tuple[int, int]) -> None:
    matrix = reflection(*shape)
    gram = matrix @ matrix.T if shape[0] <= shape[1] else matrix.T @ matrix
    np.testing.assert_allclose(gram, np.eye(min(shape)), atol=1e-6)
    assert (np.abs(matrix) > 0).all(), "dense"


def test_no_full_shapes_where_codes_are_streamed() -> None:
    products = Products([(3, 8)], codes=None, tile=(4, 1), precision="float32", squares=(8,), least=0.0)
    assert set(products.rates()) == {"tile", "square 8"}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_rates(precision: str) -> None:
    products = Products([(3, 8)], codes=16, tile=(4, 2), precision=precision, squares=(8, 16), least=0.0)
    rates = products.rates()
    assert list(rates) == ["full", "tile", "square 8", "square 16"]
    assert all(0 < rate < 1e15 for rate in rates.values())
