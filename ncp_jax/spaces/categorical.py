"""Defines ``CategoricalSpace``: positions are choices from one alphabet, relaxed as one-hot blocks."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces.base import Space
from ncp_jax.types import Array, Float

TINY = 1e-6  # keeps the division defined where all shares of a position are zero


class CategoricalSpace(Space):
    """Positions are choices from one alphabet 0..letters-1; the relaxed code is a one-hot block for each position."""

    @property
    def letters(self) -> int:
        """Size of the alphabet; relaxed codes have ``length * letters`` features, position by position."""
        return max(values[-1] for values in self.values) + 1

    @property
    def lower(self) -> np.ndarray:
        """Zeros, float32 [f]."""
        return np.zeros(self.length * self.letters, np.float32)

    @property
    def upper(self) -> np.ndarray:
        """Ones, float32 [f]."""
        return np.ones(self.length * self.letters, np.float32)

    def tangent(self, slope: Float[Array, "*batch f"]) -> Float[Array, "*batch f"]:
        """Returns the part of a slope along which the shares of each position keep their sum."""
        shares = self._blocks(slope)
        return (shares - shares.mean(axis=-1, keepdims=True)).reshape(slope.shape)

    def clip(self, relaxed: Float[Array, "*batch f"]) -> Float[Array, "*batch f"]:
        """Returns relaxed codes whose shares are not below 0 and sum to 1 at each position."""
        shares = jnp.maximum(self._blocks(relaxed), 0.0)
        return (shares / jnp.maximum(shares.sum(axis=-1, keepdims=True), TINY)).reshape(relaxed.shape)

    def _blocks(self, relaxed: Any) -> Any:
        """Reshapes relaxed codes [..., f] to [..., d, letters]."""
        return relaxed.reshape(*relaxed.shape[:-1], self.length, self.letters)

    def _encode(self, codes: Any) -> Any:
        hot = (codes[..., None] == np.arange(self.letters)).astype(np.float32)
        return hot.reshape(*codes.shape[:-1], self.features)

    def _project(self, relaxed: Array) -> Array:
        return self._project_within(relaxed, self.values)

    def _project_within(self, relaxed: Array, values: tuple[tuple[int, ...], ...]) -> Array:
        scores = self._blocks(relaxed)
        left = np.array([[letter in some for letter in range(self.letters)] for some in values])
        if not left.all():
            # A letter that is left never scores -inf, so that one of them wins whatever the numbers are.
            scores = jnp.where(left, jnp.maximum(scores, jnp.finfo(relaxed.dtype).min), -jnp.inf)
        return jnp.argmax(scores, axis=-1).astype(jnp.int32)

    def _project_among(self, relaxed: Array, codes: np.ndarray) -> Array:
        # All one-hot codes have the same norm: the nearest one has the largest inner product.
        scores = jnp.matmul(relaxed, jnp.asarray(self._encode(codes)).T, precision=jax.lax.Precision.HIGHEST)
        return jnp.asarray(codes)[jnp.argmax(scores, axis=-1)]
