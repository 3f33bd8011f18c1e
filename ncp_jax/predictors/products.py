"""Matrix products whose operands may be rounded to bfloat16 while sums stay in float32."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from ncp_jax import checks
from ncp_jax.types import Array, Float

PRECISIONS = ("float32", "bfloat16")


def check_precision(precision: str) -> str:
    """Returns the canonical name of a precision; UsageError for an unknown one."""
    return checks.choose("precision", precision, PRECISIONS)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def matmul(x: Float[Array, "*n k"], w: Float[Array, "k m"], precision: str = "float32") -> Float[Array, "*n m"]:
    """Returns ``x @ w`` in float32.

    With "bfloat16" both operands are rounded to bfloat16 and the products are summed in float32, in the
    forward and in both backward products; processors with matrix units run this several times faster.
    JAX's own transpose would multiply a float32 cotangent with a bfloat16 operand, which has no fast path.
    """
    return _product(x, w, precision)


def _product(x: Array, w: Array, precision: str) -> Array:
    if precision == "bfloat16":
        return jnp.matmul(x.astype(jnp.bfloat16), w.astype(jnp.bfloat16), preferred_element_type=jnp.float32)
    return jnp.matmul(x, w, precision=jax.lax.Precision.HIGHEST)


def _forward(x: Array, w: Array, precision: str) -> tuple[Array, tuple[Array, Array]]:
    return _product(x, w, precision), (x, w)


def _backward(precision: str, residual: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, w = residual
    dx = _product(g, w.T, precision)
    dw = _product(x.reshape(-1, x.shape[-1]).T, g.reshape(-1, g.shape[-1]), precision)
    return dx, dw


matmul.defvjp(_forward, _backward)
