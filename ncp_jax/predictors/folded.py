"""Evaluates predictors as linear layers, with BatchNorm folded into the weights and all heads fused.

An affine layer followed by BatchNorm with fixed statistics is one affine layer. Heads on the same trunk are one wide
layer, and their last layers form one block-diagonal matrix.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.predictors.products import matmul, product
from ncp_jax.types import Array, Float, Params

# Computes a loss's slopes from the standard predictions of k members for n codes: [k, n, m] -> [k, n, m].
Slopes = Callable[[Float[Array, "k n m"]], Float[Array, "k n m"]]


@jax.custom_vjp
def swish(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """Returns ``x * sigmoid(x)``. The forward pass computes the slope too, since inversion always needs it."""
    return x * jax.nn.sigmoid(x)


def swish_with_slope(x: Float[Array, "*n"]) -> tuple[Float[Array, "*n"], Float[Array, "*n"]]:
    """Returns swish and its derivative, computed from one sigmoid."""
    gate = jax.nn.sigmoid(x)
    value = x * gate
    return value, gate + value * (1 - gate)


def _swish_backward(slope: Array, g: Array) -> tuple[Array]:
    return (g * slope,)


swish.defvjp(swish_with_slope, _swish_backward)


@dataclasses.dataclass(frozen=True)
class FoldedMLP:
    """The ``apply`` of a folded multi-layer perceptron: (linear → swish)* → linear, in standard units.

    Its parameters are ``{"w": (w_1, …), "b": (b_1, …)}`` with ``w_i`` of shape [inputs, outputs]. With ``log`` there
    are also ``{"x_mean": [f], "x_std": [f]}``, which convert standard to raw units before the logarithm.

    Attributes:
      log: whether the first layer also reads the logarithm of each feature, after the features.
      precision: precision of the products: "float32", or "bfloat16" for rounded operands with float32 sums (see
        ``products.matmul``).
    """

    log: bool = False
    precision: str = "float32"

    def __call__(self, params: Params, standard: Float[Array, " f"]) -> Float[Array, " m"]:
        """Predicts the metrics ``[m]`` of one relaxed code ``[f]``, both in standard units."""
        hidden = standard
        if self.log:
            hidden = jnp.concatenate([standard, log_features(standard * params["x_std"] + params["x_mean"])])
        for w, b in zip(params["w"][:-1], params["b"][:-1], strict=True):
            hidden = swish(matmul(hidden, w, self.precision) + b)
        return matmul(hidden, params["w"][-1], self.precision) + params["b"][-1]

    def gradient(
        self,
        params: Params,
        x: Float[Array, "n f"],
        loss_slopes: Slopes | Float[Array, "k m"],
        precision: str = "float32",
    ) -> Float[Array, "n f"]:
        """Returns the gradient of a loss on the predictions with respect to the codes.

        It computes all members and codes in one product per layer, and is equal to the sum over members of the
        gradients through ``__call__``. If the loss is linear, its slopes are constants, and so is their product with
        the last layer; that layer is then not evaluated.

        Args:
          params: parameters with a leading axis of k members on every leaf.
          x: relaxed codes in standard units, read by every member.
          loss_slopes: slopes of the loss on the predictions: ``[k, m]`` if they are the same for every code, else a
            function that computes them from the standard predictions, ``[k, n, m] -> [k, n, m]``.
          precision: precision of the products, see ``products.product``.
        """
        *w, last_w = params["w"]
        *b, last_b = params["b"]

        # Forward, keeping the slope of every hidden unit.
        hidden, unit_slopes = x, []
        if self.log:
            shift, gain = params["x_mean"][:, None], params["x_std"][:, None]
            raw = x * gain + shift
            hidden = jnp.concatenate([jnp.broadcast_to(x, raw.shape), log_features(raw)], axis=-1)
        for w_i, b_i in zip(w, b, strict=True):
            hidden, slope = swish_with_slope(product(hidden, w_i, precision) + b_i[:, None])
            unit_slopes.append(slope)

        # Through the last layer.
        back = [w_i.swapaxes(1, 2) for w_i in w]
        if callable(loss_slopes):
            z = product(hidden, last_w, precision) + last_b[:, None]
            g = product(loss_slopes(z), last_w.swapaxes(1, 2), precision)
        else:
            # Constant factors of the last hidden units, [k, units]. Their weights take these in, once before any loop.
            form = jnp.einsum("km,kum->ku", loss_slopes, last_w, precision=jax.lax.Precision.HIGHEST)
            g = form[:, None]
            if w:
                g, back[-1] = jnp.ones_like(g), form[:, :, None] * back[-1]

        # Backward through the hidden layers, and through the logarithms to the features.
        for back_i, slope in zip(reversed(back), reversed(unit_slopes), strict=True):
            g = product(g * slope, back_i, precision)
        if self.log:
            f = x.shape[-1]
            g = g[..., :f] + g[..., f:] * jnp.where(raw > 0.5, gain / (raw * np.log(2)), 0.0)
        return jnp.broadcast_to(g.sum(axis=0), x.shape)

    def select(self, params: Params, columns: tuple[int, ...]) -> Params:
        """Drops all outputs but ``columns``, and the last hidden units that only the dropped outputs read.

        Args:
          params: parameters with a leading axis of members on every leaf.
          columns: outputs to keep, in their new order.
        """
        *w, last = (np.asarray(a) for a in params["w"])
        *b, last_b = (np.asarray(a) for a in params["b"])
        last, last_b = last[..., columns], last_b[..., columns]
        if not w:  # a linear model has no hidden units
            return params | {"w": (jax.device_put(last),), "b": (jax.device_put(last_b),)}
        *w, head = w
        *b, head_b = b
        used = np.abs(last).max(axis=(0, 2)) > 0
        used[0] |= not used.any()  # outputs that are constant: no layer is empty
        head, head_b, last = head[..., used], head_b[..., used], last[:, used, :]
        return params | {
            "w": tuple(map(jax.device_put, (*w, head, last))),
            "b": tuple(map(jax.device_put, (*b, head_b, last_b))),
        }


def log_features(raw: Float[Array, "*n f"]) -> Float[Array, "*n f"]:
    """Returns log2 of each raw feature, constant below 1/2 so that it is finite everywhere."""
    return jnp.log2(jnp.maximum(raw, 0.5))


def fold_batch_norm(
    w: Float[Array, "i o"], b: Float[Array, " o"], gain: Float[Array, " o"], shift: Float[Array, " o"]
) -> tuple[Float[Array, "i o"], Float[Array, " o"]]:
    """Returns the weights and bias of the layer ``gain * (x @ w + b) + shift``."""
    return w * gain, b * gain + shift


def batch_norm_affine(
    scale: Float[Array, " o"], bias: Float[Array, " o"], mean: Float[Array, " o"], var: Float[Array, " o"], eps: float
) -> tuple[Float[Array, " o"], Float[Array, " o"]]:
    """Returns (gain, shift) of BatchNorm with fixed statistics: ``y = gain * x + shift``."""
    gain = scale / jnp.sqrt(var + eps)
    return gain, bias - mean * gain
