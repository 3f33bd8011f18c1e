"""Registers the kinds of networks that predictors can be trained as."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import nnx

from ncp_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Layout:
    """Sizes and settings of a network.

    Attributes:
      features: f, length of the relaxed code.
      heads: number of metrics in each group: main metrics, other quality metrics, costs; some may be 0.
      widths: hidden units.
      rates: dropout rates.
      log: whether the network also reads the logarithms of the features.
      precision: precision of the matrix products, see ``products.matmul``.
    """

    features: int
    heads: tuple[int, ...]
    widths: tuple[int, ...]
    rates: tuple[float, ...]
    log: bool
    precision: str


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of network, as training needs it.

    Attributes:
      make: makes a new network from its layout and random streams: an NNX module whose call takes standardised inputs
        ``[n, i]``, ``train=`` and ``draws=``, returns ``[n, m]``, and whose ``draws_needed`` says how many random
        integers per row each dropout needs. i is f, or 2 f with ``log``.
      fold: returns the parameters of the ``FoldedMLP``, of two layers or more, that is equal to a trained network at
        inference.
    """

    make: Callable[[Layout, nnx.Rngs], nnx.Module]
    fold: Callable[[Any], Params]


KINDS: dict[str, Kind] = {}


def register(name: str, kind: Kind) -> None:
    """Makes a kind of network available as ``Recipe(network=name)``."""
    KINDS[name] = kind
