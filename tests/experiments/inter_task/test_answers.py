"""Questions and their answers: the best code for each, no budget exceeded."""

from __future__ import annotations

import numpy as np
import pytest
from inter_task.answers import Answers
from inter_task.methods import ranks_and_crowding
from inter_task.problem import Questions

from ncp_jax.analysis.hypervolume import non_dominated
from ncp_jax.checks import UsageError


def test_weightings_begin_with_the_single_tasks() -> None:
    questions = Questions.make(3, 50, np.array([2.0, 1.0]))
    assert questions.weights.sum(axis=1) == pytest.approx(1)
    assert (questions.weights >= 0).all()
    assert (questions.weights[:3] == np.eye(3)).all()
    assert questions.budgets.tolist() == [1.0, 2.0]
    with pytest.raises(UsageError, match="--weights"):
        Questions.make(3, 2, np.array([1.0]))


def test_answers_are_the_best_of_all_reports() -> None:
    rng = np.random.default_rng(0)
    questions = Questions.make(4, 30, np.array([0.2, 0.5, 0.9]))
    answers = Answers(questions, 2)
    codes, metrics = rng.integers(0, 99, (200, 2)), rng.normal(size=(200, 4)).astype(np.float32)
    gflops = rng.random(200).astype(np.float32)
    for part in np.array_split(np.arange(200), 7):
        answers.report(codes[part], metrics[part], gflops[part])
    scores = metrics @ questions.weights.T
    for b, budget in enumerate(questions.budgets):
        allowed = np.where((gflops <= budget * (1 - 1e-5))[:, None], scores, -np.inf)
        assert answers.value[b] == pytest.approx(allowed.max(axis=0))
        assert (answers.codes[b] == codes[allowed.argmax(axis=0)]).all()
    assert answers.scored == 200
    assert answers.answered.all()
    assert (np.diff(answers.value, axis=0) >= 0).all()


def test_a_budget_that_nothing_meets_has_no_answer() -> None:
    answers = Answers(Questions.make(2, 2, np.array([1.0, 3.0])), 1)
    answers.report(np.array([[7]]), np.zeros((1, 2), np.float32), np.array([2.0]))
    assert answers.answered.tolist() == [[False, False], [True, True]]
    assert answers.distinct().tolist() == [[7]]


def test_the_first_front_is_what_nothing_dominates() -> None:
    points = np.random.default_rng(1).integers(0, 5, (60, 3)).astype(float)
    rank, crowding = ranks_and_crowding(points)
    assert ((rank == 0) == non_dominated(points)).all()
    left = points[rank > 0]
    assert ((rank[rank > 0] == 1) == non_dominated(left)).all()
    assert (crowding >= 0).all()


def test_crowding_by_hand() -> None:
    _, crowding = ranks_and_crowding(np.array([[0.0, 4.0], [1.0, 2.0], [3.0, 1.0], [4.0, 0.0]]))
    assert crowding.tolist() == [np.inf, 3 / 4 + 3 / 4, 3 / 4 + 2 / 4, np.inf]
