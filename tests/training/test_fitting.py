from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import kendalltau

from ncp_jax import MetricSpec, Predictor, Recipe, Table, fit, fit_many, get_space
from ncp_jax.checks import UsageError
from ncp_jax.training import Columns, fitting

ROWS = np.arange(200) % 2 == 0
KEYS = jax.vmap(jax.random.key)(np.arange(4))


@pytest.fixture(scope="module")
def fitted(tiny_table: Table, tiny_recipe: Recipe) -> Predictor:
    return fit(tiny_table, recipe=tiny_recipe, members=2, key=jax.random.key(0), rows=ROWS)


def mean_of(predictor: Predictor, table: Table) -> np.ndarray:
    return np.asarray(predictor(get_space(table.space).encode(table.codes))[0])


def held_out_tau(predictor: Predictor, table: Table, name: str) -> float:
    column = [m.name for m in predictor.metrics].index(name)
    return float(kendalltau(mean_of(predictor, table)[~ROWS, column], np.asarray(table.column(name))[~ROWS])[0])


def test_it_learns_what_can_be_learned(fitted: Predictor, tiny_table: Table) -> None:
    assert [m.name for m in fitted.metrics] == ["a/top1", "b/top1", "a/top5", "flops"]
    assert fitted.members == 2
    assert fitted.space == "nas-bench-mr"
    assert held_out_tau(fitted, tiny_table, "a/top1") > 0.7
    assert held_out_tau(fitted, tiny_table, "a/top5") > 0.7
    assert held_out_tau(fitted, tiny_table, "flops") > 0.5
    assert abs(held_out_tau(fitted, tiny_table, "b/top1")) < 0.25
    # In the metric's own unit, not only in the right order.
    truth = np.asarray(tiny_table.column("a/top1"))[~ROWS]
    error = mean_of(fitted, tiny_table)[~ROWS, 0] - truth
    assert error.std() < 0.5 * truth.std()
    assert abs(error.mean()) < 0.2 * truth.std()


def test_same_key_same_bits_other_key_others(fitted: Predictor, tiny_table: Table, tiny_recipe: Recipe) -> None:
    again = fit(tiny_table, recipe=tiny_recipe, members=2, key=jax.random.key(0), rows=ROWS)
    chex.assert_tree_all_finite(fitted)
    chex.assert_trees_all_equal(fitted, again)
    other = fit(tiny_table, recipe=tiny_recipe, members=2, key=jax.random.key(1), rows=ROWS)
    assert np.abs(np.asarray(other.params["w"][0] - fitted.params["w"][0])).max() > 1e-2
    first, second = np.asarray(fitted.params["w"][0])
    assert np.abs(first - second).max() > 1e-2


def test_held_out_rows_change_nothing(fitted: Predictor, tiny_table: Table, tiny_recipe: Recipe) -> None:
    """Neither the values nor the architectures of rows that are held out reach the predictor."""
    rng = np.random.default_rng(9)
    values, codes = np.asarray(tiny_table.values).copy(), np.asarray(tiny_table.codes).copy()
    values[~ROWS] = rng.normal(size=(100, 4)) * 1e4
    codes[~ROWS] = np.stack([rng.choice(v, 100) for v in get_space("nas-bench-mr").values], axis=1)
    poisoned = Table.from_arrays("p", space="nas-bench-mr", codes=codes, values=values, metrics=tiny_table.metrics)
    chex.assert_trees_all_equal(fitted, fit(poisoned, recipe=tiny_recipe, members=2, key=jax.random.key(0), rows=ROWS))


def test_training_rows_do_change_it(fitted: Predictor, tiny_table: Table, tiny_recipe: Recipe) -> None:
    values = np.asarray(tiny_table.values).copy()
    values[0, 0] += 1.0
    changed = Table.from_arrays(
        "c", space="nas-bench-mr", codes=tiny_table.codes, values=values, metrics=tiny_table.metrics
    )
    other = fit(changed, recipe=tiny_recipe, members=2, key=jax.random.key(0), rows=ROWS)
    assert (np.asarray(other.params["w"][0]) != np.asarray(fitted.params["w"][0])).any()


def test_members_do_not_depend_on_how_many_there_are(
    fitted: Predictor, tiny_table: Table, tiny_recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"recipe": tiny_recipe, "key": jax.random.key(0), "rows": ROWS}
    x = get_space("nas-bench-mr").encode(tiny_table.codes)
    both = np.asarray(fitted.member_values(x))
    unit = np.asarray(fitted.scale.y_std)
    alone = fit(tiny_table, members=1, **options)
    np.testing.assert_allclose(alone.member_values(x)[0] / unit, both[0] / unit, atol=1e-4)
    # Three in two chunks of two; the second is padded.
    monkeypatch.setitem(fitting.CHUNK, "cpu", 2)
    calls: list[tuple[int, int]] = []
    more = fit(tiny_table, members=3, **options, progress=lambda *a: calls.append(a))
    assert more.members == 3
    np.testing.assert_allclose(more.member_values(x)[:2] / unit, both / unit, atol=1e-4)
    assert calls == [(20, 80), (40, 80), (60, 80), (80, 80)]


def ncp_recipe() -> Recipe:
    return Recipe(
        "tiny-ncp", network="ncp", widths=(8, 6), rates=(0.0, 0.0, 0.0, 0.0), log=False, epochs=20, batch=25,
        learning_rate=3e-2, weight_decay=1e-7, decay="l2", precision="float32",
    )  # fmt: skip


def test_each_task_its_own_network(tiny_table: Table) -> None:
    columns = Columns.by_task(tiny_table.metrics, ["a", "b"])
    fitted = fit_many(tiny_table, np.tile(ROWS, (2, 1)), keys=KEYS[:2], recipe=ncp_recipe(), columns=columns)
    a, b = fitted.predictor([0]), fitted.predictor([1])
    assert [m.name for m in a.metrics] == ["a/top1", "a/top5", "flops"]
    assert [m.name for m in b.metrics] == ["b/top1", "flops"]
    assert held_out_tau(a, tiny_table, "a/top1") > 0.5
    assert held_out_tau(a, tiny_table, "a/top5") > 0.5
    assert held_out_tau(b, tiny_table, "flops") > 0.4
    assert abs(held_out_tau(b, tiny_table, "b/top1")) < 0.25
    with pytest.raises(UsageError, match=r"expected runs that learned the same columns, got runs \[0, 1\]"):
        fitted.predictor([0, 1])
    with pytest.raises(UsageError, match=r"got runs \[\]"):
        fitted.predictor([])


def test_an_ensemble_of_other_folds_keeps_each_networks_predictions(tiny_table: Table, tiny_recipe: Recipe) -> None:
    """Runs with other training rows have other means and deviations; the ensemble has one standardisation."""
    masks = np.stack([ROWS, ~ROWS])
    fitted = fit_many(tiny_table, masks, keys=KEYS[:2], recipe=tiny_recipe)
    x = get_space("nas-bench-mr").encode(tiny_table.codes)
    together = np.asarray(fitted.predictor([0, 1]).member_values(x))
    unit = np.asarray(tiny_table.values).std(axis=0)[[0, 2, 1, 3]]
    assert (np.asarray(fitted.scales.y_mean[0]) != np.asarray(fitted.scales.y_mean[1])).all()
    for run in range(2):
        alone = np.asarray(fitted.predictor([run]).member_values(x))[0]
        np.testing.assert_allclose(together[run] / unit, alone / unit, atol=1e-4)


def masks(*counts: int) -> np.ndarray:
    return np.stack([np.arange(200) < count for count in counts])


@pytest.mark.parametrize(
    ("train", "keys", "words"),
    [
        (np.ones((2, 199), bool), 2, r"expected train as booleans \[runs, 200\], got shape \[2, 199\]"),
        (np.ones(200, bool), 1, r"got shape \[200\]"),
        (np.ones((0, 200), bool), 0, r"got shape \[0, 200\]"),
        (masks(100, 1), 2, "expected at least 2 architectures to learn from, got 1"),
        (masks(0, 100), 2, "expected at least 2 architectures to learn from, got 0"),
        (masks(100, 132), 2, r"whose training rows differ by less than a batch \(32\), got 100 to 132; call once"),
        (masks(100, 100), 1, "expected 2 keys and columns, one per run, got 1 and 2"),
    ],
)
def test_wrong_runs(tiny_table: Table, tiny_recipe: Recipe, train: np.ndarray, keys: int, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fit_many(tiny_table, train, keys=KEYS[:keys], recipe=tiny_recipe)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"members": 0}, "expected members to be an integer 1 or more, got 0; try members=8"),
        ({"members": 2.0}, "expected members to be an integer 1 or more, got 2.0"),
        ({"recipe": "ncpp"}, "expected a known recipe, got 'ncpp'; did you mean: ncp"),
        ({"rows": np.ones(5, bool)}, r"expected train as booleans \[runs, 200\], got shape \[8, 5\]"),
    ],
)
def test_wrong_calls(tiny_table: Table, options: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        fit(tiny_table, key=jax.random.key(0), **options)


def test_tasks_without_metrics(tiny_table: Table) -> None:
    with pytest.raises(UsageError, match="expected quality metrics of task 'c', got none"):
        Columns.by_task(tiny_table.metrics, ["a", "c"])
    costs: Sequence = [dataclasses.replace(tiny_table.metrics[3], name=name) for name in ("x", "y")]
    with pytest.raises(UsageError, match="expected quality metrics, got none"):
        Columns.whole(costs, 1)


def test_columns_of_the_test_split_are_learned_only_where_allowed(tiny_table: Table) -> None:
    quality, *rest = tiny_table.metrics
    split: Callable[[str], MetricSpec] = lambda name: dataclasses.replace(quality, split=name)  # noqa: E731
    tested = dataclasses.replace(quality, name="tested", split="test")
    cost = next(metric for metric in rest if metric.kind == "cost")
    text = r"expected a training or validation column to search on, got tested of the test split; .*on_test=True"
    with pytest.raises(UsageError, match=text):
        Columns.whole([tested, cost], 2)
    with pytest.raises(UsageError, match=text):
        Columns.by_task([tested, cost], [quality.task])
    assert Columns.whole([tested, cost], 2, on_test=True).indices.tolist() == [[0, 1]] * 2
    both = [split("validation"), tested, cost]
    assert Columns.whole(both, 1).indices.tolist() == [[0, 2]]
    assert Columns.whole(both, 1, on_test=True).indices.tolist() == [[0, 1, 2]]
    assert Columns.whole([split("train"), tested, cost], 1).indices.tolist() == [[0, 2]]
    assert Columns.whole([split("train"), tested, cost], 1, on_test=True).indices.tolist() == [[1, 2]]
    table = dataclasses.replace(
        tiny_table, metrics=tuple(dataclasses.replace(m, split="test" if m.task else "") for m in tiny_table.metrics)
    )
    with pytest.raises(UsageError, match="of the test split"):
        fit(table, members=1, key=jax.random.key(0))


def test_predictions_are_finite_everywhere_in_the_space(fitted: Predictor) -> None:
    space = get_space("nas-bench-mr")
    corners = jnp.stack([jnp.asarray(space.lower), jnp.asarray(space.upper)])
    mean, spread = fitted(corners)
    assert np.isfinite(np.asarray(mean)).all()
    assert np.isfinite(np.asarray(spread)).all()
