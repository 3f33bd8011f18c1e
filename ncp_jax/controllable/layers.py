"""Defines slimmable layers: layers of which the first channels alone may be active.

How many channels are active is data, not shape. A layer is called with a mask of its output channels, which sets the
others to zero, so that one program serves every width, and a ``vmap`` over masks any number of them. ``sliced`` returns
the layer of some channels alone, at its real cost. Both compute the same numbers: an inactive channel is zero, adds
nothing to a sum, and belongs to no group or mean that an active channel is normalised by.

Slimming by masks is this project's choice. Sources: Yu & Huang, "Universally slimmable networks", ICCV 2019 (nested
channels, statistics of BatchNorm for each width after training); Wu & He, "Group normalization", ECCV 2018.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from typing import Any, Self, TypeVar

import jax
import jax.numpy as jnp
from flax import nnx

from ncp_jax.networks.layers import EPSILON, Convolution, Linear, Parameters
from ncp_jax.types import Array, Float, Int

Layer = TypeVar("Layer")

NORMS = ("group", "layer", "batch")


def active(width: Int[Array, ""] | int, channels: int) -> Float[Array, " c"]:
    """Returns the mask of the first ``width`` of some channels: 1 where a channel is active, else 0."""
    return (jnp.arange(channels) < width).astype(jnp.float32)


def masked(x: Float[Array, "*n c"], mask: Float[Array, " c"] | None) -> Float[Array, "*n c"]:
    """Returns an array whose inactive channels are zero; as it is without a mask."""
    return x if mask is None else x * mask.astype(x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolved(x: Array, kernel: Array, stride: int) -> Array:
    """Returns the convolution of [n, h, w, c] with [k, k, c, d], k odd, padded by k // 2.

    Its gradients are products of patches too. JAX would add up k**2 shifted images instead, which XLA on CPU computes
    anew for every use of the sum.
    """
    return _patches(x, kernel.shape[0], stride) @ kernel.reshape(-1, kernel.shape[-1])


def _convolved_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _convolved(x, kernel, stride), (x, kernel)


def _convolved_backward(stride: int, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    (x, kernel), size = kept, kept[1].shape[0]
    patches = _patches(x, size, stride)
    of_kernel = jnp.tensordot(patches, slope, axes=((0, 1, 2), (0, 1, 2))).reshape(kernel.shape)
    of_x = _enlarged(slope, _turned(kernel), stride) if stride > 1 else _convolved(slope, _turned(kernel), 1)
    return of_x[:, : x.shape[1], : x.shape[2]], of_kernel


def _turned(kernel: Array) -> Array:
    """Returns the kernel that reads the outputs and writes the inputs."""
    return kernel[::-1, ::-1].swapaxes(2, 3)


def _patches(x: Array, size: int, stride: int) -> Array:
    """Returns the ``size`` x ``size`` pixels around every ``stride``-th pixel of [n, h, w, c], [n, i, j, size**2 c]."""
    (height, width), pad = x.shape[1:3], size // 2
    wide = jnp.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    taps = itertools.product(range(size), repeat=2)
    parts = [wide[:, i : i + height : stride, j : j + width : stride] for i, j in taps]
    return jnp.concatenate(parts, axis=-1)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _enlarged(x: Array, kernel: Array, stride: int) -> Array:
    """Returns the transposed convolution: ``stride`` times the sides, the same numbers as ``Convolution`` has.

    With a stride of 1 it is the convolution.
    """
    size, outputs = kernel.shape[0], kernel.shape[-1]
    pad = size // 2
    # What each pixel adds to the pixels around it.
    parts = x @ kernel.transpose(2, 0, 1, 3).reshape(-1, size * size * outputs)
    zero = jnp.zeros((), x.dtype)
    total: Any = 0.0
    for tap, (i, j) in enumerate(itertools.product(range(size), repeat=2)):
        ends = [(pad - k, stride - 1 + k - pad, stride - 1) for k in (i, j)]
        part = parts[..., tap * outputs : (tap + 1) * outputs]
        total += jax.lax.pad(part, zero, [(0, 0, 0), *ends, (0, 0, 0)])
    return total


def _enlarged_forward(x: Array, kernel: Array, stride: int) -> tuple[Array, tuple[Array, Array]]:
    return _enlarged(x, kernel, stride), (x, kernel)


def _enlarged_backward(stride: int, kept: tuple[Array, Array], slope: Array) -> tuple[Array, Array]:
    (x, kernel), size = kept, kept[1].shape[0]
    patches = _patches(slope, size, stride)
    product = jnp.tensordot(patches, x, axes=((0, 1, 2), (0, 1, 2)))
    of_kernel = _turned(product.reshape(size, size, kernel.shape[3], kernel.shape[2]))
    return _convolved(slope, _turned(kernel), stride), of_kernel


_convolved.defvjp(_convolved_forward, _convolved_backward)
_enlarged.defvjp(_enlarged_forward, _enlarged_backward)


class SlimConvolution(Convolution):
    """A convolution, transposed or not, of which the first channels may be active; see ``Convolution``.

    The inputs that are inactive have to be zero. It is computed as a matrix product of the image's patches: mapped over
    the kernels of several runs, that is a product of stacked matrices, where XLA's convolutions become grouped ones,
    which take fifteen times as long on CPU.
    """

    def __call__(self, x: Float[Array, "n h w c"], mask: Float[Array, " d"] | None = None) -> Float[Array, "n i j d"]:
        """Returns the convolution, zero in the channels whose mask is 0; all are active without a mask."""
        kernel = self.kernel[...]
        # Of fewer outputs than inputs, what each pixel adds to those around it takes less memory than the patches.
        by_pixels = self.transposed or (self.stride == 1 and kernel.shape[-1] < kernel.shape[-2])
        y = (_enlarged if by_pixels else _convolved)(x, kernel, self.stride)
        return masked(y if self.bias is None else y + self.bias[...], mask)

    def sliced(self, inputs: int, outputs: int) -> Self:
        """Returns the layer of the first ``inputs`` and ``outputs`` channels alone."""
        layer = copied(self)
        layer.kernel = nnx.Param(
            _first(self.kernel[...], (self.kernel.shape[0], self.kernel.shape[1], inputs, outputs))
        )
        if self.bias is not None:
            layer.bias = nnx.Param(_first(self.bias[...], (outputs,)))
        return layer


class SlimLinear(Linear):
    """A linear layer with bias of which the first inputs and outputs may be active; see ``Linear``."""

    def __call__(self, x: Float[Array, "*n c"], mask: Float[Array, " d"] | None = None) -> Float[Array, "*n d"]:
        """Returns the outputs, zero where the mask is 0; all are active without a mask."""
        return masked(super().__call__(x), mask)

    def sliced(self, inputs: int, outputs: int) -> Self:
        """Returns the layer of the first ``inputs`` and ``outputs`` alone."""
        layer = copied(self)
        layer.kernel = nnx.Param(_first(self.kernel[...], (inputs, outputs)))
        layer.bias = nnx.Param(_first(self.bias[...], (outputs,)))
        return layer


@dataclasses.dataclass
class Statistics:
    """Means and variances of the BatchNorm layers of one width configuration, in the order of their calls.

    Attributes:
      given: the statistics to normalise by; None for those of the batch.
      found: the statistics of the batch, which layers add here when none are given.
      layers: the layers, which add themselves here.
    """

    given: tuple[tuple[Array, Array], ...] | None = None
    found: list[tuple[Array, Array]] = dataclasses.field(default_factory=list)
    layers: list[SlimNorm] = dataclasses.field(default_factory=list)

    def of(self, layer: SlimNorm, x: Float[Array, "n h w c"]) -> tuple[Array, Array]:
        """Returns mean and variance of each channel for the next layer, [c] each."""
        self.layers.append(layer)
        if self.given is None:
            self.found.append((x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))))
            return self.found[-1]
        return self.given[len(self.layers) - 1]


class SlimNorm(nnx.Module):
    """Normalises the active channels of [n, h, w, c] by themselves, with a scale and a shift for each channel.

    Three kinds:

    - "group": groups of ``group`` neighbouring channels over all pixels. Widths are multiples of ``group``, so a group
      is active or not as a whole, and its statistics do not depend on the width.
    - "layer": all active channels of a pixel. Its mean is over as many channels as are active.
    - "batch": each channel over batch and pixels. Its statistics depend on the widths of the layers before, so they are
      measured again for every width configuration (``Statistics``).
    """

    def __init__(self, channels: int, *, kind: str, group: int, parameters: Parameters) -> None:
        self.scale = parameters.filled((channels,), 1.0)
        self.bias = parameters.filled((channels,), 0.0)
        self.kind, self.group = kind, group

    def __call__(
        self, x: Float[Array, "n h w c"], mask: Float[Array, " c"] | None, statistics: Statistics
    ) -> Float[Array, "n h w c"]:
        """Returns an array of the same shape, zero in the inactive channels."""
        wide = x.astype(jnp.float32)
        if self.kind == "group":
            # Sums over pixels first, along contiguous channels, then over the few channels of a group.
            sums = (wide.mean(axis=(1, 2)), jnp.square(wide).mean(axis=(1, 2)))
            mean, square = (self._of_groups(values)[:, None, None, :] for values in sums)
            normal = (wide - mean) * jax.lax.rsqrt(jnp.maximum(square - mean * mean, 0) + EPSILON)
        elif self.kind == "layer":
            counted = jnp.ones(x.shape[-1]) if mask is None else mask
            mean = (wide * counted).sum(axis=-1, keepdims=True) / counted.sum()
            var = (jnp.square(wide - mean) * counted).sum(axis=-1, keepdims=True) / counted.sum()
            normal = (wide - mean) * jax.lax.rsqrt(var + EPSILON)
        else:
            mean, var = statistics.of(self, wide)
            normal = (wide - mean) * jax.lax.rsqrt(var + EPSILON)
        return masked((normal * self.scale[...] + self.bias[...]).astype(x.dtype), mask)

    def _of_groups(self, values: Float[Array, "n c"]) -> Float[Array, "n c"]:
        """Returns the mean of each channel's group."""
        means = values.reshape(len(values), -1, self.group).mean(axis=-1)
        return jnp.repeat(means, self.group, axis=-1)

    def sliced(self, channels: int) -> Self:
        """Returns the layer of the first channels alone."""
        layer = copied(self)
        layer.scale = nnx.Param(_first(self.scale[...], (channels,)))
        layer.bias = nnx.Param(_first(self.bias[...], (channels,)))
        return layer


def copied(layer: Layer) -> Layer:
    """Returns a copy of a layer, whose parts can be replaced."""
    return nnx.merge(*nnx.split(layer))


def _first(array: Array, shape: tuple[int, ...]) -> Array:
    return array[tuple(slice(size) for size in shape)]
