"""Defines the MLP predictor as a Flax module: features → (Linear → swish → dropout)* → Linear, for all metrics."""

from __future__ import annotations

import functools
import itertools

from flax import nnx

from ncp_jax.predictors.dropout import draws_needed, dropout, split_draws
from ncp_jax.predictors.kinds import Kind, Layout, register
from ncp_jax.predictors.ncp import dot_general, weights
from ncp_jax.types import Array, Float, Params, UInt


class MLPPredictor(nnx.Module):
    """Multi-layer perceptron without BatchNorm, to be trained with strong decoupled weight decay.

    Args:
      features: length of the input: the relaxed code in standard units, with or without its logarithms appended.
      outputs: m, number of metrics.
      widths: units of the hidden layers.
      rate: dropout rate after each hidden layer.
      precision: precision of the matrix products, see ``products.matmul``.
      rngs: random streams of the initial weights.
    """

    def __init__(
        self,
        features: int,
        outputs: int,
        *,
        widths: tuple[int, ...] = (128, 128, 128),
        rate: float = 0.0,
        precision: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        linear = functools.partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
        sizes = (features, *widths)
        self.rate = rate
        self.layers = nnx.List([linear(i, o) for i, o in itertools.pairwise(sizes)])
        self.out = linear(sizes[-1], outputs)

    @property
    def draws_needed(self) -> tuple[int, ...]:
        """Random integers per row that each layer needs for dropout."""
        return tuple(draws_needed(layer.out_features, self.rate) for layer in self.layers)

    def __call__(
        self, x: Float[Array, "n f"], *, train: bool = False, draws: UInt[Array, "n w"] | None = None
    ) -> Float[Array, "n m"]:
        """Predicts the metrics of n codes, in standard units.

        Args:
          x: inputs in standard units.
          train: whether this is a training step; has no effect without BatchNorm.
          draws: ``sum(self.draws_needed)`` random 32-bit integers per row for dropout, or None for no dropout.
        """
        del train
        hidden = x
        for layer, part in zip(self.layers, split_draws(draws, self.draws_needed), strict=True):
            hidden = dropout(nnx.swish(layer(hidden)), self.rate, part)
        return self.out(hidden)


def fold(model: MLPPredictor) -> Params:
    """Returns the parameters of the FoldedMLP that is equal to ``model`` at inference."""
    layers = [*model.layers, model.out]
    pairs = [weights(layer) for layer in layers]
    return {"w": tuple(w for w, _ in pairs), "b": tuple(b for _, b in pairs)}


def make(layout: Layout, rngs: nnx.Rngs) -> MLPPredictor:
    """Returns a new network: ``widths`` are those of the hidden layers, the first of ``rates`` is that of all."""
    return MLPPredictor(
        layout.features * (2 if layout.log else 1),
        sum(layout.heads),
        widths=layout.widths,
        rate=layout.rates[0],
        precision=layout.precision,
        rngs=rngs,
    )


register("mlp", Kind(make, fold))
