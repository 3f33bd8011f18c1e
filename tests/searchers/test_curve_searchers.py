"""What every searcher of learning curves must keep to; successive halving and ASHA against the library's functions."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ncp_jax import MetricSpec, Table, checks, get_space
from ncp_jax.benchmarks.epoch_guard import EpochGuard
from ncp_jax.benchmarks.imported import Curves
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.searchers import SEARCHERS, CurveSearcher, Runs, make_searcher, search_on_curves, search_on_host
from ncp_jax.searchers.halving import HalvingConfig
from ncp_jax.searchers.rungs import halve

from .test_halving import SPEND

EPOCHS, BUDGET, ROWS, SEEDS = 9, 12, 120, (3, 4, 5)
METHODS = [
    *((name, {}) for name, cls in SEARCHERS.items() if issubclass(cls, CurveSearcher)),
    ("asha", {"begin": "predicted", "factor": 2}),
    ("early-stopping", {"predictor": "last-value", "whole": 1, "read": 1 / 9}),
]
every = pytest.mark.parametrize(("name", "settings"), METHODS, ids=lambda x: x if isinstance(x, str) else len(x))


def make_curves(*, direction: str = "maximize", rows: int = ROWS) -> tuple[Table, Curves]:
    """Curves whose last value is nearly the sum of the letters, less where they are shorter."""
    rng, space = np.random.default_rng(0), get_space("transnas-micro")
    codes = np.asarray(space.all_codes())[np.sort(rng.choice(4096, rows, replace=False))]
    final = codes.sum(axis=1) + 0.1 * rng.random(rows)
    values = final[:, None] - np.arange(EPOCHS - 1, -1, -1) * rng.random((rows, 1))
    metric = MetricSpec("acc", direction=direction)
    values = values * metric.sign
    seconds = MetricSpec("time", unit="s", direction="minimize", kind="cost")
    columns = np.stack([values[:, -1], 1 + rng.random(rows)], axis=1)
    table = Table.from_arrays("t", space=space, codes=codes, values=columns, metrics=[metric, seconds])
    return table, Curves("t", "transnas-micro", metric, np.asarray(table.codes), values)


def run(
    name: str, settings: dict[str, object], *, seeds: tuple[int, ...] = SEEDS, seconds: float | None = None
) -> Runs:
    table, curves = make_curves()
    searcher = make_searcher(name, **settings)
    assert isinstance(searcher, CurveSearcher)
    view = QueryView.of(table, budget=BUDGET, seconds=seconds)
    return search_on_curves(searcher, seeds, table, view, curves)


def returned(runs: Runs) -> np.ndarray:
    assert runs.leaders is not None
    return runs.leaders.rows


@every
def test_budget_and_records(name: str, settings: dict[str, object]) -> None:
    runs, (table, curves) = run(name, settings), make_curves()
    assert runs.leaders is not None
    for i, count in enumerate(np.asarray(runs.count)):
        assert 0 < runs.leaders.epochs[i] <= BUDGET * EPOCHS
        assert count == -(-runs.leaders.epochs[i] // EPOCHS)
        assert (returned(runs)[i, :count] >= 0).all()
        assert (returned(runs)[i, count:] == -1).all()
        whole = runs.rows[i][runs.rows[i] >= 0]
        assert 0 < len(whole) == len(set(whole.tolist())) <= count
        np.testing.assert_allclose(runs.values[i, : len(whole)], curves.values[whole, -1], rtol=1e-6)
        assert np.isneginf(runs.values[i, len(whole) :]).all()
        assert returned(runs)[i, count - 1] in whole
        # What a training is stopped for saves time: many more are begun than are paid for.
        assert runs.asks[i] > count
        assert runs.leaders.spent[i] <= np.sort(table.measured("time"))[-BUDGET:].sum()
        assert (np.diff(runs.leaders.seconds[i, :count]) >= 0).all()


@every
def test_a_run_depends_on_its_seed_alone(name: str, settings: dict[str, object]) -> None:
    runs = run(name, settings)
    assert len({tuple(rows) for rows in returned(runs).tolist()}) == len(SEEDS)
    np.testing.assert_array_equal(returned(run(name, settings, seeds=SEEDS[::-1]))[::-1], returned(runs))
    np.testing.assert_array_equal(returned(run(name, settings, seeds=SEEDS[1:2]))[0], returned(runs)[1])


@every
def test_it_finds_better_ones_than_chance(name: str, settings: dict[str, object]) -> None:
    """The best of twelve whole trainings at random has a mean rank of 121 / 13 = 9.3."""
    table, _ = make_curves()
    runs = run(name, settings, seeds=tuple(range(10)))
    last = returned(runs)[np.arange(10), np.asarray(runs.count) - 1]
    finals = table.measured("acc")
    assert np.mean([1 + (finals > finals[row]).sum() for row in last]) < 6


@every
def test_a_metric_to_minimize(name: str, settings: dict[str, object]) -> None:
    searcher = make_searcher(name, **settings)
    found = []
    for direction in ("maximize", "minimize"):
        table, curves = make_curves(direction=direction)
        found.append(search_on_curves(searcher, SEEDS, table, QueryView.of(table, budget=BUDGET), curves))
    np.testing.assert_array_equal(returned(found[0]), returned(found[1]))
    np.testing.assert_array_equal(found[0].values, found[1].values)


@every
@pytest.mark.parametrize("hidden", [np.nan, 1e6])
def test_epochs_that_were_not_paid_for_change_nothing(name: str, settings: dict[str, object], hidden: float) -> None:
    _, curves = make_curves()
    searcher, found = make_searcher(name, **settings), []
    values = curves.values
    for _ in range(2):
        guard = EpochGuard(values, codes=curves.codes, space=curves.space, budget=BUDGET * EPOCHS)
        predicted = searcher.spend(guard, 7, predict=True)
        assert sum(dict(guard.steps).values()) == guard.budget - guard.remaining <= BUDGET * EPOCHS
        found.append((guard.steps, None if predicted is None else predicted.tolist()))
        paid, values = dict(guard.steps), values.copy()
        for row in range(ROWS):
            values[row, paid.get(row, 0) :] = hidden
    assert np.isnan(values).any() or (values == hidden).any()
    assert found[0] == found[1]


@every
def test_a_budget_of_seconds(name: str, settings: dict[str, object]) -> None:
    whole, runs = run(name, settings), run(name, settings, seconds=9)
    assert runs.leaders is not None
    for i, count in enumerate(np.asarray(runs.count)):
        assert 0 < count < BUDGET
        assert 0 < runs.leaders.spent[i] <= 9
        known = (returned(runs)[i] >= 0).sum()
        assert (runs.leaders.seconds[i, :known] <= 9).all()
        np.testing.assert_array_equal(returned(runs)[i, : known - 1], returned(whole)[i, : known - 1])


@every
def test_a_table_of_final_values_is_refused(name: str, settings: dict[str, object]) -> None:
    table, _ = make_curves()
    searcher = make_searcher(name, **settings)
    assert isinstance(searcher, CurveSearcher)
    with pytest.raises(
        checks.UsageError, match=f"expected learning curves for {name}, got final values alone; name it"
    ):
        search_on_host(searcher, SEEDS, table, "acc", QueryView.of(table, budget=BUDGET))


@pytest.mark.parametrize("name", ["halving", "asha"])
def test_settings_beyond_the_end(name: str) -> None:
    table, curves = make_curves()
    late = make_searcher(name, least=EPOCHS + 1)
    with pytest.raises(
        checks.UsageError, match=r"expected least to be an integer in 1\.\.9, got 10; the curves have 9"
    ):
        search_on_curves(late, SEEDS, table, QueryView.of(table, budget=BUDGET), curves)


@pytest.mark.parametrize("name", ["halving", "asha"])
def test_steps_are_those_of_the_library_function(name: str) -> None:
    _, curves = make_curves()
    guard = EpochGuard(curves.values, codes=curves.codes, space=curves.space, budget=BUDGET * EPOCHS)
    make_searcher(name).spend(guard, 7)
    order = np.random.default_rng(7).permutation(ROWS)
    config, rungs = HalvingConfig(epochs=BUDGET * EPOCHS), (1, 3, 9)
    steps = SPEND[name](curves.values, order, rungs, config)
    assert guard.steps == steps


def test_a_small_bracket_ends_with_a_whole_training() -> None:
    values = np.repeat(np.arange(9.0)[:, None], 9, axis=1)

    def bracket(budget: int, **options: bool) -> list[tuple[int, int]]:
        return halve(
            lambda row, epochs: values[row, :epochs], np.arange(9), (1, 3, 9), budget=budget, factor=3, **options
        )

    # With 9 epochs: one training. Two cost 2 + 2 + 6, three as many and one more.
    assert bracket(9, finish=True) == [(0, 1), (0, 3), (0, 9)]
    assert bracket(11, finish=True) == [(0, 1), (1, 1), (2, 1), (2, 3), (2, 9)]
    assert bracket(20, finish=True) == [*((row, 1) for row in range(8)), (7, 3), (6, 3), (7, 9)]
    assert bracket(20) == [*((row, 1) for row in range(8)), (7, 3), (6, 3)]
    assert bracket(21, finish=True) == bracket(21)


def test_a_bracket_on_a_whole_table_ends_early() -> None:
    table, curves = make_curves(rows=9)
    view = QueryView.of(table, budget=9)
    runs = search_on_curves(make_searcher("halving"), (0,), table, view, curves)
    assert runs.leaders is not None
    assert (runs.leaders.epochs.tolist(), runs.count.tolist(), runs.asks.tolist()) == ([21], [3], [9])
    assert dataclasses.asdict(make_searcher("halving")) == {"factor": 3, "least": 1}
