"""Defines the slimmable block of encoders and decoders, a convolution with its normalisation, and counts it.

Counts are parameters and multiply-adds of one image: weights, scale and shift of normalisations; products of
convolutions, padded pixels included. They are polynomials of the widths, which may be numbers or arrays, whole or real.
"""

from __future__ import annotations

from typing import Any

from flax import nnx

from ncp_jax.controllable.layers import SlimConvolution, SlimNorm, Statistics, copied
from ncp_jax.controllable.settings import SizeOptions
from ncp_jax.networks.layers import Parameters
from ncp_jax.spaces.costs.layers import Counts
from ncp_jax.types import Array, Float

Mask = Any  # a mask [c] of active channels, or None where all are


class ConvNorm(nnx.Module):
    """A convolution and a normalisation, slimmable; without ReLU."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, sizes: SizeOptions, *, parameters: Parameters, **options: Any
    ) -> None:
        self.convolution = SlimConvolution(inputs, outputs, kernel, parameters=parameters, **options)
        self.norm = SlimNorm(outputs, kind=sizes.norm, group=sizes.multiple, parameters=parameters)

    def __call__(
        self, x: Float[Array, "n h w c"], mask: Mask, statistics: Statistics, other: Any = 0.0
    ) -> Float[Array, "n i j d"]:
        """Returns the normalised sum of the convolution and ``other``; a larger convolution loses its last pixels."""
        y = self.convolution(x, mask)
        if not isinstance(other, float):
            y = y[:, : other.shape[1], : other.shape[2]]
        return self.norm(y + other, mask, statistics)

    def sliced(self, inputs: int, outputs: int) -> ConvNorm:
        """Returns the layers of the first channels alone."""
        found = copied(self)
        found.convolution = self.convolution.sliced(inputs, outputs)
        found.norm = self.norm.sliced(outputs)
        return found


def count_convolution(kernel: int, inputs: Any, outputs: Any, side: int) -> Counts:
    """Returns the counts of a convolution without bias; ``side`` is that of its output, if transposed of its input."""
    weights = kernel * kernel * inputs * outputs
    return Counts(weights, weights * side * side)


def count_normed(kernel: int, inputs: Any, outputs: Any, side: int) -> Counts:
    """Returns the counts of a ``ConvNorm``."""
    return count_convolution(kernel, inputs, outputs, side) + Counts(2 * outputs, 0)
