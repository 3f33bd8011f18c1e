"""A run sees the epochs that it has paid for, and pays for each once."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from ncp_jax import checks
from ncp_jax.benchmarks import BudgetExceeded
from ncp_jax.benchmarks.epoch_guard import EpochGuard

CURVES = np.array([[1.0, 2.0, 3.0], [4.0, np.nan, np.nan]])


def make(budget: int = 5) -> EpochGuard:
    return EpochGuard(CURVES, codes=np.zeros((2, 6), int), space="transnas-micro", budget=budget)


def test_each_epoch_is_paid_once() -> None:
    guard = make()
    assert (guard.space, guard.codes.shape, guard.epochs, guard.budget) == ("transnas-micro", (2, 6), 3, 5)
    np.testing.assert_array_equal(guard.train(0, 2), [1, 2])
    np.testing.assert_array_equal(guard.train(0, 1), [1])
    assert guard.remaining == 3
    np.testing.assert_array_equal(guard.train(0, 3), [1, 2, 3])
    np.testing.assert_array_equal(guard.train(1, 2), [4, -np.inf])
    assert (guard.remaining, guard.steps) == (0, [(0, 2), (0, 3), (1, 2)])
    np.testing.assert_array_equal(guard.train(0, 3), [1, 2, 3])
    guard.steps.clear()
    guard.train(0, 3)[:] = 0
    assert guard.steps == [(0, 2), (0, 3), (1, 2)]
    np.testing.assert_array_equal(guard.train(0, 3), [1, 2, 3])


def test_what_does_not_fit_reveals_and_counts_nothing() -> None:
    guard = make(budget=4)
    guard.train(0, 2)
    with pytest.raises(BudgetExceeded, match=r"expected at most 2 more epochs \(budget 4\), got 3; see remaining"):
        guard.train(1, 3)
    assert (guard.remaining, guard.steps) == (2, [(0, 2)])
    assert repr(guard) == "EpochGuard('transnas-micro', 2 rows, paid 2 of 4 epochs)"


def test_refusals() -> None:
    with pytest.raises(checks.UsageError, match="expected budget to be an integer 1 or more, got 0; it is in epochs"):
        make(budget=0)
    guard = make()
    with pytest.raises(checks.UsageError, match=r"expected row to be an integer in 0\.\.1, got -1"):
        guard.train(-1, 1)
    for epochs in (0, 4):
        with pytest.raises(checks.UsageError, match=rf"epochs to be an integer in 1\.\.3, got {epochs}; a whole tr"):
            guard.train(0, epochs)
    for reveal in (copy.copy, pickle.dumps):
        with pytest.raises(checks.UsageError, match="expected a guard to stay where it was made"):
            reveal(guard)
    with pytest.raises(ValueError, match="read-only"):
        guard.codes[0] = 1
    assert guard.steps == []
