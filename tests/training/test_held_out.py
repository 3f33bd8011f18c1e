"""Errors on rows that networks have not learned from."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest

from ncp_jax import load_table
from ncp_jax.benchmarks import Table
from ncp_jax.checks import UsageError
from ncp_jax.training import held_out, held_out_errors


@pytest.fixture
def masks(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Masks of the rows that are learned. Fold i predicts i of everything, with spread 0.5."""
    seen: list[np.ndarray] = []

    def fit_many(table: Table, train: np.ndarray, **_: Any) -> Any:
        seen.append(train)

        def predictor(runs: list[int]) -> Any:
            fold = np.full((len(table), len(table.metrics)), float(runs[0] // 2))
            return types.SimpleNamespace(metrics=table.metrics, in_stored_units=lambda _: (fold, 0 * fold + 0.5))

        return types.SimpleNamespace(predictor=predictor)

    monkeypatch.setattr(held_out, "fit_many", fit_many)
    return seen


def test_each_row_is_judged_by_networks_that_have_not_seen_it(masks: list[np.ndarray]) -> None:
    table = load_table("digits/class").select(np.arange(50))
    errors = held_out_errors(table, members=2, key=0)
    (train,) = masks
    assert train.shape == (6, 50)
    np.testing.assert_array_equal(train[::2], train[1::2])
    np.testing.assert_array_equal((~train[::2]).sum(axis=0), 1)  # each row once
    assert set((~train).sum(axis=1).tolist()) == {16, 17}
    fold = (~train[::2]).argmax(axis=0)
    for name, error in errors.items():
        difference = table.measured(name) - fold
        assert error.rows == 50
        assert error.rmse == pytest.approx(np.sqrt((difference**2).mean()))
        assert error.base == pytest.approx(np.sqrt(error.rmse**2 - 0.25))


def test_a_part_of_the_folds_and_repeated_architectures(masks: list[np.ndarray]) -> None:
    table = load_table("digits/class").select(np.arange(12))
    twice = Table.from_arrays(
        "twice",
        space=table.space,
        codes=np.repeat(np.asarray(table.codes), 2, axis=0),
        values=np.arange(24.0)[:, None],
        metrics=table.metrics[:1],
        repeats=True,
    )
    (error,) = held_out_errors(twice, parts=1, members=2, key=0).values()
    assert error.rows == 8
    np.testing.assert_array_equal(masks[0][:, ::2], masks[0][:, 1::2])
    with pytest.raises(UsageError, match=r"expected parts to be an integer in 1\.\.3, got 4"):
        held_out_errors(twice, parts=4, key=0)
    with pytest.raises(UsageError, match="expected at least 9 rows to hold out, got 8"):
        held_out_errors(table.select(np.arange(8)), key=0)
