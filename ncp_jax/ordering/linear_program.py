"""Finds exact orders by branch and cut: a linear program with violated 3-cycle inequalities added, and branching.

Source: Grötschel, Jünger & Reinelt, "A cutting plane algorithm for the linear ordering problem" (1984), here with
3-cycle inequalities only. HiGHS keeps its model and its basis from one solve to the next.

HiGHS works in floating point with tolerances, so nothing that it says counts as proven: not its objective, not that a
program is infeasible, not that a solution is integral. Its dual values are taken as a proposal. Rounded to fixed-point
numbers, they give a Lagrangian bound, which is computed in integers. Nodes are closed and variables fixed by that bound
alone. Differences come in integer units (``ncp_jax.ordering.units``), and so do values and bounds.
"""

from __future__ import annotations

import ctypes
import dataclasses
import os
import sys
import time

import highspy
import numpy as np

from ncp_jax.ordering.insertion import descend
from ncp_jax.ordering.triangles import violated_cycles

_ROWS_PER_ROUND = 1500  # maximum number of inequalities added at once
_TOLERANCE = 1e-6  # smallest violation or slack that counts
_FINE = 1024  # dual values are rounded to this part of a unit, and bounds count in it
_ITERATION = 32  # work of a simplex iteration on one row or column of the model, in matrix entries read


def _silent_model() -> highspy.Highs:
    """Returns an empty model without HiGHS's banner on standard output, where results go.

    HiGHS 1.16 prints the banner through the C library, before any option can be set.
    """
    sys.stdout.flush()
    library, kept, nowhere = ctypes.CDLL(None), os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        library.fflush(None)
        os.dup2(nowhere, 1)
        model = highspy.Highs()
        library.fflush(None)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)
    return model


@dataclasses.dataclass
class _Best:
    """The best order so far.

    Attributes:
      order: ``[n]`` elements, numbered by their places in the start order.
      value: sum of the differences over all pairs in order, in units.
    """

    order: np.ndarray
    value: int


class _Program:
    """The linear program, in the numbering of a start order. Variable (i, j) with i < j is 1 if i stays before j.

    Costs are scaled so that the largest cost of a free variable is 1: a huge weight that is decided does not hide the
    others behind HiGHS's tolerances.
    """

    def __init__(self, differences: np.ndarray) -> None:
        n = len(differences)
        self.rows_at, self.columns_at = np.triu_indices(n, 1)
        self.size = len(self.rows_at)
        self.index = np.zeros((n, n), np.int32)
        self.index[self.rows_at, self.columns_at] = np.arange(self.size)
        self.index += self.index.T
        self.costs = differences[self.rows_at, self.columns_at].astype(np.int64)
        self.unit = 0.0
        self.lower, self.upper = np.zeros(self.size, np.int64), np.ones(self.size, np.int64)
        self.columns, self.signs = np.empty((0, 3), np.int32), np.empty((0, 3), np.int64)
        self.limits = np.empty(0, np.int64)
        self.effort = 0.0
        self._cycles, self._amounts = np.empty((200_000, 3), np.int32), np.empty(200_000)
        self._relation = np.zeros((n, n))
        self._model = _silent_model()
        for name, value in (("output_flag", False), ("threads", 1), ("presolve", "off"), ("random_seed", 0)):
            self._model.setOptionValue(name, value)
        self._model.addVars(self.size, self.lower.astype(float), self.upper.astype(float))
        self._every = np.arange(self.size, dtype=np.int32)

    def solve(self, effort: float, deadline: float) -> np.ndarray:
        """Solves the program with its present inequalities, within the limits on effort and time.

        Returns:
          The solution. ``prices`` has the dual values >= 0 of the inequalities, in 1/1024 units.
        """
        left = max(0.0, deadline - time.monotonic())
        self._model.setOptionValue("time_limit", self._model.getRunTime() + left)
        size = self.size + len(self.limits)
        iterations = max(1, int(max(0.0, effort - self.effort) / (_ITERATION * size)))
        self._model.setOptionValue("simplex_iteration_limit", min(iterations, 2**31 - 1))
        self._model.run()
        info, solution = self._model.getInfo(), self._model.getSolution()
        self.effort += _ITERATION * max(1, info.simplex_iteration_count) * size
        prices = np.nan_to_num(-np.array(solution.row_dual), nan=0.0, posinf=0.0, neginf=0.0)
        prices = np.rint(np.maximum(0.0, prices) * (self.unit * _FINE))
        if not 3 * prices.sum() < 2.0**61:
            prices[:] = 0.0  # beyond int64; no prices give a bound too
        self.prices = prices.astype(np.int64)
        self._slack = (self.prices == 0) & (self.limits - np.array(solution.row_value) > _TOLERANCE)
        return np.clip(np.nan_to_num(np.array(solution.col_value), nan=0.5), 0.0, 1.0)

    def bound(self) -> tuple[int, np.ndarray]:
        """Returns an upper bound on the value of every order within the variables' bounds, and the reduced costs.

        The Lagrangian bound: price the inequalities, and choose each variable by its reduced cost. All is in integers
        of 1/1024 units, so the bound is exact for the prices, and any prices >= 0 give a valid one.
        """
        reduced = self.costs * _FINE
        np.subtract.at(reduced, self.columns, self.prices[:, None] * self.signs)
        bound = int(self.prices @ self.limits) + int(np.maximum(reduced * self.upper, reduced * self.lower).sum())
        return bound, reduced

    def relation(self, values: np.ndarray) -> np.ndarray:
        """Returns the matrix ``[n, n]`` of the degrees to which i is before j."""
        self._relation[self.rows_at, self.columns_at] = values
        self._relation[self.columns_at, self.rows_at] = 1.0 - values
        return self._relation

    def cut(self, relation: np.ndarray) -> bool:
        """Adds the most violated 3-cycle inequalities. Returns whether there were any."""
        count = violated_cycles(relation, _TOLERANCE, self._cycles, self._amounts)
        worst = np.argsort(-self._amounts[:count], kind="stable")[:_ROWS_PER_ROUND]
        cycles = self._cycles[worst]
        # x(i, j) + x(j, k) + x(k, i) <= 2, where x(b, a) with b > a is written as 1 - x(a, b).
        after = np.roll(cycles, -1, axis=1)
        columns, signs = self.index[cycles, after], np.where(cycles < after, 1, -1)
        limits = 2 - (signs < 0).sum(axis=1)
        if count:
            self._add(columns, signs, limits)
        return bool(count)

    def _add(self, columns: np.ndarray, signs: np.ndarray, limits: np.ndarray) -> None:
        many = len(limits)
        starts = np.arange(0, 3 * many, 3, dtype=np.int32)
        below = np.full(many, -highspy.kHighsInf)
        values = signs.ravel().astype(float)
        self._model.addRows(many, below, limits.astype(float), 3 * many, starts, columns.ravel(), values)
        self.columns, self.signs = np.concatenate([self.columns, columns]), np.concatenate([self.signs, signs])
        self.limits = np.concatenate([self.limits, limits])

    def drop_slack(self) -> None:
        """Removes the inequalities that were slack in the last solution."""
        slack = np.nonzero(self._slack)[0]
        if len(slack):
            self._model.deleteRows(len(slack), slack.astype(np.int32))
            keep = ~self._slack
            self.columns, self.signs, self.limits = self.columns[keep], self.signs[keep], self.limits[keep]

    def confine(self, lower: np.ndarray, upper: np.ndarray) -> None:
        """Sets the variables' bounds, and scales the costs to the free variables."""
        self.lower, self.upper = lower, upper
        self._model.changeColsBounds(self.size, self._every, lower.astype(float), upper.astype(float))
        free = lower < upper
        unit = float(np.abs(self.costs[free]).max(initial=1))
        if not self.unit / 8 < unit <= self.unit:
            self.unit = unit
            # Fixed variables with larger costs would only disturb HiGHS.
            costs = np.clip(-self.costs / unit, -1.0, 1.0)
            self._model.changeColsCost(self.size, self._every, costs)


class _Search:
    """Depth-first branch and bound on one program. An order's value is its sum of differences above the diagonal."""

    def __init__(self, differences: np.ndarray, matrix: np.ndarray, step: int, effort: float, deadline: float):
        n = len(differences)
        self.matrix, self.step = matrix, step
        self.effort, self.deadline = effort, deadline
        self.program = _Program(differences)
        self.best = _Best(np.arange(n, dtype=np.int32), int(self.program.costs.sum()))
        self.most = int(np.abs(self.program.costs).sum())
        self.excluded = -self.most * _FINE

    def close(self, bound: int) -> bool:
        """Returns True if an upper bound, in 1/1024 units, excludes orders better than the best one by a step.

        ``excluded`` is the largest bound of what was excluded so far.
        """
        closed = bound < (self.best.value + self.step) * _FINE
        if closed:
            self.excluded = max(self.excluded, bound)
        return closed

    def spent(self) -> bool:
        """Returns True if the effort or the time is used up."""
        return self.program.effort >= self.effort or time.monotonic() >= self.deadline

    def _round(self, relation: np.ndarray) -> None:
        """Rounds a fractional relation to an order by row sums, improves it, and keeps it if it is the best."""
        n = len(relation)
        score = relation.sum(axis=1)
        order = np.argsort(-score, kind="stable").astype(np.int32)
        places = np.empty(n, np.int32)
        places[order] = np.arange(n, dtype=np.int32)
        descend(self.matrix, order, places, np.ones(n, np.bool_), 100 * n * n, np.zeros(1, np.uint8))
        before = places[self.program.rows_at] < places[self.program.columns_at]
        self._keep(order, int(self.program.costs[before].sum()))

    def _keep(self, order: np.ndarray, value: int) -> None:
        """Keeps an order if it is the best."""
        if value > self.best.value:
            self.best = _Best(order, value)

    def _fix(self, bound: int, reduced: np.ndarray) -> bool:
        """Fixes every free variable of the node whose other value would close it, and what follows by transitivity.

        Pairs fixed without contradiction extend to an order, so a program within their bounds is always feasible.

        Returns:
          Whether an order better than the best one can remain: False if the fixed pairs contradict each other.
        """
        program = self.program
        lower, upper = program.lower, program.upper
        free = lower < upper
        margin = (self.best.value + self.step) * _FINE
        # Reduced-cost fixing: the bound falls by the reduced cost where a variable takes its other value.
        up = free & (reduced > 0) & (bound - reduced < margin)
        down = free & (reduced < 0) & (bound + reduced < margin)
        for flipped in (bound - reduced[up], bound + reduced[down]):
            self.excluded = max(self.excluded, int(flipped.max(initial=self.excluded)))
        n = len(self.matrix)
        before = np.zeros((n, n), np.bool_)
        at, after = program.rows_at, program.columns_at
        stays, turns = (lower == 1) | up, (upper == 0) | down
        before[at[stays], after[stays]] = True
        before[after[turns], at[turns]] = True
        for k in range(n):
            before |= before[:, k : k + 1] & before[k]
        if before.diagonal().any():
            return False
        program.confine(before[at, after].astype(np.int64), 1 - before[after, at].astype(np.int64))
        return True

    def node(self, lower: np.ndarray, upper: np.ndarray, bound: int) -> tuple[int, np.ndarray | None]:
        """Solves a node, adding cuts while they are violated.

        Returns:
          (upper bound in 1/1024 units, solution to branch on). The solution is None if the node is closed or a limit is
          reached. The bounds of its variables are those of the program.
        """
        program, dropped = self.program, bound + self.most * _FINE  # the first time, slack inequalities go in any case
        program.confine(lower, upper)
        program.prices = np.zeros(len(program.limits), np.int64)
        new, reduced = program.bound()
        bound = min(bound, new)
        if self.close(bound) or not self._fix(new, reduced):
            return self.best.value * _FINE, None
        while True:
            values = program.solve(self.effort, self.deadline)
            new, reduced = program.bound()
            bound = min(bound, new)
            relation = program.relation(values)
            self._round(relation)
            if self.close(bound):
                return bound, None
            if not self._fix(new, reduced):
                return self.best.value * _FINE, None
            if self.spent():
                return bound, None
            # Slack inequalities may go only when the bound has fallen, or they could return for ever.
            if bound < dropped - self.most * _FINE // 10**10:
                program.drop_slack()
                dropped = bound
            if not program.cut(relation):
                return bound, values

    def run(self) -> int:
        """Returns the upper bound on all orders in 1/1024 units; ``best`` has the best order."""
        program = self.program
        open_nodes = [(self.most * _FINE, program.lower, program.upper)]
        while open_nodes:
            bound, lower, upper = open_nodes.pop()
            if self.close(bound):
                continue
            bound, values = self.node(lower, upper, bound)
            if self.close(bound):
                continue
            lower, upper = program.lower, program.upper
            if values is None:
                open_nodes.append((bound, lower, upper))
                break
            # Branch on the most fractional variable, preferring large costs; the likelier value is searched first.
            free = np.nonzero(lower < upper)[0]
            if not len(free):
                # One order is left.
                order = np.argsort(-program.relation(lower).sum(axis=1), kind="stable").astype(np.int32)
                self._keep(order, int(program.costs @ lower))
                continue
            size = np.abs(program.costs[free])
            distance = np.abs(values[free] - 0.5) - 1e-4 * size / program.unit
            if np.abs(values[free] - 0.5).min() > 0.5 - _TOLERANCE:
                # The solution looks integral and its bound is still above the best order: HiGHS's tolerances hide
                # something. The largest difference that is undecided hides most.
                distance = -size
            pair = int(free[np.argmin(distance)])
            first = values[pair] >= 0.5
            for up in (not first, first):
                low, high = lower.copy(), upper.copy()
                low[pair], high[pair] = (1, high[pair]) if up else (low[pair], 0)
                open_nodes.append((bound, low, high))
        return max([self.best.value * _FINE, *(bound for bound, _, _ in open_nodes)])


def branch_and_cut(
    differences: np.ndarray, matrix: np.ndarray, *, step: int, effort: float, deadline: float
) -> tuple[np.ndarray, int, bool]:
    """Improves the identity order and bounds all orders; proves optimality if the effort suffices.

    Args:
      differences: ``[n, n]`` float64, antisymmetric integers whose sizes above the diagonal sum to at most ``2**48``,
        in the numbering of a good order, not all zero.
      matrix: ``[n, n]`` int32, the scaled differences, for the local search.
      step: orders better by less than this count as equal. A divisor of all differences gives an exact result.
      effort: limit on the work of the simplex iterations, in nominal matrix entries read. It is counted, not timed.
      deadline: end, as a value of ``time.monotonic()``.

    Returns:
      (best order found ``[n]``, lower bound on the loss of every order in units, whether no order is better by ``step``
      or more).
    """
    search = _Search(differences, matrix, step, effort, deadline)
    bound = search.run()
    proven = search.close(bound)
    best, costs = search.best.value, search.program.costs
    ahead = max(0, (search.excluded if proven else max(bound, search.excluded)) // _FINE - best)
    if not (costs % step).any():
        ahead -= ahead % step  # values differ by multiples of the step
    return search.best.order, max(0, int(np.maximum(costs, 0).sum()) - best - ahead), proven
