"""Columns that give another one away: copies in any unit, rounded, turned around; and columns that do not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp_jax.benchmarks.copies import _log_chance, is_copy

TARGET = np.random.default_rng(0).normal(70, 5, 60).astype(np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x / 100,
        lambda x: 100 - x,
        lambda x: -x,
        lambda x: np.log(x),
        lambda x: x**3,
        lambda x: np.exp(-x),
        lambda x: np.round(x),
        lambda x: np.round(x / 4) * 4,
        lambda x: np.argsort(np.argsort(x)),
        lambda x: (x > np.median(x)).astype(float),
        lambda x: np.tanh((x - 70) / 3),
    ],
)
def test_copies_are_recognised(change: Callable[[np.ndarray], np.ndarray]) -> None:
    copy = np.asarray(change(TARGET.astype(np.float64)), np.float32)
    assert is_copy(copy, TARGET)
    assert is_copy(TARGET, copy)
    assert is_copy(copy, np.round(TARGET, 1))


def test_other_columns_are_not() -> None:
    rng = np.random.default_rng(1)
    assert not is_copy(rng.normal(size=60), TARGET)
    assert not is_copy(TARGET + rng.normal(0, 1, 60), TARGET)
    swapped = TARGET.copy()
    order = np.argsort(TARGET)
    swapped[order[[3, 40]]] = swapped[order[[40, 3]]]
    assert not is_copy(swapped, TARGET)
    assert not is_copy(np.full(60, 3.0), TARGET)  # it says nothing
    assert not is_copy((np.arange(60) == TARGET.argmax()).astype(float), TARGET)  # one row in sixty may be chance


@pytest.mark.parametrize("rows", [0, 1, 2, 5])
def test_a_few_rows_that_agree_may_do_so_by_chance(rows: int) -> None:
    assert not is_copy(np.arange(rows) / 10, np.arange(rows))
    assert is_copy(np.arange(rows), np.arange(rows)) == (rows > 1)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=6), st.lists(st.integers(0, 3), min_size=6, max_size=6))
def test_the_chance_is_that_of_all_orders(target: list[int], column: list[int]) -> None:
    column = column[: len(target)]

    def agrees(values: tuple[int, ...]) -> bool:
        signs = {
            np.sign((a - b) * (c - d)) for (a, c), (b, d) in itertools.combinations(zip(values, target, strict=True), 2)
        }
        return not {-1, 1} <= signs

    orders = list(itertools.permutations(column))
    share = sum(map(agrees, orders)) / len(orders)
    chance = math.exp(_log_chance(np.array(column), np.array(target)))
    # Orders that neither agree strictly nor are opposed are counted twice.
    assert share <= chance * (1 + 1e-9)
    assert chance <= 2 * share * (1 + 1e-9)
