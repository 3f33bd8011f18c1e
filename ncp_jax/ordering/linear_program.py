"""Finds exact orders by branch and cut: a linear program with violated 3-cycle inequalities added, and branching.

Source: Grötschel, Jünger & Reinelt, "A cutting plane algorithm for the linear ordering problem" (1984), here with
3-cycle inequalities only. HiGHS keeps its model and its basis from one solve to the next.
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
_ITERATION = 15  # work of a simplex iteration on one row or column of the model, in matrix entries read


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
      value: sum of the differences over all pairs in order.
    """

    order: np.ndarray
    value: float


class _Program:
    """The linear program, in the numbering of a start order. Variable (i, j) with i < j is 1 if i stays before j.

    Costs are scaled to at most 1. The bound is computed from the row duals, as any multipliers >= 0 give a valid bound;
    it does not depend on the solver's tolerances.
    """

    def __init__(self, differences: np.ndarray) -> None:
        n = len(differences)
        self.rows_at, self.columns_at = np.triu_indices(n, 1)
        self.size = len(self.rows_at)
        self.index = np.zeros((n, n), np.int32)
        self.index[self.rows_at, self.columns_at] = np.arange(self.size)
        self.index += self.index.T
        self.costs = differences[self.rows_at, self.columns_at]
        self.unit = float(np.abs(self.costs).max())
        self.lower, self.upper = np.zeros(self.size), np.ones(self.size)
        self.columns, self.signs = np.empty((0, 3), np.int32), np.empty((0, 3))
        self.limits = np.empty(0)
        self.effort = 0.0
        self._cycles, self._amounts = np.empty((200_000, 3), np.int32), np.empty(200_000)
        self._relation = np.zeros((n, n))
        self._model = _silent_model()
        for name, value in (("output_flag", False), ("threads", 1), ("presolve", "off"), ("random_seed", 0)):
            self._model.setOptionValue(name, value)
        self._model.addVars(self.size, self.lower, self.upper)
        every = np.arange(self.size, dtype=np.int32)
        self._model.changeColsCost(self.size, every, -self.costs / self.unit)
        self._every = every

    def solve(self, effort: float, deadline: float) -> tuple[np.ndarray, np.ndarray, float]:
        """Solves the program with its present inequalities, within the limits on effort and time.

        Returns:
          (solution, reduced costs, upper bound on the value of an order). The bound is -inf if the variables' bounds
          exclude every order.
        """
        left = max(0.0, deadline - time.monotonic())
        self._model.setOptionValue("time_limit", self._model.getRunTime() + left)
        size = self.size + len(self.limits)
        iterations = max(1, int(max(0.0, effort - self.effort) / (_ITERATION * size)))
        self._model.setOptionValue("simplex_iteration_limit", min(iterations, 2**31 - 1))
        self._model.run()
        info, solution = self._model.getInfo(), self._model.getSolution()
        self.effort += _ITERATION * max(1, info.simplex_iteration_count) * size
        # Lagrangian bound: price the inequalities by their duals, and choose each variable by its reduced cost.
        prices = np.maximum(0.0, -np.array(solution.row_dual)) * self.unit
        reduced = self.costs.copy()
        np.subtract.at(reduced, self.columns, prices[:, None] * self.signs)
        bound = float(prices @ self.limits + np.maximum(reduced * self.upper, reduced * self.lower).sum())
        if self._model.getModelStatus() == highspy.HighsModelStatus.kInfeasible:
            bound = -np.inf
        self._slack = (prices == 0) & (self.limits - np.array(solution.row_value) > _TOLERANCE)
        return np.clip(solution.col_value, 0.0, 1.0), reduced, bound

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
        columns, signs = self.index[cycles, after], np.where(cycles < after, 1.0, -1.0)
        limits = 2.0 - (signs < 0).sum(axis=1)
        if count:
            self._add(columns, signs, limits)
        return bool(count)

    def _add(self, columns: np.ndarray, signs: np.ndarray, limits: np.ndarray) -> None:
        many = len(limits)
        starts = np.arange(0, 3 * many, 3, dtype=np.int32)
        below = np.full(many, -highspy.kHighsInf)
        self._model.addRows(many, below, limits, 3 * many, starts, columns.ravel(), signs.ravel())
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
        """Sets the variables' bounds."""
        self.lower, self.upper = lower, upper
        self._model.changeColsBounds(self.size, self._every, lower, upper)


class _Search:
    """Depth-first branch and bound on one program. An order's value is its sum of differences above the diagonal."""

    def __init__(self, differences: np.ndarray, matrix: np.ndarray, step: float, effort: float, deadline: float):
        n = len(differences)
        self.matrix, self.step = matrix, step
        self.effort, self.deadline = effort, deadline
        self.program = _Program(differences)
        self.best = _Best(np.arange(n, dtype=np.int32), float(self.program.costs.sum()))
        self.tolerance = 1e-10 * float(np.abs(self.program.costs).sum())
        self.lower, self.upper = np.zeros(self.program.size), np.ones(self.program.size)

    def closed(self, bound: float) -> bool:
        """Returns True if an upper bound excludes orders better than the best one."""
        return bound < self.best.value + max(self.step, 2 * self.tolerance) - self.tolerance

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
        value = float(self.program.costs[before].sum())
        if value > self.best.value + self.tolerance:
            self.best = _Best(order, value)

    def node(self, lower: np.ndarray, upper: np.ndarray, bound: float) -> tuple[float, np.ndarray | None]:
        """Solves a node, adding cuts while they are violated.

        Returns:
          (upper bound, solution to branch on). The solution is None if the node is closed or a limit is reached.
        """
        program, dropped = self.program, np.inf
        program.confine(lower, upper)
        while True:
            values, reduced, new = program.solve(self.effort, self.deadline)
            bound = min(bound, new)
            relation = program.relation(values)
            self._round(relation)
            if self.closed(bound):
                return bound, None
            if program.lower is self.lower:
                # At the root, fix every variable whose change would cost more than the gap (reduced cost fixing).
                margin = self.best.value + max(self.step, self.tolerance) - self.tolerance
                self.lower[new - reduced < margin] = 1.0
                self.upper[new + reduced < margin] = 0.0
                program.confine(self.lower, self.upper)
            if self.spent():
                return bound, None
            # Slack inequalities may go only when the bound has fallen, or they could return for ever.
            if bound < dropped - self.tolerance:
                program.drop_slack()
                dropped = bound
            if not program.cut(relation):
                return bound, values

    def run(self) -> float:
        """Returns the upper bound on all orders; ``best`` has the best order."""
        open_nodes = [(np.inf, self.lower, self.upper)]
        while open_nodes:
            bound, lower, upper = open_nodes.pop()
            if self.closed(bound):
                continue
            bound, values = self.node(lower, upper, bound)
            if self.closed(bound):
                continue
            if values is None:
                open_nodes.append((bound, lower, upper))
                break
            # Branch on the most fractional variable, preferring large costs; the likelier value is searched first.
            distance = np.abs(values - 0.5) - 1e-4 * np.abs(self.program.costs) / self.program.unit
            pair = int(np.argmin(distance))
            if min(values[pair], 1 - values[pair]) < _TOLERANCE:
                break  # an integral solution without violated cycles is an order, which rounding has found
            first = values[pair] >= 0.5
            for up in (not first, first):
                low, high = lower.copy(), upper.copy()
                low[pair], high[pair] = (1.0, high[pair]) if up else (low[pair], 0.0)
                open_nodes.append((bound, low, high))
        return max([self.best.value, *(bound for bound, _, _ in open_nodes)])


def branch_and_cut(
    differences: np.ndarray, matrix: np.ndarray, *, whole: bool, effort: float, deadline: float
) -> tuple[np.ndarray, float, bool]:
    """Improves the identity order and bounds all orders; proves optimality if the effort suffices.

    Args:
      differences: ``[n, n]`` float64, antisymmetric, in the numbering of a good order, not all zero.
      matrix: ``[n, n]`` int32, the scaled differences, for the local search.
      whole: whether the differences are integers; a gap below 1 then closes a node.
      effort: limit on the work of the simplex iterations, in nominal matrix entries read. It is counted, not timed.
      deadline: end, as a value of ``time.monotonic()``.

    Returns:
      (best order found ``[n]``, lower bound on the loss of every order, proven).
    """
    search = _Search(differences, matrix, 1.0 if whole else 0.0, effort, deadline)
    bound = search.run()
    proven = search.closed(bound)
    best = float(np.maximum(search.program.costs, 0.0).sum())
    value = search.best.value if proven else bound
    return search.best.order, max(0.0, best - value), proven
