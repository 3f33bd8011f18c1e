"""Solves the linear ordering problem (maximum weighted acyclic subgraph), with an upper bound on all orders."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.ordering.components import strong_components
from ncp_jax.ordering.differences import Differences, differences, forward_weight
from ncp_jax.ordering.result import Ordering
from ncp_jax.ordering.search import Clock, Team, first_order, improve, settle, threads
from ncp_jax.ordering.subsets import LARGEST, best_order
from ncp_jax.ordering.triangles import dual_ascent, pack_cycles

RATE = 3.5e8  # nominal number of matrix entries that a core reads per second
_CORES = 2  # number of cores that the budget assumes; with more cores, a search ends sooner with the same result
_PREPARATION = 20  # work before and after the search, in reads of each matrix entry
_ENTRIES_PER_TRIPLE = 1.2  # work of one update of the dual ascent, in entries read
_SWEEPS = 1000  # maximum number of sweeps of the dual ascent
_THETA = 0.03  # step of the dual ascent, see ``triangles.dual_ascent``
_BOUND_BUDGET = 5e8  # budget, in entries, from which the bound gets its full share
DUAL = 400  # largest component for the dual ascent, which visits all triples
EXACT = 100  # largest component for branch and cut


@dataclasses.dataclass(frozen=True)
class _Solved:
    """The solution of one component.

    Attributes:
      order: elements of the component, first to last.
      least_loss: lower bound on the loss of any order of the component.
      proven: True if the order is optimal.
      method: method that found the bound.
    """

    order: np.ndarray
    least_loss: float
    proven: bool
    method: str


def order(
    weights: Any, *, mask: Any = None, time_limit: float = 10.0, seed: int = 0, workers: int | None = None
) -> Ordering:
    """Orders n elements so that the total weight of the forward edges is as large as possible.

    The weight of an order is the sum of ``weights[i, j]`` over all i before j. Dropping the other edges breaks all
    cycles at the smallest loss found. The result has an upper bound on the weight of every order.

    Each strongly connected component of the preferences is solved on its own: up to 12 elements by dynamic programming,
    up to 100 by branch and cut, larger ones by iterated local search, with a bound from the 3-cycles. The budget
    follows from ``time_limit`` at the nominal speed of two cores. The same seed therefore gives the same order on every
    machine that is fast enough. On a slower machine, the clock ends the search.

    Args:
      weights: ``[n, n]`` weights, finite and >= 0, n >= 1, as a NumPy or JAX array or a SciPy sparse matrix. The
        diagonal is ignored. The solver makes dense copies of 12 bytes per entry.
      mask: ``[n, n]`` booleans, dense or sparse; False drops an edge (its weight counts as 0).
      time_limit: seconds; 0 for a first descent and its bound.
      seed: random seed of the search.
      workers: number of threads; by default one per core. It does not change the result.

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
    with ThreadPoolExecutor(workers or threads()) as pool:
        problem = differences(dense, lambda function, spans: list(pool.map(function, spans)))
        parts = strong_components(problem.matrix)
        budget = max(0.0, time_limit * RATE * _CORES - _PREPARATION * n * n)
        clock = Clock(max(0.0, began + time_limit - time.monotonic()))
        try:
            solved = _solve_parts(problem, parts, budget, seed, Team(pool, clock), began + time_limit)
        finally:
            clock.close()
        cut = clock.rang
    return _join(problem, parts, solved, cut, time.monotonic() - began)


def dense_weights(weights: Any, mask: Any = None) -> np.ndarray:
    """Returns the weights as a float64 array ``[n, n]``, contiguous by rows, with masked weights 0.

    Raises:
      UsageError: weights that are not square, empty or not numbers, or a mask of another shape.
    """
    import scipy.sparse

    try:
        found = weights.toarray() if scipy.sparse.issparse(weights) else np.asarray(weights)
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
    result = np.ascontiguousarray(found, dtype=np.float64)
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
        if len(part) <= LARGEST:
            # Dynamic programming; the loss is the sum of the preferences against the optimal order.
            block = _real_differences(problem, part)
            local = best_order(block)
            loss = float(np.maximum(-np.triu(block[np.ix_(local, local)], 1), 0.0).sum())
            solved.append(_Solved(part[local], loss, True, "exact"))
            continue
        share = budget * len(part) ** 2 / large
        whole = len(part) == len(problem.matrix)
        matrix = problem.matrix if whole else np.ascontiguousarray(problem.matrix[np.ix_(part, part)])
        solved.append(_solve_part(problem, part, matrix, share, seed, team, deadline))
    return solved


def _real_differences(problem: Differences, part: np.ndarray) -> np.ndarray:
    block = problem.weights[np.ix_(part, part)]
    np.fill_diagonal(block, 0.0)
    return np.ascontiguousarray(block - block.T)


def _solve_part(
    problem: Differences, part: np.ndarray, matrix: np.ndarray, budget: float, seed: int, team: Team, deadline: float
) -> _Solved:
    n = len(part)
    local = first_order(matrix)
    # One core works here, while the budget is of all.
    budget = max(0.0, budget - _CORES * settle(matrix, local, 20 * n * n))
    if n <= EXACT:
        # Branch and cut from a good order. Without a proof, the rest of the budget goes into another local search.
        local = improve(matrix, local, work=int(min(0.2 * budget, 500 * n * n)), seed=seed, team=team)
        solved = _cut(problem, part, matrix, local, 0.25 * budget, deadline)
        if solved.proven:
            return solved
        # The order found, as positions in ``part``.
        inverse = np.argsort(part)
        local = inverse[np.searchsorted(part[inverse], solved.order)].astype(np.int32)
        better = improve(matrix, local, work=int(0.5 * budget), seed=seed + 1, team=team)
        return dataclasses.replace(solved, order=part[better])
    # The bound is computed beside the search. In a short search, the order needs the cores more than the bound does, so
    # the bound's share grows with the budget.
    bounding = _start_bound(problem, part, matrix, local, 0.2 * budget * min(1.0, budget / _BOUND_BUDGET), team)
    local = improve(matrix, local, work=int(0.8 * budget), seed=seed, team=team)
    least, method = bounding.result()
    return _Solved(part[local], least, False, method)


def _cut(
    problem: Differences, part: np.ndarray, matrix: np.ndarray, local: np.ndarray, budget: float, deadline: float
) -> _Solved:
    from ncp_jax.ordering.linear_program import branch_and_cut

    real = _real_differences(problem, part[local])
    scaled = np.ascontiguousarray(matrix[np.ix_(local, local)])
    found, least, proven = branch_and_cut(real, scaled, whole=problem.exact, effort=budget, deadline=deadline)
    return _Solved(part[local][found], least, proven, "exact" if proven else "linear program")


def _start_bound(
    problem: Differences, part: np.ndarray, matrix: np.ndarray, local: np.ndarray, budget: float, team: Team
) -> Future:
    """Starts the computation of (lower bound on the loss, method)."""
    n = len(local)
    triples = n * (n - 1) * (n - 2) / 6
    sweeps = int(min(_SWEEPS, budget / (_ENTRIES_PER_TRIPLE * triples)))

    def bound() -> tuple[float, str]:
        if n <= DUAL and sweeps:
            real = _real_differences(problem, part[local])
            return float(dual_ascent(real, sweeps, _THETA, team.clock.signal)[0]), "dual ascent"
        slack = np.int32(0 if problem.exact else 1)
        packed, _ = pack_cycles(matrix, local, slack, int(max(budget, n * n)), team.clock.signal)
        return packed / problem.scale * (1 - 1e-12), "cycle packing"

    return team.submit(bound)


def _join(
    problem: Differences, parts: Sequence[np.ndarray], solved: Sequence[_Solved], cut: bool, seconds: float
) -> Ordering:
    """Joins the orders of the components into one, and their bounds into a bound on the weight."""
    joined = np.concatenate([one.order for one in solved]).astype(np.int32)
    weight = float(forward_weight(problem.weights, joined))
    bound = problem.ceiling - sum(one.least_loss for one in solved)
    if problem.exact:
        bound = float(np.floor(bound + 1e-6))  # integer weights have an integer sum
    proven = all(one.proven for one in solved) or bound - weight <= 1e-12 * problem.ceiling
    method = max(zip(map(len, parts), (one.method for one in solved), strict=True), key=lambda pair: pair[0])[1]
    return Ordering(
        order=joined,
        weight=weight,
        upper_bound=weight if proven else max(bound, weight),
        status="optimal" if proven else "time limit" if cut else "work limit",
        method="exact" if proven and method not in ("acyclic", "exact") else method,
        seconds=seconds,
        component_sizes=tuple(map(len, parts)),
        _total=problem.total,
        _weights=problem.weights,
        _matrix=problem.matrix,
    )
