"""Defines ``OrdinalSpace``: positions are quantities, relaxed as real numbers."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces.base import Space
from ncp_jax.types import Array, Float


class OrdinalSpace(Space):
    """Positions are quantities (counts, widths); the relaxed code is the code itself as real numbers."""

    @property
    def lower(self) -> np.ndarray:
        """Smallest value of each position, float32 [d]."""
        return self._table[:, 0].astype(np.float32)

    @property
    def upper(self) -> np.ndarray:
        """Largest value of each position, float32 [d]."""
        return self._table[:, -1].astype(np.float32)

    def smooth_attributes(self, relaxed: Float[Array, "n f"]) -> Float[Array, "n a"]:
        """Returns the logarithms of the positions whose values are all positive; the scaled values are the code."""
        return jnp.log(relaxed[:, np.flatnonzero(self.lower > 0)])

    def _encode(self, codes: Array) -> Array:
        return codes.astype(jnp.float32)

    def _project(self, relaxed: Array) -> Array:
        # Counting the midpoints below a number gives its nearest value without an argmin, and needs no clipping.
        middles = (self._table[:, 1:] + self._table[:, :-1]).astype(np.float32) / 2
        middles[self._table[:, 1:] == self._table[:, :-1]] = np.inf
        digits = sum((relaxed > column).astype(np.int32) for column in middles.T)
        return self._at(np.arange(self.length), digits)
