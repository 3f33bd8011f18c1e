"""Defines the NCP predictor as a Flax module (Ding et al., ICLR 2022, section 3.2 and the authors' released recipe)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ncp_jax.predictors.dropout import draws_needed, dropout, split_draws
from ncp_jax.predictors.folded import batch_norm_affine, fold_batch_norm
from ncp_jax.predictors.kinds import Kind, Layout, register
from ncp_jax.predictors.products import matmul
from ncp_jax.types import Array, Float, Params, UInt

EPSILON = 1e-5


def dot_general(precision: str) -> Callable[..., Array]:
    """Returns a ``dot_general`` for nnx.Linear that multiplies at ``precision``."""

    def dot(x: Array, w: Array, dimension_numbers: Any, **_: Any) -> Array:
        return matmul(x, w, precision)

    return dot


class NCPPredictor(nnx.Module):
    """Trunk with heads. Trunk: BatchNorm → Linear → BatchNorm → swish → dropout; one such block per metric group.

    Args:
      features: f, length of the relaxed code.
      heads: number of metrics in each group; the first group is the main metric.
      width: units of the trunk.
      head_width: units of each head.
      rates: dropout rate of the trunk, followed by that of each head.
      precision: precision of the matrix products, see ``products.matmul``.
      rngs: random streams of the initial weights.
    """

    def __init__(
        self,
        features: int,
        heads: tuple[int, ...],
        *,
        width: int = 256,
        head_width: int = 128,
        rates: tuple[float, ...] = (0.5, 0.5, 0.5, 0.0),
        precision: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        norm = functools.partial(nnx.BatchNorm, momentum=0.9, epsilon=EPSILON, rngs=rngs)
        linear = functools.partial(nnx.Linear, dot_general=dot_general(precision), rngs=rngs)
        self.rates = rates
        self.norm_in = norm(features)
        self.trunk = linear(features, width)
        self.norm = norm(width)
        self.head = nnx.List([linear(width, head_width) for _ in heads])
        self.head_norm = nnx.List([norm(head_width) for _ in heads])
        self.out = nnx.List([linear(head_width, n) for n in heads])

    @property
    def draws_needed(self) -> tuple[int, ...]:
        """Random integers per row that the trunk and each head need for dropout."""
        units = (self.trunk.out_features, *(h.out_features for h in self.head))
        return tuple(draws_needed(n, rate) for n, rate in zip(units, self.rates, strict=True))

    def __call__(
        self, x: Float[Array, "n f"], *, train: bool = False, draws: UInt[Array, "n w"] | None = None
    ) -> Float[Array, "n m"]:
        """Predicts the metrics of n codes, in standard units, group after group.

        Args:
          x: relaxed codes in standard units.
          train: whether BatchNorm uses and updates the batch's statistics.
          draws: ``sum(self.draws_needed)`` random 32-bit integers per row for dropout, or None for no dropout.
        """
        trunk_draws, *head_draws = split_draws(draws, self.draws_needed)

        def norm(layer: nnx.BatchNorm, h: Array) -> Array:
            return layer(h, use_running_average=not train)

        hidden = nnx.swish(norm(self.norm, self.trunk(norm(self.norm_in, x))))
        hidden = dropout(hidden, self.rates[0], trunk_draws)
        outputs = []
        heads = zip(self.head, self.head_norm, self.out, self.rates[1:], head_draws, strict=True)
        for linear, layer, out, rate, part in heads:
            outputs.append(out(dropout(nnx.swish(norm(layer, linear(hidden))), rate, part)))
        return jnp.concatenate(outputs, axis=-1)


def weights(layer: nnx.Linear) -> tuple[Float[Array, "i o"], Float[Array, " o"]]:
    """Returns kernel and bias of a linear layer."""
    assert layer.bias is not None
    return layer.kernel[...], layer.bias[...]


def fold(model: NCPPredictor) -> Params:
    """Returns the parameters of the FoldedMLP that is equal to ``model`` at inference."""

    def affine(norm: nnx.BatchNorm) -> tuple[Array, Array]:
        assert norm.scale is not None
        assert norm.bias is not None
        return batch_norm_affine(norm.scale[...], norm.bias[...], norm.mean[...], norm.var[...], EPSILON)

    # The trunk takes in the BatchNorm of its inputs and its own.
    gain, shift = affine(model.norm_in)
    w1, b1 = weights(model.trunk)
    w1, b1 = fold_batch_norm(gain[:, None] * w1, b1 + shift @ w1, *affine(model.norm))
    # Heads on the same trunk are one wide layer, followed by a block-diagonal output layer.
    heads = [
        fold_batch_norm(*weights(linear), *affine(norm))
        for linear, norm in zip(model.head, model.head_norm, strict=True)
    ]
    outs = [weights(out) for out in model.out]
    return {
        "w": (w1, jnp.concatenate([w for w, _ in heads], axis=1), jax.scipy.linalg.block_diag(*(w for w, _ in outs))),
        "b": (b1, jnp.concatenate([b for _, b in heads]), jnp.concatenate([b for _, b in outs])),
    }


def make(layout: Layout, rngs: nnx.Rngs) -> NCPPredictor:
    """Returns a new network. ``widths`` and ``rates`` are those of the trunk, then of the heads; empty heads go."""
    width, head_width = layout.widths
    trunk_rate, *rates = layout.rates
    groups = [(n, rate) for n, rate in zip(layout.heads, rates, strict=True) if n]
    return NCPPredictor(
        layout.features,
        tuple(n for n, _ in groups),
        width=width,
        head_width=head_width,
        rates=(trunk_rate, *(rate for _, rate in groups)),
        precision=layout.precision,
        rngs=rngs,
    )


register("ncp", Kind(make, fold))
