"""Defines the space of NAS-Bench-201 (Dong & Yang, ICLR 2020, arXiv 2001.00326) and reads foreign codes of it."""

from __future__ import annotations

import functools
import itertools
import random
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.cells import EDGES, CellSpace
from ncp_jax.spaces.notation import OPS_NOTATION, OWN_NOTATION
from ncp_jax.spaces.registry import register
from ncp_jax.types import Array

Terms = tuple[tuple[str, Any], ...]  # operation and the sum that it is applied to, for each term of a sum

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")

# What other publishers mean by their integers: the operations in their order, and the edges in theirs.
NASLIB_OPS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
NASLIB_EDGES = ((0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3))
NCP_OPS = ("avg_pool_3x3", "none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")


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
        code = [self.ops.index(name) for name in names]
        if self._format(code) != text:
            raise self._bad_string(text, "whose edges are not grouped by their target node")
        return code

    @property
    def notations(self) -> tuple[str, ...]:
        """The space's own notation; NASLib's, with other numbers of operations and edges; NATS-Bench's index; names."""
        return (OWN_NOTATION, "naslib", "nats-index", OPS_NOTATION)

    @property
    def same_networks(self) -> tuple[str, ...]:
        """The rules of all cells; that of the benchmark's article; and equal outputs. See docs/data.md."""
        return (*super().same_networks, *FORMS)

    def _canonical_by_topology(self, codes: Array) -> Array:
        return self._from_index(jnp.asarray(_smallest("topology"))[self._index(codes)])

    def _canonical_by_function(self, codes: Array) -> Array:
        return self._from_index(jnp.asarray(_smallest("function"))[self._index(codes)])

    def _from_notation(self, rows: np.ndarray, notation: str) -> np.ndarray:
        if notation == "naslib":
            return np.atleast_2d(from_naslib(rows))
        return from_nats_index(rows) if notation == "nats-index" else super()._from_notation(rows, notation)

    def _to_notation(self, codes: np.ndarray, notation: str) -> np.ndarray:
        if notation == "nats-index":
            return _nats_index()[tuple(codes.T)][:, None]
        if notation == "naslib":
            ops = np.array([NASLIB_OPS.index(op) for op in OPS], dtype=np.int32)
            return ops[codes][..., [EDGES.index(edge) for edge in NASLIB_EDGES]]
        return super()._to_notation(codes, notation)


NAS_BENCH_201 = register(
    NasBench201Space.of(
        "nas-bench-201",
        OPS,
        example="|nor_conv_3x3~0|+|nor_conv_3x3~0|avg_pool_3x3~1|+|skip_connect~0|nor_conv_3x3~1|none~2|",
        aliases=("nb201",),
        mark="~",
    )
)


def from_naslib(arch: Any) -> np.ndarray:
    """Returns NAS-Bench-201 codes from NASLib's architecture tuples.

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
    ops = np.array([OPS.index(op) for op in NASLIB_OPS], dtype=np.int32)
    return ops[arch.astype(np.int32)][..., [NASLIB_EDGES.index(edge) for edge in EDGES]]


def from_nats_index(index: Any) -> np.ndarray:
    """Returns the codes, int32 [n, 6], of architectures by their numbers in NAS-Bench-201 and NATS-Bench.

    Both number the cells alike. Their authors list all cells with ``itertools.product`` over the operations in the
    order of ``OPS``, node by node, which is the order of our codes, and shuffle the list with the seed 88
    (github.com/D-X-Y/AutoDL-Projects, ``exps/NAS-Bench-201/main.py`` and ``exps/NATS-Bench/tss-collect.py``).

    Args:
      index: integers 0..15624, [n] or [n, 1].

    Raises:
      UsageError: another shape, or a number that is no index.
    """
    given, codes = np.asarray(index), _nats_codes()
    single = given.ndim < 2 or (given.ndim == 2 and given.shape[1] == 1)
    if not single or given.dtype.kind not in "iu" or not ((given >= 0) & (given < len(codes))).all():
        raise checks.UsageError(
            expected=f"an index of NATS-Bench, one integer 0..{len(codes) - 1} for each architecture",
            got=f"{given.tolist()!r}"[:100],
            remedy="give the number that api.query_index_by_arch returns",
        )
    return codes[given.reshape(-1)]


def topology(code: Sequence[int]) -> str:
    """Returns the text by which the article on NAS-Bench-201 tells cells apart: 6466 different ones.

    A node is the sum of its incoming edges, whose texts are sorted. "skip_connect" stands for the text of its source,
    "none" and an edge out of a node that is "none" alone for zero. Zeros and the sums behind skips stay in the text, so
    that some cells that are the same graph, or compute the same, have different texts (arXiv 2001.00326, section 2.1;
    ``Structure.to_unique_str`` with ``consider_zero`` in the authors' code).
    """
    texts = ["0"]
    for edges in _incoming(code):
        terms = []
        for source, op in edges:
            text = texts[source]
            zero = op == "none" or text == "#"
            terms.append("#" if zero else text if op == "skip_connect" else f"({text})@{op}")
        texts.append("+".join(sorted(terms)))
    return texts[-1]


def function(code: Sequence[int]) -> Terms:
    """Returns the sum of operations that a cell computes: 4930 different ones.

    A node is a sum, without order, of operations on sums; the cell's input is the sum of one term. "none" adds nothing,
    nor does an operation on an empty sum, and "skip_connect" adds the terms of its source. What pooling and convolution
    do with sums is not used (pooling is linear).
    """
    sums: list[Terms] = [(("input", ()),)]
    for edges in _incoming(code):
        terms: list[Any] = []
        for source, op in edges:
            if op != "none" and sums[source]:
                terms += sums[source] if op == "skip_connect" else [(op, sums[source])]
        sums.append(tuple(sorted(terms)))
    return sums[-1]


FORMS: dict[str, Callable[[Sequence[int]], Any]] = {"topology": topology, "function": function}
"""Rules for the same network beside isomorphism: codes of equal form are the same network."""


def _incoming(code: Sequence[int]) -> list[list[tuple[int, str]]]:
    """Returns source and operation of the edges into nodes 1, 2 and 3."""
    edges = [(*edge, OPS[op]) for edge, op in zip(EDGES, code, strict=True)]
    return [[(source, op) for source, target, op in edges if target == node] for node in (1, 2, 3)]


@functools.cache
def _smallest(rule: str) -> np.ndarray:
    """The index of the first code of the same network, for each code in the order of their index, int32 [15625]."""
    first: dict[Any, int] = {}
    codes = itertools.product(range(len(OPS)), repeat=len(EDGES))
    return np.array([first.setdefault(FORMS[rule](code), place) for place, code in enumerate(codes)], np.int32)


@functools.cache
def _nats_codes() -> np.ndarray:
    """The codes in the order of NATS-Bench's index, int32 [15625, 6]."""
    codes = list(itertools.product(range(len(OPS)), repeat=len(EDGES)))
    random.Random(88).shuffle(codes)
    return np.array(codes, np.int32)


@functools.cache
def _nats_index() -> np.ndarray:
    """The index in NATS-Bench of each code, int32 [5, 5, 5, 5, 5, 5]."""
    places = np.empty((len(OPS),) * len(EDGES), np.int32)
    places[tuple(_nats_codes().T)] = np.arange(NAS_BENCH_201.size)
    return places


def from_ncp_onehot(embedding: Any) -> np.ndarray:
    """Returns NAS-Bench-201 codes from the one-hot embeddings that the authors of NCP publish.

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
    ops = np.array([OPS.index(op) for op in NCP_OPS], dtype=np.int32)
    return ops[blocks.argmax(-1)]
