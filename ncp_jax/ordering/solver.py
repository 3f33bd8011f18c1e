"""Solves the linear ordering problem (maximum weighted acyclic subgraph), with an upper bound on all orders."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.cores import usable_cores
from ncp_jax.ordering.components import strong_components
from ncp_jax.ordering.differences import Differences, Scaled, differences, forward_weight, narrowed
from ncp_jax.ordering.result import Ordering
from ncp_jax.ordering.search import Clock, Team, first_order, improve, settle
from ncp_jax.ordering.subsets import LARGEST, best_order
from ncp_jax.ordering.triangles import dual_ascent, pack_cycles
from ncp_jax.ordering.units import Units, in_units

RATE = 7e8  # nominal number of matrix entries that a core reads per second
_CORES = 2  # number of cores that the budget assumes; with more cores, a search ends sooner with the same result
_PREPARATION = 40  # work before and after the search, in reads of each matrix entry
_FINISH = 1.8e-8  # seconds per matrix entry that the bound and the weight take after the search
_ENTRIES_PER_TRIPLE = 2.6  # work of one update of the dual ascent, in entries that the search reads
_ENTRIES_PER_PACKED = 2  # the same of an entry that the packing of cycles reads
_SWEEPS = 1000  # maximum number of sweeps of the dual ascent
_THETA = 0.03  # step of the dual ascent, see ``triangles.dual_ascent``
_BOUND_BUDGET = 1e9  # budget, in entries, from which the bound gets its full share
DUAL = 400  # largest component for the dual ascent, which visits all triples
EXACT = 100  # largest component for branch and cut
_BITS, _DUAL_BITS = 48, 40  # bits of the units of exact methods and of the dual ascent
_RESOLUTION = 1e-10  # share of the sum of the differences below which rounded orders count as equal


@dataclasses.dataclass(frozen=True)
class _Solved:
    """The solution of one component.

    Attributes:
      order: elements of the component, first to last.
      gap: upper bound on the weight that another order of the component can gain over this one.
      proven: True if the order is optimal: ``gap`` is 0, or below the resolution that rounded differences allow.
      method: method that found the bound.
    """

    order: np.ndarray
    gap: float
    proven: bool
    method: str


def order(
    weights: Any,
    *,
    mask: Any = None,
    time_limit: float = 10.0,
    seed: int = 0,
    workers: int | None = None,
    clocked: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Ordering:
    """Orders n elements so that the total weight of the forward edges is as large as possible.

    The weight of an order is the sum of ``weights[i, j]`` over all i before j. Dropping the other edges breaks all
    cycles at the smallest loss found. The result has an upper bound on the weight of every order.

    Each strongly connected component of the preferences is solved on its own: up to 12 elements by dynamic programming,
    up to 100 by branch and cut, larger ones by iterated local search, with a bound from the 3-cycles. The budget
    follows from ``time_limit`` at the nominal speed of two cores. The same seed therefore gives the same order on every
    machine that is fast enough. On a slower machine, the clock ends the search, unless ``clocked`` is False.

    Bounds are computed in integers or rounded up, so no order weighs more than ``upper_bound``, whatever the magnitudes
    of the weights. Where they are multiples of one number within the range of float64's integers, as integers are,
    "optimal" is exact: the bound is the weight. For other weights it means that no order is better than the stated gap,
    which is at most 1e-10 of the sum of the differences that matter (see ``ncp_jax.ordering.units``).

    Args:
      weights: ``[n, n]`` weights, finite and >= 0, n >= 1, as a NumPy or JAX array, a SciPy sparse matrix, or a data
        frame, whose columns are matched to its rows by name. Masked weights of a masked array are 0. The diagonal is
        ignored. The solver makes dense copies of 12 bytes per entry.
      mask: ``[n, n]`` booleans, dense or sparse; False drops an edge (its weight counts as 0).
      time_limit: seconds; 0 for a first descent and its bound. Weights of many elements take a time of their own: about
        3 s for 10,000.
      seed: random seed of the search.
      workers: number of threads; by default one per core. It does not change the result.
      clocked: whether the clock may end the search. If False, ``time_limit`` is a budget of work alone: the result is
        the same on every machine, and takes longer on a slow one.
      progress: called about once a second, from another thread, with (whole seconds so far, ``time_limit`` rounded up).

    Returns:
      The order, its weight, the bound, and the dropped edges. Equal elements are in the order of their indices.

    Raises:
      UsageError: weights that are not square, empty, not numbers, negative, infinite or NaN; a negative time limit or
        seed; fewer than one worker.
    """
    began = time.monotonic()
    checks.positive("time_limit", time_limit, zero=True)
    seed = checks.integer("seed", seed, least=0)
    if workers is not None:
        workers = checks.integer("workers", workers, least=1, remedy="leave it out to use every core")
    dense = dense_weights(weights, mask)
    n = len(dense)
    with ThreadPoolExecutor(workers or usable_cores()) as pool, _told(progress, began, time_limit):
        problem = differences(dense, lambda function, spans: list(pool.map(function, spans)))
        parts = strong_components(problem.matrix)
        budget = max(0.0, time_limit * RATE * _CORES - _PREPARATION * n * n)
        # What comes after the search takes about half as long as what came before, also where other programs run.
        after = max(_FINISH * n * n, 0.5 * (time.monotonic() - began))
        end = began + time_limit - after if clocked else np.inf
        clock = Clock(max(0.0, end - time.monotonic()) if time_limit else np.inf)
        try:
            solved = _solve_parts(problem, parts, budget, seed, Team(pool, clock), end)
        finally:
            clock.close()
        cut = clock.rang
    return _join(problem, parts, solved, cut, time.monotonic() - began)


@contextlib.contextmanager
def _told(progress: Callable[[int, int], None] | None, began: float, time_limit: float) -> Iterator[None]:
    """Calls ``progress`` once a second within the block."""
    if progress is None:
        yield
        return
    over = threading.Event()

    def tell() -> None:
        while not over.wait(1.0):
            last = math.ceil(time_limit)
            progress(min(int(time.monotonic() - began), max(0, last - 1)), last)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def dense_weights(weights: Any, mask: Any = None) -> np.ndarray:
    """Returns the weights as a float64 array ``[n, n]``, contiguous by rows, with masked weights 0.

    Raises:
      UsageError: weights that are not square, empty or not numbers, or a mask of another shape.
      DataError: a data frame whose columns are not called as its rows.
    """
    import scipy.sparse

    from ncp_jax.ordering.matrix_files import from_frame, is_frame

    if is_frame(weights):
        weights = from_frame(weights).weights
    try:
        if isinstance(weights, list | tuple) and any(isinstance(row, np.ma.MaskedArray) for row in weights):
            weights = np.ma.array(weights)
        # A masked weight is an absent edge.
        given = np.ma.filled(weights, 0) if isinstance(weights, np.ma.MaskedArray) else weights
        found = weights.toarray() if scipy.sparse.issparse(weights) else np.asarray(given)
    except ValueError as error:
        raise checks.UsageError(
            expected="rows of one length", got=f"something else ({error})", remedy="give [n, n]"
        ) from error
    if found.ndim != 2 or found.shape[0] != found.shape[1] or found.shape[0] == 0:
        shape = "×".join(map(str, found.shape)) or "a single value"
        raise checks.UsageError(
            expected="a square matrix of weights, at least 1 × 1",
            got=shape,
            remedy="give [n, n]: weights[i, j] of i before j",
        )
    if found.dtype.kind not in "buif":
        raise checks.UsageError(expected="a matrix of real numbers", got=f"type {found.dtype}", remedy="convert it")
    result = np.require(found, np.float64, ["C", "ALIGNED", "WRITEABLE"])  # as compiled code wants it
    if mask is not None:
        kept = mask.toarray() if scipy.sparse.issparse(mask) else np.asarray(mask)
        if kept.shape != result.shape:
            raise checks.UsageError(
                expected=f"a mask of the weights' shape {result.shape}",
                got=str(kept.shape),
                remedy="give one flag per weight",
            )
        result = np.where(kept.astype(bool), result, 0.0)
    return result


def _solve_parts(
    problem: Differences, parts: Sequence[np.ndarray], budget: float, seed: int, team: Team, deadline: float
) -> list[_Solved]:
    """Solves the components one after the other. Each large one gets a share of the budget by its number of pairs."""
    large = sum(len(part) ** 2 for part in parts if len(part) > LARGEST)
    solved = []
    for part in parts:
        if len(part) <= 2:
            solved.append(_Solved(part, 0.0, True, "acyclic"))
            continue
        share = budget * len(part) ** 2 / large if len(part) > LARGEST else np.inf
        whole = len(part) == len(problem.matrix)
        matrix = problem.matrix if whole else np.ascontiguousarray(problem.matrix[np.ix_(part, part)])
        solved.append(_solve_part(problem, part, matrix, share, seed, team, deadline))
    return solved


def _solve_part(
    problem: Differences, part: np.ndarray, matrix: np.ndarray, budget: float, seed: int, team: Team, deadline: float
) -> _Solved:
    n = len(part)
    local, scaled, work = _first_descent(problem, part, matrix, team.clock.signal)
    # One core works here, while the budget is of all.
    budget = max(0.0, budget - _CORES * work)
    if n <= LARGEST:
        units = _units(problem, part, scaled, local, _BITS)
        local = best_order(units.matrix)
        return _Solved(part[local], units.gap(local, units.loss(local)[0]), True, "exact")
    if n <= EXACT:
        local = improve(scaled.matrix, local, work=int(min(0.2 * budget, 500 * n * n)), seed=seed, team=team)
        return _solve_exactly(problem, part, scaled, local, budget, seed, team, deadline)
    # The bound is computed beside the search. In a short search, the order needs the cores more than the bound does, so
    # the bound's share grows with the budget.
    bounding = _start_bound(problem, part, scaled, local, 0.2 * budget * min(1.0, budget / _BOUND_BUDGET), team)
    local = improve(scaled.matrix, local, work=int(0.8 * budget), seed=seed, team=team)
    gap, method = bounding.result()
    return _Solved(part[local], gap(local), False, method)


def _first_descent(
    problem: Differences, part: np.ndarray, matrix: np.ndarray, signal: np.ndarray
) -> tuple[np.ndarray, Scaled, int]:
    """Returns a local optimum, the differences that the search works on, and the number of entries read.

    A preference larger than the loss of a known order is forced: no better order reverses it. Where such preferences
    are so large that the others lose their digits in the scaling to 31 bits, they are cut and the rest is scaled anew.
    """
    n = len(part)
    scaled, work = Scaled(matrix, problem.scale, problem.exact), 0
    local = first_order(matrix)
    while True:
        work += settle(scaled.matrix, local, 20 * n * n, signal)
        cap = 2 * scaled.loss(local)
        if cap * scaled.scale > 0.25 * int(scaled.matrix.max()):
            return local, scaled, work
        scaled = narrowed(problem.weights[np.ix_(part, part)], problem.whole, cap)


def _units(problem: Differences, part: np.ndarray, scaled: Scaled, local: np.ndarray, bits: int) -> Units:
    """Returns the differences in units, with those cut that no order better than ``local`` reverses."""
    return in_units(problem.weights[np.ix_(part, part)], bits, 2 * scaled.loss(local))


def _solve_exactly(
    problem: Differences,
    part: np.ndarray,
    scaled: Scaled,
    local: np.ndarray,
    budget: float,
    seed: int,
    team: Team,
    deadline: float,
) -> _Solved:
    """Runs branch and cut from a good order. Without a proof, the rest of the budget goes into another local search."""
    from ncp_jax.ordering.linear_program import branch_and_cut

    units = _units(problem, part, scaled, local, _BITS)
    start = np.ix_(local, local)
    step = units.step if units.exact else max(1, int(np.abs(np.triu(units.matrix)).sum() * _RESOLUTION))
    found, least, proven = branch_and_cut(
        np.ascontiguousarray(units.matrix[start]),
        np.ascontiguousarray(scaled.matrix[start]),
        step=step,
        effort=0.25 * budget,
        deadline=deadline,
    )
    local = local[found]
    if not proven:
        better = improve(scaled.matrix, local, work=int(0.5 * budget), seed=seed + 1, team=team)
        local = min(better, local, key=lambda order: units.loss(order)[0])
    gap = units.gap(local, least)
    proven = proven or gap == 0
    return _Solved(part[local], gap, proven, "exact" if proven else "linear program")


def _start_bound(
    problem: Differences, part: np.ndarray, scaled: Scaled, local: np.ndarray, budget: float, team: Team
) -> Future:
    """Starts the computation of (function from an order to its gap, method)."""
    n = len(local)
    triples = n * (n - 1) * (n - 2) / 6
    sweeps = int(min(_SWEEPS, budget / (_ENTRIES_PER_TRIPLE * triples)))

    def bound() -> tuple[Callable[[np.ndarray], float], str]:
        if n <= DUAL and sweeps:
            units = _units(problem, part, scaled, local, _DUAL_BITS)
            start = np.ascontiguousarray(units.matrix[np.ix_(local, local)])
            least = int(np.ceil(dual_ascent(start, sweeps, _THETA, team.clock.signal)[0]))
            if units.exact:
                least += -least % units.step
            return lambda order: units.gap(order, least), "dual ascent"
        slack = np.int32(0 if scaled.exact else 1)
        packed, _ = pack_cycles(
            scaled.matrix, local, slack, int(max(budget / _ENTRIES_PER_PACKED, n * n)), team.clock.signal
        )
        return lambda order: scaled.gap(order, packed), "cycle packing"

    return team.submit(bound)


def _join(
    problem: Differences, parts: Sequence[np.ndarray], solved: Sequence[_Solved], cut: bool, seconds: float
) -> Ordering:
    """Joins the orders of the components into one, and their gaps into a bound on the weight."""
    joined = np.concatenate([one.order for one in solved]).astype(np.int32)
    weight, rest, exact = forward_weight(problem.weights, joined)
    # Sum exactly, then round up.
    bound = Fraction(weight) + Fraction(rest) + sum(Fraction(one.gap) for one in solved if one.gap)
    if not exact:
        bound *= 1 + Fraction(1, 2**90)
    rounded = float(bound)
    upper_bound = rounded if Fraction(rounded) >= bound else float(np.nextafter(rounded, np.inf))
    proven = all(one.proven for one in solved)
    method = max(zip(map(len, parts), (one.method for one in solved), strict=True), key=lambda pair: pair[0])[1]
    return Ordering(
        order=joined,
        weight=float(weight),
        upper_bound=upper_bound,
        status="optimal" if proven else "time limit" if cut else "work limit",
        method="exact" if proven and method not in ("acyclic", "exact") else method,
        seconds=seconds,
        component_sizes=tuple(map(len, parts)),
        _total=problem.total,
        _weights=problem.weights,
        _matrix=problem.matrix,
    )
