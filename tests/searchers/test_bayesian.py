"""Bayesian optimisation: its features, its model kept up to date row by row, and what every run must keep to."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import MetricSpec, Table, checks, get_space, load_table
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers import Candidates, Runs, make, search
from ncp_jax.searchers import gaussian_process as gp
from ncp_jax.searchers.bayesian import Bayesian
from ncp_jax.searchers.kernel_features import kernel_features

Run = Callable[..., Runs]
QUICK = {"initial": 5}


def several(searcher: Bayesian, seeds: np.ndarray, candidates: Candidates, view: QueryView) -> Runs:
    lanes = jax.tree.map(lambda leaf: jnp.broadcast_to(jnp.asarray(leaf), (len(seeds),)), searcher)
    return Runs(*(np.asarray(leaf) for leaf in search(lanes, jnp.asarray(seeds), candidates, view)))


@pytest.mark.parametrize("settings", [{"batch": 4, "shortlist": 60}, {"acquisition": "thompson", "batch": 3}])
def test_the_budget_is_spent_and_no_row_is_asked_twice(run: Run, small: Table, settings: dict) -> None:
    found = run(make(Bayesian, QUICK | settings), [0, 1], QueryView.of(small, budget=30))
    assert found.count.tolist() == found.asks.tolist() == [30, 30]
    assert all(len(set(rows)) == 30 for rows in found.rows)
    assert not np.array_equal(found.rows[0], found.rows[1])


def test_it_beats_chance_by_far(run: Run, small: Table) -> None:
    codes = np.asarray(small.codes)
    worth = np.random.default_rng(1).normal(size=(6, 4))[np.arange(6), codes].sum(axis=1)
    easy = Table.from_arrays("easy", space=small.space, codes=codes, values=worth[:, None], metrics=[MetricSpec("acc")])
    found = run(make(Bayesian, QUICK), np.arange(6), QueryView.of(easy, budget=30))
    ranks = (worth > found.values.max(axis=1)[:, None] + 1e-6).sum(axis=1) + 1
    assert ranks.mean() < 3  # 244 / 31 = 7.9 by chance


def test_the_whole_table_can_be_asked_for_ties_and_constants_included(small: Table) -> None:
    codes = np.asarray(small.codes)[:40]
    for worth in (np.ones(40), np.arange(40) // 20):
        metrics = [MetricSpec("acc")]
        table = Table.from_arrays("t", space=small.space, codes=codes, values=1.0 * worth[:, None], metrics=metrics)
        view = QueryView.of(table, budget=40)
        found = several(make(Bayesian, QUICK | {"batch": 3}), np.arange(2), Candidates.of(table), view)
        assert all(sorted(rows) == list(range(40)) for rows in found.rows)


def test_known_networks_are_left_alone_once_they_turn_out_to_be_free(run: Run, small: Table) -> None:
    view = QueryView.of(small, budget=60, repeats="free-isomorphs")
    found = run(make(Bayesian, QUICK), np.arange(3), view)
    assert found.count.tolist() == [60] * 3
    networks = np.asarray(view.classes)[found.rows]
    assert all(len(set(row)) == 60 for row in networks)
    assert (found.asks <= 60 + 5).all()  # those of the initial design, and the one that showed it


def test_seconds_end_a_run(run: Run, small: Table) -> None:
    # The program of the test above.
    view = QueryView.of(small, budget=60, repeats="free-isomorphs", seconds=100.0)
    found = run(make(Bayesian, QUICK), np.arange(3), view)
    assert ((found.count > 15) & (found.count < 35)).all()
    assert (found.seconds <= 100).all()


def test_codes_of_a_network_have_the_same_features(candidates: Candidates) -> None:
    points, blocks = kernel_features(candidates)
    assert points.shape == (243, sum(blocks))
    _, first, inverse = np.unique(candidates.classes, return_index=True, return_inverse=True)
    np.testing.assert_allclose(points, np.asarray(points)[first][inverse], atol=1e-5)
    one_each = np.asarray(points)[first]
    np.testing.assert_allclose(one_each.mean(axis=0), 0, atol=1e-4)
    assert (one_each[:, blocks[0] :] ** 2).mean() == pytest.approx(1, abs=1e-3)


def test_words_are_those_on_whole_paths() -> None:
    space = get_space("transnas-micro")
    words = ["", "1", "3", "11", "13", "31", "33"] + [a + b + c for a in "13" for b in "13" for c in "13"]
    names = {2: "1", 3: "3", 1: ""}
    codes = np.asarray(space.all_codes())[::37]
    wanted = np.zeros((len(codes), len(words)))
    for i, code in enumerate(codes.tolist()):
        for path in ((3,), (0, 4), (1, 5), (0, 2, 5)):
            if all(code[edge] for edge in path):
                wanted[i, words.index("".join(names[code[edge]] for edge in path))] += 1
    np.testing.assert_array_equal(space.path_counts(jnp.asarray(codes)), wanted)


def test_the_model_kept_row_by_row_is_the_one_made_anew(small: Table, candidates: Candidates) -> None:
    searcher, view = make(Bayesian, QUICK), QueryView.of(small, budget=16)
    points, blocks = kernel_features(candidates)
    account = view.open()
    state = jax.jit(searcher.start, static_argnums=1)(candidates, 16, jax.random.key(0))
    ask, query = jax.jit(searcher.ask), jax.jit(view.query)
    for step in range(14):  # a fit at 5, 7, 10 and 15 paid queries; the last one asked for is in the model already
        rows, state = ask(candidates, state, account.history, jax.random.key(step))
        _, account = query(account, rows)
        if step not in (8, 13):  # two rows after the fit at 7, four after that at 10
            continue
        size = int(state.size)
        assert size == step + 1
        np.testing.assert_array_equal(state.rows[:size], account.history.rows[:size])
        seen = points[state.rows[:size]]
        mask = jnp.ones(size, bool)
        pairs = jax.jit(gp.geometry, static_argnums=2)(seen, seen, blocks)
        factor = jax.jit(gp.inverse_factor)(state.kernel, pairs, mask)
        np.testing.assert_allclose(state.factor[:size, :size], factor, atol=2e-3)
        targets = normal_scores(account.history.values[:size], mask)
        short = np.asarray(state.short)
        near = jax.jit(gp.covariance_between, static_argnums=3)(state.kernel, seen, points, blocks)
        between = np.linalg.inv(np.asarray(factor, float).T @ np.asarray(factor, float))
        gain = np.linalg.solve(between, np.asarray(near, float))
        mean = np.asarray(targets, float) @ gain
        own = np.asarray(jax.jit(gp.own_variance, static_argnums=2)(state.kernel, points, blocks), float)
        variance = np.maximum(own - (np.asarray(near, float) * gain).sum(axis=0), 0)
        kept = (state.factor[:size, :size] @ targets) @ state.half[:size]
        np.testing.assert_allclose(kept, mean[short], atol=2e-3)
        np.testing.assert_allclose(jnp.maximum(state.variance, 0), variance[short], atol=2e-3)


@pytest.mark.usefixtures("mirror")
def test_it_searches_tables_that_hold_little_of_their_space() -> None:
    table = load_table("nas-bench-mr/cls-50-100")
    found = several(make(Bayesian, {"batch": 2}), np.arange(2), Candidates.of(table), QueryView.of(table, budget=24))
    assert found.count.tolist() == [24, 24]
    assert all(len(set(rows)) == 24 for rows in found.rows)


def test_more_memory_is_asked_for_larger_models(candidates: Candidates) -> None:
    searcher = make(Bayesian, {})
    state = jax.eval_shape(lambda: searcher.start(candidates, 100, jax.random.key(0)))
    bytes_of_state = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    assert searcher.memory(candidates, 50) < searcher.memory(candidates, 100) < 20 * bytes_of_state


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"acquisition": "luck"}, "expected"),
        ({"batch": 0}, "batch of bayesian"),
        ({"initial": 1}, "initial of bayesian"),
        ({"freedom": 0.0}, "freedom of bayesian"),
        ({"kernel": 1}, "setting of bayesian"),
    ],
)
def test_settings_are_checked(settings: dict, text: str) -> None:
    with pytest.raises(checks.UsageError, match=text):
        make(Bayesian, settings)
