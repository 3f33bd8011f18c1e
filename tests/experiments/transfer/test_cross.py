"""Labels saved, the aim at 50 labels, and inversions with given labels, against hand-made numbers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from harness.scoring import fit_evaluator
from harness.tables import joint_table
from transfer import cross_matrix
from transfer.cross_matrix import judged_matrix
from transfer.cross_study import aim, labels_saved, matrix_json
from transfer.pairs import Found

from ncp_jax.benchmarks.catalogue import DIGITS_TASKS
from ncp_jax.training import get_recipe

LABELS = (10, 100, 1000)


def found(*ranks: int) -> Found:
    return Found([list(LABELS)] * 2, [list(ranks)] * 2)


def test_labels_saved_by_hand() -> None:
    scratch = {"b": {"none": found(1000, 100, 10)}}
    scheme = {"b": {"a": found(100, 10, 1), "c": found(1000, 1000, 10), "all": found(10_000, 316, 5)}}
    saved = labels_saved(scheme, scratch, LABELS)
    # The mean over the sources is half way between 10 and 1000 at 100 labels.
    assert saved["one"] == {"10": pytest.approx(10 * math.sqrt(10)), "100": pytest.approx(100), "1000": None}
    assert saved["all"]["10"] == 10
    assert saved["all"]["100"] == pytest.approx(10 ** (1 + 3 - math.log10(316)), rel=1e-3)
    assert saved["all"]["1000"] is None


@pytest.mark.parametrize(("better", "worse", "reached"), [(5, 0, True), (7, 0, True), (4, 0, False), (6, 1, False)])
def test_the_aim_is_five_of_seven_better_and_none_worse(better: int, worse: int, reached: bool) -> None:
    compared = {
        str(count): {"all": {"pairs": [{}] * 7, "better": better * (count == 50), "worse": worse}}
        for count in (10, 50, 100)
    }
    assert aim(compared, (10, 50, 100)) == {"labels": 50, "better": better, "worse": worse, "reached": reached}


def test_without_fewer_labels_than_the_aim_has_the_fewest_count() -> None:
    compared = {str(count): {"one": {"pairs": [{}] * 2, "better": 2, "worse": 0}} for count in (100, 200)}
    assert aim(compared, (100, 200)) == {"labels": 100, "better": 2, "worse": 0, "reached": True}


def test_a_matrix_with_intervals() -> None:
    found = matrix_json({"a": {"a": [1.0, 3.0], "b": [50.0, 50.0]}, "b": {"a": [0.0, 0.0], "b": [0.5, 0.5]}})
    assert found["tasks"] == ["a", "b"]
    assert found["percentile"]["a"]["a"]["mean"] == 2
    assert found["percentile"]["a"]["b"] == {"mean": 50, "low": 50, "high": 50, "n": 2}
    assert np.isclose(found["percentile"]["a"]["a"]["low"], 0)  # cut at the least percentage


def test_codes_of_every_task_are_scored_on_every_task_by_an_ensemble() -> None:
    """Where the evaluator itself is inverted, hardly any code of the table is better on the task that was searched."""
    table = joint_table(DIGITS_TASKS[:2]).select(np.arange(0, 1900, 10))
    recipe = dataclasses.replace(get_recipe("ensemble"), widths=(8, 8), epochs=2, min_steps=0, decay_rows=0)
    sizes = {"members": 1, "codes": 256, "steps": 40}
    matrix = judged_matrix(table, 0, recipe=recipe, **sizes)
    tasks = list(DIGITS_TASKS[:2])
    assert list(matrix) == tasks
    assert all(list(row) == tasks for row in matrix.values())
    assert all(0 <= value <= 100 for row in matrix.values() for value in row.values())
    with pytest.MonkeyPatch.context() as patch:
        evaluator = fit_evaluator(table, seed=1, recipe=recipe, members=1)
        patch.setattr(cross_matrix, "fit_pair", lambda *_, **__: (evaluator.predictor, evaluator))
        own = judged_matrix(table, 0, recipe=recipe, **sizes)
    assert max(own[task][task] for task in tasks) < 5
