"""Counts the parameters and multiply-adds of sub-networks, as polynomials of their widths."""

from __future__ import annotations

from typing import Any

from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.decoders import DECODERS
from ncp_jax.controllable.encoders import find_encoder
from ncp_jax.spaces.costs.layers import Counts


def count(config: ModelConfig, widths: Any) -> Counts:
    """Returns parameters and multiply-adds of a sub-network for one image.

    Parameters are weights, biases, and scale and shift of normalisations. FLOPs are multiply-adds of convolutions
    (padded pixels included) and of linear layers; a transposed convolution counts by the pixels that it reads. They are
    polynomials of the widths, so the function also takes real widths, and has a gradient.

    Args:
      config: the model.
      widths: width of each position: numbers, or arrays of one shape (NumPy or JAX).
    """
    encoder, decoders = list(widths[: config.stages]), list(widths[config.stages :])
    total = find_encoder(config.encoder).count(config.plan, config.colours, encoder, config.side)
    for target, width in zip(config.targets, decoders, strict=True):
        total += DECODERS[target.kind].count(target, config, encoder, width)
    return total
