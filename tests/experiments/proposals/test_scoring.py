"""Judging proposals: standard units, look-up, a judge's word, scores and percentiles, against sums made by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from proposals import scoring as truth
from proposals.options import benchmark_table

from ncp_jax import MetricSpec, Objective, Table, checks, get_space
from ncp_jax.propagation import Found

SPACE = get_space("nas-bench-mr")


@dataclasses.dataclass(frozen=True)
class Oracle:
    """Stands for an ensemble: the loss of a code is the sum of its integers."""

    space: str = SPACE.name

    def select(self, names: tuple[str, ...]) -> Oracle:
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
    return truth.in_standard_units(losses, "x")


def test_standard_units(losses: Table, standard: Table) -> None:
    loss, flops = np.asarray(losses.column("x/loss"), np.float64), np.asarray(losses.column("flops"))
    assert [m.name for m in standard.metrics] == ["quality", "flops"]
    assert [m.direction for m in standard.metrics] == ["maximize", "minimize"]
    np.testing.assert_allclose(
        np.asarray(standard.values)[:, 0], (loss.mean() - loss) / loss.std(), rtol=1e-4, atol=1e-4
    )
    np.testing.assert_array_equal(np.asarray(standard.values)[:, 1], flops)
    assert truth.tasks_of(losses) == ("a", "b", "x")
    with pytest.raises(checks.UsageError, match="task"):
        truth.in_standard_units(losses, "c")


def test_what_was_measured_is_looked_up(standard: Table) -> None:
    rows = np.array([7, 3, 7, 199])
    look_up = truth.measured_truth(standard)
    np.testing.assert_array_equal(look_up(np.asarray(standard.codes)[rows]), np.asarray(standard.values)[rows, 0])
    absent = np.asarray(standard.codes)[:1].copy()
    absent[0, 0] = next(v for v in SPACE.values[0] if v != absent[0, 0])
    with pytest.raises(checks.UsageError, match="every architecture of its space"):
        look_up(np.concatenate([np.asarray(standard.codes)[:1], absent]))


def test_a_judge_is_asked_in_the_same_units(losses: Table) -> None:
    loss, codes = np.asarray(losses.column("x/loss"), np.float64), np.asarray(losses.codes)
    ask = truth.judged_truth(truth.Judge(Oracle(), np.zeros(len(losses), bool)), losses, "x")  # type: ignore[arg-type]
    np.testing.assert_allclose(ask(codes[:5]), (loss.mean() - codes[:5].sum(axis=1)) / loss.std(), rtol=1e-4)


def found_in(table: Table, rows: np.ndarray, predicted: np.ndarray) -> Found:
    mean = np.asarray(table.values)[rows].copy()
    mean[:, 0] = predicted
    codes, nothing = np.asarray(table.codes)[rows], np.zeros((0, SPACE.length), np.int32)
    return Found(codes, mean, mean, predicted, {}, nothing, table.metrics, table.space, {}, len(rows))


@pytest.mark.parametrize("count", [6, 30])
def test_the_verdict_on_proposals(standard: Table, count: int) -> None:
    goal = Objective(maximize={"quality": 1.0}, minimize={"flops": 0.5})
    court = truth.Court.make(standard, goal, truth.measured_truth(standard))
    rng = np.random.default_rng(0)
    rows, predicted = rng.permutation(200)[:count], rng.normal(size=count).astype(np.float32)
    verdict = court.verdict(found_in(standard, rows, predicted))
    quality, flops = np.asarray(standard.values, np.float64).T
    costs = 0.5 * (flops - flops.mean()) / flops.std()
    shown = rows[: truth.TOP]
    np.testing.assert_allclose(verdict["true"], (quality - costs)[shown], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(verdict["predicted"], predicted[: truth.TOP] - costs[shown], rtol=1e-4, atol=1e-4)
    better = [100 * float(np.mean(quality - costs > (quality - costs)[row] + 1e-6)) for row in shown]
    np.testing.assert_allclose(verdict["percentile"], better, atol=1e-6)
    assert court.known(rows) == pytest.approx((quality - costs)[rows].max(), abs=1e-4)


def test_the_best_known_row_is_judged_like_the_others(standard: Table) -> None:
    court = truth.Court.make(standard, Objective(maximize={"quality": 1.0}), lambda codes: -codes.sum(axis=1))
    measured, codes = np.asarray(standard.values)[:, 0], np.asarray(standard.codes)
    mean, std = measured.mean(), measured.std()
    best = 50 + int(np.argmax(measured[50:90]))
    assert court.known(np.arange(50, 90)) == pytest.approx((-codes[best].sum() - mean) / std, rel=1e-4)


def test_the_judge_learns_from_one_half(losses: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Table] = []
    monkeypatch.setattr(truth, "fit", lambda table, **_: seen.append(table))
    halves = [truth.train_judge(losses, seed=seed).rows for seed in (0, 0, 1)]
    assert [half.sum() for half in halves] == [100, 100, 100]
    np.testing.assert_array_equal(halves[0], halves[1])
    assert (halves[0] != halves[2]).any()
    np.testing.assert_array_equal(seen[0].codes, np.asarray(losses.codes)[halves[0]])
    assert seen[0].metrics == losses.metrics


@pytest.mark.usefixtures("mirror")
@pytest.mark.parametrize(
    ("benchmark", "tasks", "rows"),
    [("nas-bench-201", 3, 15625), ("transnas-micro", 7, 4096), ("transnas-macro", 7, 3256)],
)
def test_tables_that_can_be_the_truth_hold_their_whole_space(benchmark: str, tasks: int, rows: int) -> None:
    table = benchmark_table(benchmark)
    assert (len(truth.tasks_of(table)), len(table), get_space(table.space).size) == (tasks, rows, rows)
