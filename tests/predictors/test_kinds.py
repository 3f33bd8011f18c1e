"""A kind of network of one's own is one class and one registration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import jax
import numpy as np
import pytest
from flax import nnx

from ncp_jax import Recipe, Table, fit, get_space
from ncp_jax.checks import UsageError
from ncp_jax.predictors.kinds import KINDS, Kind, Layout, register
from ncp_jax.predictors.ncp import weights


class Narrow(nnx.Module):
    """One hidden layer, without dropout."""

    draws_needed = (0,)

    def __init__(self, layout: Layout, rngs: nnx.Rngs) -> None:
        (width,) = layout.widths
        self.hidden = nnx.Linear(layout.features * (2 if layout.log else 1), width, rngs=rngs)
        self.out = nnx.Linear(width, sum(layout.heads), rngs=rngs)

    def __call__(self, x: jax.Array, *, train: bool = False, draws: jax.Array | None = None) -> jax.Array:
        del train, draws
        return self.out(nnx.swish(self.hidden(x)))


@pytest.fixture
def narrow() -> Iterator[str]:
    def fold(model: Narrow) -> dict[str, tuple[jax.Array, ...]]:
        (w1, b1), (w2, b2) = weights(model.hidden), weights(model.out)
        return {"w": (w1, w2), "b": (b1, b2)}

    register("narrow", Kind(Narrow, fold))
    yield "narrow"
    del KINDS["narrow"]


def test_a_registered_kind_trains_and_predicts(narrow: str, tiny_table: Table, tiny_recipe: Recipe) -> None:
    recipe = dataclasses.replace(tiny_recipe, network=narrow, widths=(16,), learning_rate=3e-2)
    predictor = fit(tiny_table, recipe=recipe, members=2, key=jax.random.key(0))
    mean, spread = predictor(get_space(tiny_table.space).encode(tiny_table.codes))
    column = [m.name for m in predictor.metrics].index("a/top1")
    measured = np.asarray(tiny_table.column("a/top1"))
    # The metric is linear in the code.
    assert np.corrcoef(np.asarray(mean)[:, column], measured)[0, 1] > 0.98
    assert np.isfinite(np.asarray(spread)).all()


def test_an_unknown_kind_is_refused(tiny_recipe: Recipe) -> None:
    with pytest.raises(UsageError, match=r"expected a known network, got 'mpl'; did you mean: mlp"):
        dataclasses.replace(tiny_recipe, network="mpl")
