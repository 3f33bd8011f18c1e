"""Freezes the statistics of BatchNorm into a sub-network, and names them by their layers."""

from __future__ import annotations

import collections
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax.controllable.layers import Statistics
from ncp_jax.controllable.model import ControllableModel, measured_statistics
from ncp_jax.types import Float

MOMENTS = ("mean", "var")


def freeze(network: ControllableModel, images: Float[Any, "n h w c"]) -> None:
    """Measures the statistics of BatchNorm on images; the network changes, and normalises by them from now on.

    Args:
      network: a sub-network.
      images: training images.
    """
    measured = jax.jit(lambda x: measured_statistics(network, x, None).given)(jnp.asarray(images))
    network.statistics = nnx.data(measured)


def pack_statistics(network: ControllableModel) -> dict[str, np.ndarray]:
    """Returns the frozen statistics by name ("encoder.0.first.norm.mean", "….var"); none if there are none.

    Each is [passes, channels]: layers of the encoder have a row for whole images, then one for the tiles of each
    jigsaw, those of decoders have one row.
    """
    if network.statistics is None:
        return {}
    rows = collections.defaultdict(list)
    for name, both in zip(_calls(network), network.statistics, strict=True):
        for moment, values in zip(MOMENTS, both, strict=True):
            rows[f"{name}.{moment}"].append(np.asarray(values))
    return {name: np.stack(values) for name, values in rows.items()}


def unpack_statistics(network: ControllableModel, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives a sub-network the statistics of ``pack_statistics``; the network changes.

    Args:
      network: the sub-network.
      arrays: its weights and statistics by name.

    Raises:
      KeyError: a name is missing.
      ValueError: statistics of another shape.
    """
    calls, found = _calls(network), []
    for place, name in enumerate(calls):
        both = [arrays[f"{name}.{moment}"] for moment in MOMENTS]
        shape = (calls.count(name), *arrays[f"{name}.scale"].shape)
        if any(array.shape != shape for array in both):
            raise ValueError(f"statistics of {name} of shape {list(both[0].shape)} and {list(both[1].shape)}")
        mean, var = (jnp.asarray(array[calls[:place].count(name)]) for array in both)
        found.append((mean, var))
    network.statistics = nnx.data(tuple(found))


def _calls(network: ControllableModel) -> list[str]:
    """Returns the names of the BatchNorm layers in the order in which they are called."""
    side, colours, calls = network.config.side, network.config.colours, Statistics()
    image = jax.ShapeDtypeStruct((1, side, side, colours), jnp.float32)
    jax.eval_shape(lambda x: network(x, None, calls), image)
    names = {id(module): ".".join(map(str, path)) for path, module in nnx.iter_modules(network)}
    return [names[id(layer)] for layer in calls.layers]
