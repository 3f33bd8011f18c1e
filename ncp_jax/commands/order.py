"""What ``ncp-jax order`` does: reads a matrix, orders it, describes the result."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncp_jax.ordering.matrix_files import WeightFile, read_weights

if TYPE_CHECKING:
    from ncp_jax.ordering import Ordering

EDGES = 1000
"""Dropped edges that the JSON lists, the heaviest first; their number is always whole."""
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class OrderResult:
    """An ordered file.

    Attributes:
      file: what was read.
      found: the order and its bound.
      summary: what ``--json`` prints.
    """

    file: WeightFile
    found: Ordering
    summary: dict[str, Any]


def run_order(path: Path, *, time_limit: float = 10.0, seed: int = 0) -> OrderResult:
    """Reads the matrix of a file and orders it.

    Raises:
      DataError: the file is none of the formats, or its matrix not square or its weights negative, infinite or NaN.
      UsageError: a negative time limit or seed.
      OSError: the file cannot be read.
    """
    from ncp_jax import checks

    checks.positive("--time-limit", time_limit, zero=True)
    checks.positive("--seed", seed, zero=True)
    file = read_weights(path)
    from ncp_jax.ordering import order

    try:
        found = order(file.weights, time_limit=time_limit, seed=seed)
    except checks.UsageError as error:  # the arguments are right: it is the weights
        raise checks.DataError(f"{path}: {error}") from error
    return OrderResult(file, found, summarise(path, file, found))


def summarise(path: Path, file: WeightFile, found: Ordering) -> dict[str, Any]:
    """The result JSON-ready: the order by index, and by name where the file has names."""
    import numpy as np

    heaviest = np.argsort(-found.dropped_weights, kind="stable")[:EDGES]
    edges = [
        [int(i), int(j), float(w)]
        for (i, j), w in zip(found.dropped[heaviest], found.dropped_weights[heaviest], strict=True)
    ]
    names = {} if file.names is None else {"names": [file.names[i] for i in found.order]}
    return {"file": str(path), **found.to_json(), **names, "heaviest_dropped": edges, "dropped_listed": len(edges)}


def describe(result: OrderResult) -> str:
    """The result as a person reads it."""
    found, names = result.found, result.file.names
    cycles = found.cycles
    shown = [str(i) if names is None else names[i] for i in found.order[:_SHOWN]]
    more = ", …" if len(found.order) > _SHOWN else ""
    return (
        f"{len(found.order)} elements: weight {found.weight:.10g}, at most {found.upper_bound:.10g} "
        f"(gap {found.gap:.4%}; {found.status}, bound from {found.method}) in {found.seconds:.2f} s\n"
        f"dropped: {cycles.dropped_edges} edges, {cycles.dropped_share:.3%} of the weight; "
        f"{cycles.reversed_pairs} preferences reversed ({cycles.reversed_share:.3%}); "
        f"{cycles.triangles} cycles of three; "
        f"{cycles.components} components, the largest of {cycles.largest_component}\n"
        f"order: {', '.join(shown)}{more}"
    )
