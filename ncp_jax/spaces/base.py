"""Defines ``Space`` and its two kinds, ``CategoricalSpace`` and ``OrdinalSpace``.

A space says what an architecture is, as an integer code and as the relaxed code that gradients move.
"""

from __future__ import annotations

import abc
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.codes import _run
from ncp_jax.spaces.graphs import ArchitectureGraphs, position_graphs
from ncp_jax.spaces.notation import WrittenCodes
from ncp_jax.types import Array, Float, Int

TINY = 1e-6  # keeps the division defined where all shares of a position are zero


@dataclasses.dataclass(frozen=True)
class Space(WrittenCodes):
    """A finite set of codes, the box of real numbers that relaxes it, and all else that the library asks of a space.

    A space must have a relaxed form and a string form: the abstract methods. Its graphs and features have defaults,
    which read a code as a chain of positions. Costs and networks are registered beside it
    (``spaces.costs.register_costs``, ``networks.register``). A new space is one file, which ends with
    ``register(...)``.

    Attributes:
      aliases: other names that ``get_space`` understands.
      mark: text that tells strings of this space, also illegal ones, from those of the spaces registered before it;
        "" for none. It chooses the error of a string that is legal nowhere.
    """

    aliases: tuple[str, ...] = dataclasses.field(default=(), kw_only=True, repr=False)
    mark: str = dataclasses.field(default="", kw_only=True, repr=False)

    @property
    def digest(self) -> str:
        """What files say about the meaning of codes beside the space's name; "" for spaces that ship."""
        return ""

    @property
    def features(self) -> int:
        """Number of features in a relaxed code, f."""
        return len(self.lower)

    @property
    @abc.abstractmethod
    def lower(self) -> np.ndarray:
        """Lower corner of the box of relaxed codes, float32 [f], in raw units."""

    @property
    @abc.abstractmethod
    def upper(self) -> np.ndarray:
        """Upper corner of the box of relaxed codes, float32 [f], in raw units."""

    def encode(self, codes: Int[Array, "*batch d"]) -> Float[Array, "*batch f"]:
        """Returns the relaxed form of codes, float32; ``project`` takes it back."""
        return _run(self, "_encode", self._codes(codes))

    def project(self, relaxed: Float[Array, "*batch f"]) -> Int[Array, "*batch d"]:
        """Returns the nearest legal code (Euclidean distance in the relaxed form; ties to the lower values).

        Any real numbers are accepted, also outside the box; the result is always legal, and projecting it again
        (after ``encode``) returns it.
        """
        return _run(self, "_project", self._relaxed(relaxed))

    def tangent(self, slope: Float[Array, "*batch f"]) -> Float[Array, "*batch f"]:
        """Returns the part of a slope along which relaxed codes keep what the space asks of them, such as sums."""
        return slope

    def clip(self, relaxed: Float[Array, "*batch f"]) -> Float[Array, "*batch f"]:
        """Returns relaxed codes moved back inside the box."""
        return jnp.clip(relaxed, self.lower, self.upper)

    def graphs(self, codes: Int[Array | np.ndarray, "n d"]) -> ArchitectureGraphs:
        """Returns architectures as graphs of operations, NumPy arrays on the host; see the space for the features.

        By default (v = d, a chain of positions) a node has its value, scaled to 0..1 between the least and the largest
        legal value, and a one-hot of its place. All nodes are live. Attributes: the scaled values, then the natural
        logarithms of the values at the positions whose values are all positive.

        Args:
          codes: legal codes; a single code is one row. Codes of isomorphic architectures are not made equal.

        Raises:
          UsageError: wrong shape or an illegal value, as by ``check``.
        """
        return self._graphs(self.check(codes))

    def smooth_attributes(self, relaxed: Float[Array, "n f"]) -> Float[Array, "n a"]:
        """Returns attributes of ``graphs`` as smooth functions of the relaxed code, for networks that look at codes.

        At legal codes they are the attributes of the graphs, in their order, less those that the relaxed code already
        holds; between them, counts, products along paths and sums take their values for the shares of each letter.

        Args:
          relaxed: relaxed codes in the space's box, raw units; categorical ones with shares that sum to 1 at each
            position.
        """
        return relaxed[:, :0]

    def path_counts(self, codes: Int[Array, "n d"]) -> Float[Array, "n w"]:
        """Returns how often each sequence of operations lies on a path of the network; w = 0 where a space has none.

        Codes of the same network have equal counts.
        """
        return jnp.zeros((len(codes), 0))

    # The hooks get int32 codes [..., d] (traced or NumPy) and floating relaxed codes [..., f], already checked.

    @abc.abstractmethod
    def _encode(self, codes: Array) -> Array:
        """Returns the relaxed form of codes."""

    @abc.abstractmethod
    def _project(self, relaxed: Array) -> Array:
        """Returns the nearest legal codes."""

    def _project_within(self, relaxed: Array, values: tuple[tuple[int, ...], ...]) -> Array:
        """Returns the nearest codes whose positions keep to some of their values, in a space that is a product."""
        return dataclasses.replace(self, values=values).project(relaxed)

    def settled(self, codes: Int[np.ndarray, "*batch d"]) -> Int[np.ndarray, "*batch d"]:
        """Returns codes whose positions that mean nothing hold what canonical codes hold there (host-side).

        Codes put together from others need this in a space with conditional positions. Elsewhere they are as they were.
        """
        return codes

    def _restricted(self, values: tuple[tuple[int, ...], ...]) -> Space | None:
        """Returns the space of the codes whose positions keep to some of their values, if it is no product.

        None where the codes have to be listed. A space that returns one also has ``values_left``.
        """
        return None

    def values_left(self) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[int, ...], ...]]:
        """Returns for each position the values that it may take in some code, and those that codes hold there.

        They differ where a position is dead in some codes, which then hold a value that means nothing.
        """
        return self.values, self.values

    def _project_among(self, relaxed: Array, codes: np.ndarray) -> Array:
        """Returns the nearest of the codes [k, d] that are listed; ties go to the first."""
        distances = ((relaxed[..., None, :] - self._encode(jnp.asarray(codes))) ** 2).sum(axis=-1)
        return jnp.asarray(codes)[jnp.argmin(distances, axis=-1)]

    def _graphs(self, codes: np.ndarray) -> ArchitectureGraphs:
        return position_graphs(self.values, codes)

    def _relaxed(self, relaxed: Any) -> Array:
        relaxed = jnp.asarray(relaxed)
        if relaxed.ndim == 0 or relaxed.shape[-1] != self.features:
            raise checks.UsageError(
                expected=f"relaxed codes of {self.name} [..., {self.features}]",
                got=f"shape {relaxed.shape}",
                remedy="encode() makes them",
            )
        return relaxed if jnp.issubdtype(relaxed.dtype, jnp.floating) else relaxed.astype(jnp.float32)


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
