"""Cell spaces: a cell is a complete DAG of four nodes, a code picks one operation for each of its six edges.

Edges are in the order 0>1, 0>2, 1>2, 0>3, 1>3, 2>3: node by node, as the architecture strings of both benchmarks write
them. Node 0 is the input of the cell, node 3 its output.

Sources: NAS-Bench-201 (Dong & Yang, ICLR 2020, arXiv 2001.00326); TransNAS-Bench-101 (Duan et al., CVPR 2021,
arXiv 2105.11871).
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.base import CategoricalSpace
from ncp_jax.types import Array

EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
NAS_BENCH_201_OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
TRANSNAS_MICRO_OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")

# What other publishers of NAS-Bench-201 mean by their integers: their op order as our op integers, and for each of our
# edges its place in their edge order.
NASLIB_OPS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
NASLIB_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
NCP_OPS = ("avg_pool_3x3", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")


@dataclasses.dataclass(frozen=True)
class CellSpace(CategoricalSpace):
    """Six edges, one of ``ops`` each; operation 0 is "none", an absent edge.

    Attributes:
      ops: the operations; the integer of one is its place.
    """

    ops: tuple[str, ...] = dataclasses.field(kw_only=True)

    def _project(self, relaxed: Array) -> Array:
        scores = relaxed.reshape(*relaxed.shape[:-1], self.length, self.letters)
        return jnp.argmax(scores, axis=-1).astype(jnp.int32)

    def _canonical(self, codes: Array) -> Array:
        """The lexicographically smallest code whose cell is the same graph.

        An edge that lies on no path from input to output has no effect and becomes "none". Where no edge 1>2 is left,
        nodes 1 and 2 may change names.
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


class NasBench201Space(CellSpace):
    """NAS-Bench-201: 5 operations, 15625 codes; strings like ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``."""

    def _format(self, code: list[int]) -> str:
        nodes: dict[int, str] = {}
        for (source, target), op in zip(EDGES, code, strict=True):
            nodes[target] = nodes.get(target, "|") + f"{self.ops[op]}~{source}|"
        return "+".join(nodes.values())

    def _parse(self, text: str) -> list[int]:
        parts = re.findall(r"[^|+]+", text)
        places = [part.partition("~")[2] for part in parts]
        if places != [str(source) for source, _ in EDGES] or self._format([0] * 6).count("|") != text.count("|"):
            raise self._bad_string(text, "whose edges are not those of four nodes")
        names = [part.partition("~")[0] for part in parts]
        for name in names:
            if name not in self.ops:
                raise self._bad_string(text, f"with operation {name!r}, which is none of {', '.join(self.ops)}")
        return [self.ops.index(name) for name in names]


class TransNasMicroSpace(CellSpace):
    """TransNAS-Bench-101 micro: 4 operations, 4096 codes; strings like ``64-41414-1_02_333``.

    "64-41414" is the skeleton that all share: 64 base channels and the five modules around the cells.
    """

    def _format(self, code: list[int]) -> str:
        digits = "".join(map(str, code))
        return f"64-41414-{digits[0]}_{digits[1:3]}_{digits[3:]}"

    def _parse(self, text: str) -> list[int]:
        found = re.fullmatch(r"64-41414-([0-9])_([0-9]{2})_([0-9]{3})", text)
        if not found:
            raise self._bad_string(text, "which is not 64-41414-a_bc_def with one digit an edge")
        return [int(digit) for digit in "".join(found.groups())]


def _cell_space(cls: type[Any], name: str, ops: tuple[str, ...], example: str) -> Any:
    return cls(
        name=name,
        values=(tuple(range(len(ops))),) * len(EDGES),
        position_names=tuple(f"edge {source}>{target}" for source, target in EDGES),
        example=example,
        ops=ops,
    )


NAS_BENCH_201: NasBench201Space = _cell_space(
    NasBench201Space,
    "nas-bench-201",
    NAS_BENCH_201_OPS,
    "|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|",
)
TRANSNAS_MICRO: TransNasMicroSpace = _cell_space(
    TransNasMicroSpace, "transnas-micro", TRANSNAS_MICRO_OPS, "64-41414-1_02_333"
)


def from_naslib(arch: Any) -> np.ndarray:
    """NAS-Bench-201 codes from NASLib's architecture tuples.

    Args:
      arch: integers [..., 6], operations by their place in ``NASLIB_OPS``, edges in the order ``NASLIB_EDGES``.

    Returns:
      Codes of ``NAS_BENCH_201``, int32 [..., 6].

    Raises:
      UsageError: wrong length, or an integer that is no operation.
    """
    arch = np.asarray(arch)
    legal = arch.ndim > 0 and arch.shape[-1] == len(EDGES) and np.isin(arch, np.arange(len(NASLIB_OPS))).all()
    if not legal:
        raise checks.UsageError(
            expected=f"NASLib architectures [..., {len(EDGES)}] of operations 0..{len(NASLIB_OPS) - 1}",
            got=f"{arch!r}",
            remedy="give the tuples as NASLib stores them",
        )
    ops = np.array([NAS_BENCH_201_OPS.index(op) for op in NASLIB_OPS], dtype=np.int32)
    return ops[arch.astype(np.int32)][..., [NASLIB_EDGES.index(edge) for edge in EDGES]]


def from_ncp_onehot(embedding: Any) -> np.ndarray:
    """NAS-Bench-201 codes from the one-hot embeddings that the authors of NCP publish.

    Args:
      embedding: numbers [..., 30]; for each edge, in our order, a one-hot block over ``NCP_OPS``.

    Returns:
      Codes of ``NAS_BENCH_201``, int32 [..., 6].

    Raises:
      UsageError: wrong length, or a block that is not one-hot.
    """
    embedding = np.asarray(embedding)
    blocks = embedding.reshape(*embedding.shape[:-1], -1, len(NCP_OPS)) if embedding.shape[-1:] == (30,) else None
    if blocks is None or not (((blocks == 1).sum(-1) == 1) & ((blocks != 0).sum(-1) == 1)).all():
        raise checks.UsageError(
            expected=f"one-hot embeddings [..., 30], {len(EDGES)} blocks of {len(NCP_OPS)}",
            got=f"{embedding!r}",
            remedy="give the embeddings as published",
        )
    ops = np.array([NAS_BENCH_201_OPS.index(op) for op in NCP_OPS], dtype=np.int32)
    return ops[blocks.argmax(-1)]
