"""Columns that float32 cannot hold: they stay finite, in order, and as far apart as float64 has them."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp_jax import MetricSpec, Objective, PropagationConfig, Recipe, Table, fit, join, propagate
from ncp_jax.benchmarks.stored_units import choose_stored_unit
from ncp_jax.benchmarks.table import with_flops
from ncp_jax.checks import DataError
from ncp_jax.metrics import StoredUnit
from ncp_jax.predictors import load_predictor, save_predictor
from ncp_jax.spaces import get_space

SPACE = get_space("transnas-micro")
RNG = np.random.default_rng(0)
ACCURACY = RNG.normal(80, 5, 40)
SHORT = Recipe("short", widths=(8,), rates=(0.0,), epochs=2, decay_rows=0)
COLUMNS = {
    "one outlier of 1e61": (np.append(ACCURACY, 1e61), "asinh"),
    "one outlier of -1e61": (np.append(ACCURACY, -1e61), "asinh"),
    "an outlier beside an offset": (np.append(1e9 + RNG.random(40), 1e61), "asinh"),
    "1e15 to 1e61": (10 ** RNG.uniform(15, 61, 40), "log"),
    "the whole of float64": (np.array([5e-324, 1e-200, 1.0, 1e200, 1e300]), "log"),
    "wide, with zeros": (np.append(10 ** RNG.uniform(15, 61, 30), np.zeros(10)), "asinh"),
    "wide, of both signs": (np.concatenate([-(10 ** RNG.uniform(0, 30, 20)), 10 ** RNG.uniform(0, 30, 20)]), "asinh"),
    "three values": (np.array([0.0, 1.0, 1e61]), "asinh"),
    "an offset of 1e8": (1e8 + np.arange(3.0), "linear"),
    "an offset of 1e9": (1e9 + 1e-5 * np.arange(40), "linear"),
    "around 1e-30": (1e-30 * RNG.random(40), "linear"),
    "denormal numbers": (5e-324 * RNG.permutation(40), "linear"),
    "around 1e61": (1e61 * RNG.random(40), "linear"),
    "large and of both signs": (1e299 * RNG.normal(size=40), "linear"),
}
ORDINARY = {
    "accuracies": ACCURACY,
    "shares": ACCURACY / 100,
    "FLOPs of tiny networks": 6e-5 * (1 + 0.2 * RNG.normal(size=40)),
    "parameters": 1e6 * RNG.lognormal(0, 1, 40),
    "costs with zeros": np.append(RNG.random(30), np.zeros(10)),
    "one of forty": np.append(np.zeros(39), 1.0),
    "many equal": np.append(np.full(100, 10.0), ACCURACY),
    "constant": np.full(5, 71.5),
    "zero": np.zeros(5),
}


def table_of(*columns: np.ndarray, minimize: bool = False) -> Table:
    metrics = [MetricSpec("accuracy"), MetricSpec("proxy", direction="minimize" if minimize else "maximize")]
    codes = SPACE.all_codes()[:: 4096 // len(columns[0])][: len(columns[0])]
    return Table.from_arrays(
        "t", space=SPACE, codes=codes, values=np.stack(columns, axis=1), metrics=metrics[2 - len(columns) :]
    )


@pytest.mark.parametrize("name", COLUMNS)
def test_it_keeps_values_finite_apart_and_in_order(name: str) -> None:
    column, form = COLUMNS[name]
    unit = choose_stored_unit("x", column)
    assert unit is not None
    assert unit.form == form
    table = table_of(column)
    stored = np.asarray(table.values)[:, 0]
    assert stored.dtype == np.float32
    assert np.isfinite(stored).all()
    order = np.argsort(column, kind="stable")
    np.testing.assert_array_equal(np.diff(stored[order]) > 0, np.diff(column[order]) > 0)
    # Standard units tell typical values apart: the squares of float32 neither overflow nor vanish.
    standard = (stored - stored.mean()) / stored.std()
    assert np.isfinite(standard).all()
    if len(np.unique(column)) > 3:
        assert np.median(np.abs(standard - np.median(standard))) > 0.02
    measured = table.measured("proxy")
    assert np.isfinite(measured).all()
    # To float32's digits, of the stored value: a logarithm of 700 has four digits of the value itself.
    scale = np.maximum(np.abs(column), np.median(np.abs(column - np.median(column))))
    np.testing.assert_array_less(np.abs(measured - column), 1e-4 * scale + 5e-324 * 2)


def test_nearby_integers_are_exact() -> None:
    column = 1e9 + np.array([0.0, 1.0, 5.0, 20.0])
    np.testing.assert_array_equal(table_of(column).measured("proxy"), column)


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_columns_stay_as_they_are(name: str) -> None:
    table = table_of(ORDINARY[name])
    np.testing.assert_array_equal(table.values[:, 0], ORDINARY[name].astype(np.float32))
    assert table.metrics == (MetricSpec("proxy"),)
    assert "stored" not in table.main.to_json()  # hashes of tables made before stay


@pytest.mark.parametrize("column", [[1.0, 1.0 + 2e-16], [1e9, np.nextafter(1e9, 2e9)], [0.1 + 0.2, 0.3]])
def test_what_rounding_leaves_is_constant(column: list[float]) -> None:
    with pytest.raises(
        DataError, match=r"expected a metric that varies in column 'proxy', got values from .* rounding"
    ):
        table_of(np.array(column))


def test_values_near_the_end_of_float64_are_refused() -> None:
    with pytest.raises(DataError, match=r"values up to 1e\+300 in column 'proxy', got 1.5e\+300; give its logarithm"):
        table_of(np.array([1.0, 1.5e300]))


@given(st.lists(st.floats(-1e300, 1e300), min_size=2, max_size=12, unique=True))
def test_any_column_is_finite_and_in_order_or_refused(values: list[float]) -> None:
    column = np.array(values)
    try:
        unit = choose_stored_unit("x", column)
    except DataError:
        assert np.ptp(column) <= 1e-14 * np.abs(column).max()
        return
    stored = (column if unit is None else unit.store(column)).astype(np.float32)
    assert np.isfinite(stored).all()
    assert (np.diff(stored[np.argsort(column)]) >= 0).all()
    assert len(np.unique(stored)) > 1
    if unit is not None:
        assert np.isfinite(unit.restore(stored)).all()
        assert np.isfinite(unit.restore_spread(stored, np.abs(stored))).all()


@pytest.mark.parametrize("form", ["linear", "log", "asinh"])
def test_extrapolation_and_json(form: str) -> None:
    unit = StoredUnit(form, 0.0, 1e61)
    assert np.isfinite(unit.restore(np.array([-1e30, 0.0, 1e30]))).all()
    metric = MetricSpec("x", stored=unit)
    assert MetricSpec(**metric.to_json()) == metric
    values = np.array([1e60, 3e61])
    np.testing.assert_allclose(unit.restore(unit.store(values)), values)
    inside = jax.jit(dataclasses.replace(unit, scale=2.0).store)
    assert np.isfinite(inside(np.float32([0.0, 1.0]))).all()


def test_tables_are_joined_and_extended_in_own_units() -> None:
    column = 1e9 + np.arange(40.0)
    tables = [
        dataclasses.replace(t, name=n, metrics=tuple(dataclasses.replace(m, task=n) for m in t.metrics))
        for n, t in (("a", table_of(column)), ("b", table_of(column[::-1].copy()).select(np.arange(10, 30))))
    ]
    both = join(tables)
    np.testing.assert_array_equal(both.measured("a/proxy"), column[10:30])
    np.testing.assert_array_equal(both.measured("b/proxy"), column[::-1][10:30])
    macro = get_space("transnas-macro")
    known = Table.from_arrays(
        "m", space=macro, codes=macro.all_codes()[:40], values=column[:, None], metrics=[MetricSpec("x", task="jigsaw")]
    )
    np.testing.assert_array_equal(with_flops(known).measured("x"), column)


@pytest.mark.parametrize("name", ["one outlier of 1e61", "1e15 to 1e61", "an offset of 1e9", "around 1e-30"])
def test_search_gives_finite_results_in_own_units(name: str, tmp_path) -> None:
    column = COLUMNS[name][0]
    table = table_of(RNG.normal(80, 5, len(column)), column, minimize=True)
    predictor = fit(table, recipe=SHORT, members=2, key=0)
    save_predictor(tmp_path / "p.npz", predictor)
    loaded, _ = load_predictor(tmp_path / "p.npz")
    assert loaded.metrics == predictor.metrics
    mean, spread = loaded(SPACE.encode(table.codes))
    np.testing.assert_array_equal(mean, predictor(SPACE.encode(table.codes))[0])
    assert np.isfinite(np.concatenate([mean, spread])).all()
    if name == "an offset of 1e9":
        assert np.abs(mean[:, 1] - 1e9).max() < 1e-2
    objective = Objective(maximize={"accuracy": 1.0}, minimize={"proxy": 0.5})
    found = propagate(loaded, objective, codes=16, key=1, config=PropagationConfig(steps=3, polish=1))
    for values in (found.mean, found.spread, found.score):
        assert np.isfinite(values).all()
    assert 0.01 < found.score.std() < 100
    assert "nan" not in str(found)
    assert "inf" not in str(found)


def test_two_ranges_in_one_objective_count_as_their_weights_say() -> None:
    """1e-30 and 1e30 times the same columns: the same search as without the factors."""
    a, b = RNG.normal(size=(2, 60))
    a[0], b[0] = 0.0, 0.0
    found = []
    for small, large in ((1.0, 1.0), (2.0**-100, 2.0**100)):
        predictor = fit(table_of(a * small, b * large), recipe=SHORT, members=2, key=0)
        objective = Objective(maximize={"accuracy": 1.0}, minimize={"proxy": 0.5})
        found.append(propagate(predictor, objective, codes=16, key=1, config=PropagationConfig(steps=3)))
    np.testing.assert_allclose(found[1].score, found[0].score, atol=1e-2)
    np.testing.assert_allclose(found[1].mean[0] * [2.0**100, 2.0**-100], found[0].mean[0], atol=1e-2)
