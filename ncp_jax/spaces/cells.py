"""Defines ``CellSpace``: cells that are complete DAGs of four nodes, with an operation on each of six edges.

Edges are in the order 0>1, 0>2, 1>2, 0>3, 1>3, 2>3: node by node, as the architecture strings of NAS-Bench-201 and
TransNAS-Bench-101 micro write them. Node 0 is the input of the cell, node 3 its output.
"""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.base import CategoricalSpace
from ncp_jax.spaces.graphs import ArchitectureGraphs, join_features, one_hot
from ncp_jax.spaces.notation import OPS_NOTATION, OWN_NOTATION
from ncp_jax.types import Array, Float, Int

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))  # from input to output of a cell, as places in EDGES
CONVOLUTIONS = {"nor_conv_1x1": 1, "nor_conv_3x3": 9}  # weights of the kernel for each pair of channels
_ON_PATH = np.array([[edge in path for edge in range(len(EDGES))] for path in PATHS])
C = TypeVar("C", bound="CellSpace")


@dataclasses.dataclass(frozen=True)
class CellSpace(CategoricalSpace):
    """Six edges, each with one of ``ops``; operation 0 is "none", an absent edge.

    Graphs (v = 6, the operations on the edges): a node has a one-hot of its operation ("none" left out) and one of its
    edge. An operation is live if it is not "none" and some path from input to output holds it and no "none"; what is
    not live changes nothing. Attributes: live operations of each kind; live operations; the most convolutions on one
    path; the most 3x3 convolutions on one path; log(1 + 9 x live 3x3 + live 1x1 convolutions); and for each of the
    paths 0-3, 0-1-3, 0-2-3, 0-1-2-3 whether it is whole.

    Attributes:
      ops: names of the operations; the integer of an operation is its place.
    """

    ops: tuple[str, ...] = dataclasses.field(kw_only=True)

    @classmethod
    def of(cls: type[C], name: str, ops: tuple[str, ...], **others: Any) -> C:
        """Returns the space of cells with these operations; ``others`` are further fields."""
        names = tuple(f"edge {source}>{target}" for source, target in EDGES)
        return cls(name=name, values=(tuple(range(len(ops))),) * len(EDGES), position_names=names, ops=ops, **others)

    @property
    def notations(self) -> tuple[str, ...]:
        """The space's own notation, and the names of the operations, in the order of ``EDGES``."""
        return (OWN_NOTATION, OPS_NOTATION)

    def smooth_attributes(self, relaxed: Float[Array, "n f"]) -> Float[Array, "n a"]:
        """Returns the attributes of the graphs for cells whose edges hold shares of each operation."""
        ops = self._blocks(relaxed)[..., 1:]
        there = ops.sum(axis=-1)
        whole = [jnp.prod(there[:, np.array(path)], axis=1) for path in PATHS]

        def live(edge: int) -> Array:
            missing = [1 - share for path, share in zip(PATHS, whole, strict=True) if edge in path]
            return 1 - jnp.prod(jnp.stack(missing), axis=0)

        def longest(counted: Array) -> Array:
            each = [share * counted[:, np.array(path)].sum(axis=1) for path, share in zip(PATHS, whole, strict=True)]
            return jnp.stack(each).max(axis=0)

        alive = jnp.stack([live(edge) for edge in range(self.length)], axis=1)
        weights = np.array([CONVOLUTIONS.get(op, 0) for op in self.ops[1:]], np.float32)
        wide = weights == CONVOLUTIONS["nor_conv_3x3"]
        kinds = jnp.einsum("ne,neo->no", alive, ops)
        total = jnp.log1p((kinds * weights).sum(axis=1))
        depths = [longest((ops * counted).sum(axis=-1)) for counted in (weights > 0, wide)]
        scalars = jnp.stack([alive.sum(axis=1), *depths, total, *whole], axis=1)
        return jnp.concatenate([kinds, scalars], axis=1)

    def path_counts(self, codes: Int[Array, "n 6"]) -> Float[Array, "n w"]:
        """Returns how often each sequence of operations lies on a path of a cell from input to output.

        A path holds its operations in order, skips left out; one with a "none" is no path. The sequences are those of
        the other operations, by length and then in the order of ``ops``: 40 in NAS-Bench-201, 15 in TransNAS micro.
        """
        operations = [place for place, op in enumerate(self.ops) if op not in ("none", "skip_connect")]
        longest = max(map(len, PATHS))
        sequences = [some for k in range(longest + 1) for some in itertools.product(operations, repeat=k)]
        number = {sequence: place for place, sequence in enumerate(sequences)}
        counts = jnp.zeros((len(codes), len(sequences)))
        for path in PATHS:
            # -1, which is no column, for paths that an absent edge breaks.
            table = np.full((len(self.ops),) * len(path), -1)
            for steps in itertools.product(range(1, len(self.ops)), repeat=len(path)):
                table[steps] = number[tuple(step for step in steps if step in operations)]
            found = jnp.asarray(table)[tuple(codes[:, edge] for edge in path)]
            counts = counts + jax.nn.one_hot(found, len(sequences))
        return counts

    def _from_notation(self, rows: np.ndarray, notation: str) -> np.ndarray:
        names = np.atleast_2d(rows)
        known = np.isin(names, self.ops)
        if names.ndim != 2 or names.shape[1] != len(EDGES) or not known.all():
            wrong = names[~known][:1]
            raise checks.UsageError(
                expected=f"operations of {self.name} [n, {len(EDGES)}] ({', '.join(self.ops)})",
                got=repr(str(wrong[0])) if wrong.size else f"shape {list(np.shape(rows))}",
                remedy=f"write one for each edge, in the order {', '.join(self.position_names)}",
            )
        return (names[..., None] == np.array(self.ops)).argmax(axis=-1).astype(np.int32)

    def _to_notation(self, codes: np.ndarray, notation: str) -> np.ndarray:
        return np.array(self.ops)[codes]

    def _graphs(self, codes: np.ndarray) -> ArchitectureGraphs:
        whole = ((codes != 0)[:, None] | ~_ON_PATH).all(axis=-1)
        live = (whole[..., None] & _ON_PATH).any(axis=1)
        kinds = one_hot(np.where(live, codes, 0), len(self.ops))
        weights = np.array([CONVOLUTIONS.get(op, 0) for op in self.ops])[codes] * live
        on_path = _ON_PATH.T.astype(np.float32)

        def longest(counted: np.ndarray) -> np.ndarray:
            return np.where(whole, counted.astype(np.float32) @ on_path, 0.0).max(axis=1)

        wide = weights == CONVOLUTIONS["nor_conv_3x3"]
        scalars = (live.sum(axis=1), longest(weights > 0), longest(wide), np.log1p(weights.sum(axis=1)))
        links = np.array([[source[1] == target[0] for target in EDGES] for source in EDGES])
        return join_features(kinds, live, links, [kinds.sum(axis=1), np.stack(scalars, axis=1), whole])

    def _canonical(self, codes: Array) -> Array:
        """Returns the lexicographically smallest code whose cell is the same graph.

        An edge that lies on no path from input to output has no effect and becomes "none". Where no edge 1>2 is left,
        nodes 1 and 2 may swap names.
        """
        e01, e02, e12, _, e13, e23 = jnp.moveaxis(codes, -1, 0)
        reached1 = e01 > 0
        reached2 = (e02 > 0) | (reached1 & (e12 > 0))
        useful2 = e23 > 0
        useful1 = (e13 > 0) | (useful2 & (e12 > 0))
        alive = (useful1, useful2, reached1 & useful2, True, reached1, reached2)
        pruned = jnp.where(jnp.stack(jnp.broadcast_arrays(*alive), axis=-1), codes, 0)
        swapped = pruned[..., np.array([1, 0, 2, 3, 5, 4])]
        # The first difference between a code and its swap is at edge 0>1, or else at 1>3: the others move with them.
        smaller = (swapped[..., 0] < pruned[..., 0]) | (
            (swapped[..., 0] == pruned[..., 0]) & (swapped[..., 4] < pruned[..., 4])
        )
        return jnp.where((smaller & (pruned[..., 2] == 0))[..., None], swapped, pruned)
