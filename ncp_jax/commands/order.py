"""Orders elements by pairwise weights (``ncp.order``, ``ncp-jax order``)."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from ncp_jax import checks
from ncp_jax.commands.command import JsonCommand, as_config
from ncp_jax.console import ProgressBar, say, short_repr

if TYPE_CHECKING:
    import numpy as np

    from ncp_jax.ordering import Ordering
    from ncp_jax.ordering.matrix_files import WeightFile
    from ncp_jax.types import Int

EDGES = 1000
"""Number of dropped edges that the JSON lists, the heaviest first; ``cycles.dropped_edges`` counts all of them."""
_SHOWN = 20


@dataclasses.dataclass(frozen=True)
class OrderConfig:
    """Settings of the solver, and of the file that it reads.

    Attributes:
      time_limit: Seconds of the search, after the file is read; 0 gives a first descent only.
      seed: Random seed of the search.
      edges: Read a list of edges from the file: winner, loser, weight.
    """

    time_limit: float = 10.0
    seed: int = 0
    edges: bool = False

    def __post_init__(self) -> None:
        checks.positive("--time-limit", self.time_limit, zero=True)
        checks.positive("--seed", self.seed, zero=True)


@dataclasses.dataclass(frozen=True, eq=False)
class OrderResult:
    """An order of n elements and a bound on the weight of every order.

    Attributes:
      order: ``[n]`` int32, indices of the elements; ``order[0]`` comes first.
      names: names of the elements in that order; None where the input has no names.
      weight: sum of the weights that point forwards, in the unit of the weights; higher is better.
      bound: upper bound on the weight of every order, rounded up where float64 cannot hold it.
      gap: ``(bound - weight) / bound``; 0 where the bound is 0.
      status: "optimal" (proven: no order is better, or by no more than ``gap``), "work limit" (the deterministic budget
        was used up) or "time limit" (the clock ended the search first: another run may differ).
      file: file of the weights; None where they were given as a matrix.
      recognised: what was recognised in a text file: encoding, separator, … (``text_tables.note`` makes a line of it).
      ordering: the solver's own result, with the dropped edges and the statistics of cycles.
    """

    order: Int[np.ndarray, " n"]
    names: tuple[str, ...] | None
    weight: float
    bound: float
    gap: float
    status: str
    file: str | None
    recognised: tuple[str, ...]
    ordering: Ordering

    __repr__ = short_repr

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``ncp-jax order --json``: the whole order and the heaviest dropped edges."""
        edges = [list(edge) for edge in self.ordering.heaviest_dropped(EDGES)]
        return {
            "schema": "order/1",
            **({} if self.file is None else {"file": self.file}),
            **({"recognised": list(self.recognised)} if self.recognised else {}),
            **self.ordering.to_json(),
            **({} if self.names is None else {"names": list(self.names)}),
            "heaviest_dropped": edges,
            "dropped_listed": len(edges),
        }

    def __str__(self) -> str:
        found, cycles = self.ordering, self.ordering.cycles
        shown = [str(i) for i in self.order[:_SHOWN]] if self.names is None else self.names[:_SHOWN]
        more = ", …" if len(self.order) > _SHOWN else ""
        return (
            f"{len(self.order)} elements: weight {_exactly(self.weight)}, at most {_exactly(self.bound)} "
            f"(gap {_percent(self.gap)}; {self.status}, bound from {found.method}) in {found.seconds:.2f} s\n"
            f"dropped: {cycles.dropped_edges} edges, {cycles.dropped_share:.3%} of the weight; "
            f"{cycles.reversed_pairs} preferences reversed ({cycles.reversed_share:.3%}); "
            f"{'cycles of three not counted' if cycles.triangles is None else f'{cycles.triangles} cycles of three'}; "
            f"{cycles.components} components, the largest of {cycles.largest_component}\n"
            f"order: {', '.join(shown)}{more}"
        )


def _exactly(number: float) -> str:
    """Formats a number with all its digits: a bound that is rounded down would not be one."""
    return str(int(number)) if number.is_integer() and number < 1e16 else repr(number)


def _percent(share: float) -> str:
    """Formats a share as a percentage, and shows 0 only where it is 0."""
    return f"{share:.4%}" if share == 0 or share >= 1e-5 else f"{100 * share:.1e}%"


def order(
    weights: Any,
    config: OrderConfig | None = None,
    *,
    notify: Callable[[str], None] = say,
    **settings: Any,
) -> OrderResult:
    """Orders elements so that as much weight as possible points forwards (the linear ordering problem).

    Examples:
      >>> import ncp_jax as ncp
      >>> found = ncp.order([[0, 5, 0], [0, 0, 4], [1, 0, 0]], time_limit=1.0)
      >>> found.order.tolist(), found.weight, found.status
      ([0, 1, 2], 9.0, 'optimal')

    Args:
      weights: ``[n, n]`` finite weights >= 0, row i and column j for "i before j": an array, a JAX array, a masked
        array (masked weights are 0), a SciPy sparse matrix, or a data frame, whose columns are matched to its rows by
        name; or the path of a file that holds them (see ``ordering.matrix_files.read_weights``). The diagonal is
        ignored.
      config: settings of the solver.
      notify: receives a one-line notice of what was recognised in a file that is not UTF-8 with commas.
      **settings: fields of ``OrderConfig``, in place of ``config``.

    Raises:
      UsageError: a negative time limit or seed; a matrix that is not square or has illegal weights; edges that are not
        in a file.
      DataError: a file that is none of the formats, or whose matrix is not square or has illegal weights.
      OSError: the file cannot be read.
    """
    config = as_config(OrderConfig, config, settings)
    if isinstance(weights, str | os.PathLike):
        from ncp_jax.ordering.matrix_files import read_weights
        from ncp_jax.text_tables import note

        file = read_weights(Path(weights), edges=config.edges)
        if told := note(weights, file.recognised):
            notify(told)
        try:
            return _solve(file, str(weights), config)
        except checks.UsageError as error:  # the settings were checked before: the weights are wrong
            raise checks.DataError(f"{weights}: {error}") from error
    from ncp_jax.ordering.matrix_files import WeightFile, from_frame, is_frame

    if config.edges:
        raise checks.UsageError(expected="the path of a file with edges", got="a matrix", remedy="leave edges out")
    return _solve(from_frame(weights) if is_frame(weights) else WeightFile(weights), None, config)


def _solve(given: WeightFile, file: str | None, config: OrderConfig) -> OrderResult:
    from ncp_jax.ordering import order as solve

    with ProgressBar("ncp-jax: seconds") as bar:
        found = solve(given.weights, time_limit=config.time_limit, seed=config.seed, progress=bar)
    return OrderResult(
        order=found.order,
        names=None if given.names is None else tuple(given.names[i] for i in found.order),
        weight=found.weight,
        bound=found.upper_bound,
        gap=found.gap,
        status=found.status,
        file=file,
        recognised=given.recognised,
        ordering=found,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Order(JsonCommand, OrderConfig):
    """Order elements by pairwise weights: as much weight as possible points forwards, with a bound on every order.

    The weight in row i, column j counts where i comes before j. Weights are >= 0; the diagonal is ignored.

    Attributes:
      file: LOLIB text (n, then n² numbers), .npy, or .csv or .tsv (with or without row and column names; columns are
        matched to rows by name).
      json: Print JSON: the whole order, and the heaviest 1000 of the dropped edges.
    """

    file: Positional[Path]

    def run(self) -> None:
        """Orders the file's matrix and prints the result."""
        result = order(self.file, self.config(OrderConfig), notify=say)
        self.show(result.to_json, lambda: str(result))
