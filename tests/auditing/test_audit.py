"""Audits of architectures: nothing of a row in its own prediction, distances, intervals, refusals."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence

import jax
import numpy as np
import pytest

from ncp_jax import Audit, AuditConfig, Found, MetricSpec, Table, audit, get_space, load_table
from ncp_jax.auditing import families, proposals
from ncp_jax.auditing.nearest import nearest_rows
from ncp_jax.checks import UsageError

CONFIG = AuditConfig(folds=2, steps=3)


def small(rows: int = 120) -> Table:
    return load_table("digits/class").select(np.random.default_rng(0).permutation(600)[:rows])


@pytest.fixture(scope="module")
def table() -> Table:
    return small()


@pytest.fixture(scope="module")
def codes(table: Table) -> np.ndarray:
    """Two rows of the table, then three that it lacks."""
    lacking = np.asarray(load_table("digits/class").select(np.arange(700, 703)).codes)
    return np.concatenate([np.asarray(table.codes)[:2], lacking])


@pytest.fixture(scope="module")
def audited(table: Table, codes: np.ndarray) -> Audit:
    return audit(table, codes, config=CONFIG)


def test_what_an_audit_says(audited: Audit, table: Table, codes: np.ndarray) -> None:
    assert audited.families == ("trees", "gaussian process", "networks")
    (metric,) = audited.metrics
    assert metric.metric.name == table.main.name
    assert np.mean(list(metric.families.values()), axis=0) == pytest.approx(metric.predicted)
    assert (metric.low < metric.high).all()
    assert audited.measured_row.tolist() == [0, 1, -1, -1, -1]
    assert not audited.unlike[:2].any()
    assert len(audited) == 5
    assert 0.75 < metric.calibration.coverage <= 1


def test_the_json_form_is_strict_and_has_every_architecture(audited: Audit) -> None:
    written = json.loads(json.dumps(audited.to_json(), allow_nan=False))
    assert next(iter(written.items())) == ("schema", "proposal-audit/1")
    assert {"level", "folds", "families", "rows", "held_out_distances", "calibration"} <= set(written)
    first = written["architectures"][0]
    assert first["string"] == get_space(audited.space).to_string(audited.codes[0])
    assert set(first["metrics"]) == {"accuracy"}
    assert {"predicted", "low", "high", "families", "disagreement"} <= set(first["metrics"]["accuracy"])
    assert set(first["nearest"]) == {"row", "string", "distance", "distance_percentile"}


def test_the_text_has_a_line_for_each_architecture_and_says_what_was_done(audited: Audit) -> None:
    lines = str(audited).splitlines()
    assert "audited, 90 %" in lines[0]
    for text, line in zip(get_space(audited.space).to_strings(audited.codes), lines[1:6], strict=True):
        assert line.endswith(text)
    assert "gradient-boosted trees, a Gaussian process and networks" in lines[6]
    assert "of the tenth predicted best" in lines[7]


def test_a_measured_value_has_no_part_in_its_own_prediction(audited: Audit, table: Table, codes: np.ndarray) -> None:
    values = np.array(table.values)
    values[0] += 30 * values.std(axis=0)
    changed = audit(dataclasses.replace(table, values=jax.device_put(values)), codes, config=CONFIG)
    before, after = audited.metrics[0], changed.metrics[0]
    assert after.predicted[0] == before.predicted[0]
    for name in audited.families:
        assert after.families[name][0] == before.families[name][0]
    assert after.predicted[2] != before.predicted[2]


def test_a_direction_turns_ranks_and_nothing_else(audited: Audit, table: Table, codes: np.ndarray) -> None:
    metric = dataclasses.replace(table.main, direction="minimize")
    turned = dataclasses.replace(table, metrics=(metric, *table.metrics[1:]))
    found, before = audit(turned, codes, config=CONFIG).metrics[0], audited.metrics[0]
    np.testing.assert_array_equal(found.predicted, before.predicted)
    np.testing.assert_array_equal(found.low, before.low)
    np.testing.assert_allclose(found.rank_percentile + before.rank_percentile, 100, atol=2)


def test_the_nearest_row_by_positions_then_by_relaxed_codes() -> None:
    space = get_space("nas-bench-mr")
    rng = np.random.default_rng(0)
    codes = np.asarray(space.sample(jax.random.key(0), 40))
    asked = codes[:6].copy()
    asked[:, :3] = codes[10, :3]
    fold = rng.permutation(40) % 2
    rows, distances, held_out = nearest_rows(space, codes, fold, asked)
    width = space.upper - space.lower
    for code, row, distance in zip(asked, rows, distances, strict=True):
        different = (codes != code).sum(axis=1)
        assert distance == different.min()
        near = np.flatnonzero(different == distance)
        apart = (((codes[near] - code) / width) ** 2).sum(axis=1)
        assert row == near[apart.argmin()]
    for row in range(40):
        assert held_out[row] == (codes[fold != fold[row]] != codes[row]).sum(axis=1).min()


def test_without_scikit_learn_a_line_says_what_is_left_out(
    table: Table, codes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn.ensemble", None)
    assert not families.has_trees()
    lines: list[str] = []
    found = audit(table, codes, config=CONFIG, notify=lines.append)
    assert found.families == ("gaussian process", "networks")
    assert lines == ["audit without gradient-boosted trees, which need scikit-learn: pip install 'ncp-jax[audit]'"]


def test_values_that_float32_cannot_hold_come_back_in_their_own_unit(codes: np.ndarray) -> None:
    base = small()
    values = 1e9 + np.asarray(base.measured("accuracy"))[:, None] * 1e-3
    shifted = Table.from_arrays(
        "shifted", space=base.space, codes=np.asarray(base.codes), values=values, metrics=(MetricSpec("score"),)
    )
    assert shifted.metrics[0].stored is not None
    metric = audit(shifted, codes, config=CONFIG).metrics[0]
    assert (np.abs(metric.predicted - 1e9) < 1).all()
    assert (metric.low < metric.high).all()
    assert (metric.high - metric.low < 0.2).all()


@pytest.mark.parametrize(
    ("metrics", "config", "expected"),
    [
        (("accurac",), CONFIG, "did you mean: accuracy"),
        (("latency",), CONFIG, r"metric of digits/class \(a column without a direction is not one\)"),
        ((), AuditConfig(level=0.99), "at least 398 measured architectures"),
    ],
)
def test_what_is_refused(
    table: Table, codes: np.ndarray, metrics: Sequence[str], config: AuditConfig, expected: str
) -> None:
    with pytest.raises(UsageError, match=expected):
        audit(table, codes, metrics=metrics, config=config)


def test_more_that_is_refused(table: Table, codes: np.ndarray) -> None:
    with pytest.raises(UsageError, match=r"at least 38 measured architectures .* got 30 in digits/class; measure more"):
        audit(table.select(np.arange(30)), codes)
    with pytest.raises(UsageError, match="at least one architecture to audit, got none"):
        audit(table, codes[:0])
    with pytest.raises(UsageError, match="level between 0 and 1, got 90"):
        AuditConfig(level=90)
    with pytest.raises(UsageError, match="folds to be an integer 2 or more"):
        AuditConfig(folds=1)
    test = dataclasses.replace(table, metrics=tuple(dataclasses.replace(m, split="test") for m in table.metrics))
    with pytest.raises(UsageError, match="of the test split"):
        audit(test, codes)


def test_the_default_metrics_are_the_main_ones_of_all_tasks() -> None:
    joint = load_table("digits").select(np.arange(60))
    names = proposals._names(joint, (), on_test=False)
    tasks = {metric.task for metric in joint.metrics if metric.kind == "quality"}
    assert len(names) == len(tasks) > 1
    assert {joint.metric(name).task for name in names} == tasks


def test_what_a_search_found_is_audited_as_it_is(audited: Audit, table: Table, codes: np.ndarray) -> None:
    numbers = np.zeros((5, 1))
    found = Found(codes, numbers, numbers, numbers[:, 0], {}, codes, (table.main,), table.space, {}, 5)
    assert audit(table, found, config=CONFIG).to_json()["architectures"] == audited.to_json()["architectures"]
    with pytest.raises(UsageError, match=r"architectures of transnas-micro, .* got those of nas-bench-mr"):
        audit(table, dataclasses.replace(found, space="nas-bench-mr"))
