"""Candidates of a search: the architectures that can be asked for, their features and their neighbours."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.console import short_repr
from ncp_jax.jax_settings import package_settings
from ncp_jax.pytrees import register_dataclass
from ncp_jax.searchers.draws import STRIDE, mix
from ncp_jax.spaces import Space, get_space
from ncp_jax.spaces.codes import ISOMORPHISM
from ncp_jax.types import Array, Float, Int

NEAREST = 16  # neighbours of an architecture in a table that holds a small part of its space
CHUNK = 2**24  # pairs compared at once
ROUNDED = 4  # digits of a squared distance behind the point; what differs by less is equal but for rounding


@register_dataclass
@dataclasses.dataclass(frozen=True)
class Candidates:
    """The architectures of a table without any measured value: a pytree, shared by all runs.

    Attributes:
      codes: int32 [n, d].
      neighbours: int32 [n, k], rows of the architectures at one edit, by position and value; the first ``degree`` are
        valid. Where the table holds a part of its space: the 16 nearest rows (see ``of``).
      degree: int32 [n], number of neighbours, at least 1.
      relaxed: float32 [n, f], the relaxed codes.
      attributes: float32 [n, a], attributes of an architecture's graph (``Space.graphs``), in standard units
        over the candidates; those that never vary are left out.
      classes: int32 [n], number of the network; codes of the same network have the same.
      space: name of the space. Static.
    """

    codes: Int[Array, "n d"]
    neighbours: Int[Array, "n k"]
    degree: Int[Array, " n"]
    relaxed: Float[Array, "n f"]
    attributes: Float[Array, "n a"]
    classes: Int[Array, " n"]
    space: str = dataclasses.field(metadata={"static": True})

    __repr__ = short_repr

    @staticmethod
    def of(table: Table, same_network: str = ISOMORPHISM) -> Candidates:
        """Returns the candidates of a table (host-side; cached for tables of the same architectures).

        Neighbours are the rows at one edit, if every architecture has at least one such row in the table. Otherwise
        (2507 of 10^23 codes in NAS-Bench-MR) they are the 16 nearest rows, by the Euclidean distance of relaxed codes
        with each feature scaled by its standard deviation.

        Args:
          table: the table.
          same_network: rule for the same network, one of the space's ``same_networks``.

        Raises:
          UsageError: fewer than two architectures, or an unknown rule.
        """
        return _candidates(table.space, np.asarray(table.codes).tobytes(), len(table), same_network)

    @staticmethod
    def of_space(
        space: str | Space, codes: Int[np.ndarray, "n d"] | None = None, same_network: str = ISOMORPHISM
    ) -> Candidates:
        """Returns the candidates of a space, for searches over architectures that are not measured yet.

        Args:
          space: the space, or its name.
          codes: int [n, d], the architectures that can be asked for; all of the space if None.
          same_network: rule for the same network, one of the space's ``same_networks``.

        Raises:
          UsageError: codes that are not legal or repeat, fewer than two of them, a space too large to list, or an
            unknown rule.
        """
        found = get_space(space) if isinstance(space, str) else space
        rows = found.all_codes() if codes is None else found.check(codes)
        if len(np.unique(rows, axis=0)) < len(rows):
            raise checks.UsageError(expected="different architectures", got="some twice", remedy="drop the repeats")
        return _candidates(found.name, np.ascontiguousarray(rows, np.int32).tobytes(), len(rows), same_network)

    def __len__(self) -> int:
        return int(self.codes.shape[0])


@functools.lru_cache(maxsize=8)
@package_settings
def _candidates(space_name: str, content: bytes, n: int, same_network: str) -> Candidates:
    if n < 2:
        raise checks.UsageError(
            expected="at least two architectures to search", got=str(n), remedy="take a larger table"
        )
    space = get_space(space_name)
    codes = np.frombuffer(content, np.int32).reshape(n, -1)
    device_codes = jax.device_put(codes)
    relaxed = np.asarray(space.encode(device_codes))
    rows, degree = _edits(space_name, codes)
    if degree.min() < 1:
        rows = _nearest(relaxed, codes, min(NEAREST, n - 1))
        degree = np.full(n, rows.shape[1], np.int32)
    attributes = np.asarray(space.graphs(codes).attributes, np.float32)
    spread = attributes.std(axis=0)
    varies = spread > 1e-6
    return Candidates(
        codes=device_codes,
        neighbours=jax.device_put(rows),
        degree=jax.device_put(degree),
        relaxed=jax.device_put(relaxed),
        attributes=jax.device_put((attributes - attributes.mean(axis=0))[:, varies] / spread[varies]),
        classes=jax.device_put(space.networks(device_codes, same_network)),
        space=space_name,
    )


def _edits(space_name: str, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows at one edit, those in the table first, in the order of ``Space.neighbours``; and their number."""
    from ncp_jax.benchmarks.row_index import build_index

    space, index = get_space(space_name), build_index(codes)
    device_codes = jnp.asarray(codes)
    edited, legal = space.neighbours(device_codes)
    rows = np.where(np.asarray(legal), np.asarray(index.rows(device_codes, edited)), -1)
    degree = (rows >= 0).sum(axis=1).astype(np.int32)
    order = np.argsort(rows < 0, axis=1, kind="stable")
    packed = np.take_along_axis(rows, order, axis=1)[:, : max(int(degree.max()), 1)]
    return np.maximum(packed, 0).astype(np.int32), degree


def _nearest(relaxed: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """The k nearest other rows of each row, nearest first, int32 [n, k].

    A hash of the two codes decides between rows that are equally near: the order of the rows must not, since a table
    may be sorted by what was measured.
    """
    spread = relaxed.std(axis=0)
    scaled = relaxed / np.where(spread > 0, spread, 1)
    norms, hashes = (scaled**2).sum(axis=1), _hashes(codes)
    found, step = [], max(1, CHUNK // len(relaxed))
    for first in range(0, len(relaxed), step):
        part = slice(first, first + step)
        squares = norms[part, None] + norms - 2 * scaled[part] @ scaled.T
        squares[np.arange(len(squares)), np.arange(first, first + len(squares))] = np.inf
        chance = mix(hashes[part, None] * STRIDE + hashes)
        found.append(np.lexsort((chance, np.round(squares, ROUNDED)), axis=1)[:, :k])
    return np.concatenate(found).astype(np.int32)


def _hashes(codes: np.ndarray) -> np.ndarray:
    """A hash of each code, uint32 [n]."""
    found: Any = np.zeros(len(codes), np.uint32)
    for position in codes.T.astype(np.uint32):
        found = mix(found * STRIDE + position + np.uint32(1))
    return found
