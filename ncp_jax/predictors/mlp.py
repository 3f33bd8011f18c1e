"""A plain joint predictor as a Flax module: features → (Linear → swish → dropout)* → Linear, all metrics at once."""

from __future__ import annotations

import functools
import itertools

from flax import nnx

from ncp_jax.predictors.dropout import dropout, share_words, words_needed
from ncp_jax.predictors.ncp import dot_general, weights
from ncp_jax.types import Array, Float, Params, UInt


class MLPPredictor(nnx.Module):
    """Multi-layer perceptron without BatchNorm; meant for strong decoupled weight decay.

    Args:
      features: length of the standard input (the relaxed code, perhaps with its logarithms behind it).
      outputs: m, number of metrics.
      widths: units of the hidden layers.
      rate: dropout rate behind each hidden layer.
      precision: of the matrix products, see ``products.matmul``.
      rngs: for the initial weights.
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
    def words(self) -> tuple[int, ...]:
        """Random words a row that each layer needs for dropout."""
        return tuple(words_needed(layer.out_features, self.rate) for layer in self.layers)

    def __call__(
        self, x: Float[Array, "n f"], *, train: bool = False, words: UInt[Array, "n w"] | None = None
    ) -> Float[Array, "n m"]:
        """Predicts the standard metrics of n codes.

        Args:
          x: standard inputs.
          train: whether this is a training step; without BatchNorm it changes nothing.
          words: ``sum(self.words)`` random words a row, for dropout; none is applied without them.
        """
        del train
        hidden = x
        for layer, part in zip(self.layers, share_words(words, self.words), strict=True):
            hidden = dropout(nnx.swish(layer(hidden)), self.rate, part)
        return self.out(hidden)


def fold(model: MLPPredictor) -> Params:
    """Returns the parameters of the FoldedMLP that equals ``model`` at inference."""
    layers = [*model.layers, model.out]
    pairs = [weights(layer) for layer in layers]
    return {"w": tuple(w for w, _ in pairs), "b": tuple(b for _, b in pairs)}
