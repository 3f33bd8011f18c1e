"""Scores of proposals: standard units, look-up, the evaluator, scores and percentiles, against sums made by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from harness import scoring
from harness.scoring import TOP, Evaluator, ProposalScorer
from proposals.options import benchmark_table

from ncp_jax import MetricSpec, Objective, Table, checks, get_space
from ncp_jax.propagation import Found
from ncp_jax.training import ENSEMBLE

SPACE = get_space("nas-bench-mr")


@dataclasses.dataclass(frozen=True)
class SumOfCode:
    """Stands for an ensemble: the loss of a code is the sum of its integers."""

    space: str = SPACE.name

    def select(self, names: tuple[str, ...]) -> SumOfCode:
        assert names == ("x/loss",)
        return self

    def __call__(self, relaxed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        total = np.asarray(relaxed).sum(axis=1, keepdims=True)
        return total, np.zeros_like(total)


@pytest.fixture(scope="module")
def losses(tiny_table: Table) -> Table:
    """The tiny table with a loss for task "x", lower better, beside the FLOPs and task "a"."""
    codes = np.asarray(tiny_table.codes)
    loss = 3.0 + 0.1 * np.random.default_rng(3).normal(size=len(codes)) + codes.sum(axis=1) / 100
    values = np.column_stack([np.asarray(tiny_table.values), loss])
    metrics = (*tiny_table.metrics, MetricSpec("x/loss", task="x", direction="minimize"))
    return Table.from_arrays("losses", space=SPACE, codes=codes, values=values, metrics=metrics)


@pytest.fixture(scope="module")
def standard(losses: Table) -> Table:
    return scoring.in_standard_units(losses, "x")


def test_standard_units(losses: Table, standard: Table) -> None:
    loss, flops = np.asarray(losses.column("x/loss"), np.float64), np.asarray(losses.column("flops"))
    assert [m.name for m in standard.metrics] == ["quality", "flops"]
    assert [m.direction for m in standard.metrics] == ["maximize", "minimize"]
    np.testing.assert_allclose(
        np.asarray(standard.values)[:, 0], (loss.mean() - loss) / loss.std(), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(np.asarray(standard.values)[:, 1], flops)
    assert scoring.tasks_of(losses) == ("a", "b", "x")
    with pytest.raises(checks.UsageError, match="task"):
        scoring.in_standard_units(losses, "c")


def test_what_was_measured_is_looked_up(standard: Table) -> None:
    rows = np.array([7, 3, 7, 199])
    look_up = scoring.measured_scores(standard)
    np.testing.assert_array_equal(look_up(np.asarray(standard.codes)[rows]), np.asarray(standard.values)[rows, 0])
    absent = np.asarray(standard.codes)[:1].copy()
    absent[0, 0] = next(v for v in SPACE.values[0] if v != absent[0, 0])
    with pytest.raises(checks.UsageError, match="every architecture of its space"):
        look_up(np.concatenate([np.asarray(standard.codes)[:1], absent]))


def test_an_evaluator_predicts_in_the_same_units(losses: Table) -> None:
    loss, codes = np.asarray(losses.column("x/loss"), np.float64), np.asarray(losses.codes)
    evaluator = Evaluator(SumOfCode(), np.zeros(len(losses), bool))  # type: ignore[arg-type]
    predict = scoring.predicted_scores(evaluator, losses, "x")
    np.testing.assert_allclose(predict(codes[:5]), (loss.mean() - codes[:5].sum(axis=1)) / loss.std(), rtol=1e-4)


def found_in(table: Table, rows: np.ndarray, predicted: np.ndarray) -> Found:
    mean = np.asarray(table.values)[rows].copy()
    mean[:, 0] = predicted
    codes, nothing = np.asarray(table.codes)[rows], np.zeros((0, SPACE.length), np.int32)
    return Found(codes, mean, mean, predicted, {}, nothing, table.metrics, table.space, {}, len(rows))


@pytest.mark.parametrize("count", [6, 30])
def test_scores_of_proposals(standard: Table, count: int) -> None:
    goal = Objective(maximize={"quality": 1.0}, minimize={"flops": 0.5})
    scorer = ProposalScorer.create(standard, goal, scoring.measured_scores(standard))
    rng = np.random.default_rng(0)
    rows, predicted = rng.permutation(200)[:count], rng.normal(size=count).astype(np.float32)
    scores = scorer.score_proposals(found_in(standard, rows, predicted))
    quality, flops = np.asarray(standard.values, np.float64).T
    costs = 0.5 * (flops - flops.mean()) / flops.std()
    shown = rows[:TOP]
    np.testing.assert_allclose(scores.true, (quality - costs)[shown], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores.predicted, predicted[:TOP] - costs[shown], rtol=1e-4, atol=1e-4)
    better = [100 * float(np.mean(quality - costs > (quality - costs)[row] + 1e-6)) for row in shown]
    np.testing.assert_allclose(scores.percentile, better, atol=1e-6)
    assert scorer.score_of_best(rows) == pytest.approx((quality - costs)[rows].max(), abs=1e-4)


def test_the_best_known_row_is_scored_like_the_others(standard: Table) -> None:
    scorer = ProposalScorer.create(standard, Objective(maximize={"quality": 1.0}), lambda codes: -codes.sum(axis=1))
    measured, codes = np.asarray(standard.values)[:, 0], np.asarray(standard.codes)
    mean, std = measured.mean(), measured.std()
    best = 50 + int(np.argmax(measured[50:90]))
    assert scorer.score_of_best(np.arange(50, 90)) == pytest.approx((-codes[best].sum() - mean) / std, rel=1e-4)


def test_the_evaluator_is_trained_on_one_half(losses: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Table] = []
    monkeypatch.setattr(scoring, "fit", lambda table, **_: seen.append(table))
    halves = [scoring.fit_evaluator(losses, seed=seed).rows for seed in (0, 0, 1)]
    assert [half.sum() for half in halves] == [100, 100, 100]
    np.testing.assert_array_equal(halves[0], halves[1])
    assert (halves[0] != halves[2]).any()
    np.testing.assert_array_equal(seen[0].codes, np.asarray(losses.codes)[halves[0]])
    assert seen[0].metrics == losses.metrics


def test_proposer_and_evaluator_share_no_row(losses: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "fit", lambda table, *, rows, key, **_: (rows, key))
    proposer, evaluator = scoring.fit_pair(losses, seed=0, recipe=ENSEMBLE, members=2)
    np.testing.assert_array_equal(proposer[0], ~evaluator.rows)  # type: ignore[index]
    np.testing.assert_array_equal(evaluator.predictor[0], evaluator.rows)  # type: ignore[index]
    assert evaluator.rows.sum() == 100
    assert proposer[1] != evaluator.predictor[1]  # type: ignore[index]


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize(
    ("benchmark", "tasks", "rows"),
    [("nas-bench-201", 3, 15625), ("transnas-micro", 7, 4096), ("transnas-macro", 7, 3256)],
)
def test_tables_that_score_proposals_hold_their_whole_space(benchmark: str, tasks: int, rows: int) -> None:
    table = benchmark_table(benchmark)
    assert (len(scoring.tasks_of(table)), len(table), get_space(table.space).size) == (tasks, rows, rows)
