"""Defines the slimmable encoders, one module a family, and finds the one that a text names."""

from __future__ import annotations

import functools
from collections.abc import Callable

from ncp_jax import checks
from ncp_jax.controllable.encoders.base import Encoder, EncoderPlan
from ncp_jax.controllable.encoders.multi_resolution import MultiResolutionEncoder
from ncp_jax.controllable.encoders.residual import RESIDUAL, ResidualEncoder
from ncp_jax.controllable.encoders.transnas import MacroEncoder, MicroEncoder

__all__ = ["RESIDUAL", "Encoder", "EncoderPlan", "find_encoder"]

FAMILIES: dict[str, Callable[[str], Encoder]] = {
    encoder.name: encoder for encoder in (ResidualEncoder, MicroEncoder, MacroEncoder, MultiResolutionEncoder)
}


@functools.cache
def find_encoder(text: str) -> Encoder:
    """Returns the encoder of a text: FAMILY, or FAMILY:ARCHITECTURE for families that have architectures.

    Raises:
      UsageError: an unknown family, or an architecture that it does not have.
    """
    name, _, architecture = str(text).partition(":")
    return FAMILIES[checks.choose("encoder", name.strip(), FAMILIES)](architecture.strip())
