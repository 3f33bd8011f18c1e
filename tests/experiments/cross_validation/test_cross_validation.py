"""Cross-validation: folds, held-out rows, checkpoints."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from cross_validation import cross_validation
from cross_validation.cross_validation import cross_validate, fold_masks

from ncp_jax import Recipe, Table
from ncp_jax.benchmarks.table import main_metrics
from ncp_jax.checks import UsageError


@pytest.mark.parametrize(("rows", "folds"), [(10, 5), (11, 3), (7, 2), (200, 5)])
def test_folds_are_disjoint_and_cover(rows: int, folds: int) -> None:
    masks = fold_masks(rows, folds, seed=3)
    assert masks.shape == (folds, rows)
    np.testing.assert_array_equal((~masks).sum(axis=0), 1)
    sizes = (~masks).sum(axis=1)
    assert sizes.max() - sizes.min() <= 1
    np.testing.assert_array_equal(masks, fold_masks(rows, folds, seed=3))
    assert (masks != fold_masks(rows, folds, seed=4)).any()
    # Drawn at random: the first fold is not the first rows.
    assert rows < 11 or (np.flatnonzero(~masks[0]) != np.arange(sizes[0])).any()


@pytest.mark.parametrize("folds", [1, 0, 6])
def test_too_few_or_too_many_folds(folds: int) -> None:
    with pytest.raises(UsageError, match=f"expected 2 to 5 folds, got {folds}; try 5"):
        fold_masks(10, folds, seed=0)


def test_the_main_metric_of_each_task(tiny_table: Table) -> None:
    assert [m.name for m in main_metrics(tiny_table, ["b", "a"])] == ["b/top1", "a/top1"]


def test_unseen_rows_are_unseen(tiny_table: Table, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be learned is ranked well; pure noise is not, as it would be if its rows had been trained on."""
    seen = []
    fit_many = cross_validation.fit_many
    monkeypatch.setattr(
        cross_validation, "fit_many", lambda t, train, **k: seen.append(train) or fit_many(t, train, **k)
    )
    found = cross_validate(tiny_table, tiny_recipe, folds=2, joint=True, seed=1)
    np.testing.assert_array_equal(seen[0], fold_masks(200, 2, seed=1))
    assert found.tau["a"] > 0.7
    assert abs(found.tau["b"]) < 0.2
    assert {len(taus) for taus in found.tau_folds.values()} == {2}
    assert found.tau["a"] == pytest.approx(np.mean(found.tau_folds["a"]))
    assert found.tau_single == pytest.approx(found.tau), "one member is the ensemble"
    assert (found.networks, found.predictors) == (2, 4)
    again = cross_validate(tiny_table, tiny_recipe, folds=2, joint=True, seed=1)
    assert again.tau_folds == found.tau_folds


def test_checkpoints_are_of_one_training(tiny_table: Table, tiny_recipe: Recipe, tmp_path: Path) -> None:
    options = {"folds": 2, "joint": True, "checkpoint": tmp_path}
    first = cross_validate(tiny_table, tiny_recipe, seed=1, **options)
    assert cross_validate(tiny_table, tiny_recipe, seed=1, **options).tau_folds == first.tau_folds
    with pytest.raises(UsageError, match="expected checkpoints of this training"):
        cross_validate(tiny_table, dataclasses.replace(tiny_recipe, learning_rate=2e-2), seed=1, **options)
