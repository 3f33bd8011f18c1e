"""Inverts folded networks in one fused Pallas kernel: a tile of codes stays on chip through all steps.

``engine.invert`` writes every activation to memory at every step. On an accelerator that traffic costs more than the
products. Here a tile of codes and the weights of one network are loaded once, all steps run on them, and the tile is
written back. The steps are those of ``engine.invert`` for a fixed cotangent ``c`` of the predictions. The codes then
descend one linear form ``w_out @ c`` of the last hidden layer, so the output layer is not needed.

Three rearrangements speed this up. None of them changes a result beyond rounding:

- ``2 sigmoid(2 a) = 1 + tanh(a)``. Weights and biases are halved beforehand. The slopes of swish then come out doubled,
  and the halved weights of the backward products compensate for that. Powers of two are exact.
- The form and the learning rate are multiplied into the last layer's weights of the backward product.
- On CUDA a bias is a product too, of ones with three rows of bfloat16 that add up to it. The matrix units are idle at
  this time, whereas registers are scarce.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.experimental.pallas import triton as plgpu

from ncp_jax import checks
from ncp_jax.types import Array, Float, Params

STRATEGIES = ("continuous", "winner-takes-all")
PRECISIONS = ("float32", "tf32", "bfloat16")
# Matrix units need 16 rows and columns per product; the sizes of Triton's arrays are powers of two.
SMALLEST = 16
SHARED_BYTES = 227 * 1024  # shared memory of a block on an H100
VECTOR_BYTES = 12 * 1024 * 1024  # part of a TPU core's vector memory for weights and a tile
# Maximum number of hidden units, all layers together, whose slopes fit in registers with few spills (compiler's report
# for sm_90).
CUDA_UNITS = 512
# Maximum number of weights in float32. Triton unrolls every multiplication there, and more would take half a minute to
# compile.
CUDA_FLOAT32_WEIGHTS = 16 * 1024


@dataclasses.dataclass(frozen=True)
class _Arithmetic:
    """Elementwise functions of a chip, and its way to add a bias.

    Attributes:
      tanh, log2, reciprocal: functions of float32 arrays.
      rounded: conversion ``(array, dtype) -> array of dtype``.
      bias_as_product: whether biases are added as products with ones, see the module's docstring.
    """

    tanh: Callable[[Array], Array] = jnp.tanh
    log2: Callable[[Array], Array] = jnp.log2
    reciprocal: Callable[[Array], Array] = lambda a: 1.0 / a
    rounded: Callable[[Array, Any], Array] = lambda a, dtype: a.astype(dtype)
    bias_as_product: bool = False


def _ptx(line: str, constraints: str, a: Array, dtype: Any = jnp.float32, pack: int = 1) -> Array:
    shape = jax.ShapeDtypeStruct(a.shape, dtype)
    (result,) = plgpu.elementwise_inline_asm(
        line, args=[a], constraints=constraints, pack=pack, result_shape_dtypes=[shape]
    )
    return result


def _round_pairs(a: Array, dtype: Any) -> Array:
    """Rounds to bfloat16, two numbers per instruction. The compiler's own code rounds one at a time, slowly."""
    if dtype != jnp.bfloat16:
        return a.astype(dtype)
    return _ptx("cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,r,r", a, jnp.bfloat16, pack=2)


PORTABLE = _Arithmetic()
CUDA_EXACT = _Arithmetic(bias_as_product=True)
# Hardware approximations with errors of at most 2^-11, no larger than the rounding of the products' operands.
CUDA_QUICK = _Arithmetic(
    tanh=functools.partial(_ptx, "tanh.approx.f32 $0, $1;", "=f,f"),
    log2=functools.partial(_ptx, "lg2.approx.f32 $0, $1;", "=f,f"),
    reciprocal=functools.partial(_ptx, "rcp.approx.ftz.f32 $0, $1;", "=f,f"),
    rounded=_round_pairs,
    bias_as_product=True,
)


def padded(size: int) -> int:
    """Returns the on-chip size of an axis of features or units: the next power of two, at least 16."""
    return max(SMALLEST, 1 << (size - 1).bit_length())


def default_rows(platform: str, params: Params, precision: str = "bfloat16") -> int:
    """Returns the number of codes per tile: as many as registers hold on CUDA, or keep the matrix units of a TPU busy.

    On CUDA with fewer tiles than multiprocessors, tiles of half the size would keep more multiprocessors busy. With
    more tiles, two groups of warps of a full tile overlap products and elementwise work.

    Args:
      platform: "cuda", "gpu" or "tpu".
      params: as for ``fused_invert``.
      precision: as for ``fused_invert``.
    """
    if platform == "tpu":
        return 512
    return 32 if precision == "float32" else 128


def supported(platform: str, params: Params, precision: str) -> bool:
    """Returns whether the weights and a tile of codes fit on the chip. A CPU is never supported.

    Args:
      platform: "cuda", "tpu", …; "gpu" means CUDA.
      params: as for ``fused_invert``; only the shapes are used.
      precision: as for ``fused_invert``.
    """
    checks.choose("precision", precision, PRECISIONS)
    if platform not in ("cuda", "gpu", "tpu") or not params["w"]:
        return False
    log = "x_mean" in params
    features = padded(params["w"][0].shape[-2] // (2 if log else 1))
    units = [padded(w.shape[-1]) for w in params["w"]]
    inputs = [features * (2 if log else 1), *units[:-1]]
    sizes = [i * o for i, o in zip(inputs, units, strict=True)]
    rows, size = default_rows(platform, params, precision), 2 if precision == "bfloat16" else 4
    if platform == "tpu":
        # Two buffers per block; the activations and slopes of all layers, and the intermediates of a product.
        weights = 2 * size * (sum(sizes) + sizes[-1])
        return precision != "tf32" and weights + 4 * rows * 3 * (sum(units) + features) <= VECTOR_BYTES
    # The matrix units read transposed weights in place only if these have two bytes.
    weights = 2 * sum(sizes) if precision == "tf32" else sum(sizes) + sizes[-1]
    # Besides the weights: the tile on its way to registers or, without matrix units, the left side of each product.
    staged = max(features, *units) if precision == "float32" else features
    shared = size * (weights + SMALLEST * sum(units)) + 4 * rows * staged
    few = precision != "float32" or sum(sizes) <= CUDA_FLOAT32_WEIGHTS
    return shared <= SHARED_BYTES and sum(units) <= CUDA_UNITS and few


@functools.partial(jax.jit, static_argnames=("steps", "strategy", "log", "precision", "rows", "interpret"))
def fused_invert(
    params: Params,
    form: Float[Array, "k u"],
    x: Float[Array, "k n f"],
    box: tuple[Float[Array, " f"], Float[Array, " f"]],
    *,
    steps: int,
    learning_rate: float | Float[Array, ""],
    strategy: str = "continuous",
    log: bool = False,
    precision: str = "bfloat16",
    rows: int = 128,
    interpret: bool = False,
) -> Float[Array, "k n f"]:
    """Takes all gradient steps on relaxed codes. Each group of codes follows the gradients of its own network.

    Runs on CUDA and TPU (see ``supported``). All codes are in standard units. The result for a code depends on its row
    and network alone, up to the rounding of the products. Shapes: k networks, n codes each, f features, u units of the
    last hidden layer.

    Args:
      params: ``{"w": (w_1, …), "b": (b_1, …)}`` of the hidden layers, ``w_i`` of shape [k, inputs, outputs] and ``b_i``
        of shape [k, outputs], without the output layer; with ``log`` also ``x_mean`` and ``x_std``, [k, f].
      form: loss to descend, a linear form of the last hidden layer: output weights times the cotangent.
      x: start of the codes, grouped by network.
      box: lower and upper corner that the codes are clipped to.
      steps: number of iterations.
      learning_rate: step size on the code, > 0; may be traced.
      strategy: as in ``PropagationConfig``.
      log: whether the first layer also reads ``log2(max(x * x_std + x_mean, 1/2))``, after the features.
      precision: precision of the products' operands, "float32", "tf32" (CUDA only) or "bfloat16"; sums and codes are
        float32. Below "float32", CUDA's approximations of tanh, log2 and 1/x are used. With "bfloat16", slopes are
        rounded, too.
      rows: number of codes per tile, a power of two >= 16 that divides n.
      interpret: whether to interpret the kernel, slowly, on any platform (for tests).

    Returns:
      End of the codes ``[k, n, f]``, standard units.

    Raises:
      UsageError: an unknown precision or strategy, shapes that do not fit each other, or ``rows`` that do not divide n.
    """
    strategy = checks.choose("strategy", strategy, STRATEGIES)
    precision = checks.choose("precision", precision, PRECISIONS)
    _check_shapes(params, form, x, box, log)
    _check_rows(rows, x.shape[1])
    if steps == 0 or x.size == 0:
        return x
    run = functools.partial(_run, steps=steps, winner=strategy == "winner-takes-all", precision=precision, rows=rows)
    quick = CUDA_EXACT if precision == "float32" else CUDA_QUICK
    warps = 8 if precision == "float32" else min(max(rows // SMALLEST, 4), 8)
    cuda = functools.partial(run, quick, plgpu.CompilerParams(num_warps=warps, num_stages=1), False)
    tpu = functools.partial(run, PORTABLE, pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")), False)
    operands = (params, form * learning_rate, x, box)
    if interpret:
        return run(dataclasses.replace(PORTABLE, bias_as_product=True), None, True, *operands)
    return lax.platform_dependent(*operands, cuda=cuda, tpu=tpu)


def _run(
    arithmetic: _Arithmetic,
    compiler_params: Any,
    interpret: bool,
    params: Params,
    form: Float[Array, "k u"],
    x: Float[Array, "k n f"],
    box: tuple[Float[Array, " f"], Float[Array, " f"]],
    *,
    steps: int,
    winner: bool,
    precision: str,
    rows: int,
) -> Float[Array, "k n f"]:
    """Calls the kernel for one kind of chip, on padded operands and a grid of networks by tiles."""
    k, n, f = x.shape
    width = padded(f)
    # Padded columns of the box are 0, so the padded columns of the codes stay 0.
    corners = tuple(_pad(corner[None], (1, width)) for corner in box)
    constants = _layers(params, form, f, precision, arithmetic.bias_as_product)
    shared, tiles = functools.partial(_block, member=False), pl.BlockSpec((None, rows, width), lambda m, t: (m, t, 0))
    call = pl.pallas_call(
        functools.partial(_tile, arithmetic=arithmetic, steps=steps, winner=winner, precision=precision),
        grid=(k, n // rows),
        in_specs=[jax.tree.map(_block, constants), tuple(map(shared, corners)), tiles],
        out_specs=tiles,
        out_shape=jax.ShapeDtypeStruct((k, n, width), jnp.float32),
        compiler_params=compiler_params,
        interpret=interpret,
        name="invert",
    )
    return call(constants, corners, _pad(x.astype(jnp.float32), (k, n, width)))[..., :f]


def _block(a: Array, member: bool = True) -> pl.BlockSpec:
    """Returns the block of one network in an array with a leading axis of networks, or all of a shared array."""
    if member:
        return pl.BlockSpec((None, *a.shape[1:]), lambda m, t: (m, *(0 for _ in a.shape[1:])))
    return pl.BlockSpec(a.shape, lambda m, t: tuple(0 for _ in a.shape))


def _layers(params: Params, form: Float[Array, "k u"], f: int, precision: str, bias_as_product: bool) -> dict[str, Any]:
    """Returns the kernel's constants, padded with zeros and rounded to the operands' precision.

    Returns:
      ``forward``: halved weights of each layer, [k, inputs, outputs]; the first layer has one part for the features
      and, with logarithms, another for these. ``back``: parts of the last layer times the form. ``bias``: bias of each
      layer, [k, 1, outputs], or [k, 16, outputs] with rows that add up to it. With logarithms ``log``: mean, standard
      deviation, and standard deviation over ln 2, [k, 1, f].
    """
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    split = [params["w"][0][:, i : i + f] for i in range(0, params["w"][0].shape[1], f)]
    parts = [split, *([w] for w in params["w"][1:])]

    def operand(w: Array) -> Array:
        return _pad(0.5 * w, (w.shape[0], padded(w.shape[1]), padded(w.shape[2]))).astype(dtype)

    def bias(b: Array) -> Array:
        b = _pad(0.5 * b.astype(jnp.float32), (b.shape[0], padded(b.shape[1])))
        return _rows_that_add_up(b).astype(dtype) if bias_as_product else b[:, None]

    constants = {
        "forward": [[operand(w) for w in layer] for layer in parts],
        "back": [operand(w * form[:, None]) for w in parts[-1]],
        "bias": [bias(b) for b in params["b"]],
    }
    if len(split) > 1:
        mean, std = params["x_mean"][:, None], params["x_std"][:, None]
        to = (mean.shape[0], 1, padded(f))
        # A padded feature is 1 in raw units, so its logarithm and that logarithm's slope are 0.
        constants["log"] = (_pad(mean, to, value=1.0), _pad(std, to), _pad(std / math.log(2), to))
    return constants


def _rows_that_add_up(b: Float[Array, "k u"]) -> Float[Array, "k 16 u"]:
    """Splits each number into a sum of three bfloat16 numbers, which fill the first three of 16 rows."""
    rows = []
    for _ in range(3):
        # XLA would optimise a conversion to bfloat16 and back away.
        rows.append(lax.reduce_precision(b, exponent_bits=8, mantissa_bits=7))
        b = b - rows[-1]
    return _pad(jnp.stack(rows, axis=1), (b.shape[0], SMALLEST, b.shape[1]))


def _pad(a: Array, shape: Sequence[int], value: float = 0.0) -> Array:
    return jnp.pad(a, [(0, to - size) for size, to in zip(a.shape, shape, strict=True)], constant_values=value)


def _tile(
    constants: Any, box: Any, start: Any, end: Any, *, arithmetic: _Arithmetic, steps: int, winner: bool, precision: str
) -> None:
    """Takes all steps of one tile, from ``start`` [rows, f] to ``end``. This is the kernel's body."""
    lower, upper = box[0][...], box[1][...]
    constants = jax.tree.map(lambda ref: ref[...], constants)

    def step(_: Array, x: Float[Array, "r f"]) -> Float[Array, "r f"]:
        move = _gradient(constants, x, arithmetic, precision)
        if winner:
            move = _largest_alone(move)
        return jnp.minimum(jnp.maximum(x - move, lower), upper)

    end[...] = lax.fori_loop(0, steps, step, start[...])


def _gradient(
    constants: dict[str, Any], x: Float[Array, "r f"], arithmetic: _Arithmetic, precision: str
) -> Float[Array, "r f"]:
    """Returns the learning rate times the gradient of the form, at each code of the tile."""
    forward = constants["forward"]
    backward = [*forward[:-1], constants["back"]]
    dtype = forward[0][0].dtype
    product = functools.partial(_product, precision=precision)
    ones = jnp.ones((x.shape[0], SMALLEST), dtype)
    inputs = [x]
    if "log" in constants:
        mean, std, std_over_ln2 = constants["log"]
        raw = x * std + mean
        inputs.append(arithmetic.log2(jnp.maximum(raw, 0.5)))
    # Forward: with a = half the preactivation, swish(2 a) = a (1 + tanh a) = a gate. Its slope, doubled, is
    # swish (2 - gate) + gate.
    slopes = []
    for weights, bias in zip(forward, constants["bias"], strict=True):
        a = product(ones, bias) if arithmetic.bias_as_product else bias
        for part, w in zip(inputs, weights, strict=True):
            a = product(part, w) + a
        gate = 1.0 + arithmetic.tanh(a)
        hidden = a * gate
        slopes.append(hidden * (2.0 - gate) + gate)
        inputs = [hidden]
        if len(slopes) < len(forward):
            slopes[-1] = arithmetic.rounded(slopes[-1], dtype)
    # Backward, from the last hidden layer (whose weights hold the form and the learning rate) to the features.
    g = slopes[-1]
    for (w,), slope in zip(backward[:0:-1], slopes[-2::-1], strict=True):
        g = product(g, w, transposed=True) * slope.astype(jnp.float32)
    gradient = product(g, backward[0][0], transposed=True)
    if "log" in constants:
        # Chain rule through log2(max(x * std + mean, 1/2)).
        chain = jnp.where(raw >= 0.5, std_over_ln2 * arithmetic.reciprocal(raw), 0.0)
        gradient = product(g, backward[0][1], transposed=True) * chain + gradient
    return gradient


def _product(a: Array, w: Array, precision: str, transposed: bool = False) -> Float[Array, "r o"]:
    """Returns ``a @ w`` or ``a @ w.T``, with rounded operands and float32 sums."""
    exact = {"float32": lax.Precision.HIGHEST, "tf32": lax.Precision.HIGH, "bfloat16": None}[precision]
    return lax.dot_general(
        a.astype(w.dtype),
        w,
        (((1,), (1 if transposed else 0,)), ((), ())),
        precision=exact,
        preferred_element_type=jnp.float32,
    )


def _largest_alone(a: Float[Array, "r f"]) -> Float[Array, "r f"]:
    """Keeps the entry of largest magnitude in each row, the first of equals (as ``argmax`` does); zeros the others."""
    size, column = jnp.abs(a), lax.broadcasted_iota(jnp.int32, a.shape, 1)
    is_largest = size == jnp.max(size, axis=1, keepdims=True)
    first = jnp.min(jnp.where(is_largest, column, a.shape[1]), axis=1, keepdims=True)
    return jnp.where(column == first, a, 0.0)


def _check_rows(rows: int, n: int) -> None:
    if rows < SMALLEST or rows & (rows - 1):
        raise checks.UsageError(expected="rows to be a power of two >= 16", got=repr(rows), remedy="try rows=128")
    if n % rows:
        wanted = f"a multiple of {rows} codes for each network"
        raise checks.UsageError(expected=wanted, got=f"{n}", remedy="repeat some codes to fill the last tile")


def _check_shapes(params: Params, form: Array, x: Array, box: tuple[Array, Array], log: bool) -> None:
    """Raises UsageError unless the shapes of layers, form, codes and box fit each other."""
    if x.ndim != 3 or not params["w"]:
        wanted = "codes of shape [networks, codes, features] and at least one hidden layer"
        raise checks.UsageError(expected=wanted, got=f"{x.shape} and {len(params['w'])}", remedy="see fused_invert")
    k, _, f = x.shape
    expected: dict[str, tuple[Any, tuple[int, ...]]] = {
        "the form": (form, (k, params["w"][-1].shape[-1])),
        "lower": (box[0], (f,)),
        "upper": (box[1], (f,)),
    }
    inputs = 2 * f if log else f
    for i, (w, b) in enumerate(zip(params["w"], params["b"], strict=True)):
        expected[f"w[{i}]"] = (w, (k, inputs, w.shape[-1]))
        expected[f"b[{i}]"] = (b, (k, w.shape[-1]))
        inputs = w.shape[-1]
    if log:
        expected |= {name: (params[name], (k, f)) for name in ("x_mean", "x_std")}
    for name, (array, shape) in expected.items():
        if tuple(array.shape) != shape:
            raise checks.UsageError(
                expected=f"{name} of shape {shape}",
                got=f"{tuple(array.shape)}",
                remedy="give one network a group of codes, and layers that follow each other",
            )
