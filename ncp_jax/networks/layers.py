"""Defines the layers of vision networks: convolution, BatchNorm, ReLU, pooling, resizing.

Arrays are NHWC, padding is symmetric.

Each layer names what it computes (``checkpoint_name``, which computes nothing), so that ``counting`` finds it again in
the traced program and rematerialisation policies can refer to it. The arithmetic is in jitted functions: a layer of a
shape seen before is then traced from a cache, which makes a network of some hundred layers cheap to trace.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from ncp_jax.types import Array, Float, Key

EPSILON, MOMENTUM = 1e-5, 0.9  # of BatchNorm, as in PyTorch (whose momentum is the weight of the new batch)
# Names of results, for ``checkpoint_name``.
BATCH_NORM, BIAS, LINEAR_BIAS, ACTIVATION, POOLING = "batch_norm", "bias", "linear_bias", "activation", "pooling"


_BLOCK = 2**16


@jax.jit
def _normals(key: Key, number: Array, block: Array) -> Array:
    """Returns one block of the numbers of one parameter."""
    return jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, number), block), (_BLOCK,))


class Parameters:
    """Makes the parameters of a network, each from its own key ``fold_in(key, number)`` (host-side).

    Attributes:
      key: PRNG key of the weights. With None parameters are shapes without values, and nothing is allocated.
    """

    def __init__(self, key: Key | None) -> None:
        self.key = key
        self._made = 0

    def normal(self, shape: tuple[int, ...], deviation: float) -> nnx.Param:
        """Returns a parameter drawn from a normal distribution of that standard deviation."""
        self._made += 1
        if self.key is None:
            return nnx.Param(jax.ShapeDtypeStruct(shape, jnp.float32))
        # Blocks of one length: networks have dozens of shapes, and to compile a draw for each would take seconds.
        size, number = math.prod(shape), np.uint32(self._made)
        blocks = [np.asarray(_normals(self.key, number, np.uint32(block))) for block in range(-(-size // _BLOCK))]
        values = np.concatenate(blocks)[:size].reshape(shape)
        return nnx.Param(jnp.asarray(values * np.float32(deviation)))

    def filled(self, shape: tuple[int, ...], value: float, kind: type[nnx.Variable] = nnx.Param) -> Any:
        """Returns a parameter (or another kind of variable) whose entries all have one value."""
        if self.key is None:
            return kind(jax.ShapeDtypeStruct(shape, jnp.float32))
        return kind(jnp.asarray(np.full(shape, value, np.float32)))


@functools.partial(jax.jit, static_argnames=("stride", "transposed"))
def _convolve(x: Array, kernel: Array, *, stride: int, transposed: bool) -> Array:
    """Convolves x [n, h, w, c] with kernel [k, k, c, d]; enlarged by ``stride`` instead of reduced if transposed."""
    before = (kernel.shape[0] - 1) // 2
    # A transposed convolution pads what the forward one would cut off, and one row more: h becomes stride * h.
    after = before + stride - 1 if transposed else before
    return jax.lax.conv_general_dilated(
        x,
        kernel,
        window_strides=(1, 1) if transposed else (stride, stride),
        padding=[(before, after)] * 2,
        lhs_dilation=(stride, stride) if transposed else (1, 1),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


class Convolution(nnx.Module):
    """A k x k convolution of [n, h, w, inputs], padded by (k - 1) // 2 on each side.

    Weights are drawn with the variance 2 / (k² · outputs) (He et al., by outputs), as the authors of both NAS-Bench-MR
    and TransNAS-Bench-101 do; biases are zero.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        bias: bool = False,
        transposed: bool = False,
        parameters: Parameters,
    ) -> None:
        deviation = math.sqrt(2 / (kernel * kernel * outputs))
        self.kernel = parameters.normal((kernel, kernel, inputs, outputs), deviation)
        self.bias = parameters.filled((outputs,), 0.0) if bias else nnx.data(None)
        self.stride = stride
        self.transposed = transposed

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j d"]:
        """Returns [n, ceil(h / stride), ceil(w / stride), outputs], or stride times h and w if transposed."""
        y = _convolve(x, self.kernel[...], stride=self.stride, transposed=self.transposed)
        if self.bias is None:
            return y
        y = y + self.bias[...]
        return y if self.transposed else checkpoint_name(y, BIAS)


class Linear(nnx.Module):
    """A linear layer with bias for [..., inputs]; weights have the variance 1 / (3 · inputs), as in PyTorch."""

    def __init__(self, inputs: int, outputs: int, *, parameters: Parameters) -> None:
        self.kernel = parameters.normal((inputs, outputs), math.sqrt(1 / (3 * inputs)))
        self.bias = parameters.filled((outputs,), 0.0)

    def __call__(self, x: Float[Array, "*batch c"]) -> Float[Array, "*batch d"]:
        """Returns [..., outputs]."""
        return checkpoint_name(x @ self.kernel[...] + self.bias[...], LINEAR_BIAS)


@jax.jit
def _normalise(x: Array, mean: Array, var: Array, scale: Array | float, bias: Array | float) -> Array:
    multiplier = scale * jax.lax.rsqrt(var + EPSILON)
    return checkpoint_name(x * multiplier + (bias - mean * multiplier), BATCH_NORM)


@jax.jit
def _moments(x: Array) -> tuple[Array, Array]:
    axes = tuple(range(x.ndim - 1))
    return x.mean(axes), x.var(axes)


class BatchNorm(nnx.Module):
    """Normalises each channel, by the batch in training and by running averages after ``network.eval()``.

    Running averages move by a tenth towards each batch; for the variance this is the biased estimate. With ``affine``
    the normalised channels are scaled and shifted.
    """

    def __init__(self, channels: int, *, affine: bool = True, parameters: Parameters) -> None:
        self.scale = parameters.filled((channels,), 1.0) if affine else nnx.data(None)
        self.bias = parameters.filled((channels,), 0.0) if affine else nnx.data(None)
        self.mean = parameters.filled((channels,), 0.0, nnx.BatchStat)
        self.var = parameters.filled((channels,), 1.0, nnx.BatchStat)
        self.use_running_average = False  # nnx's ``train()`` and ``eval()`` set it

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Returns an array of the same shape; in training the running averages change."""
        mean, var = self.mean[...], self.var[...]
        if not self.use_running_average:
            mean, var = _moments(x)
            self.mean[...] = MOMENTUM * self.mean[...] + (1 - MOMENTUM) * jax.lax.stop_gradient(mean)
            self.var[...] = MOMENTUM * self.var[...] + (1 - MOMENTUM) * jax.lax.stop_gradient(var)
        scale = 1.0 if self.scale is None else self.scale[...]
        bias = 0.0 if self.bias is None else self.bias[...]
        return _normalise(x, mean, var, scale, bias)


@jax.jit
def relu(x: Array) -> Array:
    """Returns max(x, 0), named for the count."""
    return checkpoint_name(jax.nn.relu(x), ACTIVATION)


@jax.jit
def leaky_relu(x: Array) -> Array:
    """Returns max(x, 0.2 x), named for the count."""
    return checkpoint_name(jax.nn.leaky_relu(x, 0.2), ACTIVATION)


@jax.jit
def tanh(x: Array) -> Array:
    """Returns the hyperbolic tangent; without a name, as the published counts leave it out."""
    return jnp.tanh(x)


class ConvBatchNorm(nnx.Module):
    """Convolution and BatchNorm, with a ReLU before, after or not at all."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        relu: str = "none",
        affine: bool = True,
        parameters: Parameters,
    ) -> None:
        assert relu in ("before", "after", "none")
        self.convolution = Convolution(inputs, outputs, kernel, stride=stride, parameters=parameters)
        self.norm = BatchNorm(outputs, affine=affine, parameters=parameters)
        self.relu = relu

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j d"]:
        """Returns [n, ceil(h / stride), ceil(w / stride), outputs]."""
        y = self.norm(self.convolution(relu(x) if self.relu == "before" else x))
        return relu(y) if self.relu == "after" else y


@functools.partial(jax.jit, static_argnames=("window", "stride"))
def average_pool(x: Float[Array, "n h w c"], *, window: int, stride: int) -> Float[Array, "n i j c"]:
    """Averages over windows (padded by (window - 1) // 2); pixels beyond the border are left out."""
    pad = (window - 1) // 2
    padding = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    sizes, strides = (1, window, window, 1), (1, stride, stride, 1)
    named = checkpoint_name(x, POOLING)  # the published counts are those of the pixels read
    sums = jax.lax.reduce_window(named, 0.0, jax.lax.add, sizes, strides, padding)
    ones = jnp.ones((1, *x.shape[1:3], 1), x.dtype)
    return sums / jax.lax.reduce_window(ones, 0.0, jax.lax.add, sizes, strides, padding)


def global_average(x: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """Averages over all pixels."""
    return x.mean(axis=(1, 2))


@functools.partial(jax.jit, static_argnums=(1, 2))
def resize(x: Float[Array, "n h w c"], height: int, width: int) -> Float[Array, "n height width c"]:
    """Interpolates bilinearly between pixel centres, without antialiasing; not counted as an operation."""
    if x.shape[1:3] == (height, width):
        return x
    shape = (x.shape[0], height, width, x.shape[3])
    return jax.image.resize(x, shape, method="bilinear", antialias=False)


def enlarge(x: Float[Array, "n h w c"], factor: int) -> Float[Array, "n i j c"]:
    """Repeats each pixel ``factor`` times along both sides."""
    return x.repeat(factor, axis=1).repeat(factor, axis=2)
