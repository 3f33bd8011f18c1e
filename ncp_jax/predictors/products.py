"""Multiplies matrices at a chosen precision of the operands, with sums in float32."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp

from ncp_jax import checks
from ncp_jax.types import Array, Float

PRECISIONS = ("float32", "tf32", "bfloat16")


def check_precision(precision: str) -> str:
    """Returns the canonical name of a precision; UsageError if it is unknown."""
    return checks.choose("precision", precision, PRECISIONS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: Float[Array, "*n k"], w: Float[Array, "k m"], precision: str = "float32") -> Float[Array, "*n m"]:
    """Returns ``x @ w`` in float32, with a derivative; see ``product`` for the precisions.

    The forward product and both backward products run at the given precision. JAX's own transpose rule would multiply a
    float32 cotangent with a bfloat16 operand, which has no fast path.
    """
    return product(x, w, precision)


def product(x: Float[Array, "*n k"], w: Float[Array, "*n k m"], precision: str = "float32") -> Float[Array, "*n m"]:
    """Returns ``x @ w`` in float32.

    Args:
      x: left operand.
      w: right operand; leading dimensions broadcast as in ``jnp.matmul``.
      precision: precision of the operands: "float32"; "tf32", 10 mantissa bits on devices with such units (three
        bfloat16 passes on TPU, float32 on CPU); or "bfloat16", which processors with matrix units run several times
        faster. Products are summed in float32.
    """
    if precision == "bfloat16":
        return jnp.matmul(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    if precision == "tf32":
        on_tpu = jax.default_backend() == "tpu"
        return jnp.matmul(x, w, precision=jax.lax.Precision.HIGH if on_tpu else jax.lax.Precision.DEFAULT)
    return jnp.matmul(x, w, precision=jax.lax.Precision.HIGHEST)


def _forward(x: Array, w: Array, precision: str) -> tuple[Array, tuple[Array, Array]]:
    return product(x, w, precision), (x, w)


def _backward(precision: str, residual: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = residual
    dx = product(g, w.T, precision)
    rows = math.prod(x.shape[:-1])  # -1 cannot stand for it where there are no columns
    dw = product(x.reshape(rows, x.shape[-1]).T, g.reshape(rows, g.shape[-1]), precision)
    return dx, dw


matmul.defvjp(_forward, _backward)
