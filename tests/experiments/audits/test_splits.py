"""Which rows the kinds hold out, and how intervals are counted."""

from __future__ import annotations

import types
from typing import Any

import numpy as np
import pytest
from audits import splits
from audits.summary import coverage_json

from ncp_jax import AuditConfig, MetricSpec, Table, load_table
from ncp_jax.benchmarks.table import main_metrics, tasks_of

CONFIG = AuditConfig()


@pytest.fixture(scope="module")
def table() -> Table:
    return splits.chosen_tasks(load_table("digits").select(np.arange(500)), ())


@pytest.fixture
def audits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Table, np.ndarray]]:
    """Tables and codes that are audited; predictions are the measured values turned upside down."""
    calls: list[tuple[Table, np.ndarray]] = []

    def audit(table: Table, codes: np.ndarray, **_: Any) -> Any:
        calls.append((table, codes))
        whole, zeros = load_table("digits"), np.zeros(len(codes))
        rows = np.asarray(whole.rows(codes))
        found = []
        for metric in main_metrics(table, tasks_of(table)):
            predicted = -whole.measured(metric.name)[rows]
            ends = {"low": zeros - np.inf, "high": zeros + np.inf, "extrapolated": zeros > 0}
            found.append(types.SimpleNamespace(metric=metric, predicted=predicted, **ends))
        return types.SimpleNamespace(metrics=tuple(found), far=zeros > 0, distance=zeros)

    monkeypatch.setattr(splits, "audit", audit)
    return calls


@pytest.mark.parametrize("kind", splits.KINDS)
def test_what_is_held_out_is_in_no_table_that_audits_it(
    kind: str, table: Table, audits: list[tuple[Table, np.ndarray]]
) -> None:
    counts = splits.measure(kind, table, config=CONFIG, seed=3)
    assert list(counts) == list(tasks_of(table))
    assert all(one.covered == one.rows for one in counts.values())
    last = audits[-1]
    assert (np.asarray(last[0].rows(last[1])) < 0).all()
    sizes = {splits.RANDOM: (400, 100)}.get(kind, (360, 40))
    assert (len(last[0]), len(last[1])) == sizes
    if kind in (splits.PREDICTED, splits.MEASURED):
        for own, codes in audits[-len(counts) :]:
            (task,) = tasks_of(own)
            (metric,) = main_metrics(own, (task,))
            held_out = table.measured(metric.name)[np.asarray(table.rows(codes))]
            kept = own.measured(metric.name)
            if kind == splits.MEASURED:
                assert held_out.min() >= kept.max()
            else:
                assert held_out.max() <= kept.min()  # the best by predictions that are upside down


def test_a_region_is_the_nearest_rows_of_one(table: Table, audits: list[tuple[Table, np.ndarray]]) -> None:
    splits.measure(splits.REGION, table, config=CONFIG, seed=0)
    ((own, codes),) = audits
    centre = int(np.asarray(table.rows(codes[:1]))[0])
    apart = splits._distances(table, centre)
    inside, outside = np.asarray(table.rows(codes)), np.asarray(table.rows(np.asarray(own.codes)))
    assert apart[inside].max() <= apart[outside].min()


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_counts_by_hand(direction: Any) -> None:
    metric = types.SimpleNamespace(
        metric=MetricSpec("m", direction=direction),
        predicted=np.array([1.0, 2.0, 3.0, 4.0]),
        low=np.array([0.0, 1.0, 2.0, 3.0]),
        high=np.array([2.0, 3.0, 4.0, 5.0]),
        extrapolated=np.array([False, False, True, False]),
    )
    found: Any = types.SimpleNamespace(far=np.array([True, False, False, False]), distance=np.array([1, 2, 3, 4]))
    counts = splits.TaskCoverage.of(found, metric, np.array([1.0, 0.0, 5.0, 4.5]), deviation=2.0)  # type: ignore[arg-type]
    assert (counts.rows, counts.covered, counts.like_rows, counts.like_covered) == (4, 2, 2, 1)
    assert (counts.top_rows, counts.top_covered) == (1, 1)
    assert counts.above == 1
    assert (counts.width, counts.distance) == (1.0, 2.5)
    assert counts.bias == pytest.approx((1 if direction == "maximize" else -1) * 0.125 / 2)
    written = coverage_json({"t": [counts, counts]})["t"]
    assert written["coverage"]["mean"] == 0.5
    assert written["like_coverage"]["mean"] == 0.5
