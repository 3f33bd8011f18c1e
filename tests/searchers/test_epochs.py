"""What runs on learning curves cost, and when what they would return counts: against brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.searchers.epochs import bill

from .test_halving import leader

NOTHING = np.zeros(0)


def test_a_bill_by_hand() -> None:
    """Trainings of nine epochs: the leader counts once the rest of its training fits into whole queries, too."""
    steps = [(4, 1), (7, 1), (2, 1), (7, 3), (7, 9), (5, 1), (2, 3)]
    values = [0.1, 0.3, 0.2, 0.4, 0.5, 0.9, 0.8]
    found = bill(steps, values, epochs=9, queries=3, costs=NOTHING)
    # 4 leads after 1 epoch, and needs 8 more: 9 of 9. 7 leads after 2: 10 of 18. It is trained to the end after 11.
    assert found.rows.tolist() == [4, 7]
    assert (found.epochs, found.whole, found.begun, found.spent) == (14, [7], 4, 0.0)
    assert bill(steps[:2], values[:2], epochs=9, queries=1, costs=NOTHING).rows.tolist() == [4]
    # Without a whole training, the last one that counts is trained to the end.
    short = bill(steps[:4], values[:4], epochs=9, queries=2, costs=NOTHING)
    assert (short.rows.tolist(), short.whole, short.epochs) == ([4, 7], [7], 11)


def test_seconds_by_hand() -> None:
    """An epoch takes a ninth of the training's seconds."""
    steps, values, costs = [(0, 1), (1, 1), (1, 9), (2, 1)], [0.1, 0.2, 0.3, 0.4], np.array([90.0, 9.0, 18.0])
    found = bill(steps, values, epochs=9, queries=3, costs=costs)
    assert found.rows.tolist() == [0, 1]
    # 1 would be done after 10 + 9 seconds, but 0, which leads until then, only after 90.
    assert found.seconds.tolist() == [90.0, 90.0]
    assert found.spent == 90.0
    cut = bill(steps, values, epochs=9, queries=3, costs=costs, limit=89.0)
    assert (cut.rows.tolist(), cut.spent, cut.epochs, cut.begun) == ([], 21.0, 11, 3)
    cheap = bill(steps, values, epochs=9, queries=3, costs=costs[[1, 1, 1]], limit=10.5)
    assert (cheap.rows.tolist(), cheap.spent, cheap.epochs, cheap.begun) == ([0, 1], 10.0, 10, 2)
    nothing = bill(steps, values, epochs=9, queries=3, costs=costs, limit=1.0)
    assert (nothing.rows.tolist(), nothing.spent, nothing.epochs, nothing.whole) == ([], 0.0, 0, [])


@settings(max_examples=60)
@given(seed=st.integers(0, 2**20), epochs=st.integers(1, 12), queries=st.integers(1, 8), failed=st.booleans())
def test_a_run_stands_for_what_it_would_return_if_the_budget_ended(
    seed: int, epochs: int, queries: int, failed: bool
) -> None:
    """Any steps within a budget, not only those of a searcher."""
    rng = np.random.default_rng(seed)
    curves, reached, steps, spent = rng.normal(size=(9, epochs)), np.zeros(9, int), [], 0
    if failed:
        curves[rng.random((9, epochs)) < 0.3] = -np.inf
    for row in rng.integers(0, 9, 40).tolist():
        if reached[row] < epochs:
            until = int(rng.integers(reached[row] + 1, epochs + 1))
            if spent + until - reached[row] <= queries * epochs:
                spent += until - reached[row]
                reached[row] = until
                steps.append((row, until))
    values = [float(curves[row, until - 1]) for row, until in steps]
    found = bill(steps, values, epochs=epochs, queries=queries, costs=NOTHING)
    assert spent <= found.epochs <= queries * epochs
    assert len(found.rows) == math.ceil(found.epochs / epochs)
    assert found.begun == len({row for row, _ in steps})
    assert len(found.whole) <= queries
    # After each number of queries: the longest beginning of the run that leaves enough to train its leader to the end.
    for query, row in enumerate(found.rows.tolist(), start=1):
        returned = None
        reached[:], spent = 0, 0
        for place, (own, until) in enumerate(steps, start=1):
            spent += until - reached[own]
            reached[own] = until
            leads = leader(steps[:place], curves, spent)
            at = next(count for step, count in reversed(steps[:place]) if step == leads)
            if failed and at < epochs:
                at = max(
                    (count for step, count in steps[:place] if step == leads and np.isfinite(curves[leads, count - 1])),
                    default=at,
                )
            if spent + epochs - at <= query * epochs:
                returned = leads
        assert row == returned


@pytest.mark.parametrize("queries", [1, 3])
def test_nothing_was_trained(queries: int) -> None:
    found = bill([], [], epochs=9, queries=queries, costs=NOTHING)
    assert (found.rows.size, found.epochs, found.spent, found.whole, found.begun) == (0, 0, 0.0, [], 0)
